"""Features of sounds for the audio encoders of transformers, in windows of the length that the model takes."""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import torch
from torch import Tensor
from transformers import AutoFeatureExtractor
from transformers.configuration_utils import PreTrainedConfig
from transformers.feature_extraction_sequence_utils import SequenceFeatureExtractor
from transformers.models.auto.feature_extraction_auto import feature_extractor_class_from_name

from .audio_encoders_atri import INPUT_LAYOUTS, WINDOW_SECONDS, EncoderWindows, encoder_windows
from .audio_inputs_atri import MIN_SECONDS
from .clip_features_atri import AtriClipExtractor
from .configuration_atri import IS_REMOTE_CODE
from .remote_towers_atri import code_of, load_class, references_to, save_code_beside, trusting


# Default window for other extractors, in seconds: the length of AudioSet's clips.
_UNKNOWN_WINDOW_SECONDS = 10


@dataclass(frozen=True)
class _Rule:
    """How clips are cut for one kind of extractor, in samples.

    Attributes:
        windows: the windows that the encoder takes.
        num_samples: length of a full window.
        hop: number of samples per row.
        overhang: a row counts as covered if it begins more than this number of samples before the end of the sound.
        min_rest: shortest remainder of a clip that makes a window; shorter ones give no row, and are left out.
    """

    windows: EncoderWindows
    num_samples: int
    hop: float = 1
    overhang: int = 0
    min_rest: int = 1


