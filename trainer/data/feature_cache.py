"""Log-mel features on disk, for clips that are seen again."""

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from modeling_atri import __version__
from modeling_atri.audio_io import load_audio
from modeling_atri.feature_extraction_atri import AtriFeatureExtractor
from modeling_atri.files import written_whole


class FeatureCache:
    """Features of clips: made once, then read from a folder.

    A clip is known by its content where it comes as bytes or samples, else by path, size and time of change; features
    of another extractor, or another version of this package, have names of their own. Several processes may share the
    folder. A clip of 10 s takes 256 kB.

    Args:
        feature_extractor (`AtriFeatureExtractor`): makes the features.
        folder (`str` or `Path`, *optional*): where they are kept; None keeps nothing and makes them every time.
    """

    def __init__(self, feature_extractor: AtriFeatureExtractor, folder: str | os.PathLike | None = None):
        self.feature_extractor = feature_extractor
        self.folder = None if folder is None else Path(folder)
        # Numbers make the features; what else an extractor says (its class, its files) changes when it is saved.
        numbers = {
            name: value for name, value in feature_extractor.to_dict().items() if isinstance(value, (int, float))
        }
        self._settings = f"{__version__} {sorted(numbers.items())}".encode()
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
        with written_whole(path) as file:
            np.save(file, features.numpy())
        return features

    def _extract(self, audio: Any) -> torch.Tensor:
        extractor, name = self.feature_extractor, describe_audio(audio)
        waveform = load_audio(audio, sampling_rate=extractor.sampling_rate)
        if len(waveform) < extractor.min_num_samples:
            raise ValueError(
                f"{name} is too short: {len(waveform)} samples at {extractor.sampling_rate} Hz, the model needs at "
                f"least {extractor.min_num_samples} ({extractor.min_num_samples / extractor.sampling_rate:.2f} s). "
                "Leave it out, or pad the file with silence."
            )
        return extractor.extract_clip(waveform, name=name)


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
