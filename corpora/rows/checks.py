"""What makes a row of a data set wrong."""

import os
from functools import lru_cache
from pathlib import Path, PurePath
from typing import Any, BinaryIO, NamedTuple

from modeling_atri.audio_io.load import SAMPLING_RATE, audio_length
from modeling_atri.languages_atri import resolve_language

from .bad_rows import (
    DUPLICATE_ID,
    EMPTY_CAPTION,
    MISSING_LANGUAGE,
    MISSING_RECORDING,
    SHORT_RECORDING,
    UNEQUAL_CAPTIONS,
    UNREADABLE_RECORDING,
    WRONG_CAPTIONS,
    WRONG_ID,
    BadRow,
)


MAX_PROBLEMS_SHOWN = 20
MIN_SECONDS = 0.15  # the shortest clip that the feature extractor takes: 2,400 samples at 16 kHz


class Problem(NamedTuple):
    """Something wrong with a row: one of the kinds of `bad_rows`, and a sentence."""

    kind: str
    text: str


class RowChecker:
    """Collects the columns of rows that are right and the problems of those that are wrong.

    Args:
        languages: codes that every row needs; None takes those of the first row with captions.
        group_column: the column of groups, default `group_id`.
        skips: leave wrong rows out, and tell of them as `bad_rows`, instead of raising.
    """

    def __init__(self, languages: list[str] | None, group_column: str | None, skips: bool = False) -> None:
        self.languages = languages
        self.group_column = group_column
        self.bad_rows: list[BadRow] = []
        self._skips = skips
        self._columns: dict[str, list] = {"audio_id": [], "captions": [], "group_id": []}
        self._places: list[str] = []
        self._names: list[str | None] = []
        self._lacking: dict[str, list[str]] = {}  # languages without captions, by place
        self._problems: dict[str, list[Problem]] = {}  # by place, in the order of the rows

    def check(
        self, place: str, row: dict[str, Any], name: str | None, path: str | None, content: BinaryIO | None = None
    ) -> None:
        """Takes one row, whose recording is called `name` and lies at `path`, or in `content`."""
        problems: list[Problem] = []
        _check_audio(path, content, problems)
        audio_id = _audio_id(row, name, problems)
        captions = _resolve_captions(row.get("captions"), problems)
        if self.languages is None and captions:
            self.languages = list(captions)
        languages = self.languages or []
        if captions is not None:
            self._lacking[place] = [language for language in languages if language not in captions]
            _check_captions({code: captions[code] for code in languages if code in captions}, problems)
        group_id = _group_id(row, self.group_column, problems)
        self.report(place, problems)
        self._places.append(place)
        self._names.append(name)
        self._columns["audio_id"].append(audio_id)
        self._columns["captions"].append({language: (captions or {}).get(language) for language in languages})
        self._columns["group_id"].append(group_id)

    def report(self, place: str, problems: list[Problem]) -> None:
        """Notes what is wrong at a place."""
        self._problems.setdefault(place, []).extend(problems)

    def finish(self, name: str) -> tuple[list[int], dict[str, list]]:
        """The rows that are kept, numbered as they were checked, and their columns.

        Args:
            name: of the source, for messages.

        Raises:
            ValueError: wrong rows, unless they are left out; a language that every row lacks; no rows, or none left.
        """
        missing = self._report_missing_languages()
        kept = [index for index, place in enumerate(self._places) if not (self._skips and self._problems[place])]
        kept = self._finish_ids(kept)
        if not self._skips or missing:
            self._refuse_problems(name, missing)
        if not kept and any(self._problems.values()):
            self._refuse_problems(f"{name} has no row that can be used", [])
        if not kept:
            raise ValueError(f"{name} holds no rows.")
        self.bad_rows = self._bad_rows()
        return kept, {column: [values[index] for index in kept] for column, values in self._columns.items()}

    def _report_missing_languages(self) -> list[str]:
        """Notes which rows lack a language that others have; returns the languages that all of them lack."""
        nowhere = [code for code in self.languages or [] if all(code in codes for codes in self._lacking.values())]
        nowhere = nowhere if self._lacking else []
        for place, codes in self._lacking.items():
            missing = [code for code in codes if code not in nowhere]
            if missing:
                self.report(place, [Problem(MISSING_LANGUAGE, f"captions are missing in {', '.join(missing)}")])
        return nowhere

    def _finish_ids(self, kept: list[int]) -> list[int]:
        """Fills in the ids and groups that are by default the files' names; no id may be there twice."""
        audio_ids, group_ids = self._columns["audio_id"], self._columns["group_id"]
        nameless = [index for index in kept if audio_ids[index] is None and self._names[index]]
        for index, audio_id in zip(nameless, _ids_of_files([self._names[index] for index in nameless]), strict=True):
            audio_ids[index] = audio_id
        index_of_id: dict[str, int] = {}
        for index in kept:
            audio_id = audio_ids[index]
            if group_ids[index] is None:
                group_ids[index] = audio_id
            if audio_id is not None and index_of_id.setdefault(audio_id, index) != index:
                problem = (
                    f"the `audio_id` {audio_id!r} is that of {self._places[index_of_id[audio_id]]} already: please "
                    "give every row its own, or make them one row if they are one recording"
                )
                self.report(self._places[index], [Problem(DUPLICATE_ID, problem)])
        return [index for index in kept if audio_ids[index] is None or index_of_id[audio_ids[index]] == index]

    def _refuse_problems(self, name: str, missing: list[str]) -> None:
        """Raises one error with all that is wrong, if anything is."""
        problems = [f"{place}: {problem.text}" for place, found in self._problems.items() for problem in found]
        num_wrong_rows = sum(map(bool, self._problems.values()))
        if missing:
            num_wrong_rows = len(self._problems)
            problems.insert(0, f"every row: captions are missing in {', '.join(missing)}; leave the language out")
        if not problems:
            return
        lines = problems[:MAX_PROBLEMS_SHOWN]
        if len(problems) > len(lines):
            lines.append(f"... and {len(problems) - len(lines)} more")
        raise ValueError(f"{name}: {num_wrong_rows} wrong rows, {len(problems)} problems:\n  " + "\n  ".join(lines))

    def _bad_rows(self) -> list[BadRow]:
        audio_ids = [audio_id or name for audio_id, name in zip(self._columns["audio_id"], self._names, strict=True)]
        # What is no valid Unicode could not be written to a list of what was left out.
        audio_ids = [name and name.encode(errors="backslashreplace").decode() for name in audio_ids]
        id_at = dict(zip(self._places, audio_ids, strict=True))  # a line that is no row has none
        return [
            BadRow(place, id_at.get(place), problems[0].kind, "; ".join(problem.text for problem in problems))
            for place, problems in self._problems.items()
            if problems
        ]


