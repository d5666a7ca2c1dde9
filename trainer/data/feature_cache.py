"""Log-mel features on disk, for clips that are seen again."""

import hashlib
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from modeling_atri import __version__
from modeling_atri.audio_io.excerpts import clip_length, load_excerpt
from modeling_atri.audio_io.load import load_audio
from modeling_atri.corpora.rows.bad_rows import SHORT_RECORDING, SILENT_RECORDING, BadRowError
from modeling_atri.encode.fingerprints import feature_settings
from modeling_atri.feature_extraction_atri import AtriFeatureExtractor
from modeling_atri.files import written_whole


logger = logging.getLogger(__name__)

_EXCERPTS_TRIED = 8  # of a long recording, before it counts as silent


class FeatureCache:
    """Features of clips: made once, then read from a folder.

    A clip is known by its content where it comes as bytes or samples, else by path, size and time of change; features
    of another extractor, or another version of this package, have names of their own. Several processes may share the
    folder. A clip of 10 s takes 256 kB. Where an entry cannot be written, a warning says so, and from then on the
    process writes no more.

    Args:
        feature_extractor (`AtriFeatureExtractor`): makes the features.
        folder (`str` or `Path`, *optional*): where they are kept; None keeps nothing and makes them every time.
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
            audio: a path, bytes, or dict that `load_audio` takes.

        Returns:
            `torch.Tensor` of shape `(frames, mel bins)`, float32, in decibels.

        Raises:
            ValueError: a clip that cannot be read or is unfit; the message names it.
        """
        identity = None if self.folder is None else _identity(audio)
        if identity is None:
            return self._extract(audio)
        path = self.folder / f"{hashlib.blake2b(self._settings + identity, digest_size=16).hexdigest()}.npy"
        if path.exists():
            try:
                return torch.from_numpy(np.load(path))
            except (ValueError, EOFError, OSError):
                pass  # written by a machine that died: made again below
        features = self._extract(audio)
        self._keep(path, features)
        return features

    def excerpt(self, audio: Any, max_seconds: float | None, rng: np.random.Generator) -> torch.Tensor:
        """Features of a clip as training takes it: not silent, and of a longer one than `max_seconds` a random part.

        Of a longer clip only that part is decoded, and its features are not kept: each epoch has another part, and of
        the whole, an hour would take 90 MB on disk, and decoding it to get there as long as a hundred parts.

        Args:
            audio: a path, bytes, or dict that `load_audio` takes.
            max_seconds: None takes every clip whole.
            rng: of the draw.

        Returns:
            `torch.Tensor` of shape `(frames, mel bins)`, float32, in decibels.

        Raises:
            ValueError: as when called; a silent clip, or eight parts of a longer one that are, as `BadRowError`.
        """
        rate = self.feature_extractor.sampling_rate
        num_samples = 0 if max_seconds is None else clip_length(audio, rate)
        if max_seconds is None or num_samples <= max_seconds * rate:
            features = self(audio)
            if not is_silent(features):
                return features
        else:
            for _ in range(_EXCERPTS_TRIED):
                waveform = _draw_excerpt(audio, num_samples, int(max_seconds * rate), rate, rng)
                features = self._features(waveform, describe_audio(audio))
                if not is_silent(features):
                    return features
        raise BadRowError(f"{describe_audio(audio)} is silent: there is nothing to learn from it.", SILENT_RECORDING)

    def _keep(self, path: Path, features: torch.Tensor) -> None:
        if not self._can_write:
            return
        try:
            with written_whole(path) as file:
                np.save(file, features.numpy())
        except OSError as error:  # a full disk is no reason to lose a training run
            if self._can_write:  # of several threads one says it
                self._can_write = False
                logger.warning("From now on, features are not kept in %s but made again: %s", path.parent, error)

    def _extract(self, audio: Any) -> torch.Tensor:
        waveform = load_audio(audio, sampling_rate=self.feature_extractor.sampling_rate)
        return self._features(waveform, describe_audio(audio))

    def _features(self, waveform: np.ndarray, name: str) -> torch.Tensor:
        extractor = self.feature_extractor
        if len(waveform) < extractor.min_num_samples:
            raise BadRowError(
                f"{name} is too short: {len(waveform)} samples at {extractor.sampling_rate} Hz, the model needs at "
                f"least {extractor.min_num_samples} ({extractor.min_num_samples / extractor.sampling_rate:.2f} s). "
                "Leave it out, or pad the file with silence.",
                SHORT_RECORDING,
            )
        features = extractor.extract_clip(waveform, name=name)
        if not torch.isfinite(features).all():
            peak = float(np.abs(waveform).max())
            raise BadRowError(f"{name} is no sound: its samples reach {peak:.1e}, where full scale is 1.0.")
        return features


def _draw_excerpt(audio: Any, num_samples: int, longest: int, rate: int, rng: np.random.Generator) -> np.ndarray:
    """A random part of a recording of `num_samples` that has `longest`."""
    while True:
        start = int(rng.integers(num_samples - longest + 1))
        waveform = load_excerpt(audio, start, longest, rate)
        if len(waveform) == longest or start == 0:
            return waveform
        # It ends before: the length of an MP3 may be an estimate. It is drawn anew from what may be there.
        num_samples = max(longest, start + len(waveform))


def is_silent(features: torch.Tensor) -> bool:
    """Whether nothing in a clip is above the floor of log-mel features: its samples are all zero, or next to it."""
    low, high = torch.aminmax(features)
    return bool(low == high)


def describe_audio(audio: Any) -> str:
    """A clip's name for messages."""
    if isinstance(audio, dict):
        audio = audio.get("path") or "a clip given as samples or bytes"
    return str(audio) if isinstance(audio, (str, os.PathLike)) else "a clip given as samples or bytes"


def _identity(audio: Any) -> bytes | None:
    """What tells a clip from all others; None for what `load_audio` will refuse, or cannot be known again."""
    if isinstance(audio, dict):
        if audio.get("array") is not None:
            array = np.ascontiguousarray(audio["array"])
            return f"{audio.get('sampling_rate')} {array.shape} {array.dtype}".encode() + array.tobytes()
        audio = audio.get("path") if audio.get("bytes") is None else audio["bytes"]
    if isinstance(audio, (bytes, bytearray)):
        return bytes(audio)
    if isinstance(audio, (str, os.PathLike)) and os.path.isfile(audio):
        status = os.stat(audio)
        return f"{os.path.abspath(audio)} {status.st_size} {status.st_mtime_ns}".encode()
    return None
