"""Building blocks of synthetic sounds: noise, tones, decays and fades of 16 kHz mono waveforms."""

from collections.abc import Callable, Sequence

import numpy as np


SAMPLING_RATE = 16_000  # Hz
CONTROL_HOP = 160  # samples (10 ms) between two values of a slowly moving parameter
_TABLE_SIZE = 4096  # samples in the one period of a wavetable

Floats = Sequence[float] | np.ndarray


def samples(duration_s: float) -> int:
    """Number of samples in `duration_s` seconds."""
    return round(duration_s * SAMPLING_RATE)


def seconds(num_samples: int) -> np.ndarray:
    """Time of each sample in seconds, `(num_samples,)`."""
    return np.arange(num_samples, dtype=np.float32) / np.float32(SAMPLING_RATE)


def add(waveform: np.ndarray, onset: int, sound: np.ndarray) -> None:
    """Add `sound` to `waveform` from sample `onset` on. What is beyond the end of `waveform` is dropped."""
    sound = sound[: max(0, len(waveform) - onset)]
    waveform[onset : onset + len(sound)] += sound


def decay(num_samples: int, time_constant_s: float) -> np.ndarray:
    """Exponential decay `(num_samples,)` from 1."""
    curve: np.ndarray = np.exp(seconds(num_samples) * np.float32(-1.0 / time_constant_s))
    return curve


def fade(sound: np.ndarray, attack_s: float, release_s: float) -> np.ndarray:
    """Copy a sound with linear fades at both ends."""
    attack, release = min(samples(attack_s), len(sound)), min(samples(release_s), len(sound))
    faded = sound.copy()
    faded[:attack] *= np.linspace(0.0, 1.0, attack, dtype=np.float32)
    faded[len(sound) - release :] *= np.linspace(1.0, 0.0, release, dtype=np.float32)
    return faded


def upsample(values: np.ndarray, hop: int, num_samples: int) -> np.ndarray:
    """Linear interpolation `(num_samples,)` between values `hop` samples apart, ten times as fast as np.interp."""
    ramp = np.arange(hop, dtype=np.float32) / np.float32(hop)
    values = values.astype(np.float32)
    curve: np.ndarray = (values[:-1, None] + np.diff(values)[:, None] * ramp).reshape(-1)[:num_samples]
    return curve


def wander(rng: np.random.Generator, num_samples: int, low: float, high: float, values_per_s: float) -> np.ndarray:
    """Curve `(num_samples,)` that moves randomly within [low, high]."""
    hop = int(SAMPLING_RATE / values_per_s)
    return upsample(rng.uniform(low, high, num_samples // hop + 2), hop, num_samples)


def band(frequencies: np.ndarray, low: float, high: float) -> np.ndarray:
    """Gain of a band pass with edges `low` and `high` in Hz and slopes of 12 dB per octave."""
    squares = frequencies * frequencies
    gain: np.ndarray = squares / (
        (squares + np.float32(low * low)) * (np.float32(1.0) + squares / np.float32(high * high))
    )
    return gain


def noise(rng: np.random.Generator, num_samples: int, gain: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Noise `(num_samples,)` whose spectrum has the amplitude `gain(frequencies in Hz)`, from an inverse FFT."""
    size = -(-num_samples // 2048) * 2048  # a size for which the FFT is fast
    frequencies = np.fft.rfftfreq(size, 1.0 / SAMPLING_RATE).astype(np.float32)
    # Uniform numbers are drawn three times as fast as normal ones, and the transform's sums are normal anyway.
    uniform = rng.random(2 * len(frequencies), dtype=np.float32) - np.float32(0.5)
    spectrum = uniform.view(np.complex64) * gain(frequencies)
    waveform = np.fft.irfft(spectrum, size)[:num_samples]
    scaled: np.ndarray = waveform / np.sqrt(np.mean(waveform * waveform))
    return scaled


def band_noise(rng: np.random.Generator, num_samples: int, low: float, high: float) -> np.ndarray:
    """Noise `(num_samples,)` in a band between `low` and `high` Hz."""
    return noise(rng, num_samples, lambda frequencies: band(frequencies, low, high))


def tone(frequency: np.ndarray | float, num_samples: int, harmonics: Floats = (1.0,)) -> np.ndarray:
    """Oscillator `(num_samples,)` with a frequency in Hz, one or `(num_samples,)`, and amplitudes of harmonics."""
    spectrum = np.zeros(_TABLE_SIZE // 2 + 1, dtype=np.complex64)
    spectrum[1 : len(harmonics) + 1] = -1j * np.asarray(harmonics)
    table = np.fft.irfft(spectrum) * (_TABLE_SIZE / 2)
    step = np.broadcast_to(np.asarray(frequency) * (_TABLE_SIZE / SAMPLING_RATE), (num_samples,))
    phase = np.cumsum(step, dtype=np.float64).astype(np.int64) & (_TABLE_SIZE - 1)
    waveform: np.ndarray = table[phase].astype(np.float32)
    return waveform


def struck(frequencies: Floats, gains: Floats, time_constants_s: Floats, length_s: float) -> np.ndarray:
    """Sound of a struck body: a sum of decaying sines, one for each mode."""
    time = seconds(samples(length_s))
    sound = np.zeros_like(time)
    for frequency, gain, time_constant in zip(frequencies, gains, time_constants_s, strict=True):
        sound += (
            np.float32(gain)
            * np.sin(time * np.float32(2 * np.pi * frequency))
            * np.exp(time * np.float32(-1 / time_constant))
        )
    return sound
