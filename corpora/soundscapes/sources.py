"""Eighteen everyday sounds, computed with numpy from a random generator and a length.

Each source is a small physical model: a bell is a few decaying inharmonic partials, rain is hiss and drops. Its
parameters are drawn anew at every call. Steady sources fill the given length. Events sound once.

A source is a function `(rng, num_samples, pitch)` that returns at most `num_samples` float samples at any level.
`pitch` in [0, 1) is the place in the source's range of pitch or brightness. It is an argument so that all repetitions
of an event come from the same dog or bell.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .waveforms import (
    CONTROL_HOP,
    SAMPLING_RATE,
    add,
    band,
    band_noise,
    decay,
    fade,
    noise,
    samples,
    seconds,
    struck,
    tone,
    upsample,
    wander,
)


Count = Literal["steady", "once", "repeated"]


@dataclass(frozen=True)
class Source:
    """A sound source: how it is rendered and, for events, how it is repeated.

    Args:
        render: `(rng, num_samples, pitch) -> waveform` of at most `num_samples` float samples, at any level.
        length_s: Longest single sound of an event, in seconds; 0 for a steady source.
        period_s: Range of the seconds between the starts of two repetitions; not used for a steady source.
        rings_over: Whether a repetition may ring into the next one (a bell) or must end before it (a telephone).
        group_size: Number of repetitions that are followed by a longer pause; 0 for no pauses.
    """

    render: Callable[[np.random.Generator, int, float], np.ndarray]
    length_s: float = 0.0
    period_s: tuple[float, float] = (0.0, 0.0)
    rings_over: bool = True
    group_size: int = 0

    @property
    def counts(self) -> tuple[Count, ...]:
        """The counts that `render_source` accepts: ("steady",) or ("once", "repeated")."""
        return ("once", "repeated") if self.length_s else ("steady",)


# Steady sources


def _rain(rng: np.random.Generator, num_samples: int, pitch: float) -> np.ndarray:
    """Bright hiss and hundreds of drops per second."""
    low, high = 900 + 1000 * pitch, rng.uniform(5000, 7500)
    hiss = band_noise(rng, num_samples, low, high)
    drops = np.zeros(num_samples, dtype=np.float32)
    num_drops = int(rng.uniform(120, 350) * num_samples / SAMPLING_RATE)
    drop = np.diff(struck([rng.uniform(2500, 4500)], [1.0], [0.0004], 0.003))
    positions = rng.integers(0, num_samples - len(drop), num_drops)[:, None] + np.arange(len(drop))
    np.add.at(drops, positions, rng.exponential(3.0, num_drops).astype(np.float32)[:, None] * drop)
    return hiss + drops


def _wind(rng: np.random.Generator, num_samples: int, pitch: float) -> np.ndarray:
    """Low noise in gusts, and a howl: narrow noise around a wandering frequency."""
    cutoff = 150 + 200 * pitch
    gusts = wander(rng, num_samples, 0.3, 1.0, values_per_s=rng.uniform(1.0, 2.0))
    roar = band_noise(rng, num_samples, 50, cutoff)
    center = wander(rng, num_samples, 350, 800, values_per_s=2.0)
    howl = tone(center, num_samples) * wander(rng, num_samples, -1.0, 1.0, values_per_s=40)
    wind: np.ndarray = (roar + rng.uniform(0.8, 1.4) * gusts * howl) * gusts
    return wind


def _waves(rng: np.random.Generator, num_samples: int, pitch: float) -> np.ndarray:
    """Surf: noise that swells, breaks and runs out. The louder it is, the brighter."""
    time = np.arange(num_samples // CONTROL_HOP + 2) * (CONTROL_HOP / SAMPLING_RATE)
    cycle = (time / rng.uniform(1.3, 2.2) + rng.random()) % 1.0
    swell = np.where(cycle < 0.4, (cycle / 0.4) ** 2, np.exp(-4.0 * (cycle - 0.4)))
    # The cycle ends at exp(-2.4) and begins at 0: the floor joins both.
    swell = upsample(np.maximum(swell, 0.1), CONTROL_HOP, num_samples)
    deep = band_noise(rng, num_samples, 80, 500 + 300 * pitch)
    foam = band_noise(rng, num_samples, 800, 3000 + 1500 * pitch)
    return deep * swell + 0.8 * foam * swell * swell


def _fire(rng: np.random.Generator, num_samples: int, pitch: float) -> np.ndarray:
    """A soft roar and irregular dry crackles."""
    fire = rng.uniform(0.06, 0.12) * band_noise(rng, num_samples, 60, 250 + 200 * pitch)
    num_crackles = 3 + rng.poisson(rng.uniform(10, 25) * num_samples / SAMPLING_RATE)
    time_constants = rng.uniform(0.0005, 0.004, num_crackles).astype(np.float32)
    crackles = np.diff(rng.standard_normal((num_crackles, 257), dtype=np.float32))
    crackles *= np.exp(-seconds(256) / time_constants[:, None])
    crackles *= rng.exponential(0.5, num_crackles).astype(np.float32)[:, None]
    for onset, crackle in zip(rng.integers(0, num_samples, num_crackles), crackles, strict=True):
        add(fire, onset, crackle)
    return fire


def _engine(rng: np.random.Generator, num_samples: int, pitch: float) -> np.ndarray:
    """Firing pulses of a motor at 45 to 90 Hz with uneven harmonics, and noise that follows them."""
    rate = (45 + 45 * pitch) * wander(rng, num_samples, 0.96, 1.04, values_per_s=3.0)
    order = np.arange(1, 25)
    hum = tone(rate, num_samples, rng.uniform(0.3, 1.0, 24) / order**0.8)
    rattle = band_noise(rng, num_samples, 300, 1500)
    return hum + 0.12 * rattle * (1.0 + 0.3 * hum)


def _helicopter(rng: np.random.Generator, num_samples: int, pitch: float) -> np.ndarray:
    """Rotor blades that beat the air 10 to 17 times per second over the thin whine of a turbine."""
    beat = (seconds(num_samples) * np.float32(10 + 7 * pitch) + np.float32(rng.random())) % np.float32(1.0)
    chop = np.exp(beat * np.float32(-rng.uniform(4.0, 6.0)))
    air = noise(rng, num_samples, lambda frequencies: band(frequencies, 60, 350) + 0.25 * band(frequencies, 900, 2500))
    whine = tone(rng.uniform(1800, 2600), num_samples)
    helicopter: np.ndarray = air * chop + rng.uniform(0.03, 0.06) * whine
    return helicopter


def _siren(rng: np.random.Generator, num_samples: int, pitch: float) -> np.ndarray:
    """A wail: a rich tone that glides up and down."""
    low, high, wails_per_s = 480 + 150 * pitch, 1100 + 350 * pitch, rng.uniform(0.45, 1.0)
    turn = np.sin(2 * np.pi * (wails_per_s * seconds(num_samples) + rng.random()), dtype=np.float32)
    return tone(low + (high - low) * (0.5 + 0.5 * turn), num_samples, (1.0, 0.6, 0.4, 0.25, 0.15, 0.08))


def _crickets(rng: np.random.Generator, num_samples: int, pitch: float) -> np.ndarray:
    """Two crickets: high carriers cut into groups of three or four short pulses."""
    time, night = seconds(num_samples), np.zeros(num_samples, dtype=np.float32)
    for loudness, carrier in ((1.0, 4100 + 700 * pitch), (0.45, 4900 + 700 * pitch)):
        num_pulses, pulse_rate = rng.integers(3, 5), rng.uniform(26, 36)
        pulse = (
            time * np.float32(pulse_rate / num_pulses) * np.float32(rng.uniform(0.45, 0.6)) + np.float32(rng.random())
        ) % 1
        pulse = pulse * np.float32(num_pulses / 0.5)  # the second half of every group is rest
        shape = np.where(pulse < num_pulses, np.sin(np.pi * pulse) ** 2, np.float32(0.0))
        night += np.float32(loudness) * shape * tone(carrier, num_samples, (1.0, 0.1))
    return night


def _clock(rng: np.random.Generator, num_samples: int, pitch: float) -> np.ndarray:
    """Very short metallic clicks at a constant pace, every second one a little lower."""
    clock = np.zeros(num_samples, dtype=np.float32)
    mode = 2300 + 900 * pitch
    modes = np.array([mode, 1.63 * mode, 0.31 * mode])
    decays = [rng.uniform(0.004, 0.007), 0.003, 0.009]
    sounds = [struck(modes * detune, [1.0, 0.7, 0.35], decays, 0.06) for detune in (1.0, 0.82)]
    onsets = np.arange(rng.uniform(0.02, 0.15), num_samples / SAMPLING_RATE, rng.uniform(0.24, 0.42))
    for beat, onset in enumerate(onsets):
        add(clock, samples(onset), sounds[beat % 2])
    return clock


def _footsteps(rng: np.random.Generator, num_samples: int, pitch: float) -> np.ndarray:
    """Walking: the thump of a heel, then the scrape of a sole, about two steps a second."""
    steps = np.zeros(num_samples, dtype=np.float32)
    period, onset, brightness = rng.uniform(0.42, 0.58), rng.uniform(0.02, 0.15), 900 + 600 * pitch
    while onset * SAMPLING_RATE < num_samples:
        heel = struck([rng.uniform(75, 120), rng.uniform(180, 260)], [1.0, 0.5], [0.03, 0.015], 0.15)
        add(steps, samples(onset), heel * np.float32(rng.uniform(0.8, 1.1)))
        sole = band_noise(rng, 2048, brightness, 3500)
        sole = fade(sole * decay(2048, rng.uniform(0.025, 0.04)), 0.012, 0.02)
        add(steps, samples(onset), 0.3 * sole)
        add(steps, samples(onset + rng.uniform(0.09, 0.13)), 0.2 * sole)
        onset += period * rng.uniform(0.94, 1.06)
    return steps


def _bird(rng: np.random.Generator, num_samples: int, pitch: float) -> np.ndarray:
    """Song: a phrase of whistled notes that each sweep through the kilohertz, repeated with short rests."""
    song = np.zeros(num_samples, dtype=np.float32)
    num_notes = int(rng.integers(3, 6))
    lengths = rng.uniform(0.06, 0.16, num_notes)
    starts = (2300 + 900 * pitch) * rng.uniform(0.9, 1.7, num_notes)
    ends = starts * rng.choice([0.7, 0.8, 1.25, 1.4], num_notes)
    onset, note = rng.uniform(0.02, 0.15), 0
    while onset * SAMPLING_RATE < num_samples:
        size = samples(lengths[note])
        sweep = np.linspace(starts[note], ends[note], size)
        sound = tone(sweep, size, (1.0, 0.08)) * np.sin(np.linspace(0, np.pi, size, dtype=np.float32))
        add(song, samples(onset), sound * np.float32(rng.uniform(0.7, 1.0)))
        onset += lengths[note] + rng.uniform(0.02, 0.06)
        note = (note + 1) % num_notes
        if note == 0:
            onset += rng.uniform(0.2, 0.4)
    return song


# Events: one sound each


def _bell(rng: np.random.Generator, num_samples: int, pitch: float) -> np.ndarray:
    """A struck church bell: hum, prime, minor third, fifth, nominal and above. High partials are shorter."""
    ratios = np.array([0.5, 1.0, 1.2, 1.5, 2.0, 2.67, 3.01, 4.17])
    gains = np.array([0.5, 0.9, 0.8, 0.4, 1.0, 0.5, 0.4, 0.3]) * rng.uniform(0.7, 1.3, 8)
    time_constants = rng.uniform(0.45, 0.7) / (0.5 + 0.5 * ratios)
    bell = struck((300 + 300 * pitch) * ratios, gains, time_constants, num_samples / SAMPLING_RATE)
    clapper = band_noise(rng, 2048, 2000, 5000) * decay(2048, 0.012)
    add(bell, 0, 0.6 * clapper)
    return fade(bell, 0.002, 0.05)


def _dog(rng: np.random.Generator, num_samples: int, pitch: float) -> np.ndarray:
    """A bark: a rough voice that jumps up and falls, coloured by the mouth, with breath in it."""
    size = min(num_samples, samples(rng.uniform(0.17, 0.26)))
    position = np.linspace(0.0, 1.0, size, dtype=np.float32)
    fundamental = (330 + 330 * pitch) * (0.65 + 0.7 * np.sqrt(position) - 0.75 * position**2)
    order = np.arange(1, 13)
    mouth = np.exp(-(((order - rng.uniform(2.0, 3.0)) / 1.8) ** 2)) + 0.06
    voice = np.tanh(1.5 * tone(fundamental, size, mouth))
    breath = band_noise(rng, size, 700, 2200)
    return fade((voice + 0.25 * breath) * np.exp(-1.8 * position), 0.015, 0.05)


def _thunder(rng: np.random.Generator, num_samples: int, pitch: float) -> np.ndarray:
    """A clap and the rolling low rumble after it."""
    size = min(num_samples, samples(rng.uniform(1.3, 2.2)))
    rumble = band_noise(rng, size, 30, 90 + 90 * pitch)
    rolling = wander(rng, size, 0.25, 1.0, values_per_s=9.0) * decay(size, 0.35 * size / SAMPLING_RATE)
    clap = band_noise(rng, size, 150, 1200) * decay(size, rng.uniform(0.07, 0.13))
    return fade(1.6 * rumble * rolling + clap, 0.015, 0.2 * size / SAMPLING_RATE)


def _telephone(rng: np.random.Generator, num_samples: int, pitch: float) -> np.ndarray:
    """One ring: two bright tones in a fast trill."""
    size = min(num_samples, samples(rng.uniform(0.65, 0.9)))
    trill = (seconds(size) * rng.uniform(17, 23)) % 1.0 < 0.5
    frequency = (900 + 500 * pitch) * np.where(trill, 1.0, 1.25)
    return fade(tone(frequency, size, (1.0, 0.15, 0.5, 0.1, 0.2)), 0.01, 0.06)


def _knock(rng: np.random.Generator, num_samples: int, pitch: float) -> np.ndarray:
    """Knuckles on wood: a dull body, two overtones and a click."""
    mode = (170 + 130 * pitch) * rng.uniform(0.97, 1.03)
    knock = struck([mode, 2.3 * mode, 4.4 * mode], [1.0, 0.8, 0.5], [0.03, 0.018, 0.008], 0.2)
    knock[:80] += 0.5 * rng.standard_normal(80, dtype=np.float32) * decay(80, 0.0015)
    return knock[:num_samples]


def _water_drop(rng: np.random.Generator, num_samples: int, pitch: float) -> np.ndarray:
    """The bubble under a drop: a short tone that rises as it dies, and a faint echo of the vessel."""
    size = min(num_samples, samples(0.3))
    rise = (700 + 900 * pitch) * rng.uniform(0.93, 1.07) * (1.0 + np.minimum(seconds(size) * 7.0, 0.8))
    bubble = fade(tone(rise, size) * decay(size, rng.uniform(0.02, 0.035)), 0.002, 0.02)
    add(bubble, samples(rng.uniform(0.07, 0.1)), 0.2 * bubble.copy())
    return bubble


def _whistle(rng: np.random.Generator, num_samples: int, pitch: float) -> np.ndarray:
    """A chord of steam pipes that bends up at the start, with the hiss of the steam."""
    size = min(num_samples, samples(rng.uniform(0.75, 1.0)))
    bend = 1.0 - 0.12 * decay(size, 0.05)
    lowest = 420 + 200 * pitch
    pipes = sum(tone(lowest * ratio * bend, size, (1.0, 0.35, 0.25, 0.1)) for ratio in (1.0, 1.189, 1.498, 1.782))
    steam = band_noise(rng, size, 1500, 5000)
    return fade(pipes + rng.uniform(0.15, 0.35) * steam, 0.05, 0.12)


SOURCES: dict[str, Source] = {
    "rain": Source(_rain),
    "wind": Source(_wind),
    "waves": Source(_waves),
    "fire": Source(_fire),
    "engine": Source(_engine),
    "helicopter": Source(_helicopter),
    "siren": Source(_siren),
    "crickets": Source(_crickets),
    "clock": Source(_clock),
    "footsteps": Source(_footsteps),
    "bird": Source(_bird),
    "bell": Source(_bell, length_s=2.0, period_s=(0.6, 0.9)),
    "dog": Source(_dog, length_s=0.3, period_s=(0.35, 0.5)),
    "thunder": Source(_thunder, length_s=2.2, period_s=(1.0, 1.4), rings_over=False),
    "telephone": Source(_telephone, length_s=0.9, period_s=(0.85, 1.1), rings_over=False),
    "knock": Source(_knock, length_s=0.2, period_s=(0.18, 0.26), group_size=3),
    "water_drop": Source(_water_drop, length_s=0.3, period_s=(0.32, 0.5)),
    "whistle": Source(_whistle, length_s=1.0, period_s=(0.9, 1.2), rings_over=False),
}
