"""Render a sound source: once, repeatedly, or steadily, at 16 kHz, mono, float32."""

import numpy as np

from .sources import SOURCES, Count, Source
from .waveforms import SAMPLING_RATE, add, samples


MIN_SOUND_SAMPLES = 11_200  # 0.7 s; in less, "repeated" cannot be told from "once"


def render_source(name: str, rng: np.random.Generator, duration_s: float, count: Count = "steady") -> np.ndarray:
    """Render a source with newly drawn parameters.

    Args:
        name: Key of `SOURCES`.
        rng: Generator of all parameters. The same state gives the same samples.
        duration_s: Length in seconds, at least 0.7.
        count: "steady" for steady sources; "once" or "repeated" for events.

    Returns:
        `np.ndarray` of shape `(round(duration_s * 16000),)`, float32, with peak 1. An event that sounds once begins
        at sample 0 and is followed by silence.

    Raises:
        ValueError: if the source is unknown, it does not have this count, or the duration is too short.
    """
    if name not in SOURCES:
        raise ValueError(f"Unknown sound source {name!r}; choose one of {', '.join(SOURCES)}.")
    source = SOURCES[name]
    if count not in source.counts:
        raise ValueError(f"The source {name!r} cannot sound {count!r}; choose one of {', '.join(source.counts)}.")
    num_samples = samples(duration_s)
    if num_samples < MIN_SOUND_SAMPLES:
        raise ValueError(
            f"A sound of {duration_s} s is too short; give at least {MIN_SOUND_SAMPLES / SAMPLING_RATE} s."
        )
    if count == "steady":
        waveform = source.render(rng, num_samples, rng.random())
    elif count == "once":
        waveform = np.zeros(num_samples)
        add(waveform, 0, source.render(rng, min(num_samples, samples(source.length_s)), rng.random()))
    else:
        waveform = _repeat(source, rng, num_samples)
    scaled: np.ndarray = (waveform / np.abs(waveform).max()).astype(np.float32)
    return scaled


def _repeat(source: Source, rng: np.random.Generator, num_samples: int) -> np.ndarray:
    """Repeat an event at least twice, slightly unevenly in time and level, until `num_samples` are filled."""
    # Less than half the length per repetition, so that even a slow event (thunder) is heard twice.
    period = min(samples(rng.uniform(*source.period_s)), int(num_samples / 2.2))
    length = min(samples(source.length_s), num_samples if source.rings_over else int(0.8 * period))
    pitch = rng.random()
    waveform = np.zeros(num_samples)
    onset, repetitions = 0, 0
    while onset + 0.7 * period < num_samples:
        sound = source.render(rng, min(length, num_samples - onset), pitch)
        add(waveform, onset, sound * (rng.uniform(0.75, 1.0) / np.abs(sound).max()))
        repetitions += 1
        onset += int(period * rng.uniform(0.92, 1.08))
        if source.group_size and repetitions % source.group_size == 0:
            onset += samples(rng.uniform(0.3, 0.5))
    return waveform


__all__ = ["MIN_SOUND_SAMPLES", "SAMPLING_RATE", "SOURCES", "Count", "render_source"]
