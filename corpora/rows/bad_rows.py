"""Rows that cannot be used: kinds of faults, and the lists of rows that were left out."""

import json
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from modeling_atri.audio_io import MissingAudioError
from modeling_atri.files import json_line, write_json_lines
from modeling_atri.hub_cards.tables import counted


logger = logging.getLogger(__name__)

_BEGINNING = b'{"place": '  # of a line of a list of rows
LEFT_OUT_NAME = "left_out.jsonl"  # a run puts the name of the set before it: `train_left_out.jsonl`

# Kinds of faults, as they are counted in results.
WRONG_LINE = "wrong line"  # a line of a JSON Lines file that is not a row
MISSING_RECORDING = "missing recording"
UNREADABLE_RECORDING = "unreadable recording"  # empty, truncated, not a sound file, impossible rate, NaN samples
SHORT_RECORDING = "short recording"
SILENT_RECORDING = "silent recording"
MISSING_EMBEDDING = "missing embedding"  # the row has none, or the store does not have it
WRONG_EMBEDDING = "wrong embedding"  # zeros, numbers that are not finite, another width
MISSING_LANGUAGE = "missing language"
EMPTY_CAPTION = "empty caption"
UNEQUAL_CAPTIONS = "unequal captions"  # another number in some language
WRONG_CAPTIONS = "wrong captions"
WRONG_ID = "wrong id"
DUPLICATE_ID = "duplicate id"


class Problem(NamedTuple):
    """Something wrong with a row: one of the kinds above, and a sentence that explains it."""

    kind: str
    text: str


class BadRow(NamedTuple):
    """A row that is left out.

    Args:
        place: Where it is in its source, as `"line 3"`. None for a clip that failed while it was decoded for training
            or evaluation.
        audio_id: Its id, or the recording's name if it has no id.
        kind: Kind of its first fault.
        reason: All of its faults, in words.
    """

    place: str | None
    audio_id: str | None
    kind: str
    reason: str

    @property
    def name(self) -> str:
        """How messages name the row."""
        return ", ".join(part for part in (self.place, self.audio_id) if part)


class BadRowError(ValueError):
    """A row cannot be used. `kind` is the kind of fault that it is counted as."""

    def __init__(self, message: str, kind: str = UNREADABLE_RECORDING):
        super().__init__(message)
        self.kind = kind


def kind_of(error: ValueError) -> str:
    """The kind of fault that an error while reading a recording is counted as."""
    if isinstance(error, BadRowError):
        return error.kind
    return MISSING_RECORDING if isinstance(error, MissingAudioError) else UNREADABLE_RECORDING


