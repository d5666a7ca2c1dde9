"""Features of clips on disk, for clips that are used again."""

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from modeling_atri import __version__
from modeling_atri.array_shards import KEY_BYTES, ArrayShards
from modeling_atri.audio_inputs_atri import load_audio, name_of_sound, too_short, unpack_sound
from modeling_atri.audio_io import SAMPLING_RATE, audio_length, load_excerpt
from modeling_atri.corpora.rows.bad_rows import SHORT_RECORDING, SILENT_RECORDING, BadRowError
from modeling_atri.corpora.rows.recordings import file_of, is_url, recording_length
from modeling_atri.encode.fingerprints import feature_settings
from modeling_atri.feature_extraction_atri import AtriFeatureExtractor
from modeling_atri.long_sounds_atri import LongSound, is_long


CACHE_DTYPES = ("float32", "float16")
_EXCERPTS_TRIED = 8  # parts of a long recording that must be silent before the recording counts as silent
_NAMELESS = "a clip given as samples or bytes"


class FeatureCache:
    """Features of clips, which are computed once and then read from a folder.

    A clip is identified by its content if it is given as bytes or samples, otherwise by path, size and time of change,
    so a changed file is not served from the folder. Features of another extractor, another dtype or another version of
    this package are in other sub-folders. Several workers, processes and runs may share the folder, and any of them
    may be killed at any time; see [`ArrayShards`]. A clip of 10 s takes 256 kB, or 128 kB in float16. The features
    that earlier versions kept in one file a clip (`*.npy`) are not used any more: the files may be deleted.

    Args:
        feature_extractor (`AtriFeatureExtractor`): computes the features.
        folder (`str` or `Path`, *optional*): where features are kept. None computes them every time.
        dtype (`str`, *optional*, defaults to `"float32"`): `"float16"` halves the size. All features of whole clips
            are then rounded, also where they have just been computed, so that every epoch uses the same numbers.
            Decibels of -100 to 100 are rounded by up to 0.03.
        max_gb (`float`, *optional*): largest size of the folder in GB. When it is reached, other sub-folders that have
            not been used for a day are removed, and then no more features are added. Default: no limit.

    Raises:
        ValueError: the dtype is another one.
        OSError: the folder does not exist and cannot be created.
    """

    def __init__(
        self,
        feature_extractor: AtriFeatureExtractor,
        folder: str | os.PathLike | None = None,
        dtype: str = "float32",
        max_gb: float | None = None,
    ):
        if dtype not in CACHE_DTYPES:
            raise ValueError(f"`dtype` must be one of {', '.join(CACHE_DTYPES)}; got {dtype!r}.")
        self.feature_extractor = feature_extractor
        self._dtype = dtype
        self._shards: ArrayShards | None = None
        if folder is not None:
            settings = f"{__version__} {dtype} {sorted(feature_settings(feature_extractor).items())}"
            max_bytes = None if max_gb is None else int(max_gb * 1e9)
            self._shards = ArrayShards(Path(folder), _digest(settings.encode()).hex(), dtype, max_bytes)

    def __call__(self, audio: Any) -> torch.Tensor:
        """Features of one clip.

        Args:
            audio: a sound in any form that [`~audio_io.load_audio`] takes and that carries its own rate.

        Returns:
            `torch.Tensor` of shape `(frames, mel bins)`, float32, in decibels.

        Raises:
            ValueError: the clip cannot be read, is too short (a `BadRowError`) or does not fit the model, or its
                features are too large for float16. The message names it.
        """
        identity = None if self._shards is None else _identity(audio)
        if self._shards is None or identity is None:
            return self._rounded(self._extract(audio), audio)
        key = _digest(identity)
        kept = self._shards.get(key)
        if kept is not None:
            return torch.from_numpy(kept).float()
        features = self._rounded(self._extract(audio), audio)
        if identity == _identity(audio):  # the file has not changed while it was read
            self._shards.put(key, features.numpy().astype(self._dtype))
        return features

    def read(self, audio: Any) -> torch.Tensor | LongSound:
        """A clip for [`~encode.encode_audio`]: as when called, but a recording of more than two minutes whose length
        its file states is read in pieces while it is encoded, and not kept.

        Args:
            audio: as when called.

        Raises:
            ValueError: as when called.
        """
        if self.feature_extractor.sampling_rate is None or not is_long(self.feature_extractor, audio):
            return self(audio)
        return self.feature_extractor.read_clip(audio, name=_NAMELESS)

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
        num_samples = 0 if max_seconds is None else _num_samples(audio, rate)
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

    def _rounded(self, features: torch.Tensor, audio: Any) -> torch.Tensor:
        """The features as they are read again."""
        if self._dtype == "float32":
            return features
        rounded = features.half().float()
        if not bool(rounded.isfinite().all()):
            raise ValueError(
                f"The features of {name_of_sound(audio, _NAMELESS)} are too large for float16. Keep them in float32."
            )
        return rounded

    def _extract(self, audio: Any) -> torch.Tensor:
        waveform = load_audio(audio, sampling_rate=self.feature_extractor.sampling_rate)
        return self._features(waveform, name_of_sound(audio, _NAMELESS))

    def _features(self, waveform: np.ndarray, name: str) -> torch.Tensor:
        extractor = self.feature_extractor
        if fault := too_short(name, len(waveform), extractor.sampling_rate, extractor.min_num_samples):
            raise BadRowError(fault, SHORT_RECORDING)
        return extractor.extract_clip(waveform, name=name)


def _num_samples(audio: Any, rate: int) -> int:
    """The length of a recording, of a file from its header only if it is not known yet."""
    path = file_of(audio)
    if path is None or is_url(path) or rate != SAMPLING_RATE:
        return audio_length(audio, rate)
    try:
        return round(recording_length(path) * rate)
    except OSError:
        return audio_length(audio, rate)  # raises an error that says what is wrong with the file


def _draw_excerpt(audio: Any, num_samples: int, longest: int, rate: int, rng: np.random.Generator) -> np.ndarray:
    """A random part of `longest` samples of a recording of `num_samples`."""
    start = int(rng.integers(num_samples - longest + 1))
    return load_excerpt(audio, start, longest, rate)


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=KEY_BYTES).digest()


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
