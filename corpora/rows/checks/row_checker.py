"""Checks of rows: they collect the rows that are right, and what is wrong with the others."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from modeling_atri.audio_inputs_atri import path_of
from modeling_atri.files import existing_path, normalized_name
from modeling_atri.hub_cards.tables import counted

from ..bad_rows import (
    EMPTY_CAPTION,
    MISSING_LANGUAGE,
    MISSING_RECORDING,
    WRONG_ID,
    WRONG_LINE,
    BadRow,
    BadRowError,
    Problem,
)
from ..captions import clean_captions, is_missing, is_unicode, not_unicode, resolve_captions
from ..recordings import any_sound, file_of, id_of_content, is_url, usable_length
from .checked_row import CheckedRow
from .ids import RightNames, fill_in_ids


logger = logging.getLogger(__name__)

MAX_PROBLEMS_SHOWN = 20

# Columns of vectors that rows keep: the embeddings of the anchor's captions by the teacher of `teach`.
VECTOR_COLUMNS = ("teacher_embedding",)


class Finished(NamedTuple):
    """Rows that were checked one by one, and right rows, after a check of all of them together.

    Args:
        kept: the rows checked one by one that are right.
        bad_rows: all rows that are left out, in their order.
        ids: the id of each right row.
        repeated: places among the right rows of those that are left out, because their id occurs before.
    """

    kept: list[CheckedRow]
    bad_rows: list[BadRow]
    ids: pa.ChunkedArray
    repeated: list[int]


class RowChecker:
    """Checks the rows of a source one by one, then all of them together.

    Args:
        languages: FLORES-200 codes that every row needs. None takes the languages of the first row with captions.
        group_column: The column that says which rows describe the same sound; None for an optional `group_id`.
        needs_sound: Whether every row without a recording is wrong. Otherwise, it is wrong only if others have one.
    """

    def __init__(self, languages: list[str] | None, group_column: str | None, needs_sound: bool = True) -> None:
        self.needs_sound = needs_sound
        self.languages = languages
        self._takes_first = languages is None
        self.group_column = group_column
        self._rows: list[CheckedRow] = []
        self._has_sounds = False
        self._seen: dict[str, None] = {}  # all languages that rows have captions in, in order

    def check(
        self, place: str, row: Mapping[str, Any], sound: Any, name: str | None = None, number: int | None = None
    ) -> None:
        """Check one row with its recording `sound`.

        `name` is the file name, by default the path of `sound`. `number` is by default that of the rows before.
        """
        position = len(self._rows) if number is None else number
        checked = CheckedRow(place, name or path_of(sound), number=position, position=position)
        checked.vectors = {name: row[name] for name in VECTOR_COLUMNS if row.get(name) is not None}
        self._check_recording(sound, checked)
        if is_missing(row.get("audio_id")) and not checked.name and not checked.problems:
            checked.content_id = id_of_content(sound) if _is_sound(sound) else f"row {checked.number}"
        self._check_texts(row, checked)

    def check_texts(self, place: str, row: Mapping[str, Any], number: int, problems: list[Problem]) -> None:
        """Check a row without a recording. `problems` are those that were found before."""
        self._check_texts(row, CheckedRow(place, number=number, position=number, problems=problems))

    def add(self, rows: Iterable[CheckedRow]) -> None:
        """Add rows that were checked before."""
        rows = list(rows)
        self._rows += rows
        self._has_sounds = self._has_sounds or any(row.number is not None and not row.is_soundless for row in rows)

    def take(self) -> list[CheckedRow]:
        """Remove and return the rows that were checked since the last call."""
        taken, self._rows = self._rows, []
        return taken

    def note_languages(self, languages: Iterable[str]) -> None:
        """Record languages in which other rows have captions."""
        self._seen.update(dict.fromkeys(languages))

    def _check_texts(self, row: Mapping[str, Any], checked: CheckedRow) -> None:
        problems = checked.problems
        if not is_missing(row.get("audio_id")):
            checked.audio_id = _checked_id(row, "audio_id", problems)
        captions = resolve_captions(row, self.languages, problems)
        if self.languages is None and captions:
            self.languages = list(captions)
        if captions is not None:
            self._seen.update(dict.fromkeys(captions))
            wanted = {code: captions[code] for code in self.languages or () if code in captions}
            checked.captions = clean_captions(wanted, problems)
        if self.group_column is not None or not is_missing(row.get("group_id")):
            checked.group_id = _checked_id(row, self.group_column or "group_id", problems)
        self._rows.append(checked)

    def _check_recording(self, sound: Any, checked: CheckedRow) -> None:
        path = file_of(sound)
        if not _is_sound(sound):
            checked.is_soundless = True
            return
        self._has_sounds = True
        if path is not None:
            may_differ = "\\" in path or not path.isascii()
            if may_differ and is_unicode(path) and (found := existing_path(Path(path))) != Path(path):
                path = str(found)
            checked.path = sound = path
            if is_url(path):
                return
        try:
            checked.seconds = usable_length(sound)
        except BadRowError as error:
            checked.problems.append(Problem(error.kind, str(error)))

    def report_line(self, place: str, text: str, position: int | None = None) -> None:
        """Note that the content at a place is not a row."""
        position = len(self._rows) if position is None else position
        self._rows.append(CheckedRow(place, problems=[Problem(WRONG_LINE, text)], position=position))

    def finish(self, source: str, skip: bool, num_right: int = 0) -> tuple[list[CheckedRow], list[BadRow]]:
        """Check the rows together, and fill in ids and groups that default to file names.

        Args:
            source: Name of the source, for messages.
            skip: Leave wrong rows out instead of raising.
            num_right (*optional*): Number of other rows, which are known to be right, with ids of their own.

        Returns:
            The rows that are right, and those that are left out.

        Raises:
            ValueError: if rows are wrong and `skip` is False, a language is missing in every row, there are no rows,
                or all of them are wrong.
        """
        finished = self._finish(source, skip, num_right, None)
        return finished.kept, finished.bad_rows

    def finish_with(self, right: RightNames, source: str, skip: bool) -> Finished:
        """Check the rows together as `finish` does, with other rows of the source that are right in themselves."""
        self._has_sounds = self._has_sounds or len(right.positions) > 0
        return self._finish(source, skip, len(right.positions), right)

    def _finish(self, source: str, skip: bool, num_right: int, right: RightNames | None) -> Finished:
        warn_of_languages_left_out(source, self.other_languages)
        missing = self._report_missing_languages(num_right > 0)
        self._report_missing_recordings()
        if self.languages is None:
            for row in self._rows:
                if row.captions == {} and not row.problems:
                    row.problems.append(Problem(EMPTY_CAPTION, "it has no caption in any language"))
        rows = [row for row in self._rows if row.number is not None and not (skip and row.problems)]
        ids, repeated = fill_in_ids(rows, right)
        wrong = [row for row in self._rows if row.problems]
        if repeated:
            wrong = sorted([*wrong, *repeated.values()], key=lambda row: row.position)
        kept = [row for row in rows if not row.problems]
        if missing:
            there = f", because captions are in {', '.join(self._seen)}" if self._seen else ""
            everywhere = f"every row: captions are missing in {', '.join(missing)}; leave the language out{there}"
            raise wrong_rows_error(source, len(self._rows), [everywhere, *lines_of(wrong)])
        if wrong and not (skip and (kept or num_right)):
            title = f"{source} has no row that can be used" if skip else source
            raise wrong_rows_error(title, len(wrong), lines_of(wrong))
        if not (kept or num_right):
            raise ValueError(f"{source} holds no rows.")
        return Finished(kept, [row.as_bad_row() for row in wrong], ids, list(repeated))

    @property
    def other_languages(self) -> list[str]:
        """Languages of captions that are left out because the first row lacks them; none if languages were named."""
        return [code for code in self._seen if self._takes_first and code not in (self.languages or ())]

    @property
    def seen_languages(self) -> list[str]:
        """All languages in which rows have captions, in their order."""
        return list(self._seen)

    def finish_row(self) -> CheckedRow:
        """Check the only row that was given, as far as `finish` does so without other rows, and fill in its ids."""
        self._report_missing_languages(others_have_all=True)
        self._report_missing_recordings()
        (row,) = self._rows
        if row.number is not None:
            fill_in_ids([row])
        return row

    def columns(self, rows: Iterable[CheckedRow]) -> dict[str, list[Any]]:
        """Return the columns `audio_id`, `captions` and `group_id` of rows that `finish` returned."""
        rows = list(rows)
        return {
            "audio_id": [row.audio_id for row in rows],
            "captions": [{code: (row.captions or {})[code] for code in self.languages or ()} for row in rows],
            "group_id": [row.group_id for row in rows],
        }

    def _report_missing_recordings(self) -> None:
        """Report rows without a recording if one is needed, or if others have one."""
        if self.needs_sound:
            text = (
                "it names no recording (`file_name` beside the metadata, or `audio`) and has no `audio_embedding` in "
                "its place"
            )
        else:
            text = "it names no recording, but other rows do; give recordings to all rows or to none"
        if self.needs_sound or self._has_sounds:
            for row in self._rows:
                if row.is_soundless:
                    row.problems.insert(0, Problem(MISSING_RECORDING, text))

    def _report_missing_languages(self, others_have_all: bool) -> list[str]:
        """Report rows that lack a language which others have. Returns the languages that all rows lack."""
        present = [row.captions for row in self._rows if row.captions is not None]
        if not present:
            return []
        languages = self.languages or []
        nowhere = [code for code in languages if not any(code in captions for captions in present)]
        nowhere = [] if others_have_all else nowhere
        for row in self._rows:
            missing = [code for code in languages if code not in nowhere and code not in (row.captions or {})]
            if row.captions is not None and missing:
                row.problems.append(Problem(MISSING_LANGUAGE, f"captions are missing in {', '.join(missing)}"))
        return nowhere


def warn_of_languages_left_out(source: str, languages: Sequence[str]) -> None:
    """Log a warning about captions in languages that the first row lacks, if there are any."""
    if languages:
        logger.warning(
            "%s: captions in %s are left out, because the first row has none; name the `languages` that you want.",
            *(source, ", ".join(languages)),
        )


def _is_sound(sound: Any) -> bool:
    """Whether a row names a recording, or holds one."""
    path = file_of(sound)
    if is_missing(sound) or path == "":
        return False
    return path is not None or not isinstance(sound, Mapping) or any_sound(sound)


def lines_of(wrong: Iterable[CheckedRow]) -> list[str]:
    """What is wrong with rows, a line for each problem."""
    return [f"{row.place}: {problem.text}" for row in wrong for problem in row.problems]


def wrong_rows_error(title: str, num_wrong: int, lines: list[str]) -> ValueError:
    """The error for wrong rows, with the first lines of what is wrong."""
    shown = lines[:MAX_PROBLEMS_SHOWN]
    if len(lines) > len(shown):
        shown.append(f"... and {len(lines) - len(shown)} more")
    counts = f"{counted(num_wrong, 'wrong row')}, {counted(len(lines), 'problem')}"
    return ValueError(f"{title}: {counts}:\n  " + "\n  ".join(shown))


def _checked_id(row: Mapping[str, Any], column: str, problems: list[Problem]) -> str | None:
    """The id in a column as a string in Unicode form NFC; None, and a problem, if it is wrong."""
    value = row.get(column)
    label = "`audio_id`" if column == "audio_id" else f"the group `{column}`"
    if not isinstance(value, (str, Integral)) or value == "":
        text = f"{label} must be a string that is not empty, or a whole number, but is {value!r}"
        problems.append(Problem(WRONG_ID, text))
    elif not is_unicode(str(value)):
        problems.append(Problem(WRONG_ID, f"{label} {not_unicode(str(value))}"))
    else:
        return normalized_name(str(value))
    return None