def _audio_id(row: dict[str, Any], name: str | None, problems: list[Problem]) -> str | None:
    """The row's own id; None if it has none, or it is wrong."""
    audio_id = row.get("audio_id")
    if audio_id is None and name:
        return None
    if not isinstance(audio_id, (str, int)) or audio_id == "":
        problem = f"`audio_id` must be a string that is not empty, or a whole number, but is {audio_id!r}"
        problems.append(Problem(WRONG_ID, problem))
        return None
    return _checked_name("`audio_id`", str(audio_id), problems)


def _group_id(row: dict[str, Any], group_column: str | None, problems: list[Problem]) -> str | None:
    """The row's own group; None if it has none, or it is wrong."""
    group_id = row.get(group_column or "group_id")
    if group_id is None and group_column is None:
        return None
    if not isinstance(group_id, (str, int)) or group_id == "":
        problem = f"the group `{group_column or 'group_id'}` must be a string or number, but is {group_id!r}"
        problems.append(Problem(WRONG_ID, problem))
        return None
    return _checked_name(f"the group `{group_column or 'group_id'}`", str(group_id), problems)


def _checked_name(what: str, name: str, problems: list[Problem]) -> str | None:
    if _is_text(name):
        return name
    problems.append(Problem(WRONG_ID, f"{what} is no valid Unicode, but {name!r}: half of a character is missing"))
    return None


