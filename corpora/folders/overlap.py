"""What is in training and test data alike, by what recordings are called at their source and by how they sound.

Videos of AudioSet are in AudioCaps and in WavCaps, and WavCaps' FreeSound holds recordings that Clotho's test clips
were cut from: who trains on the one and tests on the other measures memory.
"""

import json
import math
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from tqdm.auto import tqdm

from modeling_atri.encode.decoding import default_num_workers
from modeling_atri.files import write_json_lines, written_whole

from ..readers.clips import OVERLAP
from ..readers.source_ids import source_id
from ..rows.bad_rows import BadRow, count_kinds, kind_of, write_bad_rows
from ..rows.checks import recording_length
from ..rows.load import METADATA_FILE
from .sound_fingerprints import MIN_SECONDS, FingerprintIndex, SoundFingerprint, fingerprint
from .writing import LEFT_OUT_FILE, OVERLAP_FILE, REPORT_FILE, read_left_out, read_prepared_rows, row_id, summary


BY_ID, BY_SAMPLES, BY_SOUND = "id", "samples", "sound"


class PreparedClip(NamedTuple):
    """A row of a folder that `write_corpus` wrote, or any other with a `metadata.jsonl`.

    Args:
        folder: that it is in.
        row: as it stands there.
    """

    folder: Path
    row: dict[str, Any]

    @property
    def audio_id(self) -> str:
        return row_id(self.row)

    @property
    def sound(self) -> Path:
        return self.folder / self.row["file_name"]

    @property
    def seconds(self) -> float:
        """How long it lasts: what the row says, else the recording.

        Raises:
            ValueError: neither does.
        """
        seconds = self.row.get("seconds")
        if isinstance(seconds, (int, float)) and not isinstance(seconds, bool) and math.isfinite(seconds):
            return float(seconds)
        try:
            return recording_length(str(self.sound))
        except (ValueError, OSError) as error:
            reason = f"its row has no `seconds`, and its recording cannot be read ({error})"
            raise ValueError(f"How long {self.audio_id} of {self.folder} lasts is not known: {reason}.") from error


class Overlap(NamedTuple):
    """A training clip and a test clip that are the same recording, or parts of one.

    Args:
        train, test: the clips.
        by: what tells: `"id"`, an id at the source that both have; `"samples"`, equal decoded samples; `"sound"`,
            like fingerprints.
        bit_errors: of the fingerprints, 0 to 0.3; None without.
    """

    train: PreparedClip
    test: PreparedClip
    by: tuple[str, ...]
    bit_errors: float | None

    def describe(self) -> dict[str, Any]:
        """As it is written to a file."""
        clips = {"train": self.train, "test": self.test}
        places = {name: {"data": str(clip.folder), "audio_id": clip.audio_id} for name, clip in clips.items()}
        return places | {"by": list(self.by), "bit_errors": self.bit_errors}


def read_clips(folder: str | Path) -> list[PreparedClip]:
    """The rows of a folder's `metadata.jsonl`.

    Raises:
        ValueError: there is no such file, or a line is no row.
    """
    path = Path(folder) / METADATA_FILE
    if not path.is_file():
        raise ValueError(f"There is no file {str(path)!r}: name a folder that `atri prepare` wrote.")
    return [PreparedClip(Path(folder), row) for row in read_prepared_rows(path)]


class Comparison(NamedTuple):
    """What `find_overlaps` found.

    Args:
        overlaps: in the order of the training clips.
        unread: clips that could not be decoded.
        unheard: clips that are too short, quiet or steady to be known by their sound.
    """

    overlaps: list[Overlap]
    unread: list[BadRow]
    unheard: list[PreparedClip]


def find_overlaps(
    train: Sequence[PreparedClip], test: Sequence[PreparedClip], *, by_sound: bool = True, progress: bool = False
) -> Comparison:
    """Compares all training clips with all test clips.

    Args:
        train, test: clips of any number of folders.
        by_sound: decode and compare all recordings; else only the ids are compared.
        progress: show bars.
    """
    same_source = _by_source(test)
    found = Comparison([], [], [])
    tested = list(_fingerprints(test, found, "test clips", progress)) if by_sound else []
    places = [place for place, item in enumerate(tested) if item is not None]  # in `test`, of those in the index
    index = FingerprintIndex([tested[place] for place in places])
    heard = _fingerprints(train, found, "training clips", progress) if by_sound else [None] * len(train)
    for clip, sound in zip(train, heard, strict=True):
        by: dict[int, list[str]] = {place: [BY_ID] for place in same_source(clip)}
        errors: dict[int, float] = {}
        if sound is not None:
            for number in index.same_samples(sound):
                by.setdefault(places[number], []).append(BY_SAMPLES)
            for match in index.find(sound):
                by.setdefault(places[match.index], []).append(BY_SOUND)
                errors[places[match.index]] = round(match.bit_errors, 3)
        found.overlaps.extend(
            Overlap(clip, test[place], tuple(kinds), errors.get(place)) for place, kinds in by.items()
        )
    return found


