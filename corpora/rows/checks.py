"""Checks of rows: they collect the rows that are right, and what is wrong with the others."""

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from pathlib import Path, PurePath
from typing import Any

from modeling_atri.audio_inputs_atri import path_of
from modeling_atri.files import existing_path, normalized_name
from modeling_atri.hub_cards.tables import counted

from .bad_rows import (
    DUPLICATE_ID,
    EMPTY_CAPTION,
    MISSING_LANGUAGE,
    MISSING_RECORDING,
    WRONG_ID,
    WRONG_LINE,
    BadRow,
    BadRowError,
    Problem,
)
from .captions import clean_captions, is_missing, is_unicode, not_unicode, resolve_captions
from .recordings import any_sound, file_of, id_of_content, is_url, usable_length


logger = logging.getLogger(__name__)

MAX_PROBLEMS_SHOWN = 20

# Columns of vectors that rows keep: the embeddings of the anchor's captions by the teacher of `teach`.
VECTOR_COLUMNS = ("teacher_embedding",)


@dataclass
class CheckedRow:
    """A row and what is wrong with it.

    Args:
        place: Where it is in its source, as `"line 3"`.
        name: The recording's file name, if it has one. Ids default to it.
        path: Path of the recording on disk, if it is nothing but a file.
        content_id: A digest of the recording, if it has no name and the row no id. Ids default to it.
        audio_id, group_id: As the row gives them; None if it does not, or they are wrong.
        captions: Clean captions by FLORES-200 code; None if there are none.
        problems: What is wrong with the row.
        number: Number of the row among all rows; None for a line that is not a row.
        seconds: Length of the recording; None if it is not known.
        vectors: The vectors of the row, by column.
    """

    place: str
    name: str | None = None
    path: str | None = None
    content_id: str | None = None
    audio_id: str | None = None
    group_id: str | None = None
    captions: dict[str, list[str]] | None = None
    problems: list[Problem] = field(default_factory=list)
    number: int | None = None
    seconds: float | None = None
    vectors: dict[str, Any] = field(default_factory=dict)

    def as_bad_row(self) -> BadRow:
        name = self.audio_id or self.name
        # Text that is not valid Unicode could not be written to the list of rows left out.
        name = name and name.encode(errors="backslashreplace").decode()
        return BadRow(self.place, name, self.problems[0].kind, "; ".join(problem.text for problem in self.problems))


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
        self._soundless: list[CheckedRow] = []
        self._has_sounds = False
        self._seen: dict[str, None] = {}  # all languages that rows have captions in, in order

    def check(self, place: str, row: Mapping[str, Any], sound: Any, name: str | None = None) -> None:
        """Check one row with its recording `sound`. `name` is the file name, by default the path of `sound`."""
        checked = CheckedRow(place, name or path_of(sound), number=len(self._rows))
        checked.vectors = {name: row[name] for name in VECTOR_COLUMNS if row.get(name) is not None}
        self._check_recording(sound, checked)
        if is_missing(row.get("audio_id")) and not checked.name and not checked.problems:
            checked.content_id = id_of_content(sound) if _is_sound(sound) else f"row {checked.number}"
        self._check_texts(row, checked)

    def check_texts(self, place: str, row: Mapping[str, Any], number: int, problems: list[Problem]) -> None:
        """Check a row without a recording. `problems` are those that were found before."""
        self._check_texts(row, CheckedRow(place, number=number, problems=problems))

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
            self._soundless.append(checked)
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

    def report_line(self, place: str, text: str) -> None:
        """Note that the content at a place is not a row."""
        self._rows.append(CheckedRow(place, problems=[Problem(WRONG_LINE, text)]))

    def finish(self, source: str, skip: bool, num_right: int = 0) -> tuple[list[CheckedRow], list[BadRow]]:
        """Check the rows together, and fill in ids and groups that default to file names.

        Args:
            source: Name of the source, for messages.
            skip: Leave wrong rows out instead of raising.
            num_right (*optional*): Number of other rows, which are known to be right.

        Returns:
            The rows that are right, and those that are left out.

        Raises:
            ValueError: if rows are wrong and `skip` is False, a language is missing in every row, there are no rows,
                or all of them are wrong.
        """
        if self._takes_first and (others := [code for code in self._seen if code not in (self.languages or ())]):
            logger.warning(
                "%s: captions in %s are left out, because the first row has none; name the `languages` that you want.",
                *(source, ", ".join(others)),
            )
        missing = self._report_missing_languages(num_right > 0)
        self._report_missing_recordings()
        if self.languages is None:
            for row in self._rows:
                if row.captions == {} and not row.problems:
                    row.problems.append(Problem(EMPTY_CAPTION, "it has no caption in any language"))
        rows = [row for row in self._rows if row.number is not None and not (skip and row.problems)]
        _fill_in_ids(rows)
        wrong = [row for row in self._rows if row.problems]
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
        return kept, [row.as_bad_row() for row in wrong]

    def finish_row(self) -> CheckedRow:
        """Check the only row that was given, as far as `finish` does so without other rows, and fill in its ids."""
        self._report_missing_languages(others_have_all=True)
        self._report_missing_recordings()
        (row,) = self._rows
        if row.number is not None:
            _fill_in_ids([row])
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
        for row in self._soundless if self.needs_sound or self._has_sounds else ():
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


