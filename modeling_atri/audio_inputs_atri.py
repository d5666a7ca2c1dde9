"""What people hand to a pipeline as sound, turned into a waveform; needs neither ffmpeg nor torchcodec."""

import io
import os
import re
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from numbers import Integral
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from huggingface_hub.utils import httpx


_URL_PREFIXES = ("http://", "https://")
_FETCH_TIMEOUT = 30.0  # seconds without an answer

# Names that end like this are sound files or films, also those that soundfile cannot read: better an error than the
# embedding of a file name.
_SOUND_NAME = re.compile(
    r"\.(3gp|aac|aiff?|aifc|amr|au|caf|flac|m4a|mka|mkv|mov|mp[234]|og[ag]|opus|rf64|snd|w64|wave?|webm|wma)$",
    re.IGNORECASE,
)


def names_sound(text: str) -> bool:
    """Whether a string is the name or URL of a sound file and not a caption, by its look alone."""
    return text.startswith(_URL_PREFIXES) or _SOUND_NAME.search(text) is not None


def read_waveform(audio: Any, sampling_rate: int, source_rate: int | None = None) -> np.ndarray:
    """One sound as a waveform at the rate of the model.

    Args:
        audio: one of
            - a path (`str` or `os.PathLike`), a URL (http or https), or the `bytes` of a file, in any format that
              soundfile reads (WAV, FLAC, OGG, MP3, ...); channels are averaged;
            - `{"path": ..., "bytes": ...}`, an undecoded `datasets.Audio` value; bytes go before path;
            - `{"array": ..., "sampling_rate": ...}`, a decoded one: a mono waveform or a list of floats; `raw` does
              for `array`;
            - a mono waveform, numpy array or torch tensor of shape `(num_samples,)`, floats with full scale at 1.0.
        sampling_rate (`int`): rate of the returned waveform, in hertz (Hz).
        source_rate (`int`, *optional*): rate of a bare waveform in Hz. Default: `sampling_rate`.

    Returns:
        `np.ndarray` of shape `(num_samples,)`, float32 as far as it was read or resampled here.

    Raises:
        ValueError: the sound cannot be read, or is none of the above.
        ImportError: soundfile, or soxr where rates differ, is not installed.
    """
    if isinstance(audio, Mapping):
        audio, source_rate = _unpack(audio, source_rate)
    if isinstance(audio, torch.Tensor):
        audio = audio.detach().to("cpu", torch.float32 if audio.is_floating_point() else audio.dtype).numpy()
    if isinstance(audio, np.ndarray):
        return _resample(audio, sampling_rate if source_rate is None else source_rate, sampling_rate)
    if isinstance(audio, str) and audio.startswith(_URL_PREFIXES):
        audio = _fetch(audio)
    if not isinstance(audio, (str, os.PathLike, bytes, bytearray)):
        raise ValueError(
            "Audio must be a path, a URL, the bytes of a file, a dict with `path`, `bytes` or `array`, or a waveform "
            f"(numpy array or torch tensor), but this is a {type(audio).__name__}."
        )
    # A copy of this file that came with a model has no such neighbour.
    if find_spec(f"{__package__}.audio_io") is not None:
        return import_module(f"{__package__}.audio_io").load_audio(audio, sampling_rate)
    return decode(audio, sampling_rate)


def decode(source: str | os.PathLike | bytes, sampling_rate: int) -> np.ndarray:
    """The samples that `audio_io.load_audio` gives for a sound file, for where that is not installed.

    Raises:
        ValueError: there is no such file, or soundfile cannot read it.
        ImportError: soundfile, or soxr where rates differ, is not installed.
    """
    soundfile = _import("soundfile")
    if isinstance(source, (bytes, bytearray)):
        name, target = f"the given {len(source)} bytes", io.BytesIO(source)
    else:
        name, target = repr(str(source)), str(source)
        if not Path(source).is_file():
            raise ValueError(f"There is no audio file {name}.")
    try:
        samples, source_rate = soundfile.read(target, dtype="float32", always_2d=True)
    # soundfile takes a name that ends in `.raw` for headerless samples and then misses their rate: TypeError.
    except (soundfile.SoundFileError, TypeError) as error:
        raise ValueError(f"Cannot decode {name}: {error}") from error
    if len(samples) == 0:
        raise ValueError(f"Cannot use {name}: it holds no samples.")
    return _resample(samples.mean(axis=1), source_rate, sampling_rate)


def _unpack(audio: Mapping[str, Any], source_rate: int | None) -> tuple[Any, int | None]:
    """The waveform of a dict with its rate, or its bytes or path."""
    for key in ("array", "raw"):
        if audio.get(key) is not None:
            source_rate = audio.get("sampling_rate", source_rate)
            if source_rate is None:
                raise ValueError(f"An audio dict with `{key}` needs its `sampling_rate` in Hz beside it.")
            waveform = audio[key]
            return waveform if isinstance(waveform, torch.Tensor) else np.asarray(waveform), source_rate
    for key in ("bytes", "path"):
        if audio.get(key) is not None:
            return audio[key], None
    raise ValueError(
        "An audio dict needs `array` (or `raw`) and `sampling_rate`, or `bytes`, or `path`; this one has "
        f"{sorted(map(str, audio))}, or holds None there."
    )


def _resample(waveform: np.ndarray, source_rate: int, sampling_rate: int) -> np.ndarray:
    if not isinstance(source_rate, Integral) or source_rate <= 0:
        raise ValueError(f"A sampling rate must be a positive whole number of hertz, got {source_rate!r}.")
    if source_rate == sampling_rate:
        return waveform
    if waveform.ndim != 1 or not np.issubdtype(waveform.dtype, np.floating):
        raise ValueError(
            f"A waveform must be mono, of shape (num_samples,), and hold floats with full scale at 1.0, but this one "
            f"has shape {waveform.shape} and holds {waveform.dtype}."
        )
    return _import("soxr").resample(waveform.astype(np.float32), source_rate, sampling_rate, quality="HQ")


def _fetch(url: str) -> bytes:
    try:
        return httpx.get(url, follow_redirects=True, timeout=_FETCH_TIMEOUT).raise_for_status().content
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ValueError(f"Cannot fetch {url}: {error}") from error


def _import(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(
            f"Reading this sound needs {name}: `pip install soundfile soxr`. Waveforms (arrays) at the model's rate "
            "need neither."
        ) from error


__all__ = ["decode", "names_sound", "read_waveform"]
