"""THE reader of sounds: every form in which people hand over a sound, as one mono waveform at the model's rate.

The processor, the feature extractor, the pipelines, `encode_audio`, `encode_folder`, the trainer's feature cache and
the encoder for MTEB all read sounds with this module, with and without the installed package.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from numbers import Real
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch

from .sndfile_streams_atri import import_library
from .sound_files_atri import open_sound
from .threads_atri import Room


SAMPLING_RATE = 16_000  # Hz, the rate that CED was trained on
MIN_NUM_SAMPLES = 2_400  # the shortest sound at that rate: 16 frames, one patch of the audio tower
MIN_SECONDS = MIN_NUM_SAMPLES / SAMPLING_RATE

# Whole waveforms of so many samples are read at the same time, by all threads together: 9 minutes at 16 kHz. A longer
# waveform is read alone.
READING = Room(2**23)

_ARRAY_BLOCK = 2**20  # samples of a waveform in memory that are converted at once

Waveform = np.ndarray | torch.Tensor | Sequence[float]
# `Any` stands for a torchcodec `AudioDecoder`, which is known by its method `get_all_samples`.
AudioInput = Waveform | str | os.PathLike | bytes | BinaryIO | Mapping[str, Any] | Any


class UnpackedSound(NamedTuple):
    """A sound out of its dict or decoder: samples with their rate in Hz, or a file with rate None."""

    content: Any
    rate: int | None
    name: str  # for error messages


def load_audio(source: AudioInput, sampling_rate: int = SAMPLING_RATE, source_rate: int | None = None) -> np.ndarray:
    """Read one sound as a mono waveform.

    Args:
        source: one of
            - a path (`str` or `os.PathLike`), a URL (http or https), the `bytes` of a file, or a binary file object
              that can seek and is read from its beginning, in any format that soundfile reads (WAV, FLAC, OGG, MP3,
              AIFF, ...) or, where the extra `av` is installed, PyAV (M4A, MP4, WebM, WMA, ...). Joined files are read
              one after the other, and of several audio tracks the default one;
            - `{"path": ..., "bytes": ...}`, an undecoded value of a `datasets.Audio` column. Where `bytes` is not
              None it is read, and `path` only serves as a name in error messages;
            - `{"array": ..., "sampling_rate": ...}`, a decoded value; the key `raw` may stand for `array`;
            - a torchcodec `AudioDecoder`, the decoded value of a column in `datasets` 4 and later;
            - a waveform: a numpy array, torch tensor or list of shape `(num_samples,)` or
              `(num_channels, num_samples)`. An array with more rows than columns is refused, because it is likely to
              be transposed. Samples are floats with full scale at 1.0, or signed integers of 8, 16 or 32 bits, which
              are divided by the full range of their type (16-bit samples by 32768).
        sampling_rate (`int`, *optional*, defaults to 16000): rate of the returned waveform, in hertz (Hz).
        source_rate (`int`, *optional*): rate in Hz of a waveform, or of a dict with samples, that does not carry its
            own. Required there. Files, decoders and other dicts carry their own rate, and allow no other.

    Returns:
        `np.ndarray` of shape `(num_samples,)`, float32, C-contiguous. Channels are averaged before resampling.
        Resampling is soxr's "HQ" and is skipped where the rates agree. `num_samples` is the length of the source times
        `sampling_rate / source_rate`, rounded. The waveform never shares memory with the source.

    Raises:
        MissingAudioError: there is no such file (a `ValueError` and a `FileNotFoundError`).
        MissingDecoderError: the format needs PyAV, which is not installed (a `ValueError`).
        ValueError: the source is empty, broken, truncated (see `sound_files_atri` for the formats in which this is
            detected), has an impossible sampling rate, holds NaN or infinity, or is none of the above. The message
            names the file.
        ImportError: soundfile, or soxr where rates differ, is not installed.
    """
    if source_rate is not None:
        source_rate = check_rate("source_rate", source_rate)
    if source_rate is not None and not lacks_rate(source):
        own_rate = source.get("sampling_rate") if isinstance(source, Mapping) else None
        if own_rate is None:
            raise ValueError(
                f"`source_rate` is only for waveforms, because files carry their own rate (got {source_rate!r}). "
                "Leave it out."
            )
        if own_rate != source_rate:
            raise ValueError(f"The audio says `sampling_rate` {own_rate!r} but `source_rate` is {source_rate!r}.")
    return read_sound(source, sampling_rate, source_rate)


def read_sound(
    sound: AudioInput, sampling_rate: int, source_rate: int | None = None, name: str | None = None
) -> np.ndarray:
    """Read one sound as `load_audio` does, but ignore `source_rate` where the sound carries its own rate.

    `name` is what error messages call a sound that has no path.
    """
    sampling_rate = check_rate("sampling_rate", sampling_rate)
    sound = unpack_sound(sound, source_rate, name)
    with opened(sound, sampling_rate) as (num_samples, blocks), READING.taken(num_samples or 0):
        waveform = join_blocks(blocks, num_samples)
    if len(waveform) == 0:  # only known now for FLAC that was written to a pipe
        raise ValueError(f"Cannot use {sound.name}: it holds no samples.")
    return waveform


@contextmanager
def opened(sound: UnpackedSound, sampling_rate: int) -> Iterator[tuple[int | None, Iterator[np.ndarray]]]:
    """Open a sound to read its waveform block by block, each block with new memory, as [`read_sound`] reads it whole.

    Args:
        sound: from `unpack_sound`.
        sampling_rate: rate of the waveform, in Hz.

    Returns:
        A context with the number of samples of the waveform, or None where only decoding shows it, and the blocks, of
        shape `(block_length,)`, float32, which joined are the waveform.

    Raises:
        ValueError: as `load_audio`; while the blocks are read, also for NaN, infinity and truncated files.
    """
    if sound.rate is not None:
        array = _as_array(sound.content, sound.name)
        num_samples = round(array.shape[-1] * sampling_rate / sound.rate)
        blocks = _resampled(_mono_blocks(array), sound.rate, sampling_rate)
        yield num_samples, _finite(blocks, sound.name)
        return
    with open_sound(sound.content, sound.name) as file:
        num_frames = file.num_frames
        num_samples = None if num_frames is None else round(num_frames * sampling_rate / file.samplerate)
        yield num_samples, _finite(_resampled(file.mono_blocks(), file.samplerate, sampling_rate), sound.name)


def unpack_sound(sound: AudioInput, source_rate: int | None = None, name: str | None = None) -> UnpackedSound:
    """Take a sound out of its dict or decoder, without opening files."""
    name = name_of_sound(sound, name or "")
    if hasattr(sound, "get_all_samples"):
        try:
            samples = sound.get_all_samples()
        except RuntimeError as error:  # torchcodec's error for a damaged file
            raise ValueError(f"Cannot decode {name or 'the audio'}: {error}") from error
        return UnpackedSound(samples.data, samples.sample_rate, name or "the decoded audio")
    if isinstance(sound, Mapping):
        key = next((key for key in ("array", "raw", "bytes", "path") if sound.get(key) is not None), None)
        if key is None:
            raise ValueError(
                "An audio dict needs `array` (or `raw`) and `sampling_rate`, or `bytes`, or `path`; this one has "
                f"{sorted(map(str, sound))}, or holds None there."
            )
        if key in ("array", "raw"):
            rate = source_rate if sound.get("sampling_rate") is None else sound["sampling_rate"]
            if rate is None:
                raise ValueError(f"An audio dict with `{key}` needs its `sampling_rate` in Hz beside it.")
            return UnpackedSound(sound[key], check_rate("sampling_rate", rate), name or "the array")
        sound = sound[key]
    if is_recording(sound):
        name = name or (f"the given {len(sound)} bytes" if isinstance(sound, (bytes, bytearray)) else "the given file")
        return UnpackedSound(sound, None, name)
    if not isinstance(sound, (list, tuple)) and not hasattr(sound, "__array__"):
        raise ValueError(
            f"Audio must be a path, a URL, the bytes of a file, a binary file object, a dict with `path`, `bytes` or "
            f"`array`, a torchcodec AudioDecoder, or a waveform (numpy array, torch tensor or list of floats), but "
            f"{name or 'this'} is a {type(sound).__name__}."
        )
    name = name or "the array"
    if source_rate is None:
        raise ValueError(f"Cannot use {name}: it is a waveform without its sampling rate. Pass that too, in Hz.")
    return UnpackedSound(sound, check_rate("sampling_rate", source_rate), name)


def is_recording(sound: Any) -> bool:
    """Whether a sound is more than samples: a file in some form, a dict, or a decoder."""
    return (
        isinstance(sound, (str, os.PathLike, bytes, bytearray, Mapping))
        or hasattr(sound, "get_all_samples")
        or all(hasattr(sound, method) for method in ("read", "seek", "tell"))
    )


def lacks_rate(sound: Any) -> bool:
    """Whether a sound does not carry its own sampling rate: samples alone, or in a dict without `sampling_rate`."""
    if isinstance(sound, Mapping):
        has_samples = any(sound.get(key) is not None for key in ("array", "raw"))
        return has_samples and sound.get("sampling_rate") is None
    return not is_recording(sound)


def path_of(sound: Any) -> str | None:
    """The path of a sound, its own, of its dict or of its file object; None where it has none."""
    if isinstance(sound, Mapping):
        sound = sound.get("path")
    elif not isinstance(sound, os.PathLike):
        sound = getattr(sound, "name", sound)
    return str(sound) if isinstance(sound, (str, os.PathLike)) and str(sound) else None


def name_of_sound(sound: Any, default: str) -> str:
    """What error messages call a sound: its path in quotes, or `default` where it has none."""
    path = path_of(sound)
    return repr(path) if path else default


def too_short(
    name: str,
    num_samples: int,
    sampling_rate: int = SAMPLING_RATE,
    min_num_samples: int = MIN_NUM_SAMPLES,
    remedy: str = "Leave it out, or pad it with silence.",
) -> str | None:
    """Say why a sound is too short for the model; None where it is long enough."""
    if num_samples >= min_num_samples:
        return None
    return (
        f"Cannot use {name}: it is too short ({num_samples} samples at {sampling_rate} Hz). The model needs at least "
        f"{min_num_samples} samples ({min_num_samples / sampling_rate:.2f} s). {remedy}"
    )


def check_rate(argument: str, rate: float | None) -> int:
    """Return `rate` as an `int`, or raise a ValueError unless it is a positive whole number, such as 16000.0."""
    if not isinstance(rate, Real) or isinstance(rate, bool) or not float(rate).is_integer() or rate <= 0:
        raise ValueError(f"`{argument}` must be a positive whole number of hertz, such as 16000, got {rate!r}.")
    return int(rate)


def _as_array(samples: Waveform, name: str) -> np.ndarray:
    """Samples of shape `(num_samples,)` or `(num_channels, num_samples)`, in their own type, after a check."""
    if isinstance(samples, torch.Tensor):
        samples = samples.detach().cpu()
        samples = samples.float() if samples.is_floating_point() else samples  # numpy has no bfloat16
    try:
        array = np.asarray(samples)
    except ValueError as error:
        raise ValueError(f"Cannot use {name}: it is a {type(samples).__name__} of unequal rows ({error}).") from error
    if array.ndim not in (1, 2) or (array.ndim == 2 and array.shape[0] > array.shape[1] > 0):
        raise ValueError(
            f"Cannot use {name}: it has the shape {array.shape}, but a waveform must have the shape (num_samples,) or "
            "(num_channels, num_samples). Transpose it first if its channels come last."
        )
    if array.size == 0:
        raise ValueError(f"Cannot use {name}: it holds no samples (its shape is {array.shape}).")
    if array.dtype.kind != "f" and not (array.dtype.kind == "i" and array.dtype.itemsize <= 4):
        # Python's integers and those of 64 bits do not tell how loud full scale is.
        raise ValueError(
            f"Cannot use {name}: it holds {array.dtype} samples. Pass floats with full scale at 1.0, or signed "
            "integers of 8, 16 or 32 bits in their own type, such as `array.astype(np.int16)` for 16-bit samples."
        )
    return array


def _mono_blocks(array: np.ndarray) -> Iterator[np.ndarray]:
    """A waveform as float32 with full scale at 1.0, the mean over the channels, in blocks that share no memory."""
    for start in range(0, array.shape[-1], _ARRAY_BLOCK):
        block = array[..., start : start + _ARRAY_BLOCK]
        if block.dtype.kind == "i":
            block = block / 2.0 ** (8 * block.dtype.itemsize - 1)
        with np.errstate(over="ignore"):  # infinite samples are refused later
            mono = np.array(block.mean(axis=0) if block.ndim == 2 else block, np.float32)
        yield mono


def _resampled(blocks: Iterator[np.ndarray], source_rate: int, sampling_rate: int) -> Iterator[np.ndarray]:
    """Mono blocks at the target rate. The resampler's state runs on, so they equal those of the whole, bit for bit."""
    if source_rate == sampling_rate:
        yield from blocks
        return
    soxr = import_library("soxr")
    stream = soxr.ResampleStream(source_rate, sampling_rate, num_channels=1, dtype="float32", quality="HQ")
    for block in blocks:
        yield stream.resample_chunk(block)
    yield stream.resample_chunk(np.zeros(0, dtype=np.float32), last=True)


def _finite(blocks: Iterator[np.ndarray], name: str) -> Iterator[np.ndarray]:
    for block in blocks:
        if not np.isfinite(block).all():
            raise ValueError(f"Cannot use {name}: it holds NaN or infinite samples. Check how it was decoded.")
        yield block


def join_blocks(blocks: Iterable[np.ndarray], num_samples: int | None) -> np.ndarray:
    """Join blocks; where their length is known, without keeping them until then. One block alone is not copied."""
    rest = iter(blocks)
    begun = list(islice(rest, 2))
    if len(begun) == 1:
        return begun[0]
    blocks = chain(begun, rest)
    if num_samples is None:
        return np.concatenate([np.zeros(0, dtype=np.float32), *blocks])
    waveform, filled = np.empty(num_samples + 1, np.float32), 0  # soxr rounds halves of a sample in its own way
    for block in blocks:
        waveform[filled : filled + len(block)] = block
        filled += len(block)
    return waveform[:filled]
