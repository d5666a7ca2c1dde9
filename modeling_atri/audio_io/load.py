"""Sound in, waveform out: decodes whatever soundfile reads, mixes to mono and resamples with soxr.

Decoding goes block by block, so a long recording with many channels at a high rate costs the memory of its mono
version at the target rate and no more. Nothing here depends on torchaudio, torchcodec or ffmpeg.
"""

import io
import os
from collections.abc import Iterable
from numbers import Integral
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import soxr
import torch

from .sound_files import SoundFile


SAMPLING_RATE = 16_000  # Hz, what CED was trained on

AudioSource: TypeAlias = str | os.PathLike | bytes | BinaryIO | dict[str, Any] | np.ndarray | torch.Tensor


class MissingAudioError(FileNotFoundError, ValueError):
    """There is no file at the path: a `ValueError`, as every fault of an input, and a `FileNotFoundError`."""


def load_audio(source: AudioSource, sampling_rate: int = SAMPLING_RATE, source_rate: int | None = None) -> np.ndarray:
    """Reads one recording as a mono waveform.

    Args:
        source: one of
            - a path (`str` or `os.PathLike`), the `bytes` of a file, or a binary file object that can seek: any format
              that soundfile reads (WAV, FLAC, OGG, MP3, AIFF, ...);
            - `{"path": ..., "bytes": ...}`, an undecoded `datasets.Audio` value; bytes go before path, which then
              only names them in messages;
            - `{"array": ..., "sampling_rate": ...}`, a decoded one;
            - a numpy array or torch tensor of shape `(num_samples,)` or `(num_channels, num_samples)`: floating
              point, or signed integers, which are scaled by their full range to [-1, 1).
        sampling_rate (`int`, defaults to 16000): rate of the returned waveform, in hertz (Hz).
        source_rate (`int`, *optional*): rate of a bare array in hertz. Needed there and allowed nowhere else: files
            and dicts say their own.

    Returns:
        `np.ndarray` of shape `(num_samples,)`, float32, C-contiguous. Channels are averaged (mean) before resampling;
        resampling is soxr's "HQ", and is skipped where the rates agree. `num_samples` is the source's times
        `sampling_rate / source_rate`, rounded.

    Raises:
        MissingAudioError: if there is no such file (a `ValueError` and a `FileNotFoundError`).
        ValueError: if the source is empty, broken, truncated, of a rate that no recording has, holds NaN or infinity,
            or is none of the above; the message names the file. In which formats a cut is seen, `sound_files` says.
    """
    _check_rate("sampling_rate", sampling_rate)
    own_name = _own_name(source)
    if isinstance(source, dict):
        source, source_rate = _unpack_dict(source, source_rate)
    if isinstance(source, (np.ndarray, torch.Tensor)):
        name = own_name or "the array"
        waveform = _resample([_mix_array(source)], _check_rate("source_rate", source_rate), sampling_rate)
    elif source_rate is None:
        name, target = _locate(source, own_name)
        waveform = _decode(target, name, sampling_rate)
    else:
        raise ValueError(f"`source_rate` is for bare arrays: a file says its own rate (got {source_rate!r}).")
    if not np.isfinite(waveform).all():
        raise ValueError(f"Cannot use {name}: it holds NaN or infinite samples.")
    return waveform


def audio_length(source: AudioSource, sampling_rate: int = SAMPLING_RATE) -> int:
    """Samples of the waveform that `load_audio` makes of a file, by its header.

    Nothing is decoded but FLAC that was streamed and whose header does not know.

    Args:
        source: what `load_audio` takes, but arrays; `bytes` in a dict may also be a binary file object.
        sampling_rate (`int`, defaults to 16000): rate of the waveform, in hertz (Hz).

    Returns:
        `int`, the number of samples; that of an MP3 without a Xing or Info header is an estimate.

    Raises:
        MissingAudioError: if there is no such file (a `ValueError` and a `FileNotFoundError`).
        ValueError: if the header cannot be read, or says that the file is empty or truncated; the message names it.
    """
    _check_rate("sampling_rate", sampling_rate)
    own_name = _own_name(source)
    if isinstance(source, dict):
        source, _ = _unpack_dict(source, None)
    name, target = _locate(source, own_name)
    with SoundFile(target, name) as sound_file:
        _check_not_empty(sound_file)
        num_frames = sound_file.frames if sound_file.knows_length else sum(map(len, sound_file.mono_blocks()))
        return round(num_frames * sampling_rate / sound_file.samplerate)


def _own_name(source: Any) -> str | None:
    """What a dict with sound calls it, for messages."""
    path = source.get("path") if isinstance(source, dict) else None
    return repr(str(path)) if path else None