def count_kinds(bad_rows: Iterable[BadRow]) -> dict[str, int]:
    """Count the rows of each kind, the most frequent kind first."""
    counts: dict[str, int] = {}
    for row in bad_rows:
        counts[row.kind] = counts.get(row.kind, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def describe(bad_rows: Sequence[BadRow], num_rows: int) -> str:
    """Say in one line how many of `num_rows` rows are left out, and why."""
    share = f" ({len(bad_rows) / num_rows:.0%}!)" if 2 * len(bad_rows) > num_rows else ""
    verb = "is" if len(bad_rows) == 1 else "are"
    return f"{len(bad_rows)} of {counted(num_rows, 'row')}{share} {verb} left out: {describe_kinds(bad_rows)}."


def describe_kinds(bad_rows: Sequence[BadRow]) -> str:
    """List the kinds, each with its count and first example."""
    kinds = []
    for kind, count in count_kinds(bad_rows).items():
        first = next(row for row in bad_rows if row.kind == kind)
        number = f"{counted(count, 'row')} with {kind}" if kind.endswith("s") else counted(count, kind)
        kinds.append(f"{number} ({first.name}{', ...' if count > 1 else ''})")
    return ", ".join(kinds)


def read_bad_rows(path: Path) -> list[BadRow]:
    """Read a list that `write_bad_rows` or a `BadRowLog` wrote. It is empty if there is no such file.

    Raises:
        ValueError: if a line is something else.
    """
    return _parse(path, path.read_bytes().rpartition(b"\n")[0]) if path.exists() else []


def _parse(path: Path, lines: bytes) -> list[BadRow]:
    """The rows in whole lines. A line that a process was killed or a disk was full at is passed over."""
    rows = []
    for line in lines.splitlines():
        if line.strip():
            try:
                fields = json.loads(line)
            except ValueError as error:
                if line[: len(_BEGINNING)] == _BEGINNING[: len(line)]:
                    continue
                raise ValueError(f"{path} cannot be read: {error}") from error
            try:
                rows.append(BadRow(**fields))
            except TypeError as error:
                raise ValueError(f"{path} cannot be read: {error}") from error
    return rows


def write_bad_rows(path: Path, bad_rows: Sequence[BadRow]) -> None:
    """Write a list as JSON lines. An empty list removes the file."""
    if not bad_rows:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json_lines(path, (row._asdict() for row in bad_rows))


class BadRowLog:
    """The bad rows of a training run, each once, in a file that all of its processes append to.

    Args:
        path (`Path`): File of JSON lines with the fields of `BadRow`. It is created with the first bad row.
        bad_rows (*optional*): Rows that were left out when the data was loaded. The list may grow until the run
            begins.
    """

    def __init__(self, path: Path, bad_rows: Sequence[BadRow] = ()):
        self.path = path
        self._known_before = bad_rows
        self._has_begun = False
        self._rows: dict[tuple[str | None, str | None], BadRow] = {}  # by place and id
        self._start_reading()

    def begin(self, is_main_process: bool = True, resumed: bool = False) -> None:
        """Start a run: the main process writes the file anew.

        With `resumed`, the file's entries of clips that failed while they were decoded stay.
        """
        found = [row for row in read_bad_rows(self.path) if row.place is None] if resumed else []
        self._has_begun = True
        self._rows = {row[:2]: row for row in (*self._known_before, *found)}
        self._start_reading()
        if is_main_process:
            write_bad_rows(self.path, list(self._rows.values()))

    def add(self, bad_rows: Iterable[BadRow]) -> None:
        """Add rows that this process found. Rows that are in the list already are not added again."""
        if not self._has_begun:
            self.begin()
        new = [row for row in bad_rows if row[:2] not in self._rows]
        if new:
            self._read_on()  # another process may have found them before
        lines = []
        for row in new:
            if row[:2] not in self._rows:
                self._rows[row[:2]] = row
                lines.append(json_line(row._asdict()))
        if lines:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # One write at the end of the file, so that lines of several processes never mix.
            content = (b"\n" if self._is_torn else b"") + b"".join(lines)  # another's unfinished line stays alone
            with open(self.path, "ab", buffering=len(content) + 1) as file:
                file.write(content)

    def report(self) -> None:
        """Log a warning about the clips that failed while they were decoded. Called when a run is over."""
        unread = [row for row in self.rows() if row.place is None]
        if unread:
            logger.warning("%d training clips were left out: %s (%s)", len(unread), describe_kinds(unread), self.path)

    def rows(self) -> list[BadRow]:
        """All bad rows that the processes have found so far."""
        if not self._has_begun:
            return list(self._known_before)
        self._read_on()
        return list(self._rows.values())

    def _start_reading(self) -> None:
        self._end = 0  # of what was read of the file, which is whole lines
        self._last = b""  # the last of them, which tells whether the file was written anew
        self._is_torn = False  # whether the file ends in the middle of a line

    def _read_on(self) -> None:
        """Read what was added to the file since it was read."""
        try:
            with open(self.path, "rb") as file:
                file.seek(self._end - len(self._last))
                content = file.read()
                if not content.startswith(self._last):
                    self._start_reading()
                    file.seek(0)
                    content = file.read()
        except FileNotFoundError:
            self._start_reading()
            return
        lines, _, rest = content[len(self._last) :].rpartition(b"\n")
        self._is_torn = bool(rest)
        if lines:
            self._end += len(lines) + 1
            self._last = lines.rpartition(b"\n")[2] + b"\n"
        for row in _parse(self.path, lines):
            self._rows.setdefault(row[:2], row)
