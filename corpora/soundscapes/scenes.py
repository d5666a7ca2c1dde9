"""Soundscapes that need no download: scenes of one or two procedural sounds with parallel captions in eight languages.

>>> train = make_soundscapes(1000, seed=0)
>>> heldout = make_soundscapes(100, seed=0, split="heldout")
>>> train[0].keys()
dict_keys(['audio', 'audio_id', 'captions', 'group_id'])

A scene is a function of its combination, the seed, its index and the duration alone, so rows can be made in any order,
by any worker, again and again. Held-out scenes put together what training never does (`is_heldout`).
"""

import json
import os
import zlib
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import cycle, zip_longest
from pathlib import Path
from typing import Any, Literal

import numpy as np
import soundfile

from .captions import scene_captions
from .combinations import Combination, Relation, all_combinations, is_heldout
from .synthesis import SAMPLING_RATE, render_source


Split = Literal["train", "heldout"]

SPLITS: tuple[Split, ...] = ("train", "heldout")
AUDIO_FORMATS = ("flac", "wav")
MIN_DURATION_S = 3.0  # two sounds, one of them repeated, need this long
MAX_DURATION_S = 60.0

# Levels: root mean square of a sound's loud frames, in dB relative to full scale.
_LEVEL_DB = {"near": -18.0, "plain": -22.0, "far": -33.0}
_BACKGROUND_DB = -9.0  # of the second sound of "while", relative to the first
_LEVEL_JITTER_DB = 1.5
_FLOOR_DB = -62.0  # width of a uniform noise: recordings are never digitally silent
_LEVEL_FRAME = 2_000  # samples (125 ms, the time constant of a sound level meter)

_TRAINING_RELATIONS: tuple[Relation, ...] = (*("then", "while") * 4, "only")