class AtriWindowFeatureExtractor(AtriClipExtractor):
    r"""
    The feature extractor of an audio model of transformers, for clips of any length.

    A clip is cut into consecutive windows of the model's length, without overlap. The model's own extractor processes
    each window separately, and fills up the last one as in the training of the model: CLAP's extractor repeats the
    sound, Whisper's adds silence up to 30 s, and AST's adds frames of zeros. Models that take waveforms of any length
    (wav2vec2 and its relatives, PE-Audio) get windows of up to `window_seconds`, and the last one is not filled up.
    Features never depend on chance: no window is longer than the model takes, so the extractor does not cut out a
    random part, and CLAP's fusion, which it uses for longer clips, is not used.

    Args:
        feature_extractor: the model's feature extractor, or its settings as a `dict`.
        window_seconds (`float`, *optional*): length of a window, for models that take any length. Default: 30 s for
            waveforms, 10 s for extractors with code in a repository. It must equal the length in the model's
            configuration, see `describe_windows`.
        min_num_samples (`int`, *optional*): shortest clip accepted, in samples. Default: 0.15 s.

    Example:

    ```python
    >>> import numpy as np
    >>> from transformers import ClapFeatureExtractor
    >>> from modeling_atri import AtriWindowFeatureExtractor

    >>> feature_extractor = AtriWindowFeatureExtractor(ClapFeatureExtractor(truncation="rand_trunc"))
    >>> waveform = np.sin(2 * np.pi * 440 * np.arange(15 * 48000) / 48000).astype(np.float32)
    >>> inputs = feature_extractor(waveform, sampling_rate=48000, return_tensors="pt")
    >>> inputs["input_features"].shape  # 15 s are two windows of 10 s, of 1001 frames each
    torch.Size([1, 2002, 64])
    ```
    """

    def __init__(
        self,
        feature_extractor: SequenceFeatureExtractor | Mapping[str, Any],
        window_seconds: float | None = None,
        min_num_samples: int | None = None,
        **kwargs,
    ):
        extractor: Any = _extractor_of(feature_extractor)
        rate = extractor.sampling_rate
        super().__init__(feature_size=1, sampling_rate=rate, padding_value=0.0, return_attention_mask=True)
        for name, value in kwargs.items():
            setattr(self, name, value)
        if getattr(extractor, "dither", 0):
            raise ValueError(
                f"The {type(extractor).__name__} adds random noise (`dither` is {extractor.dither}), so the embedding "
                "of a clip would change each time. Set its `dither` to 0.0."
            )
        self.feature_extractor = extractor
        self.window_seconds = window_seconds
        self.min_num_samples = min_num_samples or math.ceil(MIN_SECONDS * rate)
        self._rule = _rule_of(extractor, window_seconds, self.min_num_samples)
        self._without_draws = _without_draws(extractor)
        self.feature_size = self._rows(torch.zeros(self._rule.num_samples)).shape[1]

    @property
    def windows(self) -> EncoderWindows:
        """The windows that the model gets; `describe_windows` compares them with the model's configuration."""
        return self._rule.windows

    @property
    def num_window_samples(self) -> int:
        """Samples of a full window."""
        return self._rule.num_samples

    def to_dict(self) -> dict[str, Any]:
        """The settings that are saved: those of the wrapped extractor, and how clips are cut."""
        saved = {
            name: getattr(self, name)
            for name in ("window_seconds", "min_num_samples", "auto_map")
            if hasattr(self, name)
        }
        wrapped = self.feature_extractor.to_dict()
        if code := code_of([type(self.feature_extractor)]):
            wrapped["auto_map"] = references_to(code)
        own = {"feature_extractor_type": type(self).__name__, "feature_extractor": wrapped}
        return own | saved

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | PathLike, *args: Any, **kwargs: Any
    ) -> "AtriWindowFeatureExtractor":
        """Same as in transformers. `trust_remote_code=True` also loads an extractor with code in the repository."""
        if not kwargs.pop("trust_remote_code", None) and not IS_REMOTE_CODE:
            return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        with trusting(pretrained_model_name_or_path, kwargs):
            return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)

    def to_json_file(self, json_file_path: str | PathLike) -> None:
        """Save as JSON, with the code of an extractor that came from a repository beside it."""
        super().to_json_file(json_file_path)
        self.save_code_beside(json_file_path)

    def save_code_beside(self, json_file: str | PathLike) -> None:
        """Copy the code of an extractor that came from a repository into the folder of `json_file`."""
        save_code_beside(json_file, code_of([type(self.feature_extractor)]))

    def spans(self, num_samples: int) -> list[tuple[int, int]]:
        """First and last sample (exclusive) of the windows of a clip."""
        starts = range(0, num_samples, self._rule.num_samples)
        spans = [(start, min(start + self._rule.num_samples, num_samples)) for start in starts]
        if len(spans) > 1 and num_samples - spans[-1][0] < self._rule.min_rest:
            spans.pop()
        return spans

    def num_frames(self, num_samples: int) -> int:
        """Rows of a clip of `num_samples` samples."""
        spans = self.spans(num_samples)
        full, last = len(spans) - 1, spans[-1][1] - spans[-1][0]
        if self.windows.is_fixed:
            return len(spans) * self.windows.frames
        return full * self.windows.frames + len(self._rows(torch.zeros(last)))

    def extract_waveform(self, waveform: Tensor) -> Tensor:
        """Rows of all windows of a clip, `(rows, feature_size + 1)`; the last column is 1 where sound covers a row."""
        return torch.cat([self._window(waveform[start:stop]) for start, stop in self.spans(len(waveform))])

    def _window(self, samples: Tensor) -> Tensor:
        rows = self._rows(samples)
        covered = min(len(rows), math.ceil((len(samples) - self._rule.overhang) / self._rule.hop))
        mask = (torch.arange(len(rows)) < covered).to(rows.dtype)
        return torch.cat([rows, mask[:, None]], dim=1)

    def _rows(self, samples: Tensor) -> Tensor:
        """Features of one window from the wrapped extractor, `(rows, feature_size)`."""
        batch = _extract(self._without_draws, samples)
        rows = _to_rows(_features_of(batch)[0], self.windows.layout)
        if not self.windows.is_fixed and "attention_mask" in batch:
            rows = rows[batch["attention_mask"][0].bool()]
        return rows

    def pad_features(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Stack clips of shape `(rows, feature_size + 1)`, whose numbers of rows may differ.

        Returns `input_features` of shape `(clips, longest, feature_size)` and `input_features_mask`, int64 of shape
        `(clips, longest)`.
        """
        stacked = torch.nn.utils.rnn.pad_sequence(list(features), batch_first=True)
        return stacked[..., :-1].contiguous(), stacked[..., -1].long()

    def own_frames(self, clip: Tensor, mask: Tensor, index: int) -> Tensor:
        """The rows of a clip's windows without padding, with the column of the mask."""
        if not mask.any():
            raise ValueError(f"The `input_features_mask` of clip {index} is 0 on all rows.")
        covered = int(mask.nonzero()[-1]) + 1
        full, rest = divmod(covered - 1, self.windows.frames)
        rows = full * self.windows.frames + self.windows.rows(rest + 1)
        return torch.cat([clip, mask[:, None].to(clip.dtype)], dim=1)[:rows]

    def is_silent(self, features: Tensor) -> bool:
        """Whether, in each window, all rows that sound covers are equal, because all samples are zero or nearly so."""
        windows = (window[window[:, -1] == 1] for window in features.split(self.windows.frames))
        return all(torch.equal(window.amin(dim=0), window.amax(dim=0)) for window in windows)


def describe_windows(config: PreTrainedConfig, feature_extractor: AtriWindowFeatureExtractor) -> None:
    """Write a feature extractor's windows into an audio configuration, unless its model type already has them."""
    wanted = feature_extractor.windows
    values = {"window_frames": wanted.frames, "input_layout": wanted.layout, "has_fixed_windows": wanted.is_fixed}
    try:
        known = encoder_windows(config)
    except ValueError:
        known = None
    if known != wanted:
        for name, value in values.items():
            setattr(config, name, value)


def _extractor_of(feature_extractor: SequenceFeatureExtractor | Mapping[str, Any]) -> SequenceFeatureExtractor:
    if isinstance(feature_extractor, AtriClipExtractor):
        raise ValueError(f"A {type(feature_extractor).__name__} already takes clips of any length; use it as it is.")
    if not isinstance(feature_extractor, Mapping):
        return feature_extractor
    name = feature_extractor.get("feature_extractor_type")
    extractor_class: Any = feature_extractor_class_from_name(name) if name else None
    if extractor_class is None and (reference := feature_extractor.get("auto_map", {}).get("AutoFeatureExtractor")):
        loaded = load_class(reference)
        extractor_class = loaded and loaded[0]
        if extractor_class is not None:
            extractor_class.register_for_auto_class()
    if extractor_class is None:
        raise ValueError(
            f"`feature_extractor` is of type {name!r}, which transformers does not have. If its code is in the "
            "repository, load the processor with `trust_remote_code=True`."
        )
    return extractor_class.from_dict(dict(feature_extractor))


def _rule_of(extractor: Any, window_seconds: float | None, min_num_samples: int) -> _Rule:
    """The rule by which clips are cut for an extractor."""
    kind, rate = type(extractor).__name__, extractor.sampling_rate
    if kind == "ClapFeatureExtractor":
        samples, hop = extractor.nb_max_samples, extractor.hop_length
        return _fixed(kind, window_seconds, _Rule(EncoderWindows("b1tf", samples // hop + 1, True), samples, hop))
    if kind == "WhisperFeatureExtractor":
        windows = EncoderWindows("bft", extractor.nb_max_frames, True)
        return _fixed(kind, window_seconds, _Rule(windows, extractor.n_samples, extractor.hop_length))
    if kind == "ASTFeatureExtractor":
        # Frames of 400 samples every 160 samples; no frame extends past the end of the sound.
        windows = EncoderWindows("btf", extractor.max_length, True)
        samples = 400 + 160 * (extractor.max_length - 1)
        return _fixed(kind, window_seconds, _Rule(windows, samples, hop=160, overhang=399, min_rest=400))
    samples = round((window_seconds or WINDOW_SECONDS) * rate)
    if kind == "Wav2Vec2FeatureExtractor":
        # One state of wav2vec2 and its relatives needs 400 samples.
        return _Rule(EncoderWindows("bt", samples, is_fixed=False), samples, min_rest=400)
    if kind == "PeAudioFeatureExtractor":
        samples = samples // extractor.hop_length * extractor.hop_length
        return _Rule(EncoderWindows("b1t", samples, is_fixed=False, step=extractor.hop_length), samples)
    if kind == "SeamlessM4TFeatureExtractor":  # each row is a pair of such frames
        frames = (1 + (samples - 400) // 160) // 2
        return _Rule(EncoderWindows("btf", frames, is_fixed=False), samples, min_rest=560)
    return _probed_rule(extractor, window_seconds, min_num_samples)


def _probed_rule(extractor: Any, window_seconds: float | None, min_num_samples: int) -> _Rule:
    """The rule for an extractor of another type, from its features for one and for two seconds of sound."""
    rate = extractor.sampling_rate
    shapes = []
    for seconds in (1, 2):
        sound = torch.sin(torch.arange(seconds * rate) * (2 * math.pi * 440 / rate))
        shapes.append(tuple(_features_of(_extract(extractor, sound)).shape[1:]))
    grows = [first != second for first, second in zip(*shapes, strict=True)]
    is_fixed = not any(grows)
    axis = shapes[0].index(max(shapes[0])) if is_fixed else grows.index(True)
    names = ["t" if index == axis else "f" for index in range(len(grows))]
    names = ["1" if name == "f" and size == 1 else name for name, size in zip(names, shapes[0], strict=True)]
    layout = "b" + "".join(names)
    if layout not in INPUT_LAYOUTS:
        raise ValueError(
            f"The {type(extractor).__name__} makes features of shapes {shapes[0]} and {shapes[1]} from one and two "
            f"seconds of sound. A window must have one of the layouts {', '.join(INPUT_LAYOUTS)} (b: batch, t: time, "
            "f: bins)."
        )
    if is_fixed and window_seconds is None:
        raise ValueError(
            f"All windows of the {type(extractor).__name__} have {shapes[0][axis]} frames. Pass `window_seconds`, the "
            "length of their sound."
        )
    samples = round((window_seconds or _UNKNOWN_WINDOW_SECONDS) * rate)
    if is_fixed:
        frames = shapes[0][axis]
        return _Rule(EncoderWindows(layout, frames, True), samples, hop=samples / frames, min_rest=min_num_samples)
    frames = _features_of(_extract(extractor, torch.zeros(samples))).shape[1 + axis]
    return _Rule(EncoderWindows(layout, frames, is_fixed=False), samples, min_rest=min_num_samples)


def _without_draws(extractor: Any) -> Any:
    """An extractor that makes the same features of one window, without drawing from NumPy's global generator.

    With fusion, CLAP's extractor makes four equal channels of a window, with other mel filters than without it, and
    draws a clip of the batch that it marks as longer.
    """
    if type(extractor).__name__ != "ClapFeatureExtractor" or extractor.truncation != "fusion":
        return extractor
    extractor = copy.copy(extractor)
    extractor.truncation, extractor.mel_filters_slaney = "rand_trunc", extractor.mel_filters
    return extractor


def _extract(extractor: Any, samples: Tensor) -> Mapping[str, Any]:
    return extractor(samples.numpy(), sampling_rate=extractor.sampling_rate, return_tensors="pt")


def _features_of(batch: Mapping[str, Any]) -> Tensor:
    """The features in the output of an extractor, float32, with a batch axis."""
    for name in ("input_features", "input_values"):
        if name in batch:
            return torch.as_tensor(batch[name]).float()
    raise ValueError(
        f"The model's feature extractor returns {sorted(batch)}, but neither `input_features` nor `input_values`."
    )


def _to_rows(features: Tensor, layout: str) -> Tensor:
    """One window without the batch axis, as `(rows, columns)`; the inverse of the tower's `_arrange`."""
    rows = features[0] if "1" in layout else features
    if "f" not in layout:
        return rows[:, None]
    return rows.T if layout.endswith("ft") else rows


def _fixed(kind: str, window_seconds: float | None, rule: _Rule) -> _Rule:
    if window_seconds is not None:
        raise ValueError(
            f"`window_seconds` is for models that take any length, but all windows of a {kind} have the length that "
            f"is set in it ({rule.num_samples} samples). Leave it out."
        )
    return rule


AtriWindowFeatureExtractor.register_for_auto_class()
if not IS_REMOTE_CODE:
    # transformers finds a saved class only if it is registered for a configuration, which may be any key.
    AutoFeatureExtractor.register(AtriWindowFeatureExtractor, AtriWindowFeatureExtractor, exist_ok=True)

__all__ = ["AtriWindowFeatureExtractor", "describe_windows"]