def _by_source(test: Sequence[PreparedClip]) -> Callable[[PreparedClip], list[int]]:
    """What gives the test clips that come from where a clip comes from."""
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
        # A file name may recur; where the numbers on Freesound are known, they decide.
        return [
            place
            for place in found
            if "freesound" not in own.keys() & ids[place].keys() or own["freesound"] & ids[place]["freesound"]
        ]

    return find


def _ids_by_source(clip: PreparedClip) -> dict[str, set[str]]:
    ids: dict[str, set[str]] = defaultdict(set)
    for item in clip.row.get("source_ids") or ():
        source, _, name = source_id(*item.partition(":")[::2]).partition(":")  # a folder may be of another make
        ids[source].add(name)
    return dict(ids)


def _fingerprints(
    clips: Sequence[PreparedClip], found: Comparison, name: str, progress: bool
) -> Iterator[SoundFingerprint | None]:
    """In order; None, and a note, for a clip that cannot be decoded."""

    def read(clip: PreparedClip) -> SoundFingerprint | BadRow:
        try:
            return fingerprint(clip.sound)
        except ValueError as error:
            return BadRow(str(clip.folder), clip.audio_id, kind_of(error), str(error))

    items = tqdm(_in_threads(read, clips), desc=name, total=len(clips), disable=not progress)
    for clip, item in zip(clips, items, strict=True):
        if isinstance(item, BadRow):
            found.unread.append(item)
        elif item.heard_seconds < MIN_SECONDS:
            found.unheard.append(clip)
        yield None if isinstance(item, BadRow) else item


def _in_threads(function: Callable, items: Iterable) -> Iterator:
    """What the function returns for each item, in order; few are made ahead of the one that is taken."""
    num_workers = default_num_workers()
    with ThreadPoolExecutor(num_workers, "atri-fingerprint") as executor:
        pending: deque = deque()
        for item in items:
            pending.append(executor.submit(function, item))
            if len(pending) > 2 * num_workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def drop_overlaps(overlaps: Iterable[Overlap]) -> dict[Path, int]:
    """Takes the training clips of overlaps out of their folders' `metadata.jsonl`; recordings stay.

    The rows go to `overlap.jsonl` beside it, and into the list and the report of what is left out.

    Returns:
        how many clips were taken out, by folder.

    Raises:
        ValueError: no clip of a folder would be left, or one of its files cannot be read; then nothing was changed.
    """
    by_folder: dict[Path, dict[str, list[Overlap]]] = defaultdict(lambda: defaultdict(list))
    for overlap in overlaps:
        by_folder[overlap.train.folder][overlap.train.row["file_name"]].append(overlap)
    kept = {
        folder: [clip for clip in read_clips(folder) if clip.row["file_name"] not in dropped]
        for folder, dropped in by_folder.items()
    }
    if empty := [str(folder) for folder, clips in kept.items() if not clips]:
        raise ValueError(f"All clips of {', '.join(empty)} are in the test data too: nothing was dropped.")
    changes = [_change(folder, kept[folder], list(dropped.values())) for folder, dropped in by_folder.items()]
    for change in changes:
        _write(change)
    return {folder: len(dropped) for folder, dropped in by_folder.items()}


class _Change(NamedTuple):
    """What the files of a folder hold once clips are dropped."""

    folder: Path
    overlap: list[dict[str, Any]]
    left_out: list[BadRow]
    report: dict[str, Any] | None  # None of a folder of another make
    rows: list[dict[str, Any]]


def _change(folder: Path, kept: list[PreparedClip], dropped: list[list[Overlap]]) -> _Change:
    """Reads all that is needed, so that nothing is written where one thing is wrong."""
    path = folder / OVERLAP_FILE
    overlap = read_prepared_rows(path) if path.exists() else []
    # Not again what a call that was stopped has written.
    overlap += [found[0].train.row for found in dropped if found[0].train.row not in overlap]
    left_out = read_left_out(folder)
    reasons = [BadRow(None, found[0].train.audio_id, OVERLAP, "; ".join(map(_reason, found))) for found in dropped]
    left_out += [reason for reason in reasons if reason not in left_out]
    rows, report = [clip.row for clip in kept], _read_report(folder / REPORT_FILE)
    if report is not None:
        report |= summary(rows, [clip.seconds for clip in kept]) | {"left_out": count_kinds(left_out)}
    return _Change(folder, overlap, left_out, report, rows)


def _read_report(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        report = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if not isinstance(report, dict):
        raise ValueError(f"{path} is no report of `atri prepare`, but holds a {type(report).__name__}.")
    return report


def _reason(overlap: Overlap) -> str:
    return f"it is {overlap.test.audio_id} of {overlap.test.folder}, by {' and '.join(overlap.by)}"


def _write(change: _Change) -> None:
    """The rows themselves last: if it is stopped before, the same call finds the same overlaps and does it all."""
    write_json_lines(change.folder / OVERLAP_FILE, change.overlap)
    write_bad_rows(change.folder / LEFT_OUT_FILE, change.left_out)
    if change.report is not None:
        with written_whole(change.folder / REPORT_FILE) as file:
            file.write(f"{json.dumps(change.report, ensure_ascii=False, indent=2)}\n".encode())
    write_json_lines(change.folder / METADATA_FILE, change.rows)