def _is_sound(sound: Any) -> bool:
    """Whether a row names a recording, or holds one."""
    path = file_of(sound)
    if is_missing(sound) or path == "":
        return False
    return path is not None or not isinstance(sound, Mapping) or any_sound(sound)


def _fill_in_ids(rows: Sequence[CheckedRow]) -> None:
    """Fill in ids and groups that default to file names or contents, and report ids that occur twice."""
    unnamed = [row for row in rows if row.audio_id is None and row.name]
    for row, audio_id in zip(unnamed, ids_of_files([row.name or "" for row in unnamed]), strict=True):
        row.audio_id = audio_id
    counts: dict[str, int] = {}
    for row in rows:
        if row.audio_id is None and row.content_id is not None:
            count = counts[row.content_id] = counts.get(row.content_id, 0) + 1
            row.audio_id = row.content_id if count == 1 else f"{row.content_id}-{count}"
    first: dict[str, CheckedRow] = {}
    for row in rows:
        if row.group_id is None:
            row.group_id = row.audio_id
        if row.audio_id is not None and first.setdefault(row.audio_id, row) is not row:
            other = first[row.audio_id]
            text = (
                f"the `audio_id` {row.audio_id!r} is that of {other.place} already: please give every row its own, or "
                "make them one row if they are one recording"
            )
            if not (row.captions or {}).keys() & (other.captions or {}).keys():
                text += ", with the captions of all languages"
            row.problems.append(Problem(DUPLICATE_ID, text))


def ids_of_files(names: list[str]) -> list[str]:
    """File names without suffix, or with it where two names differ only there.

    Absolute paths begin below the folder that all of them share. The separator is `/`, also in names from Windows.
    """
    absolute_folders = [os.path.dirname(name) for name in names if os.path.isabs(name)]
    common_folder = os.path.commonpath(absolute_folders) if absolute_folders else ""
    names = [os.path.relpath(name, common_folder) if os.path.isabs(name) else name for name in names]
    names = [PurePath(normalized_name(name).replace("\\", "/")).as_posix() for name in names]
    stems = [name.removesuffix(PurePath(name).suffix) for name in names]
    names_of_stem: dict[str, set[str]] = {}
    for stem, name in zip(stems, names, strict=True):
        names_of_stem.setdefault(stem, set()).add(name)
    return [stem if len(names_of_stem[stem]) == 1 else name for stem, name in zip(stems, names, strict=True)]


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
