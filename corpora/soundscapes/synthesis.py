"""Eighteen everyday sounds from a random generator and a length: numpy only, 16 kHz, mono, float32.

Each source is a small physical picture (a bell is a few decaying inharmonic partials, rain is hiss plus drops) whose
parameters are drawn anew at every call. Steady sources fill the length they are given; events sound in it once, or
several times.

Inside this module a source is a function `(rng, num_samples, pitch)`. `pitch` in [0, 1) is its place in the source's
range of pitch or brightness; it comes from outside so that all repetitions of an event come from the same dog or bell.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np


SAMPLING_RATE = 16_000  # Hz
MIN_SOUND_SAMPLES = 11_200  # 0.7 s: shorter, and "repeated" cannot be told from "once"
Count = Literal["steady", "once", "repeated"]

_TABLE_SIZE = 4096  # samples in the one period of a wavetable
_CONTROL_HOP = 160  # samples (10 ms) between two values of a slowly moving parameter


@dataclass(frozen=True)
class Source:
    """One sound source: how it is rendered and, for events, how it is repeated.

    Args:
        render: `(rng, num_samples, pitch) -> waveform` of at most `num_samples` float samples, at any level.
        length_s: longest single sound of an event, in seconds; None for a steady source.
        period_s: range of the seconds between the beginnings of two repetitions; None for a steady source.
        rings_over: whether a repetition may ring into the next one (a bell) or must end before it (a telephone).
        group_size: a longer pause follows after this many repetitions; 0 for none.
    """

    render: Callable[[np.random.Generator, int, float], np.ndarray]
    length_s: float | None = None
    period_s: tuple[float, float] | None = None
    rings_over: bool = True
    group_size: int = 0

    @property
    def counts(self) -> tuple[Count, ...]:
        """How it can sound: ("steady",) or ("once", "repeated")."""
        return ("steady",) if self.period_s is None else ("once", "repeated")


def render_source(name: str, rng: np.random.Generator, duration_s: float, count: Count = "steady") -> np.ndarray:
    """A new rendering of one source.

    Args:
        name: a key of `SOURCES`.
        rng: all parameters are drawn from it; the same state gives the same samples.
        duration_s: length in seconds, at least 0.7.
        count: "steady" for steady sources; "once" or "repeated" for events.

    Returns:
        Float32 array (round(duration_s * 16000),) with peak 1; an event that sounds once begins at sample 0, and what
        comes after it is silent.

    Raises:
        ValueError: unknown source, a count the source does not have, or too short a duration.
    """
    if name not in SOURCES:
        raise ValueError(f"Unknown sound source {name!r}; choose one of {', '.join(SOURCES)}.")
    source = SOURCES[name]
    if count not in source.counts:
        raise ValueError(f"The source {name!r} cannot sound {count!r}; choose one of {', '.join(source.counts)}.")
    num_samples = _samples(duration_s)
    if num_samples < MIN_SOUND_SAMPLES:
        raise ValueError(
            f"A sound of {duration_s} s is too short; give at least {MIN_SOUND_SAMPLES / SAMPLING_RATE} s."
        )
    if count == "steady":
        waveform = source.render(rng, num_samples, rng.random())
    elif count == "once":
        waveform = np.zeros(num_samples)
        _add(waveform, 0, source.render(rng, min(num_samples, _samples(source.length_s)), rng.random()))
    else:
        waveform = _repeat(source, rng, num_samples)
    return (waveform / np.abs(waveform).max()).astype(np.float32)


def _repeat(source: Source, rng: np.random.Generator, num_samples: int) -> np.ndarray:
    """The event at least twice, slightly unevenly in time and level, until `num_samples` are full."""
    # Less than half the length per repetition, so that even a slow event (thunder) is heard twice.
    period = min(_samples(rng.uniform(*source.period_s)), int(num_samples / 2.2))
    length = min(_samples(source.length_s), num_samples if source.rings_over else int(0.8 * period))
    pitch = rng.random()
    waveform = np.zeros(num_samples)
    onset, repetitions = 0, 0
    while onset + 0.7 * period < num_samples:
        sound = source.render(rng, min(length, num_samples - onset), pitch)
        _add(waveform, onset, sound * (rng.uniform(0.75, 1.0) / np.abs(sound).max()))
        repetitions += 1
        onset += int(period * rng.uniform(0.92, 1.08))
        if source.group_size and repetitions % source.group_size == 0:
            onset += _samples(rng.uniform(0.3, 0.5))
    return waveform


# Building blocks


def _samples(seconds: float) -> int:
    return round(seconds * SAMPLING_RATE)


def _seconds(num_samples: int) -> np.ndarray:
    return np.arange(num_samples, dtype=np.float32) / np.float32(SAMPLING_RATE)


def _add(waveform: np.ndarray, onset: int, sound: np.ndarray) -> None:
    """Mixes `sound` into `waveform` from sample `onset` on; what hangs over the end is dropped."""
    sound = sound[: max(0, len(waveform) - onset)]
    waveform[onset : onset + len(sound)] += sound


def _decay(num_samples: int, time_constant_s: float) -> np.ndarray:
    return np.exp(_seconds(num_samples) * np.float32(-1.0 / time_constant_s))


def _fade(sound: np.ndarray, attack_s: float, release_s: float) -> np.ndarray:
    """Linear fades at both ends."""
    attack, release = min(_samples(attack_s), len(sound)), min(_samples(release_s), len(sound))
    faded = sound.copy()
    faded[:attack] *= np.linspace(0.0, 1.0, attack, dtype=np.float32)
    faded[len(sound) - release :] *= np.linspace(1.0, 0.0, release, dtype=np.float32)
    return faded


def _upsample(values: np.ndarray, hop: int, num_samples: int) -> np.ndarray:
    """Linear interpolation between values `hop` samples apart; as np.interp, ten times faster."""
    ramp = np.arange(hop, dtype=np.float32) / np.float32(hop)
    values = values.astype(np.float32)
    return (values[:-1, None] + np.diff(values)[:, None] * ramp).reshape(-1)[:num_samples]


def _wander(rng: np.random.Generator, num_samples: int, low: float, high: float, values_per_s: float) -> np.ndarray:
    """A curve (num_samples,) that moves at random within [low, high]."""
    hop = int(SAMPLING_RATE / values_per_s)
    return _upsample(rng.uniform(low, high, num_samples // hop + 2), hop, num_samples)


def _band(frequencies: np.ndarray, low: float, high: float) -> np.ndarray:
    """Gain of a band pass with edges `low` and `high` in Hz and slopes of 12 dB an octave."""
    squares = frequencies * frequencies
    return squares / ((squares + np.float32(low * low)) * (np.float32(1.0) + squares / np.float32(high * high)))


def _noise(rng: np.random.Generator, num_samples: int, gain: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Noise (num_samples,) whose spectrum has the amplitude `gain(frequencies in Hz)`, made by an inverse FFT."""
    size = -(-num_samples // 2048) * 2048  # a length the FFT is fast at
    frequencies = np.fft.rfftfreq(size, 1.0 / SAMPLING_RATE).astype(np.float32)
    # Uniform numbers are drawn three times as fast as normal ones, and the transform makes their sums normal anyway.
    uniform = rng.random(2 * len(frequencies), dtype=np.float32) - np.float32(0.5)
    spectrum = uniform.view(np.complex64) * gain(frequencies)
    noise = np.fft.irfft(spectrum, size)[:num_samples]
    return noise / np.sqrt(np.mean(noise * noise))


def _tone(frequency: np.ndarray | float, num_samples: int, harmonics: Sequence[float] = (1.0,)) -> np.ndarray:
    """An oscillator: `frequency` in Hz, fixed or (num_samples,); `harmonics`: amplitudes of the partials."""
    spectrum = np.zeros(_TABLE_SIZE // 2 + 1, dtype=np.complex64)
    spectrum[1 : len(harmonics) + 1] = -1j * np.asarray(harmonics)
    table = np.fft.irfft(spectrum) * (_TABLE_SIZE / 2)
    step = np.broadcast_to(np.asarray(frequency) * (_TABLE_SIZE / SAMPLING_RATE), (num_samples,))
    phase = np.cumsum(step, dtype=np.float64).astype(np.int64) & (_TABLE_SIZE - 1)
    return table[phase].astype(np.float32)


def _struck(
    frequencies: Sequence[float], gains: Sequence[float], time_constants_s: Sequence[float], length_s: float
) -> np.ndarray:
    """A struck body: a sum of decaying sines, one for each of its modes."""
    time = _seconds(_samples(length_s))
    sound = np.zeros_like(time)
    for frequency, gain, time_constant in zip(frequencies, gains, time_constants_s, strict=True):
        sound += (
            np.float32(gain)
            * np.sin(time * np.float32(2 * np.pi * frequency))
            * np.exp(time * np.float32(-1 / time_constant))
        )
    return sound


# Steady sources


def _rain(rng: np.random.Generator, num_samples: int, pitch: float) -> np.ndarray:
    """Bright hiss and hundreds of drops a second."""
    low, high = 900 + 1000 * pitch, rng.uniform(5000, 7500)
    hiss = _noise(rng, num_samples, lambda frequencies: _band(frequencies, low, high))
    drops = np.zeros(num_samples, dtype=np.float32)
    num_drops = int(rng.uniform(120, 350) * num_samples / SAMPLING_RATE)
    drop = np.diff(_struck([rng.uniform(2500, 4500)], [1.0], [0.0004], 0.003))
    positions = rng.integers(0, num_samples - len(drop), num_drops)[:, None] + np.arange(len(drop))
    np.add.at(drops, positions, rng.exponential(3.0, num_drops).astype(np.float32)[:, None] * drop)
    return hiss + drops


def _wind(rng: np.random.Generator, num_samples: int, pitch: float) -> np.ndarray:
    """Low noise in gusts, and a howl: narrow noise around a wandering frequency."""
    cutoff = 150 + 200 * pitch
    gusts = _wander(rng, num_samples, 0.3, 1.0, values_per_s=rng.uniform(1.0, 2.0))
    roar = _noise(rng, num_samples, lambda frequencies: _band(frequencies, 50, cutoff))
    center = _wander(rng, num_samples, 350, 800, values_per_s=2.0)
    howl = _tone(center, num_samples) * _wander(rng, num_samples, -1.0, 1.0, values_per_s=40)
    return (roar + rng.uniform(0.8, 1.4) * gusts * howl) * gusts


def _waves(rng: np.random.Generator, num_samples: int, pitch: float) -> np.ndarray:
    """Surf: noise that swells, breaks and runs out, brighter the louder it is."""
    time = np.arange(num_samples // _CONTROL_HOP + 2) * (_CONTROL_HOP / SAMPLING_RATE)
    cycle = (time / rng.uniform(1.3, 2.2) + rng.random()) % 1.0
    swell = np.where(cycle < 0.4, (cycle / 0.4) ** 2, np.exp(-4.0 * (cycle - 0.4)))
    # Ends of the cycle meet at exp(-2.4), hence the floor.
    swell = _upsample(np.maximum(swell, 0.1), _CONTROL_HOP, num_samples)
    deep = _noise(rng, num_samples, lambda frequencies: _band(frequencies, 80, 500 + 300 * pitch))
    foam = _noise(rng, num_samples, lambda frequencies: _band(frequencies, 800, 3000 + 1500 * pitch))
    return deep * swell + 0.8 * foam * swell * swell


def _fire(rng: np.random.Generator, num_samples: int, pitch: float) -> np.ndarray:
    """A soft roar and irregular dry crackles."""
    fire = rng.uniform(0.06, 0.12) * _noise(
        rng, num_samples, lambda frequencies: _band(frequencies, 60, 250 + 200 * pitch)
    )
    num_crackles = 3 + rng.poisson(rng.uniform(10, 25) * num_samples / SAMPLING_RATE)
    time_constants = rng.uniform(0.0005, 0.004, num_crackles).astype(np.float32)
    crackles = np.diff(rng.standard_normal((num_crackles, 257), dtype=np.float32))
    crackles *= np.exp(-_seconds(256) / time_constants[:, None])
    crackles *= rng.exponential(0.5, num_crackles).astype(np.float32)[:, None]
    for onset, crackle in zip(rng.integers(0, num_samples, num_crackles), crackles, strict=True):
        _add(fire, onset, crackle)
    return fire


def _engine(rng: np.random.Generator, num_samples: int, pitch: float) -> np.ndarray:
    """Firing pulses of a motor at 45 to 90 Hz with uneven harmonics, and the noise that comes with them."""
    rate = (45 + 45 * pitch) * _wander(rng, num_samples, 0.96, 1.04, values_per_s=3.0)
    order = np.arange(1, 25)
    hum = _tone(rate, num_samples, rng.uniform(0.3, 1.0, 24) / order**0.8)
    rattle = _noise(rng, num_samples, lambda frequencies: _band(frequencies, 300, 1500))
    return hum + 0.12 * rattle * (1.0 + 0.3 * hum)


def _helicopter(rng: np.random.Generator, num_samples: int, pitch: float) -> np.ndarray:
    """Rotor blades that beat the air 10 to 17 times a second over the thin whine of a turbine."""
    beat = (_seconds(num_samples) * np.float32(10 + 7 * pitch) + np.float32(rng.random())) % np.float32(1.0)
    chop = np.exp(beat * np.float32(-rng.uniform(4.0, 6.0)))
    air = _noise(
        rng, num_samples, lambda frequencies: _band(frequencies, 60, 350) + 0.25 * _band(frequencies, 900, 2500)
    )
    whine = _tone(rng.uniform(1800, 2600), num_samples)
    return air * chop + rng.uniform(0.03, 0.06) * whine


def _siren(rng: np.random.Generator, num_samples: int, pitch: float) -> np.ndarray:
    """A wail: a rich tone that glides up and down without end."""
    low, high, wails_per_s = 480 + 150 * pitch, 1100 + 350 * pitch, rng.uniform(0.45, 1.0)
    turn = np.sin(2 * np.pi * (wails_per_s * _seconds(num_samples) + rng.random()), dtype=np.float32)
    return _tone(low + (high - low) * (0.5 + 0.5 * turn), num_samples, (1.0, 0.6, 0.4, 0.25, 0.15, 0.08))


def _crickets(rng: np.random.Generator, num_samples: int, pitch: float) -> np.ndarray:
    """Two crickets: high carriers cut into groups of three or four short pulses."""
    time, night = _seconds(num_samples), np.zeros(num_samples, dtype=np.float32)
    for loudness, carrier in ((1.0, 4100 + 700 * pitch), (0.45, 4900 + 700 * pitch)):
        num_pulses, pulse_rate = rng.integers(3, 5), rng.uniform(26, 36)
        pulse = (
            time * np.float32(pulse_rate / num_pulses) * np.float32(rng.uniform(0.45, 0.6)) + np.float32(rng.random())
        ) % 1
        pulse = pulse * np.float32(num_pulses / 0.5)  # the second half of every group is rest
        shape = np.where(pulse < num_pulses, np.sin(np.pi * pulse) ** 2, np.float32(0.0))
        night += np.float32(loudness) * shape * _tone(carrier, num_samples, (1.0, 0.1))
    return night


def _clock(rng: np.random.Generator, num_samples: int, pitch: float) -> np.ndarray:
    """Tick, tock: very short metallic clicks at a strict pace, every second one a little lower."""
    clock = np.zeros(num_samples, dtype=np.float32)
    mode = 2300 + 900 * pitch
    modes = np.array([mode, 1.63 * mode, 0.31 * mode])
    decays = [rng.uniform(0.004, 0.007), 0.003, 0.009]
    sounds = [_struck(modes * detune, [1.0, 0.7, 0.35], decays, 0.06) for detune in (1.0, 0.82)]
    onsets = np.arange(rng.uniform(0.02, 0.15), num_samples / SAMPLING_RATE, rng.uniform(0.24, 0.42))
    for beat, onset in enumerate(onsets):
        _add(clock, _samples(onset), sounds[beat % 2])
    return clock


def _footsteps(rng: np.random.Generator, num_samples: int, pitch: float) -> np.ndarray:
    """Walking: the thump of a heel, then the scrape of a sole, about two steps a second."""
    steps = np.zeros(num_samples, dtype=np.float32)
    period, onset, brightness = rng.uniform(0.42, 0.58), rng.uniform(0.02, 0.15), 900 + 600 * pitch
    while onset * SAMPLING_RATE < num_samples:
        heel = _struck([rng.uniform(75, 120), rng.uniform(180, 260)], [1.0, 0.5], [0.03, 0.015], 0.15)
        _add(steps, _samples(onset), heel * np.float32(rng.uniform(0.8, 1.1)))
        sole = _noise(rng, 2048, lambda frequencies: _band(frequencies, brightness, 3500))
        sole = _fade(sole * _decay(2048, rng.uniform(0.025, 0.04)), 0.012, 0.02)
        _add(steps, _samples(onset), 0.3 * sole)
        _add(steps, _samples(onset + rng.uniform(0.09, 0.13)), 0.2 * sole)
        onset += period * rng.uniform(0.94, 1.06)
    return steps


def _bird(rng: np.random.Generator, num_samples: int, pitch: float) -> np.ndarray:
    """Song: a phrase of whistled notes that each sweep through the kilohertz, repeated with short rests."""
    song = np.zeros(num_samples, dtype=np.float32)
    num_notes = rng.integers(3, 6)
    lengths = rng.uniform(0.06, 0.16, num_notes)
    starts = (2300 + 900 * pitch) * rng.uniform(0.9, 1.7, num_notes)
    ends = starts * rng.choice([0.7, 0.8, 1.25, 1.4], num_notes)
    onset, note = rng.uniform(0.02, 0.15), 0
    while onset * SAMPLING_RATE < num_samples:
        size = _samples(lengths[note])
        sweep = np.linspace(starts[note], ends[note], size)
        sound = _tone(sweep, size, (1.0, 0.08)) * np.sin(np.linspace(0, np.pi, size, dtype=np.float32))
        _add(song, _samples(onset), sound * np.float32(rng.uniform(0.7, 1.0)))
        onset += lengths[note] + rng.uniform(0.02, 0.06)
        note = (note + 1) % num_notes
        if note == 0:
            onset += rng.uniform(0.2, 0.4)
    return song


# Events: one sound each


def _bell(rng: np.random.Generator, num_samples: int, pitch: float) -> np.ndarray:
    """A struck church bell: hum, prime, minor third, fifth, nominal and above, the high ones the shortest."""
    ratios = np.array([0.5, 1.0, 1.2, 1.5, 2.0, 2.67, 3.01, 4.17])
    gains = np.array([0.5, 0.9, 0.8, 0.4, 1.0, 0.5, 0.4, 0.3]) * rng.uniform(0.7, 1.3, 8)
    time_constants = rng.uniform(0.45, 0.7) / (0.5 + 0.5 * ratios)
    bell = _struck((300 + 300 * pitch) * ratios, gains, time_constants, num_samples / SAMPLING_RATE)
    clapper = _noise(rng, 2048, lambda frequencies: _band(frequencies, 2000, 5000)) * _decay(2048, 0.012)
    _add(bell, 0, 0.6 * clapper)
    return _fade(bell, 0.002, 0.05)


def _dog(rng: np.random.Generator, num_samples: int, pitch: float) -> np.ndarray:
    """A bark: a rough voice that jumps up and falls, coloured by the mouth, with breath in it."""
    size = min(num_samples, _samples(rng.uniform(0.17, 0.26)))
    position = np.linspace(0.0, 1.0, size, dtype=np.float32)
    fundamental = (330 + 330 * pitch) * (0.65 + 0.7 * np.sqrt(position) - 0.75 * position**2)
    order = np.arange(1, 13)
    mouth = np.exp(-(((order - rng.uniform(2.0, 3.0)) / 1.8) ** 2)) + 0.06
    voice = np.tanh(1.5 * _tone(fundamental, size, mouth))
    breath = _noise(rng, size, lambda frequencies: _band(frequencies, 700, 2200))
    return _fade((voice + 0.25 * breath) * np.exp(-1.8 * position), 0.015, 0.05)


def _thunder(rng: np.random.Generator, num_samples: int, pitch: float) -> np.ndarray:
    """A clap and the rolling low rumble after it."""
    size = min(num_samples, _samples(rng.uniform(1.3, 2.2)))
    rumble = _noise(rng, size, lambda frequencies: _band(frequencies, 30, 90 + 90 * pitch))
    rolling = _wander(rng, size, 0.25, 1.0, values_per_s=9.0) * _decay(size, 0.35 * size / SAMPLING_RATE)
    clap = _noise(rng, size, lambda frequencies: _band(frequencies, 150, 1200)) * _decay(size, rng.uniform(0.07, 0.13))
    return _fade(1.6 * rumble * rolling + clap, 0.015, 0.2 * size / SAMPLING_RATE)


def _telephone(rng: np.random.Generator, num_samples: int, pitch: float) -> np.ndarray:
    """One ring: two bright tones in a fast trill."""
    size = min(num_samples, _samples(rng.uniform(0.65, 0.9)))
    trill = (_seconds(size) * rng.uniform(17, 23)) % 1.0 < 0.5
    tone = (900 + 500 * pitch) * np.where(trill, 1.0, 1.25)
    return _fade(_tone(tone, size, (1.0, 0.15, 0.5, 0.1, 0.2)), 0.01, 0.06)


def _knock(rng: np.random.Generator, num_samples: int, pitch: float) -> np.ndarray:
    """Knuckles on wood: a dull body, two overtones and a click."""
    mode = (170 + 130 * pitch) * rng.uniform(0.97, 1.03)
    knock = _struck([mode, 2.3 * mode, 4.4 * mode], [1.0, 0.8, 0.5], [0.03, 0.018, 0.008], 0.2)
    knock[:80] += 0.5 * rng.standard_normal(80, dtype=np.float32) * _decay(80, 0.0015)
    return knock[:num_samples]


def _water_drop(rng: np.random.Generator, num_samples: int, pitch: float) -> np.ndarray:
    """The bubble under a drop: a short tone that rises as it dies, and a faint echo of the vessel."""
    size = min(num_samples, _samples(0.3))
    rise = (700 + 900 * pitch) * rng.uniform(0.93, 1.07) * (1.0 + np.minimum(_seconds(size) * 7.0, 0.8))
    bubble = _fade(_tone(rise, size) * _decay(size, rng.uniform(0.02, 0.035)), 0.002, 0.02)
    _add(bubble, _samples(rng.uniform(0.07, 0.1)), 0.2 * bubble.copy())
    return bubble


def _whistle(rng: np.random.Generator, num_samples: int, pitch: float) -> np.ndarray:
    """A chord of steam pipes that bends up at the start, with the hiss of the steam."""
    size = min(num_samples, _samples(rng.uniform(0.75, 1.0)))
    bend = 1.0 - 0.12 * _decay(size, 0.05)
    lowest = 420 + 200 * pitch
    pipes = sum(_tone(lowest * ratio * bend, size, (1.0, 0.35, 0.25, 0.1)) for ratio in (1.0, 1.189, 1.498, 1.782))
    steam = _noise(rng, size, lambda frequencies: _band(frequencies, 1500, 5000))
    return _fade(pipes + rng.uniform(0.15, 0.35) * steam, 0.05, 0.12)


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