def _is_text(text: str) -> bool:
    """Whether it can be written: JSON can hold halves of characters (lone surrogates, as "\\ud800")."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _ids_of_files(names: list[str]) -> list[str]:
    """The names without suffix, but with it where two differ only there; absolute ones from their common folder on."""
    absolute_folders = [os.path.dirname(name) for name in names if os.path.isabs(name)]
    common_folder = os.path.commonpath(absolute_folders) if absolute_folders else ""
    names = [os.path.relpath(name, common_folder) if os.path.isabs(name) else name for name in names]
    names = [PurePath(name).as_posix() for name in names]
    stems = [name.removesuffix(PurePath(name).suffix) for name in names]
    names_of_stem: dict[str, set[str]] = {}
    for stem, name in zip(stems, names, strict=True):
        names_of_stem.setdefault(stem, set()).add(name)
    return [stem if len(names_of_stem[stem]) == 1 else name for stem, name in zip(stems, names, strict=True)]


def _check_audio(path: str | None, content: BinaryIO | None, problems: list[Problem]) -> None:
    if content is None and not path:
        problem = "it names no recording (`file_name` beside the metadata, or `audio`)"
        problems.append(Problem(MISSING_RECORDING, problem))
        return
    try:
        if content is None and not (_is_text(path) and Path(path).is_file()):
            problems.append(Problem(MISSING_RECORDING, f"there is no file {path!r}"))
            return
        seconds = recording_length(path, content)
    except OSError as error:  # one that is too long for a name, or lies where nobody may look
        kind = UNREADABLE_RECORDING if isinstance(error, PermissionError) else MISSING_RECORDING
        problems.append(Problem(kind, f"there is no file {path!r} that can be read: {error.strerror}"))
        return
    except ValueError as error:
        problems.append(Problem(UNREADABLE_RECORDING, str(error)))
        return
    if seconds < MIN_SECONDS:
        name = f"{path!r}" if path else "the recording"
        problem = (
            f"{name} is too short, {seconds:.3f} s, the model needs at least {MIN_SECONDS} s: "
            "please leave the row out, or pad the file with silence"
        )
        problems.append(Problem(SHORT_RECORDING, problem))


def recording_length(path: str | None, content: BinaryIO | None = None) -> float:
    """Seconds that a recording lasts, by its header.

    Raises:
        ValueError: there is no such file, or its header is wrong.
    """
    if content is not None:
        return audio_length({"path": path, "bytes": content}) / SAMPLING_RATE
    status = os.stat(path)
    return _length_of_file(path, status.st_size, status.st_mtime_ns) / SAMPLING_RATE


@lru_cache(maxsize=1_000_000)
def _length_of_file(path: str, size: int, mtime_ns: int) -> int:
    # Kept, since the Trainer checks the rows again that `load_rows` made. A file that changed is read again.
    return audio_length(path)


def _resolve_captions(captions: Any, problems: list[Problem]) -> dict[str, Any] | None:
    """Captions by FLORES-200 code. What a data set of other rows lacks is None there: left out."""
    if not isinstance(captions, dict):
        problem = f"`captions` must be lists of strings by language, but is {captions!r}"
        problems.append(Problem(WRONG_CAPTIONS, problem))
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


def _check_captions(captions: dict[str, Any], problems: list[Problem]) -> None:
    lengths = {}
    for language, texts in captions.items():
        if texts == []:
            problems.append(Problem(EMPTY_CAPTION, f"there is no caption in the list of {language}"))
        elif not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            problem = f"the captions in {language} must be a list of strings, but are {texts!r}"
            problems.append(Problem(WRONG_CAPTIONS, problem))
        else:
            lengths[language] = len(texts)
            empty = [index for index, text in enumerate(texts) if not text.strip()]
            problems.extend(Problem(EMPTY_CAPTION, f"caption {index} in {language} is empty") for index in empty)
            problems.extend(
                Problem(
                    WRONG_CAPTIONS,
                    f"caption {index} in {language} is no valid Unicode, but {text!r}: half of a character is missing",
                )
                for index, text in enumerate(texts)
                if not _is_text(text)
            )
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{language} {length}" for language, length in lengths.items())
        problem = f"captions are parallel, so every language must have as many; there are: {counts}"
        problems.append(Problem(UNEQUAL_CAPTIONS, problem))
