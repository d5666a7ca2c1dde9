"""Scenes of 3 to 20 s from the ESC-10 scenes of 10 s, with captions of the whole and of each sound in it.

A scene of one sound after the other is cut so that at least a part of both remains. Other scenes are cut, or repeated
with a cross-fade. Levels, positions and captions are those of the scenes, see `README.md`.
"""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from modeling_atri.audio_io import load_audio
from modeling_atri.corpora.soundscapes.long_recordings import Event, Scene, SceneSource
from modeling_atri.corpora.soundscapes.waveforms import SAMPLING_RATE


MIN_S, MAX_S = 3.0, 20.0
KEPT_S = 1.3  # of each of two sounds that follow one another
CROSS_FADE_S = 0.2
SHARE_LONG = 0.3  # of scenes that can be repeated


def esc10_source(data: Path, split: str) -> SceneSource:
    """Draws scenes of `data/split`."""
    lines = (data / split / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    classes = json.loads((data / "captions.json").read_text(encoding="utf-8"))["classes"]
    return partial(draw_scene, [json.loads(line) for line in lines], classes, data / split)


def draw_scene(
    rows: Sequence[Mapping[str, Any]], classes: Mapping[str, Any], folder: Path, rng: np.random.Generator
) -> Scene:
    row = rows[rng.integers(len(rows))]
    waveform = load_audio(folder / row["file_name"], SAMPLING_RATE)
    sources = [(source["label"], source["start"], source["end"]) for source in row["sources"]]
    if row["relation"] != "then" and rng.random() < SHARE_LONG:
        waveform, sources = _repeated(waveform, sources, rng.uniform(10.0, MAX_S))
    else:
        waveform, sources = _cut(waveform, sources, row["relation"], rng)
    duration_s = len(waveform) / SAMPLING_RATE
    whole = Event(0.0, duration_s, row["captions"], f"scene {row['triple']}")
    single = [
        Event(start, end, {code: words["captions"] for code, words in classes[label].items()}, f"sound {label}")
        for label, start, end in sources
    ]
    # A scene of one sound is the same as the sound.
    return Scene(waveform, single if row["relation"] == "only" else [whole, *single])


Sources = list[tuple[str, float, float]]


def _cut(
    waveform: np.ndarray, sources: Sources, relation: str, rng: np.random.Generator
) -> tuple[np.ndarray, Sources]:
    """A part of 3 to 10 s, in which each sound is heard."""
    total = len(waveform) / SAMPLING_RATE
    if relation == "then":
        first_end, second_start = sources[0][2], sources[1][1]
        start = rng.uniform(0.0, max(0.0, min(first_end - KEPT_S, total - MIN_S)))
        end = rng.uniform(min(max(second_start + KEPT_S, start + MIN_S), total), total)
    else:
        heard_from = max(start for _, start, _ in sources)
        heard_until = min(end for _, _, end in sources)
        length = rng.uniform(MIN_S, total)
        # All sounds are heard in at least a part of it.
        latest = min(total - length, max(0.0, heard_until - min(KEPT_S, length)))
        earliest = min(max(0.0, heard_from + KEPT_S - length), latest)
        start = rng.uniform(earliest, latest)
        end = start + length
    cut = waveform[round(start * SAMPLING_RATE) : round(end * SAMPLING_RATE)]
    kept = [
        (label, max(begin, start) - start, min(finish, end) - start)
        for label, begin, finish in sources
        if min(finish, end) - max(begin, start) > 0.3
    ]
    return _faded(cut), kept


def _repeated(waveform: np.ndarray, sources: Sources, duration_s: float) -> tuple[np.ndarray, Sources]:
    """The scene again and again, with cross-fades, until it has the duration."""
    fade = round(CROSS_FADE_S * SAMPLING_RATE)
    period = len(waveform) - fade
    ramp = np.linspace(0, 1, fade, dtype=np.float32)
    rounds = int(np.ceil(duration_s * SAMPLING_RATE / period))
    result = np.zeros(rounds * period + fade, dtype=np.float32)
    for turn in range(rounds):
        piece = waveform.copy()
        if turn:
            piece[:fade] *= ramp
        piece[-fade:] *= ramp[::-1]
        result[turn * period : turn * period + len(piece)] += piece
    spans = []
    for label, start, end in sources:
        for turn in range(rounds):
            offset = turn * period / SAMPLING_RATE
            span = (label, start + offset, min(end + offset, duration_s))
            if span[2] - span[1] > 0.3:
                # Pauses of less than two seconds, between repetitions, are no end of the sound.
                if spans and spans[-1][0] == label and span[1] - spans[-1][2] < 2.0:
                    spans[-1] = (label, spans[-1][1], span[2])
                else:
                    spans.append(span)
    return _faded(result[: round(duration_s * SAMPLING_RATE)]), spans


def _faded(waveform: np.ndarray, fade_s: float = 0.02) -> np.ndarray:
    size = round(fade_s * SAMPLING_RATE)
    result = waveform.copy()
    result[:size] *= np.linspace(0, 1, size, dtype=np.float32)
    result[-size:] *= np.linspace(1, 0, size, dtype=np.float32)
    return result
