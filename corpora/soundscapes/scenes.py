"""Soundscapes that need no download: scenes of one or two synthetic sounds with parallel captions in eight languages.

>>> train = make_soundscapes(1000, seed=0)
>>> heldout = make_soundscapes(100, seed=0, split="heldout")
>>> train[0].keys()
dict_keys(['audio', 'audio_id', 'captions', 'group_id'])

A scene depends only on its combination, the seed, its index and the duration, so that rows can be made in any order
and by any worker. There are three splits:
    train    scenes of two sounds, and of one; the captions of one sound include bare ones, such as "dog"
    heldout  combinations that training never has (`is_heldout`), each once, so that one scene fits a caption
    single   one sound in each scene, rendered anew and never as in training, with bare captions only; the same number
             of scenes for each source
"""

import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import chain, cycle, islice, zip_longest
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import soundfile

from modeling_atri.files import write_json_lines

from ..sources.metadata import METADATA_FILE
from .captions import bare_captions, scene_captions, written_out
from .combinations import Combination, Relation, all_combinations, is_heldout
from .rendering import render
from .waveforms import SAMPLING_RATE


Split = Literal["train", "heldout", "single"]

SPLITS: tuple[Split, ...] = ("train", "heldout", "single")
AUDIO_FORMATS = ("flac", "wav")
MIN_DURATION_S = 3.0  # two sounds, one of them repeated, need this long
MAX_DURATION_S = 60.0

_TRAINING_RELATIONS: tuple[Relation, ...] = (*("then", "while") * 2, "only")
_FIRST_SINGLE = 1_000_000  # index of the first scene of "single", so that it is not rendered as one of training


