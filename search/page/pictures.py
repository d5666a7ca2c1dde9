"""Pictures of sounds: the mel spectrogram in one colour, which fits a light and a dark page."""

import io
from collections.abc import Iterable
from functools import cache
from itertools import chain
from pathlib import Path

import numpy as np

from modeling_atri.sound_files_atri import open_sound


WIDTH, HEIGHT = 480, 48  # pixels: steps in time, and mel bands
_COLOUR = (79, 110, 233)  # on a light and a dark page
_LEVELS = 16  # of opacity
_FRAME = 1024  # samples of one spectrum
_MAX_FRAMES_A_COLUMN = 4
_RANGE_DB = 60.0  # below the loudest point; what is lower is transparent
_HIGHEST_HZ = 8_000.0


def mel_picture(file: Path) -> bytes:
    """A mel spectrogram as PNG of 480 x 48 pixels, whose opacity is the power in decibels.

    Each column is the mean of up to four spectra that are spread over its part of the sound, so that a long recording
    costs little more than decoding it.

    Args:
        file: the sound.

    Raises:
        ValueError: the sound cannot be decoded.
    """
    from PIL import Image

    power = _mel_power(file)
    decibels = 10 * np.log10(np.maximum(power, 1e-12))
    opacity = np.clip((decibels - decibels.max()) / _RANGE_DB + 1, 0, 1) if power.max() > 1e-12 else 0 * decibels
    picture = Image.fromarray(np.round((_LEVELS - 1) * opacity[:, ::-1].T).astype(np.uint8), mode="P")
    picture.putpalette(_COLOUR * _LEVELS)
    out = io.BytesIO()
    picture.save(out, "PNG", bits=4, transparency=bytes(255 * level // (_LEVELS - 1) for level in range(_LEVELS)))
    return out.getvalue()


def _mel_power(file: Path) -> np.ndarray:
    """Power of shape (480, 48), float64: columns from left to right, mel bands from low to high."""
    with open_sound(file, repr(file.name)) as sound:
        length = sum(map(len, sound.mono_blocks())) if sound.num_frames is None else sound.num_frames
    with open_sound(file, repr(file.name)) as sound:
        frames_a_column = min(_MAX_FRAMES_A_COLUMN, 1 + length // (WIDTH * _FRAME))
        num_frames = WIDTH * frames_a_column
        centers = ((np.arange(num_frames) + 0.5) * length / num_frames).astype(np.int64)
        before = np.zeros(_FRAME // 2, np.float32)  # with it, a frame starts where its center is in the sound
        frames = _frames_at(chain([before], sound.mono_blocks()), centers)
        spectra = np.abs(np.fft.rfft(frames * np.hanning(_FRAME).astype(np.float32), axis=1)) ** 2
        bands: np.ndarray = (spectra @ _filters(sound.samplerate)).reshape(WIDTH, frames_a_column, HEIGHT)
    mean: np.ndarray = bands.mean(1)
    return mean


def _frames_at(blocks: Iterable[np.ndarray], starts: np.ndarray) -> np.ndarray:
    """The frames of a sound that begin at some samples, in ascending order; zeros follow where the sound ends."""
    frames = np.zeros((len(starts), _FRAME), np.float32)
    position, num_done, rest = 0, 0, np.zeros(0, np.float32)  # `rest` begins at the sample `position`
    for block in blocks:
        rest = np.concatenate((rest, block))
        num_ready = int(np.searchsorted(starts, position + len(rest) - _FRAME, side="right"))
        for index in range(num_done, num_ready):
            first = starts[index] - position
            frames[index] = rest[first : first + _FRAME]
        num_done = max(num_done, num_ready)
        num_gone = max(0, len(rest) - _FRAME)
        position, rest = position + num_gone, rest[num_gone:]
    for index in range(num_done, len(starts)):
        tail = rest[max(0, starts[index] - position) :]
        frames[index, : len(tail)] = tail
    return frames


@cache
def _filters(rate: int) -> np.ndarray:
    """Triangular filters of shape (513, 48)."""
    import warnings

    from transformers.audio_utils import mel_filter_bank

    highest = min(_HIGHEST_HZ, rate / 2)
    with warnings.catch_warnings():  # the lowest bands are narrower than a step of the spectrum and may be empty
        warnings.simplefilter("ignore", UserWarning)
        return mel_filter_bank(_FRAME // 2 + 1, HEIGHT, 0.0, highest, rate, norm=None, mel_scale="htk")
