"""Combinations of sounds, relations and attributes that a soundscape can have, and which of them are held out.

Every attribute of a combination can be heard, and every difference between two combinations is in their captions:
    only    one sound: near or far and, if it is an event, once or repeated
    then    a sound after another: steady ones near or far, events once or repeated
    while   a sound in front of a background that is softer, far away and lasts throughout: events once or repeated in
            the foreground, repeated in the background
"""

import zlib
from dataclasses import dataclass
from functools import cache
from typing import Literal

from .sources import SOURCES, Count


Relation = Literal["only", "then", "while"]
Distance = Literal["plain", "near", "far"]

NUM_HELDOUT = 355  # combinations for which `is_heldout` is true

# One of this many (relation, sources) is held out.
_HELDOUT_MODULUS = 5


@dataclass(frozen=True)
class Sound:
    """A source with its attributes. The distance "plain" means that captions do not mention it."""

    source: str
    count: Count
    distance: Distance = "plain"

    @property
    def key(self) -> str:
        return "-".join(
            [self.source] + [word for word in (self.count, self.distance) if word not in ("steady", "plain")]
        )


@dataclass(frozen=True)
class Combination:
    """The meaning of a scene. `sounds` has one sound for "only", and (A, B) for "A then B" and "A while B"."""

    relation: Relation
    sounds: tuple[Sound, ...]

    @property
    def key(self) -> str:
        """A readable, unique name that can be part of a file name: `then_rain-far_dog-once`."""
        return "_".join([self.relation, *(sound.key for sound in self.sounds)])

    @property
    def sources(self) -> tuple[str, ...]:
        return tuple(sound.source for sound in self.sounds)


@cache
def all_combinations() -> tuple[Combination, ...]:
    """All 1699 combinations, in a fixed order."""
    distances: tuple[Distance, ...] = ("near", "far")
    plain = [Sound(name, count) for name, source in SOURCES.items() for count in source.counts]
    placed = [
        Sound(sound.source, sound.count, distance)
        for sound in plain
        for distance in (distances if sound.count == "steady" else ("plain",))
    ]
    lasting = [sound for sound in plain if sound.count != "once"]
    pairs: dict[Relation, tuple[list[Sound], list[Sound]]] = {"then": (placed, placed), "while": (plain, lasting)}
    only = [
        Combination("only", (Sound(sound.source, sound.count, distance),)) for sound in plain for distance in distances
    ]
    return (
        *only,
        *(
            Combination(relation, (first, second))
            for relation, (firsts, seconds) in pairs.items()
            for first in firsts
            for second in seconds
            if first.source != second.source
        ),
    )


def is_heldout(combination: Combination) -> bool:
    """Whether a combination is held out, by a fixed hash.

    For two sources, the hash is that of the ordered pair: a held-out "rain then dog" never occurs in training, with
    any attributes. Of single sounds, only far ones are held out, so that training has every source alone.
    """
    if combination.relation == "only" and combination.sounds[0].distance == "near":
        return False
    parts = combination.sources if len(combination.sounds) == 2 else (combination.sounds[0].key,)
    return zlib.crc32("_".join([combination.relation, *parts]).encode()) % _HELDOUT_MODULUS == 0
