"""Render a combination: levels, positions in time, distance."""

import numpy as np

from .combinations import Combination
from .synthesis import render_source
from .waveforms import SAMPLING_RATE


# Levels: root mean square of a sound's loud frames, in dB relative to full scale.
_LEVEL_DB = {"near": -18.0, "plain": -22.0, "far": -33.0}
_BACKGROUND_DB = -9.0  # of the second sound of "while", relative to the first
_LEVEL_JITTER_DB = 1.5
_FLOOR_DB = -62.0  # width of a uniform noise: recordings are never digitally silent
_LEVEL_FRAME = 2_000  # samples (125 ms, the time constant of a sound level meter)


def render(combination: Combination, rng: np.random.Generator, duration_s: float) -> np.ndarray:
    """Render a combination as a waveform `(num_samples,)`, float32, within [-1, 1]."""
    num_samples = round(duration_s * SAMPLING_RATE)
    scene = (rng.random(num_samples, dtype=np.float32) - np.float32(0.5)) * np.float32(_amplitude(_FLOOR_DB))
    for position, (sound, (start_s, end_s)) in enumerate(
        zip(combination.sounds, _time_spans(combination, rng, duration_s), strict=True)
    ):
        level_db = _LEVEL_DB[sound.distance] + rng.uniform(-_LEVEL_JITTER_DB, _LEVEL_JITTER_DB)
        is_background = combination.relation == "while" and position == 1
        if is_background:
            level_db += _BACKGROUND_DB
        waveform = _edges_faded(render_source(sound.source, rng, end_s - start_s, sound.count))
        start = round(start_s * SAMPLING_RATE)
        if sound.distance == "far" or is_background:
            waveform = _from_afar(waveform, rng, num_samples - start)
        waveform = waveform[: num_samples - start] * (_amplitude(level_db) / _loudness(waveform))
        scene[start : start + len(waveform)] += waveform
    # A soft limit, because peaks of crackles and clicks are far above their level.
    limited: np.ndarray = np.tanh(scene)
    return limited


def _time_spans(combination: Combination, rng: np.random.Generator, duration_s: float) -> list[tuple[float, float]]:
    """Earliest start and latest end of each sound, in seconds."""
    if combination.relation == "then":
        turn = duration_s * rng.uniform(0.44, 0.56)
        gap = rng.uniform(0.1, 0.25)
        return [(rng.uniform(0.0, 0.1), turn - gap / 2), (turn + gap / 2, duration_s)]
    # A sound that occurs once may start at any time at which it still ends inside the scene.
    latest = 0.45 if combination.sounds[0].count == "once" else 0.02
    return [(duration_s * rng.uniform(0.0, latest), duration_s)] + [(0.0, duration_s)] * (len(combination.sounds) - 1)


def _from_afar(waveform: np.ndarray, rng: np.random.Generator, num_samples: int) -> np.ndarray:
    """Make a sound duller, as air absorbs high frequencies, and add an echo that decays within a second."""
    echo_size = 8_192
    decay_samples = SAMPLING_RATE * rng.uniform(0.06, 0.12)
    echo = rng.standard_normal(echo_size, dtype=np.float32)
    echo *= np.exp(np.arange(echo_size, dtype=np.float32) / np.float32(-decay_samples))
    echo *= 0.7 / np.sqrt(np.sum(echo * echo))
    echo[0] += 0.6  # the direct sound
    size = -(-(len(waveform) + echo_size) // 2048) * 2048  # no wrap-around, and a size for which the FFT is fast
    frequencies = np.fft.rfftfreq(size, 1.0 / SAMPLING_RATE).astype(np.float32)
    dullness = 1.0 / np.sqrt(1.0 + (frequencies / np.float32(rng.uniform(900, 1500))) ** 2)
    blurred: np.ndarray = np.fft.irfft(np.fft.rfft(waveform, size) * np.fft.rfft(echo, size) * dullness, size)
    return blurred[:num_samples]


def _edges_faded(waveform: np.ndarray, fade_s: float = 0.01) -> np.ndarray:
    """Fade both ends in place to avoid clicks. The fade at the start is short enough to keep an attack."""
    size = round(fade_s * SAMPLING_RATE)
    waveform[-size:] *= np.linspace(1.0, 0.0, size, dtype=np.float32)
    waveform[: size // 8] *= np.linspace(0.0, 1.0, size // 8, dtype=np.float32)
    return waveform


def _loudness(waveform: np.ndarray) -> float:
    """Root mean square over the frames in which the sound is present, without pauses."""
    frames = waveform[: len(waveform) // _LEVEL_FRAME * _LEVEL_FRAME].reshape(-1, _LEVEL_FRAME)
    powers = np.einsum("ij,ij->i", frames, frames) / _LEVEL_FRAME
    return float(np.sqrt(powers[powers > 0.1 * powers.max()].mean()))


def _amplitude(decibels: float) -> float:
    return float(10.0 ** (decibels / 20.0))