def _check_rate(argument: str, rate: int | None) -> int:
    if not isinstance(rate, Integral) or rate <= 0:
        raise ValueError(f"`{argument}` must be a positive whole number of hertz, such as 16000, but is {rate!r}.")
    return int(rate)


def _unpack_dict(source: dict[str, Any], source_rate: int | None) -> tuple[Any, int | None]:
    """The array with its rate, or the bytes or path without one."""
    if source.get("array") is not None:
        own_rate = source.get("sampling_rate")
        if source_rate not in (None, own_rate):
            raise ValueError(f"The audio says `sampling_rate` {own_rate!r} but `source_rate` is {source_rate!r}.")
        array = source["array"]
        return array if isinstance(array, torch.Tensor) else np.asarray(array), own_rate
    for key in ("bytes", "path"):
        if source.get(key) is not None:
            return source[key], source_rate
    raise ValueError(
        f"An audio dict needs `array` and `sampling_rate`, or `bytes`, or `path`; this one has {sorted(source)}, "
        "or holds None there."
    )


def _mix_array(array: np.ndarray | torch.Tensor) -> np.ndarray:
    """Mean over channels and scale to [-1, 1) of a bare array: `(num_samples,)`, float32."""
    if isinstance(array, torch.Tensor):
        array = array.detach().cpu()
        array = (array.float() if array.is_floating_point() else array).numpy()
    if array.ndim not in (1, 2) or (array.ndim == 2 and array.shape[0] > array.shape[1] > 0):
        raise ValueError(
            "An audio array must have the shape (num_samples,) or (num_channels, num_samples), "
            f"but this one has {array.shape}."
        )
    if array.size == 0:
        raise ValueError(f"Cannot use the array: it holds no samples (its shape is {array.shape}).")
    if np.issubdtype(array.dtype, np.signedinteger):
        array = array / -np.float64(np.iinfo(array.dtype).min)
    elif not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"An audio array must hold floats or signed integers, but this one is {array.dtype}.")
    mono = array.mean(axis=0) if array.ndim == 2 else array
    return np.ascontiguousarray(mono, dtype=np.float32)


def _locate(source: Any, own_name: str | None = None) -> tuple[str, str | BinaryIO]:
    """What to call the source in messages, and what to hand to soundfile."""
    if isinstance(source, (bytes, bytearray)):
        if not source:
            raise ValueError(f"Cannot decode {own_name or 'the given bytes'}: there are 0 bytes.")
        return own_name or f"the given {len(source)} bytes", io.BytesIO(source)
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        try:
            if not path.exists():
                raise MissingAudioError(f"There is no audio file {str(path)!r}.")
            if not path.is_file():
                raise ValueError(f"Cannot decode {str(path)!r}: it is not a file.")
            if path.stat().st_size == 0:
                raise ValueError(f"Cannot decode {str(path)!r}: the file is empty (0 bytes).")
        except MissingAudioError:
            raise
        except OSError as error:  # a name that is too long, a folder that may not be read
            raise ValueError(f"Cannot decode {str(path)!r}: {error.strerror}.") from error
        return repr(str(path)), str(path)
    if all(hasattr(source, method) for method in ("read", "seek", "tell")):
        return own_name or repr(getattr(source, "name", "the given file object")), source
    raise ValueError(
        "Audio must be a path, the bytes of a file, a binary file object, a dict with `path`, `bytes` or `array`, a "
        f"numpy array or a torch tensor, but this is a {type(source).__name__}."
    )


def _decode(target: str | BinaryIO, name: str, sampling_rate: int) -> np.ndarray:
    with SoundFile(target, name) as sound_file:
        _check_not_empty(sound_file)
        return _resample(sound_file.mono_blocks(), sound_file.samplerate, sampling_rate)


def _check_not_empty(sound_file: SoundFile) -> None:
    if sound_file.frames == 0:
        raise ValueError(f"Cannot use {sound_file.label}: it holds no samples.")


def _resample(blocks: Iterable[np.ndarray], source_rate: int, sampling_rate: int) -> np.ndarray:
    """Joins mono blocks at the target rate; the seams are exact, the resampler's state runs through."""
    if source_rate == sampling_rate:
        return np.concatenate(list(blocks))
    stream = soxr.ResampleStream(source_rate, sampling_rate, num_channels=1, dtype="float32", quality="HQ")
    resampled = [stream.resample_chunk(block) for block in blocks]
    resampled.append(stream.resample_chunk(np.zeros(0, dtype=np.float32), last=True))
    return np.concatenate(resampled)


__all__ = ["SAMPLING_RATE", "AudioSource", "MissingAudioError", "audio_length", "load_audio"]
