"""Log-mel features on disk, for clips that are seen again."""

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from modeling_atri.audio_io import load_audio
from modeling_atri.feature_extraction_atri import AtriFeatureExtractor


class FeatureCache:
    """Features of clips: made once, then read from a folder.

    A clip is known by its content where it comes as bytes or samples, else by path, size and time of change; features of
    another extractor have names of their own. Several processes may share the folder. A clip of 10 s takes 256 kB.

    Args:
        feature_extractor (`AtriFeatureExtractor`): makes the features.
        folder (`str` or `Path`, *optional*): where they are kept; None keeps nothing and makes them every time.
    """

    def __init__(self, feature_extractor: AtriFeatureExtractor, folder: str | os.PathLike | None = None):
        self.feature_extractor = feature_extractor
        self.folder = None if folder is None else Path(folder)
        self._settings = feature_extractor.to_json_string().encode()
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)

    def __call__(self, audio: Any) -> torch.Tensor:
        """Features of one clip.

        Args:
            audio: whatever `load_audio` takes.

        Returns:
            `torch.Tensor` of shape `(frames, mel bins)`, float32, in decibels.

        Raises:
            ValueError: a clip that cannot be read or is unfit; the message names it.
        """
        if self.folder is None:
            return self._extract(audio)
        path = self.folder / f"{self._key(audio)}.npy"
        if path.exists():
            try:
                return torch.from_numpy(np.load(path))
            except (ValueError, EOFError, OSError):
                pass  # written by a machine that died: made again below
        features = self._extract(audio)
        self._write(path, features.numpy())
        return features

    def _extract(self, audio: Any) -> torch.Tensor:
        waveform = load_audio(audio, sampling_rate=self.feature_extractor.sampling_rate)
        return self.feature_extractor.extract_clip(waveform, name=describe_audio(audio))

    def _key(self, audio: Any) -> str:
        digest = hashlib.blake2b(self._settings, digest_size=16)
        digest.update(_identity(audio))
        return digest.hexdigest()

    @staticmethod
    def _write(path: Path, features: np.ndarray) -> None:
        """Whole or not at all, so that a reader beside us never sees half a file."""
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
        with os.fdopen(handle, "wb") as file:
            np.save(file, features)
        os.replace(temporary, path)


def describe_audio(audio: Any) -> str:
    """A clip's name for messages."""
    if isinstance(audio, dict):
        audio = audio.get("path") or "a clip given as samples or bytes"
    return str(audio) if isinstance(audio, (str, os.PathLike)) else "a clip given as samples or bytes"


def _identity(audio: Any) -> bytes:
    if isinstance(audio, dict):
        if audio.get("bytes") is not None:
            return audio["bytes"]
        if audio.get("array") is not None:
            array = np.ascontiguousarray(audio["array"])
            return f"{audio['sampling_rate']} {array.shape} {array.dtype}".encode() + array.tobytes()
        audio = audio["path"]
    if isinstance(audio, bytes):
        return audio
    if isinstance(audio, (np.ndarray, torch.Tensor)):
        array = np.ascontiguousarray(audio)
        return f"{array.shape} {array.dtype}".encode() + array.tobytes()
    status = os.stat(audio)
    return f"{os.path.abspath(audio)} {status.st_size} {status.st_mtime_ns}".encode()
