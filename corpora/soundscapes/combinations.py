"""What a soundscape can be: which sounds, in which relation, with which attributes, and which of it is held out.

Every attribute that a combination names can be heard, and every difference between two combinations is named:
    only    one sound: near or far and, if it is an event, once or repeated
    then    a sound after another: steady ones near or far, events once or repeated
    while   a sound before a background that is softer, comes from afar and lasts all through: events once or repeated
            in the foreground, repeated in the background
"""

import zlib
from dataclasses import dataclass
from functools import cache
from typing import Literal

from .synthesis import SOURCES, Count


Relation = Literal["only", "then", "while"]
Distance = Literal["plain", "near", "far"]

# One in so many (relation, sources) is held out.
_HELDOUT_MODULUS = 5


@dataclass(frozen=True)
class Sound:
    """A source with its attributes; `distance` "plain" means that nothing is said about it."""

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
    """One scene's meaning. `sounds` holds one sound for "only", (A, B) for "A then B" and "A while B"."""

    relation: Relation
    sounds: tuple[Sound, ...]

    @property
    def key(self) -> str:
        """A readable name, unique and fit for file names: `then_rain-far_dog-once`."""
        return "_".join([self.relation, *(sound.key for sound in self.sounds)])

    @property
    def sources(self) -> tuple[str, ...]:
        return tuple(sound.source for sound in self.sounds)


@cache
def all_combinations() -> tuple[Combination, ...]:
    """All 1699 combinations in a fixed order."""
    only = [
        (Sound(name, count, distance),)
        for name, source in SOURCES.items()
        for count in source.counts
        for distance in ("near", "far")
    ]
    plain = [Sound(name, count) for name, source in SOURCES.items() for count in source.counts]
    placed = [
        Sound(sound.source, sound.count, distance)
        for sound in plain
        for distance in (("near", "far") if sound.count == "steady" else ("plain",))
    ]
    lasting = [sound for sound in plain if sound.count != "once"]
    pairs = {"then": (placed, placed), "while": (plain, lasting)}
    return tuple(Combination("only", sounds) for sounds in only) + tuple(
        Combination(relation, (first, second))
        for relation, (firsts, seconds) in pairs.items()
        for first in firsts
        for second in seconds
        if first.source != second.source
    )


def is_heldout(combination: Combination) -> bool:
    """Whether it belongs to the held-out scenes, by a fixed hash.

    Of two-source scenes the ordered pair decides, whatever the attributes: a held-out "rain then dog" is never heard
    in training, neither near nor far, once nor repeated. Of single sounds only far ones are ever held out, so that
    training holds every source alone.
    """
    if combination.relation == "only" and combination.sounds[0].distance == "near":
        return False
    parts = combination.sources if len(combination.sounds) == 2 else (combination.sounds[0].key,)
    return zlib.crc32("_".join([combination.relation, *parts]).encode()) % _HELDOUT_MODULUS == 0


__all__ = ["Combination", "Distance", "Relation", "Sound", "all_combinations", "is_heldout"]
