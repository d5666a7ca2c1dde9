"""Log-mel features on disk, for clips that are used again."""

import hashlib
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from modeling_atri import __version__
from modeling_atri.audio_inputs_atri import load_audio, name_of_sound, too_short, unpack_sound
from modeling_atri.audio_io import audio_length, load_excerpt
from modeling_atri.corpora.rows.bad_rows import SHORT_RECORDING, SILENT_RECORDING, BadRowError
from modeling_atri.encode.fingerprints import feature_settings
from modeling_atri.feature_extraction_atri import AtriFeatureExtractor
from modeling_atri.files import written_whole


logger = logging.getLogger(__name__)

_EXCERPTS_TRIED = 8  # parts of a long recording that must be silent before the recording counts as silent
_NAMELESS = "a clip given as samples or bytes"


class FeatureCache:
    """Features of clips, which are computed once and then read from a folder.

    A clip is identified by its content if it is given as bytes or samples, otherwise by path, size and time of change.
    Features of another extractor or another version of this package have other names. Several processes may share the
    folder. A clip of 10 s takes 256 kB. When an entry cannot be written, the process logs a warning and writes no more
    entries.

    Args:
        feature_extractor (`AtriFeatureExtractor`): computes the features.
        folder (`str` or `Path`, *optional*): where features are kept. None computes them every time.
    """

    def __init__(self, feature_extractor: AtriFeatureExtractor, folder: str | os.PathLike | None = None):
        self.feature_extractor = feature_extractor
        self.folder = None if folder is None else Path(folder)
        self._settings = f"{__version__} {sorted(feature_settings(feature_extractor).items())}".encode()
        self._can_write = True
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)

    def __call__(self, audio: Any) -> torch.Tensor:
        """Features of one clip.

        Args:
            audio: a sound in any form that [`~audio_io.load_audio`] takes and that carries its own rate.

        Returns:
            `torch.Tensor` of shape `(frames, mel bins)`, float32, in decibels.

        Raises:
            ValueError: the clip cannot be read, is too short (a `BadRowError`) or does not fit the model. The message
                names it.
        """
        identity = None if self.folder is None else _identity(audio)
        if identity is None:
            return self._extract(audio)
        path = self.folder / f"{hashlib.blake2b(self._settings + identity, digest_size=16).hexdigest()}.npy"
        if path.exists():
            try:
                return torch.from_numpy(np.load(path))
            except (ValueError, EOFError, OSError):
                pass  # a machine stopped while it was written: computed again below
        features = self._extract(audio)
        self._keep(path, features)
        return features

    def excerpt(self, audio: Any, max_seconds: float | None, rng: np.random.Generator) -> torch.Tensor:
        """Features for training: of the whole clip, or of a random part of a clip longer than `max_seconds`.

        Only that part is decoded, and its features are not kept, because each epoch draws another part.

        Args:
            audio: as when called.
            max_seconds: maximum length; None takes every clip whole.
            rng: random generator of the draw.

        Returns:
            `torch.Tensor` of shape `(frames, mel bins)`, float32, in decibels.

        Raises:
            ValueError: as when called; also a `BadRowError` if the clip, or eight drawn parts of it, are silent.
        """
        rate, name = self.feature_extractor.sampling_rate, name_of_sound(audio, _NAMELESS)
        num_samples = 0 if max_seconds is None else audio_length(audio, rate)
        if max_seconds is None or num_samples <= max_seconds * rate:
            features = self(audio)
            if not self.feature_extractor.is_silent(features):
                return features
        else:
            for _ in range(_EXCERPTS_TRIED):
                waveform = _draw_excerpt(audio, num_samples, int(max_seconds * rate), rate, rng)
                features = self._features(waveform, name)
                if not self.feature_extractor.is_silent(features):
                    return features
        raise BadRowError(f"{name} is silent, so the model cannot learn from it.", SILENT_RECORDING)

    def _keep(self, path: Path, features: torch.Tensor) -> None:
        if not self._can_write:
            return
        try:
            with written_whole(path) as file:
                np.save(file, features.numpy())
        except OSError as error:  # a full disk is no reason to lose a training run
            if self._can_write:  # only one of several threads logs it
                self._can_write = False
                logger.warning("From now on, features are not kept in %s but computed again: %s", path.parent, error)

    def _extract(self, audio: Any) -> torch.Tensor:
        waveform = load_audio(audio, sampling_rate=self.feature_extractor.sampling_rate)
        return self._features(waveform, name_of_sound(audio, _NAMELESS))

    def _features(self, waveform: np.ndarray, name: str) -> torch.Tensor:
        extractor = self.feature_extractor
        if fault := too_short(name, len(waveform), extractor.sampling_rate, extractor.min_num_samples):
            raise BadRowError(fault, SHORT_RECORDING)
        return extractor.extract_clip(waveform, name=name)


def _draw_excerpt(audio: Any, num_samples: int, longest: int, rate: int, rng: np.random.Generator) -> np.ndarray:
    """A random part of `longest` samples of a recording of `num_samples`."""
    start = int(rng.integers(num_samples - longest + 1))
    return load_excerpt(audio, start, longest, rate)


def _identity(audio: Any) -> bytes | None:
    """Bytes that identify a clip; None for a file that cannot be recognised later, or that does not exist."""
    content, rate, _ = unpack_sound(audio)
    if rate is not None:
        array = np.ascontiguousarray(content)
        return f"{rate} {array.shape} {array.dtype}".encode() + array.tobytes()
    if isinstance(content, (bytes, bytearray)):
        return bytes(content)
    if isinstance(content, (str, os.PathLike)) and os.path.isfile(content):
        status = os.stat(content)
        return f"{os.path.abspath(content)} {status.st_size} {status.st_mtime_ns}".encode()
    return None
