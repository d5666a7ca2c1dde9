"""Sounds as the parts that the audio tower encodes; called from the threads that read ahead."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from modeling_atri import AtriEmbeddedAudioConfig, AtriModel
from modeling_atri.audio_inputs_atri import name_of_sound
from modeling_atri.clip_features_atri import extract_checked, long_enough
from modeling_atri.files import content_digest
from modeling_atri.long_sounds_atri import LongSound, is_cut_by_samples, read_or_scan

from ..object_storage import StoredSound
from .parts import Layout, Stretch, parts_of_rows, parts_of_samples, whole_parts
from .plan import WindowPlan, samples_per_row


# The windows of a longer sound are extracted while the model works. Those of CED are views of one spectrogram.
_MAX_EXTRACTED = 64
_MODEST = 1e6  # samples up to here have finite features


@dataclass
class ReadSound:
    """A sound that was read: the features of its parts, and where its windows are.

    Args:
        duration_s: its length in seconds.
        spans: start and end of its windows in seconds.
        layout: its parts.
        features: of each part; or its samples, if `extract` is given, which takes them and returns the features. Those
            of a long recording are read while they are taken.
        are_weighted: whether an output of the tower counts by the rows that the sound covers, see [`covered`].
        content: digest of its file.
    """

    duration_s: float
    spans: list[tuple[float, float]]
    layout: Layout
    features: Iterable[Tensor]
    are_weighted: bool = False
    content: str | None = None
    extract: Callable[[Tensor], Tensor] | None = None


@dataclass
class SoundReader:
    """Reads sounds of any form as `encode_windows` says."""

    model: AtriModel
    feature_extractor: Any
    plan: WindowPlan
    sampling_rate: int | None
    pad_short: bool

    def __call__(self, sound: Any) -> ReadSound:
        extractor = self.feature_extractor
        content = _content(sound)
        if isinstance(sound, StoredSound):
            sound = {"path": sound.address, "bytes": sound.fetch()}
            content = content_digest(sound["bytes"])
        name = name_of_sound(sound, "the sound")
        if extractor.sampling_rate is None:
            vector = extractor.extract_clip(sound, name=name, source_rate=self.sampling_rate)
            return ReadSound(0.0, [(0.0, 0.0)], whole_parts([(0, 1)]), [vector])
        sound_or_waveform = read_or_scan(extractor, sound, self.sampling_rate, name)
        are_weighted = is_cut_by_samples(extractor)
        if isinstance(sound_or_waveform, LongSound):
            recording = sound_or_waveform
            duration_s = recording.num_samples / extractor.sampling_rate
            spans, stretches = self._windows(recording.num_samples, recording.length)
            layout = self._layout(stretches)
            parts = recording.stretches([(part.start, part.stop) for part in layout.parts])
            return ReadSound(duration_s, spans, layout, parts, are_weighted, content, recording.extract)
        num_samples = len(sound_or_waveform)
        waveform = long_enough(extractor, sound_or_waveform, self.pad_short, name)
        rows = waveform if are_weighted else extract_checked(extractor, waveform, name)
        spans, stretches = self._windows(num_samples, len(rows))
        layout = self._layout(stretches)
        features = [rows[part.start : part.stop] for part in layout.parts]
        read = ReadSound(num_samples / extractor.sampling_rate, spans, layout, features, are_weighted, content)
        if are_weighted and len(features) > _MAX_EXTRACTED and waveform.abs().max() <= _MODEST:
            read.extract = extractor.extract_waveform
        elif are_weighted:
            read.features = [extract_checked(extractor, samples, name) for samples in features]
        return read

    def _windows(self, num_samples: int, length: int) -> tuple[list[tuple[float, float]], list[Stretch]]:
        """The windows of a sound in seconds, and the rows or samples of its embeddings; the last is the whole."""
        rate, step = self.feature_extractor.sampling_rate, samples_per_row(self.feature_extractor)
        stretches = self.plan.stretches(num_samples, rate, step)
        spans = [(start * step / rate, stop * step / rate) for start, stop in stretches]
        spans[-1] = (spans[-1][0], num_samples / rate)
        return spans, [*(stretches if len(stretches) > 1 else ()), (0, length)]

    def _layout(self, stretches: Sequence[Stretch]) -> Layout:
        if not gives_window_outputs(self.model):
            return whole_parts(stretches)
        if is_cut_by_samples(self.feature_extractor):
            return parts_of_samples(stretches, self.feature_extractor.spans)
        config: Any = self.model.config.audio_config
        return parts_of_rows(stretches, config.max_frames)


def covered(features: Tensor) -> float:
    """The number of rows that the sound covers in a window of a tower of transformers."""
    return float(features[:, -1].sum())


def gives_window_outputs(model: Any) -> bool:
    """Whether the tower and the projection of a model can be run by themselves, so that means can be taken between."""
    if not all(hasattr(model, name) for name in ("audio_model", "audio_projection")):
        return False
    return bool(model.config.audio_config.model_type != AtriEmbeddedAudioConfig.model_type)


def _content(sound: Any) -> str | None:
    """The digest of a file on disk."""
    is_file = isinstance(sound, (str, os.PathLike)) and os.path.isfile(sound)
    return content_digest(sound) if is_file else None
