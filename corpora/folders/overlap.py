"""Find recordings that are in both training and test data, by their ids at the source and by their sound.

Videos of AudioSet are in AudioCaps and in WavCaps, and WavCaps' FreeSound has recordings that Clotho's test clips were
cut from. A model that is trained on one and tested on the other is tested on sounds that it has seen.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from tqdm.auto import tqdm

from modeling_atri.threads_atri import ReadAhead, default_num_workers

from ..clips.source_ids import source_id
from ..rows.bad_rows import BadRow, kind_of
from .kept_fingerprints import KeptFingerprints
from .prepared import PreparedClip
from .sound_fingerprints import MIN_SHARED_SECONDS, FingerprintIndex, SoundFingerprint


BY_ID, BY_SAMPLES, BY_SOUND = "id", "samples", "sound"


class Overlap(NamedTuple):
    """A training clip and a test clip that are the same recording, or parts of one.

    Args:
        train, test: The clips.
        by: How that is known: `"id"` (both have the same id at the source), `"samples"` (equal decoded samples) or
            `"sound"` (similar fingerprints).
        bit_errors: Share of differing bits of the fingerprints, 0 to 0.3; None if they were not compared.
    """

    train: PreparedClip
    test: PreparedClip
    by: tuple[str, ...]
    bit_errors: float | None

    def describe(self) -> dict[str, Any]:
        """The overlap as it is written to a file."""
        clips = {"train": self.train, "test": self.test}
        places = {name: {"data": str(clip.folder), "audio_id": clip.audio_id} for name, clip in clips.items()}
        return places | {"by": list(self.by), "bit_errors": self.bit_errors}


class Comparison(NamedTuple):
    """The result of `find_overlaps`.

    Args:
        overlaps: In the order of the training clips.
        unread: Clips that could not be decoded.
        unheard: Clips that are too short, quiet or steady to be recognised by their sound.
    """

    overlaps: list[Overlap]
    unread: list[BadRow]
    unheard: list[PreparedClip]


def find_overlaps(
    train: Sequence[PreparedClip], test: Sequence[PreparedClip], *, by_sound: bool = True, progress: bool = False
) -> Comparison:
    """Compare all training clips with all test clips.

    Args:
        train, test: Clips of any number of folders.
        by_sound: Decode and compare all recordings too, not only the ids. Their fingerprints are kept, so
            that a later call only decodes those that are new or have changed; see [`KeptFingerprints`].
        progress: Show progress bars.
    """
    same_source = _by_source(test)
    found = Comparison([], [], [])
    tested = list(_fingerprints(test, found, "test clips", progress)) if by_sound else []
    places = [place for place, item in enumerate(tested) if item is not None]  # in `test`, of those in the index
    index = FingerprintIndex([item for item in tested if item is not None])
    heard = _fingerprints(train, found, "training clips", progress) if by_sound else [None] * len(train)
    for clip, sound in zip(train, heard, strict=True):
        by: dict[int, list[str]] = {place: [BY_ID] for place in same_source(clip)}
        errors: dict[int, float] = {}
        if sound is not None:
            for number in index.same_samples(sound):
                by.setdefault(places[number], []).append(BY_SAMPLES)
            for match in index.find(sound):
                by.setdefault(places[match.number], []).append(BY_SOUND)
                errors[places[match.number]] = round(match.bit_errors, 3)
        found.overlaps.extend(
            Overlap(clip, test[place], tuple(kinds), errors.get(place)) for place, kinds in by.items()
        )
    return found


def _by_source(test: Sequence[PreparedClip]) -> Callable[[PreparedClip], list[int]]:
    """Make a function that finds the test clips with the same source as a clip."""
    ids = [_ids_by_source(clip) for clip in test]
    places: dict[tuple[str, str], list[int]] = defaultdict(list)
    for place, of_clip in enumerate(ids):
        for source, names in of_clip.items():
            for name in names:
                places[source, name].append(place)

    def find(clip: PreparedClip) -> list[int]:
        own = _ids_by_source(clip)
        found = dict.fromkeys(
            place for source, names in own.items() for name in names for place in places.get((source, name), ())
        )
        # Two recordings may have the same file name. Where both numbers on Freesound are known, these decide.
        return [
            place
            for place in found
            if "freesound" not in own.keys() & ids[place].keys() or own["freesound"] & ids[place]["freesound"]
        ]

    return find


def _ids_by_source(clip: PreparedClip) -> dict[str, set[str]]:
    ids: dict[str, set[str]] = defaultdict(set)
    for item in clip.row.get("source_ids") or ():
        # The folder may be written by something else than `atri prepare`, so names are normalised again.
        source, _, name = source_id(*item.partition(":")[::2]).partition(":")
        ids[source].add(name)
    return dict(ids)


def _fingerprints(
    clips: Sequence[PreparedClip], found: Comparison, name: str, progress: bool
) -> Iterator[SoundFingerprint | None]:
    """Yield fingerprints in order. A clip that cannot be decoded yields None and is added to `found.unread`."""

    kept = KeptFingerprints()

    def read(clip: PreparedClip) -> SoundFingerprint | BadRow:
        try:
            return kept(clip.sound)
        except ValueError as error:
            return BadRow(str(clip.folder), clip.audio_id, kind_of(error), str(error))

    num_workers = default_num_workers()
    with ReadAhead(read, clips, num_workers, num_ahead=2 * num_workers) as items:
        for clip, item in zip(clips, tqdm(items, desc=name, total=len(clips), disable=not progress), strict=True):
            if isinstance(item, BadRow):
                found.unread.append(item)
            elif item.heard_seconds < MIN_SHARED_SECONDS:
                found.unheard.append(clip)
            yield None if isinstance(item, BadRow) else item
