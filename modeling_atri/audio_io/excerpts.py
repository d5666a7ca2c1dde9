"""The length of a recording, and a part of it, without decoding more than that needs."""

import math

import numpy as np

from ..audio_inputs_atri import SAMPLING_RATE, AudioInput, check_rate, read_sound, unpack_sound
from ..sound_files_atri import SoundFile, open_sound


_MARGIN = 0.1  # seconds that are read on both sides, more than the resampler's filter reaches


def audio_length(source: AudioInput, sampling_rate: int = SAMPLING_RATE) -> int:
    """Number of samples of the waveform that `load_audio` returns for a recording.

    No sound is decoded where the file states its length. The frames of MPEG audio (MP3) are counted. FLAC that was
    written to a pipe, and formats that PyAV reads, are decoded up to their end.

    Args:
        source: a sound in any form that `load_audio` takes and that carries its own rate. `bytes` in a dict may also
            be a binary file object.
        sampling_rate (`int`, *optional*, defaults to 16000): rate of the waveform, in hertz (Hz).

    Returns:
        `int`, the number of samples.

    Raises:
        MissingAudioError: there is no such file (a `ValueError` and a `FileNotFoundError`).
        ValueError: the header cannot be read, or says that the file is empty or truncated. The message names the file.
    """
    sampling_rate = check_rate("sampling_rate", sampling_rate)
    sound = unpack_sound(source)
    if sound.rate is not None:
        return len(read_sound(sound.content, sampling_rate, sound.rate, sound.name))
    with open_sound(sound.content, sound.name) as file:
        num_frames = sum(map(len, file.mono_blocks())) if file.num_frames is None else file.num_frames
        return round(num_frames * sampling_rate / file.samplerate)


def load_excerpt(source: AudioInput, start: int, num_samples: int, sampling_rate: int) -> np.ndarray:
    """A part of the waveform that `load_audio` returns for a recording.

    Args:
        source: as in `audio_length`.
        start: first sample of the part, at `sampling_rate`.
        num_samples: length of the part, at `sampling_rate`.
        sampling_rate: in Hz.

    Returns:
        `np.ndarray` of shape `(num_samples,)`, float32, equal to that part of the whole waveform except for rounding.
        It is shorter or empty where the recording ends before.

    Raises:
        ValueError: the recording cannot be decoded there, is truncated, or holds NaN or infinity there.
    """
    sound = unpack_sound(source)
    if sound.rate is not None:
        return read_sound(sound.content, sampling_rate, sound.rate, sound.name)[start : start + num_samples]
    with open_sound(sound.content, sound.name) as file:
        mono, offset = _read(file, start, num_samples, sampling_rate)
    if len(mono) == 0:
        return mono
    return read_sound(mono, sampling_rate, file.samplerate, sound.name)[offset:][:num_samples]


def _read(file: SoundFile, start: int, num_samples: int, sampling_rate: int) -> tuple[np.ndarray, int]:
    """Mono samples at the file's rate, and the place after resampling of the first sample that was asked for."""
    # Where the source is cut at whole blocks of the ratio of both rates, the resampler has the phase that it has in
    # the whole recording.
    blocks_per_s = math.gcd(file.samplerate, sampling_rate)
    source_block, block = file.samplerate // blocks_per_s, sampling_rate // blocks_per_s
    margin = 0 if file.samplerate == sampling_rate else math.ceil(_MARGIN * blocks_per_s)
    first = max(0, start // block - margin)
    last = -(-(start + num_samples) // block) + margin
    file.seek(first * source_block)
    end = last * source_block if file.num_frames is None else min(file.num_frames, last * source_block)
    parts = list(file.mono_blocks(end - first * source_block))
    return np.concatenate(parts or [np.zeros(0, dtype=np.float32)]), start - first * block
