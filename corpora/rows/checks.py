"""Checks of rows: they collect the rows that are right, and what is wrong with the others."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, BinaryIO, NamedTuple

from modeling_atri.hub_cards.tables import counted
from modeling_atri.languages_atri import resolve_language

from .bad_rows import (
    DUPLICATE_ID,
    EMPTY_CAPTION,
    MISSING_LANGUAGE,
    MISSING_RECORDING,
    UNEQUAL_CAPTIONS,
    WRONG_CAPTIONS,
    WRONG_ID,
    WRONG_LINE,
    BadRow,
    BadRowError,
)
from .metadata import is_unicode
from .recordings import usable_length


MAX_PROBLEMS_SHOWN = 20


class Problem(NamedTuple):
    """Something wrong with a row: one of the kinds in `bad_rows`, and a sentence that explains it."""

    kind: str
    text: str


@dataclass
class CheckedRow:
    """A row and what is wrong with it.

    Args:
        place: Where it is in its source, as `"line 3"`.
        name: The recording's file name, if it has one. Ids default to it.
        path: Path of the recording, if it has one.
        audio_id, group_id: As the row gives them; None if it does not, or they are wrong.
        captions: Captions by FLORES-200 code; None if they are not a mapping.
        problems: What is wrong with the row.
        number: Number of the row among all rows; None for a line that is not a row.
    """

    place: str
    name: str | None = None
    path: str | None = None
    audio_id: str | None = None
    group_id: str | None = None
    captions: dict[str, Any] | None = None
    problems: list[Problem] = field(default_factory=list)
    number: int | None = None

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
    """

    def __init__(self, languages: list[str] | None, group_column: str | None) -> None:
        self.languages = languages
        self.group_column = group_column
        self._rows: list[CheckedRow] = []
        self._num_rows = 0

    def check(
        self, place: str, row: dict[str, Any], name: str | None, path: str | None, content: BinaryIO | None = None
    ) -> None:
        """Check one row, whose recording has the file name `name` and is at `path` or in `content`."""
        checked = CheckedRow(place, name, path, number=self._num_rows)
        problems = checked.problems
        problems += _recording_problems(path, content)
        if row.get("audio_id") is not None or not name:
            checked.audio_id = _checked_id(row, "audio_id", problems)
        captions = checked.captions = _resolve_captions(row.get("captions"), problems)
        if self.languages is None and captions:
            self.languages = list(captions)
        if captions is not None:
            problems += _caption_problems({code: captions[code] for code in self.languages or () if code in captions})
        if self.group_column is not None or row.get("group_id") is not None:
            checked.group_id = _checked_id(row, self.group_column or "group_id", problems)
        self._rows.append(checked)
        self._num_rows += 1

    def report_line(self, place: str, text: str) -> None:
        """Note that the content at a place is not a row."""
        self._rows.append(CheckedRow(place, problems=[Problem(WRONG_LINE, text)]))

    def finish(self, source: str, skip: bool) -> tuple[list[CheckedRow], list[BadRow]]:
        """Check the rows together, and fill in ids and groups that default to file names.

        Args:
            source: Name of the source, for messages.
            skip: Leave wrong rows out instead of raising.

        Returns:
            The rows that are right, and those that are left out.

        Raises:
            ValueError: if rows are wrong and `skip` is False, a language is missing in every row, there are no rows,
                or all of them are wrong.
        """
        missing = self._report_missing_languages()
        rows = [row for row in self._rows if row.number is not None and not (skip and row.problems)]
        _fill_in_ids(rows)
        wrong = [row for row in self._rows if row.problems]
        kept = [row for row in rows if not row.problems]
        if missing:
            everywhere = f"every row: captions are missing in {', '.join(missing)}; leave the language out"
            raise _wrong_rows_error(source, len(self._rows), [everywhere, *_lines(wrong)])
        if wrong and not (skip and kept):
            title = f"{source} has no row that can be used" if skip else source
            raise _wrong_rows_error(title, len(wrong), _lines(wrong))
        if not kept:
            raise ValueError(f"{source} holds no rows.")
        return kept, [row.as_bad_row() for row in wrong]

    def columns(self, rows: Iterable[CheckedRow]) -> dict[str, list[Any]]:
        """Return the columns `audio_id`, `captions` and `group_id` of rows that `finish` returned."""
        rows = list(rows)
        return {
            "audio_id": [row.audio_id for row in rows],
            "captions": [{code: (row.captions or {})[code] for code in self.languages or ()} for row in rows],
            "group_id": [row.group_id for row in rows],
        }

    def _report_missing_languages(self) -> list[str]:
        """Report rows that lack a language which others have. Returns the languages that all rows lack."""
        present = [row.captions for row in self._rows if row.captions is not None]
        if not present:
            return []
        languages = self.languages or []
        nowhere = [code for code in languages if not any(code in captions for captions in present)]
        for row in self._rows:
            missing = [code for code in languages if code not in nowhere and code not in (row.captions or {})]
            if row.captions is not None and missing:
                row.problems.append(Problem(MISSING_LANGUAGE, f"captions are missing in {', '.join(missing)}"))
        return nowhere


