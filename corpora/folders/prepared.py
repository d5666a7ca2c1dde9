"""Prepared folders: the names of their files, how these are read, and the report."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..clips.clip import OVERLAP
from ..rows.bad_rows import LEFT_OUT_NAME, BadRow, read_bad_rows
from ..rows.recordings import recording_length
from ..sources.metadata import METADATA_FILE, read_metadata


REPORT_FILE = "report.json"
LEFT_OUT_FILE = LEFT_OUT_NAME  # clips
LOST_CAPTIONS_FILE = "lost_captions.jsonl"
OVERLAP_FILE = "overlap.jsonl"  # whole rows that `drop_overlaps` took out


class PreparedClip(NamedTuple):
    """A row as it is in the `metadata.jsonl` of a folder that `write_corpus` or something else wrote."""

    folder: Path
    row: dict[str, Any]

    @property
    def audio_id(self) -> str:
        return str(self.row.get("audio_id", self.row["file_name"]))

    @property
    def file_name(self) -> str:
        return str(self.row["file_name"])

    @property
    def sound(self) -> Path:
        return self.folder / self.file_name

    @property
    def seconds(self) -> float:
        """Length according to the row, else to the recording's header.

        Raises:
            ValueError: if neither says it.
        """
        seconds = self.row.get("seconds")
        if isinstance(seconds, (int, float)) and not isinstance(seconds, bool) and math.isfinite(seconds):
            return float(seconds)
        try:
            return recording_length(self.sound)
        except (ValueError, OSError) as error:
            reason = f"its row has no `seconds`, and its recording cannot be read ({error})"
            raise ValueError(f"How long {self.audio_id} of {self.folder} lasts is not known: {reason}.") from error


def read_clips(folder: str | Path) -> list[PreparedClip]:
    """Read the rows of a folder's `metadata.jsonl`.

    Raises:
        ValueError: if there is no such file, or a line is not a row with a `file_name`.
    """
    return [PreparedClip(Path(folder), row) for row in read_metadata(Path(folder) / METADATA_FILE)]


def read_dropped_clips(folder: Path) -> list[PreparedClip]:
    """Read the rows of a folder's `overlap.jsonl`, which `drop_overlaps` took out; none if there is no such file."""
    path = folder / OVERLAP_FILE
    return [PreparedClip(folder, row) for row in read_metadata(path)] if path.exists() else []


def read_kept_out(folder: Path, known: Iterable[str | None]) -> dict[str, BadRow]:
    """Read the clips that must not be written to a folder again because its `overlap.jsonl` lists them.

    Args:
        folder: The folder that is to be written again.
        known: Names of all clips that may be written, or are left out for another reason.

    Returns:
        The entries for the list of clips that are left out, by `audio_id`.

    Raises:
        ValueError: if a clip is not known. It might get back in under another name.
    """
    names = dict.fromkeys(clip.audio_id for clip in read_dropped_clips(folder))
    if unknown := list(names.keys() - set(known)):
        raise ValueError(
            f"{folder / OVERLAP_FILE} lists {len(names)} clips that were taken out because they are in test data; "
            f"{len(unknown)} of them, such as {min(unknown)!r}, are none of these clips. If they have other names "
            "now, they would get back into training: write to another folder, or delete the file, and run "
            "`atri prepare check` afterwards."
        )
    before = {row.audio_id: row for row in read_bad_rows(folder / LEFT_OUT_FILE) if row.kind == OVERLAP}
    return {name: before.get(name, BadRow(None, name, OVERLAP, f"{OVERLAP_FILE} lists it")) for name in names}


def check_output(folder: Path) -> None:
    """Raise a ValueError unless a folder is new, is empty, or was written by `write_corpus` or `join_folders`."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file. Name a folder to write to.")
    if not (folder / REPORT_FILE).exists() and (folder / METADATA_FILE).exists():
        raise ValueError(f"{folder} holds a {METADATA_FILE} that was not made here. Name another folder.")


def summary(rows: Sequence[dict[str, Any]], seconds: Sequence[float]) -> dict[str, Any]:
    """Count clips, hours, captions of each language, and clips by their number of captions."""
    captions: Counter[str] = Counter()
    per_clip: Counter[int] = Counter()
    for row in rows:
        captions.update({language: len(texts) for language, texts in row["captions"].items()})
        per_clip[len(next(iter(row["captions"].values())))] += 1
    return {
        "clips": len(rows),
        "hours": round(sum(seconds) / 3600, 4),
        "captions": dict(captions),
        "captions_per_clip": {str(count): per_clip[count] for count in sorted(per_clip)},
    }


def read_report(folder: Path) -> dict[str, Any] | None:
    """Read the report of a folder; None if it has none.

    Raises:
        ValueError: if the file is not a report.
    """
    path = folder / REPORT_FILE
    if not path.exists():
        return None
    try:
        report = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if not isinstance(report, dict):
        raise ValueError(f"{path} is no report of `atri prepare`, but holds a {type(report).__name__}.")
    return report
