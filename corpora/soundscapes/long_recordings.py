"""Long recordings in which it is known when each scene begins and ends, for the evaluation of moment retrieval.

Scenes lie in a quiet, slowly varying noise: some apart, some directly after one another, some overlapping. What is
asked for and where it is heard is written in the JSON lines format of QVHighlights and CASTELLA, one line for each
event and language.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from modeling_atri.files import write_json_lines

from .combinations import all_combinations, is_heldout
from .scenes import make_scene
from .waveforms import SAMPLING_RATE


MOMENTS_FILE = "moments.jsonl"

_NOISE_DB = -52.0  # root mean square of the noise between scenes, in dB relative to full scale
_NOISE_SWING_DB = 4.0
_NOISE_PERIOD = 2**19  # samples (33 s) after which it repeats; a size for which the FFT is fast
_LEVEL_JITTER_DB = 3.0
_REPEATED_SHARE = 0.15  # of scenes: the same sounds again, so that a query has several moments
_APART_SHARE, _ABUTTING_SHARE = 0.6, 0.25  # of scenes; the others overlap the scene before
_GAP_S = (1.5, 20.0)
_OVERLAP_S = (0.3, 2.5)


@dataclass(frozen=True)
class Event:
    """Something that is heard in a scene.

    Args:
        start_s, end_s: When it is heard, in seconds from the start of the scene or recording.
        captions: Parallel captions by language code: `captions[l][c]` means the same in every language `l`.
        group_id: Events with the same value fit the same captions.
    """

    start_s: float
    end_s: float
    captions: Mapping[str, Sequence[str]]
    group_id: str


@dataclass(frozen=True)
class Scene:
    """A mono waveform of shape `(num_samples,)`, float32, at 16 kHz, and the events in it."""

    waveform: NDArray[np.float32]
    events: Sequence[Event]

    @property
    def duration_s(self) -> float:
        return len(self.waveform) / SAMPLING_RATE


@dataclass(frozen=True)
class Query:
    """A caption in several languages, and all spans of a recording that it fits: sorted, without overlap."""

    captions: Mapping[str, str]
    windows: Sequence[tuple[float, float]]
    group_id: str


SceneSource = Callable[[np.random.Generator], Scene]  # draws a scene


def make_long_recording(
    draw_scene: SceneSource, rng: np.random.Generator, min_duration_s: float = 60.0, max_duration_s: float = 300.0
) -> Scene:
    """Make a recording of scenes.

    Args:
        draw_scene: Returns a scene for a random generator. Scenes that do not fit any more end the recording.
        rng: Source of all that is drawn: the duration, the scenes, their places and levels, the noise.
        min_duration_s, max_duration_s: Range of the duration, in seconds.

    Returns:
        [`Scene`]: The recording and the events in it.

    Raises:
        ValueError: if the range is empty, or the first scene is longer than the recording.
    """
    if not 0 < min_duration_s <= max_duration_s:
        raise ValueError(
            f"The durations must be positive, the least first, but are {min_duration_s} and {max_duration_s}."
        )
    num_samples = round(rng.uniform(min_duration_s, max_duration_s) * SAMPLING_RATE)
    recording = _noise(rng, num_samples)
    events: list[Event] = []
    placed: list[Scene] = []
    start = round(rng.uniform(0.0, min(_GAP_S[1], min_duration_s / 4)) * SAMPLING_RATE)
    while True:
        scene = _draw(draw_scene, rng, placed)
        end = start + len(scene.waveform)
        if end > num_samples:
            break
        recording[start:end] += scene.waveform * _amplitude(rng.uniform(-_LEVEL_JITTER_DB, _LEVEL_JITTER_DB))
        events += [_moved(event, start / SAMPLING_RATE) for event in scene.events]
        placed.append(scene)
        start = max(start, end + round(_step_s(rng) * SAMPLING_RATE))
    if not placed:
        raise ValueError(
            f"A scene of {scene.duration_s:.1f} s does not fit into a recording of {num_samples / SAMPLING_RATE:.1f} "
            "s. Make the recordings longer or the scenes shorter."
        )
    limited: NDArray[np.float32] = np.tanh(recording)
    return Scene(limited, events)


def queries_of(events: Sequence[Event], rng: np.random.Generator) -> Iterator[Query]:
    """A query for each group of events: one of their captions, the same in every language, and when they are heard."""
    groups: dict[str, list[Event]] = {}
    for event in events:
        groups.setdefault(event.group_id, []).append(event)
    for group_id, members in groups.items():
        captions = members[0].captions
        choice = int(rng.integers(min(map(len, captions.values()))))
        spans = _joined(sorted((event.start_s, event.end_s) for event in members))
        yield Query({language: texts[choice] for language, texts in captions.items()}, spans, group_id)


def write_long_recordings(
    folder: str | os.PathLike[str],
    draw_scene: SceneSource,
    num_recordings: int,
    seed: int = 0,
    min_duration_s: float = 60.0,
    max_duration_s: float = 300.0,
) -> Path:
    """Write recordings as 16-bit FLAC, and what can be asked for in them as `moments.jsonl`.

    A line of it has `qid`, `query`, `language`, `duration`, `vid` (the name of the sound file without `.flac`),
    `relevant_windows` ([[start, end], ...] in seconds) and `group_id`. `atri evaluate --moments` reads it. A recording
    depends only on the scenes, the seed, its number and the range of durations.

    Args:
        folder: Folder to write to. It is created if it does not exist, and must not have a `moments.jsonl`.
        draw_scene, min_duration_s, max_duration_s: See [`make_long_recording`].
        num_recordings: Number of recordings, at least 1.
        seed: Seed, at least 0.

    Returns:
        `Path`: The path of `moments.jsonl`.

    Raises:
        ValueError: as in [`make_long_recording`], or if the folder has a `moments.jsonl`, or a number is out of range.
    """
    if num_recordings < 1 or seed < 0:
        raise ValueError(
            f"`num_recordings` must be at least 1 and `seed` at least 0, but they are {num_recordings} and {seed}."
        )
    path = Path(folder) / MOMENTS_FILE
    if path.exists():
        raise ValueError(f"{str(path)!r} already exists; remove it or choose another folder.")
    path.parent.mkdir(parents=True, exist_ok=True)
    lines: list[dict[str, Any]] = []
    for number in range(num_recordings):
        rng = np.random.default_rng([seed, number])
        recording = make_long_recording(draw_scene, rng, min_duration_s, max_duration_s)
        name = f"recording_s{seed}_{number:04d}"
        soundfile.write(path.with_name(f"{name}.flac"), recording.waveform, SAMPLING_RATE, subtype="PCM_16")
        for index, query in enumerate(queries_of(recording.events, rng)):
            lines += [
                {
                    "qid": f"{name}_{index}_{language}",
                    "query": text,
                    "language": language,
                    "duration": round(recording.duration_s, 3),
                    "vid": name,
                    "relevant_windows": [[round(start, 3), round(end, 3)] for start, end in query.windows],
                    "group_id": query.group_id,
                }
                for language, text in query.captions.items()
            ]
    write_json_lines(path, lines)  # last, so that a folder with it is complete
    return path


def soundscape_source(heldout: bool = False, min_duration_s: float = 3.0, max_duration_s: float = 20.0) -> SceneSource:
    """Scenes of generated soundscapes, each a single event with captions in eight languages.

    Args:
        heldout: Draw combinations that the training split of `make_soundscapes` never has, instead of those it has.
        min_duration_s, max_duration_s: Range of the durations in seconds, within 3 and 60.
    """
    combinations = [combination for combination in all_combinations() if is_heldout(combination) == heldout]

    def draw(rng: np.random.Generator) -> Scene:
        combination = combinations[rng.integers(len(combinations))]
        duration_s = float(rng.uniform(min_duration_s, max_duration_s))
        row = make_scene(combination, index=int(rng.integers(2**31)), duration_s=duration_s)
        waveform = row["audio"]["array"]
        event = Event(0.0, len(waveform) / SAMPLING_RATE, row["captions"], row["group_id"])
        return Scene(waveform, [event])

    return draw


def _draw(draw_scene: SceneSource, rng: np.random.Generator, placed: Sequence[Scene]) -> Scene:
    if placed and rng.random() < _REPEATED_SHARE:
        return placed[int(rng.integers(len(placed)))]
    return draw_scene(rng)


def _step_s(rng: np.random.Generator) -> float:
    """Time from the end of a scene to the start of the next, negative if they overlap."""
    kind = rng.random()
    if kind < _APART_SHARE:
        return float(rng.uniform(*_GAP_S))
    return 0.0 if kind < _APART_SHARE + _ABUTTING_SHARE else -float(rng.uniform(*_OVERLAP_S))


def _moved(event: Event, offset_s: float) -> Event:
    return Event(event.start_s + offset_s, event.end_s + offset_s, event.captions, event.group_id)


def _joined(spans: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Sorted spans, of which those that overlap or touch are joined."""
    joined: list[tuple[float, float]] = []
    for start, end in spans:
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def _noise(rng: np.random.Generator, num_samples: int) -> NDArray[np.float32]:
    """Noise that is louder at low frequencies, as outdoors, and whose level varies over tens of seconds."""
    spectrum = np.fft.rfft(rng.standard_normal(_NOISE_PERIOD, dtype=np.float32))
    spectrum /= np.sqrt(np.maximum(np.fft.rfftfreq(_NOISE_PERIOD, 1 / SAMPLING_RATE), 50.0))
    pink = np.fft.irfft(spectrum)
    pink /= np.sqrt(np.mean(np.square(pink)))
    knots = max(2, num_samples // (15 * SAMPLING_RATE))
    swing_db = rng.uniform(-_NOISE_SWING_DB, _NOISE_SWING_DB, knots)
    levels_db = np.interp(np.linspace(0, knots - 1, num_samples), np.arange(knots), _NOISE_DB + swing_db)
    noise: NDArray[np.float32] = (np.resize(pink, num_samples) * 10 ** (levels_db / 20)).astype(np.float32)
    return noise


def _amplitude(decibels: float) -> np.float32:
    return np.float32(10.0 ** (decibels / 20.0))