def _fill_in_ids(rows: Sequence[CheckedRow]) -> None:
    """Fill in ids and groups that default to file names, and report ids that occur twice."""
    unnamed = [row for row in rows if row.audio_id is None and row.name]
    for row, audio_id in zip(unnamed, _ids_of_files([row.name or "" for row in unnamed]), strict=True):
        row.audio_id = audio_id
    first: dict[str, CheckedRow] = {}
    for row in rows:
        if row.group_id is None:
            row.group_id = row.audio_id
        if row.audio_id is not None and first.setdefault(row.audio_id, row) is not row:
            text = (
                f"the `audio_id` {row.audio_id!r} is that of {first[row.audio_id].place} already: please give every "
                "row its own, or make them one row if they are one recording"
            )
            row.problems.append(Problem(DUPLICATE_ID, text))


def _ids_of_files(names: list[str]) -> list[str]:
    """File names without suffix, or with it where two names differ only there.

    Absolute paths begin below the folder that all of them share.
    """
    absolute_folders = [os.path.dirname(name) for name in names if os.path.isabs(name)]
    common_folder = os.path.commonpath(absolute_folders) if absolute_folders else ""
    names = [os.path.relpath(name, common_folder) if os.path.isabs(name) else name for name in names]
    names = [PurePath(name).as_posix() for name in names]
    stems = [name.removesuffix(PurePath(name).suffix) for name in names]
    names_of_stem: dict[str, set[str]] = {}
    for stem, name in zip(stems, names, strict=True):
        names_of_stem.setdefault(stem, set()).add(name)
    return [stem if len(names_of_stem[stem]) == 1 else name for stem, name in zip(stems, names, strict=True)]


def _lines(wrong: Iterable[CheckedRow]) -> list[str]:
    return [f"{row.place}: {problem.text}" for row in wrong for problem in row.problems]


def _wrong_rows_error(title: str, num_wrong: int, lines: list[str]) -> ValueError:
    shown = lines[:MAX_PROBLEMS_SHOWN]
    if len(lines) > len(shown):
        shown.append(f"... and {len(lines) - len(shown)} more")
    counts = f"{counted(num_wrong, 'wrong row')}, {counted(len(lines), 'problem')}"
    return ValueError(f"{title}: {counts}:\n  " + "\n  ".join(shown))


def _recording_problems(path: str | None, content: BinaryIO | None) -> list[Problem]:
    if content is None and not path:
        return [Problem(MISSING_RECORDING, "it names no recording (`file_name` beside the metadata, or `audio`)")]
    try:
        usable_length(path, content)
    except BadRowError as error:
        return [Problem(error.kind, str(error))]
    return []


def _checked_id(row: dict[str, Any], column: str, problems: list[Problem]) -> str | None:
    """The id in a column as a string; None, and a problem, if it is wrong."""
    value = row.get(column)
    label = "`audio_id`" if column == "audio_id" else f"the group `{column}`"
    if not isinstance(value, (str, int)) or value == "":
        text = f"{label} must be a string that is not empty, or a whole number, but is {value!r}"
        problems.append(Problem(WRONG_ID, text))
    elif not is_unicode(str(value)):
        problems.append(Problem(WRONG_ID, f"{label} {_not_unicode(str(value))}"))
    else:
        return str(value)
    return None


def _not_unicode(text: str) -> str:
    return f"is no valid Unicode, but {text!r}: half of a character is missing"


def _resolve_captions(captions: Any, problems: list[Problem]) -> dict[str, Any] | None:
    """Captions by FLORES-200 code. Columns of a dataset that other rows fill are None and are left out."""
    if not isinstance(captions, dict):
        text = f"`captions` must be lists of strings by language, but is {captions!r}"
        problems.append(Problem(WRONG_CAPTIONS, text))
        return None
    resolved: dict[str, Any] = {}
    for name, texts in captions.items():
        if texts is None:
            continue
        try:
            code = resolve_language(name)
        except ValueError as error:
            problems.append(Problem(WRONG_CAPTIONS, str(error)))
            continue
        if code in resolved:
            problems.append(Problem(WRONG_CAPTIONS, f"the language {code} is there twice"))
        resolved[code] = texts
    return resolved


def _caption_problems(captions: dict[str, Any]) -> list[Problem]:
    problems = []
    lengths = {}
    for language, texts in captions.items():
        if texts == []:
            problems.append(Problem(EMPTY_CAPTION, f"there is no caption in the list of {language}"))
        elif not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            text = f"the captions in {language} must be a list of strings, but are {texts!r}"
            problems.append(Problem(WRONG_CAPTIONS, text))
        else:
            lengths[language] = len(texts)
            for index, text in enumerate(texts):
                if not text.strip():
                    problems.append(Problem(EMPTY_CAPTION, f"caption {index} in {language} is empty"))
                if not is_unicode(text):
                    problems.append(Problem(WRONG_CAPTIONS, f"caption {index} in {language} {_not_unicode(text)}"))
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{language} {length}" for language, length in lengths.items())
        text = f"captions are parallel, so every language must have as many; there are: {counts}"
        problems.append(Problem(UNEQUAL_CAPTIONS, text))
    return problems