class Soundscapes(Sequence):
    """Rows of scenes, each made when it is asked for. Made by `make_soundscapes`.

    Row i is `{"audio": {"array": float32 (num_samples,), "sampling_rate": 16000}, "audio_id": str, "captions":
    {language: [str, ...]}, "group_id": str}`; equal `group_id` means equal combination, hence equal captions.
    """

    def __init__(self, combinations: Sequence[Combination], seed: int, duration_s: float) -> None:
        self.combinations = tuple(combinations)
        self.seed = seed
        self.duration_s = duration_s

    def __len__(self) -> int:
        return len(self.combinations)

    def __getitem__(self, index: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        if isinstance(index, slice):
            return [self[place] for place in range(len(self))[index]]
        if not -len(self) <= index < len(self):
            raise IndexError(f"There are {len(self)} scenes; got index {index}.")
        index %= len(self)
        return make_scene(self.combinations[index], self.seed, index, self.duration_s)


def make_soundscapes(num_scenes: int, seed: int = 0, split: Split = "train", duration_s: float = 4.0) -> Soundscapes:
    """Scenes of one split.

    Both splits go round the (relation, sources) they may use in an order drawn from the seed, each time round with
    other attributes, so that few scenes already cover much. In training "then" and "while" take turns and every ninth
    scene holds a single sound. The first scenes are the same whatever `num_scenes` is.

    Args:
        num_scenes: how many, at least 1. Training repeats combinations when there are no more; held-out scenes are all
            different, so that exactly one of them fits a caption, which limits their number to 355.
        seed: of the order and of the sounds, at least 0.
        split: "train", or "heldout" for combinations that never occur in training.
        duration_s: length of every scene in seconds, 3 to 60.

    Returns:
        `Soundscapes`, a lazy sequence of rows.

    Raises:
        ValueError: an unknown split, or a number out of its range.
    """
    if split not in SPLITS:
        raise ValueError(f"Unknown split {split!r}; choose one of {', '.join(SPLITS)}.")
    if num_scenes < 1:
        raise ValueError(f"`num_scenes` must be at least 1, but is {num_scenes}.")
    _check_scene_arguments(seed, duration_s)
    rng = np.random.default_rng([seed, SPLITS.index(split)])
    if split == "train":
        return Soundscapes(_training_order(rng, num_scenes), seed, duration_s)
    heldout = _split_combinations("heldout")
    if num_scenes > len(heldout):
        raise ValueError(
            f"There are {len(heldout)} held-out combinations and each may occur once, but `num_scenes` is "
            f"{num_scenes}. Ask for fewer scenes."
        )
    return Soundscapes(_in_rounds(rng, heldout)[:num_scenes], seed, duration_s)


def make_scene(combination: Combination, seed: int = 0, index: int = 0, duration_s: float = 4.0) -> dict[str, Any]:
    """One scene of a combination.

    Args:
        combination: what is heard, one of `all_combinations()`.
        seed: at least 0.
        index: at least 0; every index is another rendering.
        duration_s: in seconds, 3 to 60.

    Returns:
        A row as `Soundscapes` describes it; the waveform lies within [-1, 1].

    Raises:
        ValueError: a number out of its range.
    """
    _check_scene_arguments(seed, duration_s)
    if index < 0:
        raise ValueError(f"`index` must be at least 0, but is {index}.")
    key = combination.key
    rng = np.random.default_rng([seed, index, zlib.crc32(key.encode())])
    return {
        "audio": {"array": _render(combination, rng, duration_s), "sampling_rate": SAMPLING_RATE},
        "audio_id": f"{key}_s{seed}_{index:06d}",
        "captions": scene_captions(combination),
        "group_id": key,
    }


def write_soundscapes(
    folder: str | os.PathLike,
    num_scenes: int,
    seed: int = 0,
    split: Split = "train",
    duration_s: float = 4.0,
    audio_format: str = "flac",
) -> Path:
    """Writes the scenes of `make_soundscapes` as a dataset folder: 16-bit sound files beside a `metadata.jsonl`.

    Args:
        folder: made if missing; must not hold a `metadata.jsonl` yet.
        num_scenes, seed, split, duration_s: as `make_soundscapes` takes them.
        audio_format: "flac" or "wav".

    Returns:
        The path of `metadata.jsonl`, whose lines hold `file_name`, `audio_id`, `captions` and `group_id`.

    Raises:
        ValueError: as `make_soundscapes`; an unknown format; metadata already there.
    """
    if audio_format not in AUDIO_FORMATS:
        raise ValueError(f"Unknown audio format {audio_format!r}; choose one of {', '.join(AUDIO_FORMATS)}.")
    scenes = make_soundscapes(num_scenes, seed, split, duration_s)
    folder = Path(folder)
    metadata_path = folder / "metadata.jsonl"
    if metadata_path.exists():
        raise ValueError(f"{str(metadata_path)!r} already exists; remove it or choose another folder.")
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for scene in scenes:
        file_name = f"{scene['audio_id']}.{audio_format}"
        soundfile.write(folder / file_name, scene.pop("audio")["array"], SAMPLING_RATE, subtype="PCM_16")
        lines.append(json.dumps({"file_name": file_name, **scene}, ensure_ascii=False) + "\n")
    # Last, so that a folder with metadata is complete.
    metadata_path.write_text("".join(lines), encoding="utf-8")
    return metadata_path


def _check_scene_arguments(seed: int, duration_s: float) -> None:
    if seed < 0:
        raise ValueError(f"`seed` must be at least 0, but is {seed}.")
    if not MIN_DURATION_S <= duration_s <= MAX_DURATION_S:
        raise ValueError(f"`duration_s` must lie within {MIN_DURATION_S} and {MAX_DURATION_S} s, but is {duration_s}.")


# Which combinations, in which order


@cache
def _split_combinations(split: Split) -> tuple[Combination, ...]:
    return tuple(combination for combination in all_combinations() if is_heldout(combination) == (split == "heldout"))


def _in_rounds(rng: np.random.Generator, combinations: Iterable[Combination]) -> list[Combination]:
    """All combinations, every (relation, sources) once before any of them occurs for the second time."""
    groups: dict[tuple[str, ...], list[Combination]] = {}
    for combination in combinations:
        groups.setdefault((combination.relation, *combination.sources), []).append(combination)
    shuffled = list(groups.values())
    rng.shuffle(shuffled)
    rounds = zip_longest(*([group[i] for i in rng.permutation(len(group))] for group in shuffled))
    return [combination for one_round in rounds for combination in one_round if combination is not None]


def _training_order(rng: np.random.Generator, num_scenes: int) -> list[Combination]:
    cycles = {
        relation: cycle(_in_rounds(rng, (c for c in _split_combinations("train") if c.relation == relation)))
        for relation in ("only", "then", "while")
    }
    return [next(cycles[_TRAINING_RELATIONS[i % len(_TRAINING_RELATIONS)]]) for i in range(num_scenes)]


# What it sounds like


def _render(combination: Combination, rng: np.random.Generator, duration_s: float) -> np.ndarray:
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
    # A soft limit: crackles and clicks have peaks far above their level.
    return np.tanh(scene)


def _time_spans(combination: Combination, rng: np.random.Generator, duration_s: float) -> list[tuple[float, float]]:
    """From when to when in seconds each sound may last."""
    if combination.relation == "then":
        turn = duration_s * rng.uniform(0.44, 0.56)
        gap = rng.uniform(0.1, 0.25)
        return [(rng.uniform(0.0, 0.1), turn - gap / 2), (turn + gap / 2, duration_s)]
    # A sound that comes once may come at any time, as long as it is heard to its end.
    latest = 0.45 if combination.sounds[0].count == "once" else 0.02
    return [(duration_s * rng.uniform(0.0, latest), duration_s)] + [(0.0, duration_s)] * (len(combination.sounds) - 1)


def _from_afar(waveform: np.ndarray, rng: np.random.Generator, num_samples: int) -> np.ndarray:
    """Duller, as air takes the treble, and blurred by an echo that decays within a second; (num_samples,)."""
    echo_size = 8_192
    decay_samples = SAMPLING_RATE * rng.uniform(0.06, 0.12)
    echo = rng.standard_normal(echo_size, dtype=np.float32)
    echo *= np.exp(np.arange(echo_size, dtype=np.float32) / np.float32(-decay_samples))
    echo *= 0.7 / np.sqrt(np.sum(echo * echo))
    echo[0] += 0.6  # the direct sound
    size = -(-(len(waveform) + echo_size) // 2048) * 2048  # no wrap-around, and a length the FFT is fast at
    frequencies = np.fft.rfftfreq(size, 1.0 / SAMPLING_RATE).astype(np.float32)
    dullness = 1.0 / np.sqrt(1.0 + (frequencies / np.float32(rng.uniform(900, 1500))) ** 2)
    return np.fft.irfft(np.fft.rfft(waveform, size) * np.fft.rfft(echo, size) * dullness, size)[:num_samples]


def _edges_faded(waveform: np.ndarray, fade_s: float = 0.01) -> np.ndarray:
    """Ends without a click; the fade at the beginning is short enough to leave an attack as it is."""
    size = round(fade_s * SAMPLING_RATE)
    waveform[-size:] *= np.linspace(1.0, 0.0, size, dtype=np.float32)
    waveform[: size // 8] *= np.linspace(0.0, 1.0, size // 8, dtype=np.float32)
    return waveform


def _loudness(waveform: np.ndarray) -> float:
    """Root mean square over the frames in which the sound is present: pauses do not count."""
    frames = waveform[: len(waveform) // _LEVEL_FRAME * _LEVEL_FRAME].reshape(-1, _LEVEL_FRAME)
    powers = np.einsum("ij,ij->i", frames, frames) / _LEVEL_FRAME
    return float(np.sqrt(powers[powers > 0.1 * powers.max()].mean()))


def _amplitude(decibels: float) -> float:
    return 10.0 ** (decibels / 20.0)


__all__ = ["AUDIO_FORMATS", "SPLITS", "Soundscapes", "Split", "make_scene", "make_soundscapes", "write_soundscapes"]
