"""A part of a recording, of which no more is decoded than it needs."""

import io
import math
import os
from typing import Any

import numpy as np
import soundfile

from .load import audio_length, load_audio
from .sound_files import SoundFile


_MARGIN = 0.1  # seconds read on both sides, more than the resampler's filter reaches


def clip_length(audio: Any, sampling_rate: int) -> int:
    """Samples of the waveform that `load_audio` makes of a recording; of a file only the header is read.

    Raises:
        ValueError: a recording without samples, or one whose header is wrong.
    """
    if isinstance(audio, dict) and audio.get("array") is not None:
        return len(load_audio(audio, sampling_rate))
    return audio_length(audio, sampling_rate)


def load_excerpt(audio: Any, start: int, num_samples: int, sampling_rate: int) -> np.ndarray:
    """A part of the waveform that `load_audio` makes of a recording.

    Args:
        audio: a path, bytes, or a dict that `load_audio` takes.
        start: its first sample, at `sampling_rate`.
        num_samples: its length, at `sampling_rate`.
        sampling_rate: in Hz.

    Returns:
        `np.ndarray` of shape `(num_samples,)`, float32, equal to that part of the whole waveform but for rounding; of
        an MP3 that does not state its length, which is only estimated, what there is of it, maybe nothing.

    Raises:
        ValueError: a recording that cannot be decoded there, ends before, or holds NaN or infinity there.
    """
    if isinstance(audio, dict) and audio.get("array") is not None:
        return load_audio(audio, sampling_rate)[start : start + num_samples]
    path = audio.get("path") if isinstance(audio, dict) else audio
    content = audio.get("bytes") if isinstance(audio, dict) else None
    if isinstance(audio, (bytes, bytearray)):
        path, content = None, audio
    name = repr(os.fspath(path)) if path else "the recording"
    try:
        with SoundFile(os.fspath(path) if content is None else io.BytesIO(content), name) as file:
            mono, offset = _read(file, start, num_samples, sampling_rate)
            rate = file.samplerate
    except soundfile.SoundFileError as error:
        seconds = f"{start / sampling_rate:.1f} to {(start + num_samples) / sampling_rate:.1f} s"
        raise ValueError(f"Cannot decode {name} from {seconds}: {error}") from error
    if len(mono) == 0:
        return mono
    source = {"array": mono, "sampling_rate": rate, "path": path}
    return load_audio(source, sampling_rate)[offset:][:num_samples]


def _read(file: SoundFile, start: int, num_samples: int, sampling_rate: int) -> tuple[np.ndarray, int]:
    """Mono samples at the file's rate, and which of the resampled ones is the first that was asked for."""
    # The resampler's phase is that of the whole recording where the source is cut at whole blocks of its ratio.
    blocks_per_s = math.gcd(file.samplerate, sampling_rate)
    source_block, block = file.samplerate // blocks_per_s, sampling_rate // blocks_per_s
    margin = 0 if file.samplerate == sampling_rate else math.ceil(_MARGIN * blocks_per_s)
    first = max(0, start // block - margin)
    last = -(-(start + num_samples) // block) + margin
    file.seek(first * source_block)
    frames = min(file.frames, last * source_block) - first * source_block
    parts = list(file.mono_blocks(frames))
    return np.concatenate(parts or [np.zeros(0, dtype=np.float32)]), start - first * block