class Soundscapes(Sequence[dict[str, Any]]):
    """Rows of scenes from `make_soundscapes`. Each is rendered when it is accessed.

    Row i is `{"audio": {"array": float32 (num_samples,), "sampling_rate": 16000}, "audio_id": str, "captions":
    {language: [str, ...]}, "group_id": str}`. Rows with equal `group_id` have the same captions: those of the same
    combination, and in the split "single" those of the same source.
    """

    def __init__(self, combinations: Sequence[Combination], seed: int, duration_s: float, split: Split) -> None:
        self.combinations = tuple(combinations)
        self.seed = seed
        self.duration_s = duration_s
        self.split = split

    def __len__(self) -> int:
        return len(self.combinations)

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...

    def __getitem__(self, index: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        if isinstance(index, slice):
            return [self[place] for place in range(len(self))[index]]
        if not -len(self) <= index < len(self):
            raise IndexError(f"There are {len(self)} scenes; got index {index}.")
        index %= len(self)
        combination, source = self.combinations[index], self.combinations[index].sources[0]
        if self.split == "single":
            scene = make_scene(combination, self.seed, _FIRST_SINGLE + index, self.duration_s)
            return scene | {"captions": bare_captions(source), "group_id": source}
        scene = make_scene(combination, self.seed, index, self.duration_s)
        if self.split == "train" and combination.relation == "only":
            for language, texts in bare_captions(source).items():
                noun, clause = texts[:2]
                scene["captions"][language] += [*texts, written_out(clause, language), written_out(noun, language)]
        return scene


def make_soundscapes(num_scenes: int, seed: int = 0, split: Split = "train", duration_s: float = 4.0) -> Soundscapes:
    """Make the scenes of a split.

    Each split cycles through its (relation, sources) in an order drawn from the seed, every time with other
    attributes, so that a few scenes already have much variety. In training, "then" and "while" alternate, and every
    fifth scene has a single sound, of each source in turn. The first scenes do not depend on `num_scenes`.

    Args:
        num_scenes: Number of scenes, at least 1. Training repeats combinations when all are used. Held-out scenes are
            all different, so that exactly one of them fits a caption; there are at most 355. With a multiple of 72,
            every source has as many single scenes as any other, near and far, once and repeated.
        seed: Seed of the order and of the sounds, at least 0.
        split: "train"; "heldout" for combinations that never occur in training; or "single" for new renderings of
            single sounds.
        duration_s: Length of every scene in seconds, 3 to 60.

    Returns:
        `Soundscapes`: A lazy sequence of rows.

    Raises:
        ValueError: if the split is unknown, or a number is out of its range.
    """
    if split not in SPLITS:
        raise ValueError(f"Unknown split {split!r}; choose one of {', '.join(SPLITS)}.")
    if num_scenes < 1:
        raise ValueError(f"`num_scenes` must be at least 1, but is {num_scenes}.")
    _check_scene_arguments(seed, duration_s)
    rng = np.random.default_rng([seed, SPLITS.index(split)])
    if split == "single":
        return Soundscapes(list(islice(_single_sounds(all_combinations()), num_scenes)), seed, duration_s, split)
    if split == "train":
        if num_scenes > _FIRST_SINGLE:
            raise ValueError(f"`num_scenes` must be at most {_FIRST_SINGLE}, but is {num_scenes}.")
        return Soundscapes(_training_order(rng, num_scenes), seed, duration_s, split)
    heldout = _split_combinations("heldout")
    if num_scenes > len(heldout):
        raise ValueError(
            f"There are {len(heldout)} held-out combinations and each may occur once, but `num_scenes` is "
            f"{num_scenes}. Ask for fewer scenes."
        )
    return Soundscapes(_in_rounds(rng, heldout)[:num_scenes], seed, duration_s, split)


def make_scene(combination: Combination, seed: int = 0, index: int = 0, duration_s: float = 4.0) -> dict[str, Any]:
    """Make a scene of a combination.

    Args:
        combination: One of `all_combinations()`.
        seed: At least 0.
        index: At least 0. Every index is another rendering.
        duration_s: Length in seconds, 3 to 60.

    Returns:
        `dict`: A row as `Soundscapes` describes it. The waveform is within [-1, 1].

    Raises:
        ValueError: if a number is out of its range.
    """
    _check_scene_arguments(seed, duration_s)
    if index < 0:
        raise ValueError(f"`index` must be at least 0, but is {index}.")
    key = combination.key
    rng = np.random.default_rng([seed, index, zlib.crc32(key.encode())])
    return {
        "audio": {"array": render(combination, rng, duration_s), "sampling_rate": SAMPLING_RATE},
        "audio_id": f"{key}_s{seed}_{index:06d}",
        "captions": scene_captions(combination),
        "group_id": key,
    }


def write_soundscapes(
    folder: str | os.PathLike[str],
    num_scenes: int,
    seed: int = 0,
    split: Split = "train",
    duration_s: float = 4.0,
    audio_format: str = "flac",
) -> Path:
    """Write the scenes of `make_soundscapes` to a data set folder: 16-bit sound files and a `metadata.jsonl`.

    Args:
        folder: Folder to write to. It is created if it does not exist, and must not have a `metadata.jsonl`.
        num_scenes, seed, split, duration_s: See `make_soundscapes`.
        audio_format: "flac" or "wav".

    Returns:
        `Path`: The path of `metadata.jsonl`, whose lines have `file_name`, `audio_id`, `captions` and `group_id`.

    Raises:
        ValueError: as in `make_soundscapes`, or if the format is unknown, or the folder has a `metadata.jsonl`.
    """
    if audio_format not in AUDIO_FORMATS:
        raise ValueError(f"Unknown audio format {audio_format!r}; choose one of {', '.join(AUDIO_FORMATS)}.")
    scenes = make_soundscapes(num_scenes, seed, split, duration_s)
    folder = Path(folder)
    metadata_path = folder / METADATA_FILE
    if metadata_path.exists():
        raise ValueError(f"{str(metadata_path)!r} already exists; remove it or choose another folder.")
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for scene in scenes:
        file_name = f"{scene['audio_id']}.{audio_format}"
        soundfile.write(folder / file_name, scene.pop("audio")["array"], SAMPLING_RATE, subtype="PCM_16")
        rows.append({"file_name": file_name, **scene})
    write_json_lines(metadata_path, rows)  # last, so that a folder with metadata is complete
    return metadata_path


def _check_scene_arguments(seed: int, duration_s: float) -> None:
    if seed < 0:
        raise ValueError(f"`seed` must be at least 0, but is {seed}.")
    if not MIN_DURATION_S <= duration_s <= MAX_DURATION_S:
        raise ValueError(f"`duration_s` must be within {MIN_DURATION_S} and {MAX_DURATION_S} s, but is {duration_s}.")


@cache
def _split_combinations(split: Split) -> tuple[Combination, ...]:
    return tuple(combination for combination in all_combinations() if is_heldout(combination) == (split == "heldout"))


def _in_rounds(rng: np.random.Generator, combinations: Iterable[Combination]) -> list[Combination]:
    """Order combinations so that every (relation, sources) occurs once before any of them occurs twice."""
    groups: dict[tuple[str, ...], list[Combination]] = {}
    for combination in combinations:
        groups.setdefault((combination.relation, *combination.sources), []).append(combination)
    shuffled = list(groups.values())
    rng.shuffle(shuffled)
    rounds = zip_longest(*([group[i] for i in rng.permutation(len(group))] for group in shuffled))
    return [combination for one_round in rounds for combination in one_round if combination is not None]


def _single_sounds(combinations: Iterable[Combination]) -> Iterator[Combination]:
    """Every source in turn without end, and at each turn the next of the combinations that have it alone."""
    variants: dict[str, list[Combination]] = {}
    for combination in combinations:
        if combination.relation == "only":
            variants.setdefault(combination.sources[0], []).append(combination)
    return chain.from_iterable(zip(*map(cycle, variants.values()), strict=True))


def _training_order(rng: np.random.Generator, num_scenes: int) -> list[Combination]:
    training = _split_combinations("train")
    pairs: tuple[Relation, ...] = ("then", "while")
    endless = {
        relation: cycle(_in_rounds(rng, (item for item in training if item.relation == relation)))
        for relation in pairs
    } | {"only": _single_sounds(training)}
    return [next(endless[_TRAINING_RELATIONS[i % len(_TRAINING_RELATIONS)]]) for i in range(num_scenes)]
