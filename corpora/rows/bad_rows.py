"""Rows that cannot be used, and the account that is kept of those that are left out."""

import json
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from modeling_atri.audio_io.load import MissingAudioError
from modeling_atri.files import json_line, write_json_lines


logger = logging.getLogger(__name__)

LEFT_OUT_NAME = "left_out.jsonl"  # of a list's file, after the name of the set and an underscore

# Kinds of what can be wrong with a row, as they are counted in results.
WRONG_LINE = "wrong line"  # of a JSON Lines file
MISSING_RECORDING = "missing recording"
UNREADABLE_RECORDING = "unreadable recording"  # empty, truncated, no sound file, an impossible rate, NaN samples
SHORT_RECORDING = "short recording"
SILENT_RECORDING = "silent recording"
MISSING_LANGUAGE = "missing language"
EMPTY_CAPTION = "empty caption"
UNEQUAL_CAPTIONS = "unequal captions"  # not as many in every language
WRONG_CAPTIONS = "wrong captions"
WRONG_ID = "wrong id"
DUPLICATE_ID = "duplicate id"


class BadRow(NamedTuple):
    """A row that is left out.

    Args:
        place: where it stands in its source, as `"line 3"`; None of a clip that failed when it was read for training
            or evaluation.
        audio_id: its id, or the recording's name where it has none.
        kind: the first thing that is wrong with it.
        reason: all that is wrong with it, in words.
    """

    place: str | None
    audio_id: str | None
    kind: str
    reason: str

    @property
    def name(self) -> str:
        """What messages call it."""
        return ", ".join(part for part in (self.place, self.audio_id) if part)


class BadRowError(ValueError):
    """A row whose recording cannot be used; `kind` is what it counts as."""

    def __init__(self, message: str, kind: str = UNREADABLE_RECORDING):
        super().__init__(message)
        self.kind = kind


def kind_of(error: ValueError) -> str:
    """What an error of reading a recording counts as."""
    if isinstance(error, BadRowError):
        return error.kind
    return MISSING_RECORDING if isinstance(error, MissingAudioError) else UNREADABLE_RECORDING


def count_kinds(bad_rows: Iterable[BadRow]) -> dict[str, int]:
    """How many rows there are of each kind, the most frequent first; together as many as rows."""
    counts: dict[str, int] = {}
    for row in bad_rows:
        counts[row.kind] = counts.get(row.kind, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def describe(bad_rows: Sequence[BadRow], num_rows: int) -> str:
    """How many of `num_rows` rows are left out and why, in one line."""
    share = f" ({len(bad_rows) / num_rows:.0%}!)" if 2 * len(bad_rows) > num_rows else ""
    return f"{len(bad_rows)} of {num_rows} rows{share} are left out: {describe_kinds(bad_rows)}."


def describe_kinds(bad_rows: Sequence[BadRow]) -> str:
    """Of each kind the count and the first example."""
    kinds = []
    for kind, count in count_kinds(bad_rows).items():
        first = next(row for row in bad_rows if row.kind == kind)
        kinds.append(f"{count} {kind} ({first.name}{', ...' if count > 1 else ''})")
    return ", ".join(kinds)


def read_bad_rows(path: Path) -> list[BadRow]:
    """What `write_bad_rows` wrote, or a run appended; nothing where there is no such file."""
    if not path.exists():
        return []
    lines = path.read_bytes().splitlines(keepends=True)
    return [BadRow(**json.loads(line)) for line in lines if line.endswith(b"\n")]  # else its process died, amid it


def write_bad_rows(path: Path, bad_rows: Sequence[BadRow]) -> None:
    """Write them as JSON lines, whole; without any, there is no such file afterwards."""
    if not bad_rows:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json_lines(path, (row._asdict() for row in bad_rows))


class BadRowLog:
    """The bad rows of a training run, each once, in a file that all its processes append to.

    Args:
        path (`Path`): the file, JSON lines with the fields of `BadRow`; it appears with the first of them.
        bad_rows (*optional*): what was left out before anything was read; a list that may grow until the run begins.
    """

    def __init__(self, path: Path, bad_rows: Sequence[BadRow] = ()):
        self.path = path
        self._known_before = bad_rows
        self._rows: dict[tuple[str | None, str | None], BadRow] | None = None  # by place and id; None before the run

    def begin(self, is_main_process: bool = True, resumed: bool = False) -> None:
        """Start a run: the main process writes the file anew.

        With `resumed` what the file says of clips that failed while they were read stays.
        """
        found = [row for row in read_bad_rows(self.path) if row.place is None] if resumed else []
        self._rows = {row[:2]: row for row in (*self._known_before, *found)}
        if is_main_process:
            write_bad_rows(self.path, list(self._rows.values()))

    def add(self, bad_rows: Iterable[BadRow]) -> None:
        """Note what any process found while it read; what is known already is not noted again."""
        if self._rows is None:
            self.begin()
        new = [row for row in bad_rows if row[:2] not in self._rows]
        if new:
            self.rows()  # another process may have found them before
            self.path.parent.mkdir(parents=True, exist_ok=True)
        for row in new:
            if row[:2] not in self._rows:
                self._rows[row[:2]] = row
                with open(self.path, "ab", buffering=0) as file:
                    file.write(
                        json_line(row._asdict())
                    )  # one write at the end of the file: lines of processes never mix

    def report(self) -> None:
        """Warn, once a run is over, of the clips that failed while they were read."""
        unread = [row for row in self.rows() if row.place is None]
        if unread:
            logger.warning("%d training clips were left out: %s (%s)", len(unread), describe_kinds(unread), self.path)

    def rows(self) -> list[BadRow]:
        """All that the processes have noted in this run, or before it began."""
        if self._rows is None:
            return list(self._known_before)
        for row in read_bad_rows(self.path):
            self._rows.setdefault(row[:2], row)
        return list(self._rows.values())
