"""Take training clips that are in test data too out of their folders."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from modeling_atri.files import write_json, write_json_lines

from ..clips.clip import OVERLAP
from ..rows.bad_rows import BadRow, count_kinds, read_bad_rows, write_bad_rows
from ..sources.metadata import METADATA_FILE
from .overlap import Overlap
from .prepared import LEFT_OUT_FILE, OVERLAP_FILE, REPORT_FILE, read_clips, read_dropped_clips, read_report, summary


def drop_overlaps(overlaps: Iterable[Overlap]) -> dict[Path, int]:
    """Take the training clips of overlaps out of their folders' `metadata.jsonl`. Recordings stay.

    The rows are moved to `overlap.jsonl` in the same folder, and added to the list and the report of what is left out.

    Returns:
        The number of clips that were taken out, by folder.

    Raises:
        ValueError: if no clip of a folder would be left, or one of its files cannot be read. Then nothing is changed.
    """
    by_folder: dict[Path, dict[str, list[Overlap]]] = defaultdict(lambda: defaultdict(list))
    for overlap in overlaps:
        by_folder[overlap.train.folder][overlap.train.file_name].append(overlap)
    # Everything is read before anything is written, so that an error changes nothing.
    changes = [_plan(folder, list(dropped.values())) for folder, dropped in by_folder.items()]
    if empty := [str(change.folder) for change in changes if not change.rows]:
        raise ValueError(f"All clips of {', '.join(empty)} are in the test data too: nothing was dropped.")
    for change in changes:
        _write(change)
    return {folder: len(dropped) for folder, dropped in by_folder.items()}


class _Change(NamedTuple):
    """New content of a folder's files. `report` is None if the folder has none."""

    folder: Path
    overlap: list[dict[str, Any]]
    left_out: list[BadRow]
    report: dict[str, Any] | None
    rows: list[dict[str, Any]]


def _plan(folder: Path, dropped: list[list[Overlap]]) -> _Change:
    """Plan how to drop clips. `dropped` has the overlaps of each of them."""
    names = {found[0].train.file_name for found in dropped}
    kept = [clip for clip in read_clips(folder) if clip.file_name not in names]
    # An interrupted call may have written some of the rows and reasons: these are not added again.
    overlap = [clip.row for clip in read_dropped_clips(folder)]
    overlap += [found[0].train.row for found in dropped if found[0].train.row not in overlap]
    left_out = read_bad_rows(folder / LEFT_OUT_FILE)
    reasons = [BadRow(None, found[0].train.audio_id, OVERLAP, "; ".join(map(_reason, found))) for found in dropped]
    left_out += [reason for reason in reasons if reason not in left_out]
    rows = [clip.row for clip in kept]
    report = read_report(folder)
    if report is not None:
        report |= summary(rows, [clip.seconds for clip in kept]) | {"left_out": count_kinds(left_out)}
    return _Change(folder, overlap, left_out, report, rows)


def _reason(overlap: Overlap) -> str:
    return f"it is {overlap.test.audio_id} of {overlap.test.folder}, by {' and '.join(overlap.by)}"


def _write(change: _Change) -> None:
    """Write the rows last: if the call is stopped before, the next one finds the same overlaps and does the rest."""
    write_json_lines(change.folder / OVERLAP_FILE, change.overlap)
    write_bad_rows(change.folder / LEFT_OUT_FILE, change.left_out)
    if change.report is not None:
        write_json(change.folder / REPORT_FILE, change.report)
    write_json_lines(change.folder / METADATA_FILE, change.rows)
