"""The row schema of training and evaluation data, and the one function that reads it from wherever it is.

A row is one recording with its parallel captions:
    audio      `{"path": str | None, "bytes": bytes | None}`, undecoded: `datasets.Audio(decode=False)`
    audio_id   `str`, unique
    captions   `{language: list[str]}` by FLORES-200 code; `captions[l][c]` says the same in every language l
    group_id   `str`; rows of equal group are positives of one another
On disk a data set is a folder of sound files beside a `metadata.jsonl`; its lines hold `file_name` and not `audio`.
"""

import difflib
import json
import logging
import os
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path, PurePath
from typing import Any, BinaryIO

import datasets
import pyarrow

from modeling_atri.audio_io import SAMPLING_RATE, audio_length
from modeling_atri.languages_atri import resolve_language


logger = logging.getLogger(__name__)

METADATA_FILE = "metadata.jsonl"
MAX_PROBLEMS_SHOWN = 20
MIN_NUM_SAMPLES = 2_400  # at 16 kHz, 0.15 s: the shortest clip that the feature extractor takes
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")


def load_rows(
    source: str | Path | datasets.Dataset | datasets.DatasetDict,
    split: str | None = None,
    *,
    languages: Sequence[str] | None = None,
    group_column: str | None = None,
) -> datasets.Dataset:
    """Reads and checks rows; recordings stay where they are, undecoded: of each only the header is read.

    Args:
        source: a folder that holds `metadata.jsonl` (or whose subfolder `split` does), a `.jsonl` or `.json` file of
            the same rows, a `datasets.Dataset` or `DatasetDict`, or the id of a data set on the Hub (`"owner/name"`).
            `file_name` (or `audio`, if it is a string) is relative to the folder of the file it stands in.
        split (`str`, *optional*): which split. Needed where there are several.
        languages (*optional*): the languages that every row must have, in any writing that `resolve_language` takes;
            others are left out. By default those of the first row.
        group_column (`str`, *optional*): the column whose values say which rows describe the same sound. By default
            `group_id` where a row has it, else every row is its own group.

    Returns:
        `datasets.Dataset` with exactly the columns `audio`, `audio_id`, `captions` and `group_id` as the module's
        docstring describes them. `audio_id` defaults to the recording's `file_name` without its suffix, which is kept
        where two differ only there; of absolute paths, to the part below the folder that all of them share.

    Raises:
        ValueError: if the source is not found or not understood, or any row is wrong; a recording is wrong that is
            missing, unreadable or below 0.15 s. Wrong rows are reported together: the first 20 problems, each with
            its line number, and how many there are.
    """
    codes = None if languages is None else [resolve_language(language) for language in languages]
    if codes is not None and (not codes or len(set(codes)) < len(codes)):
        raise ValueError(f"`languages` must name at least one language and none twice, but is {list(languages)}.")
    checker = _RowChecker(codes, group_column)
    if isinstance(source, (str, Path)) and Path(source).exists():
        return _load_file(_metadata_file(Path(source), split), checker)
    if isinstance(source, (str, Path)):
        source, split = _load_from_hub(str(source), split), None
    return _load_dataset(_pick_split(source, split), checker)


def validate_rows(
    source: str | Path | datasets.Dataset | datasets.DatasetDict,
    split: str | None = None,
    *,
    languages: Sequence[str] | None = None,
    group_column: str | None = None,
) -> int:
    """Checks a data set as `load_rows` does, with the same arguments and errors; returns how many rows it has."""
    return len(load_rows(source, split, languages=languages, group_column=group_column))


def _load_file(path: Path, checker: "_RowChecker") -> datasets.Dataset:
    paths = []
    for place, row in _read_json(path, checker):
        name = row.get("file_name", row.get("audio"))
        name = name if isinstance(name, str) and name else None
        audio_path = None if name is None else str(path.parent / name)
        checker.check(place, row, name, audio_path)
        paths.append(audio_path)
    columns = checker.finish(str(path))
    return datasets.Dataset.from_dict({"audio": paths} | columns).cast_column("audio", datasets.Audio(decode=False))


def _metadata_file(path: Path, split: str | None) -> Path:
    if path.is_file():
        if path.suffix not in (".json", ".jsonl"):
            raise ValueError(f"Rows are read from folders and .jsonl or .json files, but {str(path)!r} is neither.")
        if split is not None:
            raise ValueError(
                f"A file has no splits, but `split` is {split!r}: please name the folder, or leave it out."
            )
        return path
    file = path / (split or "") / METADATA_FILE
    if file.is_file():
        return file
    splits = sorted(candidate.parent.name for candidate in path.glob(f"*/{METADATA_FILE}"))
    hint = f" The splits there are {', '.join(splits)}: please name one as `split`." if splits else ""
    raise ValueError(f"There is no file {str(file)!r}.{hint}")


def _read_json(path: Path, checker: "_RowChecker") -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows that can be read, each with its place in the file."""
    for place, row in _json_lines(path, checker) if path.suffix == ".jsonl" else _json_items(path):
        if isinstance(row, dict):
            yield place, row
        else:
            checker.report(place, [f"a row must be a JSON object, but this is a {type(row).__name__}"])


def _json_lines(path: Path, checker: "_RowChecker") -> Iterator[tuple[str, Any]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:  # wrong JSON or wrong UTF-8
                checker.report(f"line {number}", [f"this is not JSON ({error})"])
            else:
                yield f"line {number}", row


def _json_items(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        rows = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is not JSON: {error}. (JSON Lines end in .jsonl.)") from error
    if not isinstance(rows, list):
        raise ValueError(f"{str(path)!r} must hold a list of rows, but holds a {type(rows).__name__}.")
    return ((f"item {index}", row) for index, row in enumerate(rows))


def _load_from_hub(name: str, split: str | None) -> datasets.Dataset | datasets.DatasetDict:
    similar = _similar_path(name)
    if similar is not None:
        raise ValueError(f"There is no file or folder {name!r}. Did you mean {similar!r}?")
    if not _may_be_on_hub(name):
        raise ValueError(
            f"There is no file or folder {name!r}. (A data set on the Hub is called 'owner/name', where there is no "
            "folder 'owner'.)"
        )
    logger.warning("%r is no file or folder here: looking for a data set of that name on the Hub.", name)
    try:
        return datasets.load_dataset(name, split=split)
    except (FileNotFoundError, ConnectionError) as error:
        raise ValueError(
            f"{name!r} is neither an existing file or folder, nor a data set that can be reached on the Hub ({error})."
        ) from error


def _may_be_on_hub(name: str) -> bool:
    """False for what can only be a path: the Hub's client would try for a minute before it says so."""
    is_id = _HUB_ID.fullmatch(name) and not name.endswith((".json", ".jsonl"))
    return bool(is_id) and not Path(name).parent.exists()


def _similar_path(name: str) -> str | None:
    """The existing path that `name` may be a mistyped form of, part by part."""
    found = Path(PurePath(name).anchor)
    for part in PurePath(name).relative_to(found).parts:
        if not (found / part).exists():
            siblings = os.listdir(found) if found.is_dir() else []
            part = next(iter(difflib.get_close_matches(part, siblings, n=1, cutoff=0.8)), None)
            if part is None:
                return None
        found = found / part
    return str(found)


def _pick_split(source: datasets.Dataset | datasets.DatasetDict, split: str | None) -> datasets.Dataset:
    if isinstance(source, datasets.Dataset):
        if split is not None:
            raise ValueError(f"A `datasets.Dataset` has no splits, but `split` is {split!r}: please leave it out.")
        return source
    if not isinstance(source, datasets.DatasetDict):
        raise ValueError(
            "Rows are read from a path, the id of a data set on the Hub, a `datasets.Dataset` or a `DatasetDict`, but "
            f"this is a {type(source).__name__}."
        )
    if split is None and len(source) == 1:
        return next(iter(source.values()))
    if split not in source:
        raise ValueError(
            f"The data set has the splits {', '.join(source)}: please name one as `split` (got {split!r})."
        )
    return source[split]


def _load_dataset(dataset: datasets.Dataset, checker: "_RowChecker") -> datasets.Dataset:
    missing = [column for column in ("audio", "captions") if column not in dataset.column_names]
    if missing:
        raise ValueError(
            f"The data set has no column {' and no column '.join(missing)}; it has {', '.join(dataset.column_names)}. "
            "Please rename its columns (`dataset.rename_column`)."
        )
    audio = dataset.select_columns("audio").cast_column("audio", datasets.Audio(decode=False))
    read_columns = {"captions", "audio_id", "group_id", checker.group_column} & set(dataset.column_names)
    rows = dataset.select_columns(sorted(read_columns))
    for index, (row, (path, content)) in enumerate(zip(rows, _audio_sources(audio), strict=True)):
        checker.check(f"row {index}", row, path, path, content)
    columns = datasets.Dataset.from_dict(checker.finish("the data set"))
    return datasets.concatenate_datasets([audio, columns], axis=1)


def _audio_sources(audio: datasets.Dataset) -> Iterator[tuple[str | None, BinaryIO | None]]:
    """Path and embedded file, row by row; of the files nothing is copied, and only what is read leaves the disk."""
    for table in audio.with_format("arrow").iter(batch_size=100):
        for column in table["audio"].chunks:
            for path, content in zip(column.field("path"), column.field("bytes"), strict=True):
                yield path.as_py(), pyarrow.BufferReader(content.as_buffer()) if content.is_valid else None


class _RowChecker:
    """Collects the columns of rows that are right and the problems of those that are wrong."""

    def __init__(self, languages: list[str] | None, group_column: str | None) -> None:
        self.languages = languages
        self.group_column = group_column
        self._columns: dict[str, list] = {"audio_id": [], "captions": [], "group_id": []}
        self._places: list[str] = []
        self._default_names: dict[int, str] = {}  # of the rows without an `audio_id`, by index
        self._problems: dict[str, list[str]] = {}  # by place, in the order of the rows

    def check(
        self, place: str, row: dict[str, Any], name: str | None, path: str | None, content: BinaryIO | None = None
    ) -> None:
        """Takes one row, whose recording is called `name` and lies at `path`, or in `content`."""
        problems: list[str] = []
        _check_audio(path, content, problems)
        audio_id = self._audio_id(row, name, problems)
        captions = _resolve_captions(row.get("captions"), problems)
        if self.languages is None and captions:
            self.languages = list(captions)
        captions = _check_captions(captions, self.languages or [], problems)
        group_id = self._group_id(row, problems)
        self.report(place, problems)
        self._places.append(place)
        for column, value in (("audio_id", audio_id), ("captions", captions), ("group_id", group_id)):
            self._columns[column].append(value)

    def report(self, place: str, problems: list[str]) -> None:
        self._problems.setdefault(place, []).extend(problems)

    def finish(self, name: str) -> dict[str, list]:
        """The columns; or one error with all that is wrong."""
        self._finish_ids()
        problems = [f"{place}: {problem}" for place, found in self._problems.items() for problem in found]
        if problems:
            num_wrong_rows = sum(map(bool, self._problems.values()))
            lines = problems[:MAX_PROBLEMS_SHOWN]
            if len(problems) > len(lines):
                lines.append(f"... and {len(problems) - len(lines)} more")
            raise ValueError(
                f"{name}: {num_wrong_rows} wrong rows, {len(problems)} problems:\n  " + "\n  ".join(lines)
            )
        if not self._places:
            raise ValueError(f"{name} holds no rows.")
        return self._columns

    def _finish_ids(self) -> None:
        """Fills in the ids and groups that are by default the files' names; no id may be there twice."""
        audio_ids, group_ids = self._columns["audio_id"], self._columns["group_id"]
        for index, audio_id in zip(self._default_names, _ids_of_files([*self._default_names.values()]), strict=True):
            audio_ids[index] = audio_id
        place_of_id: dict[str, str] = {}
        for index, (place, audio_id) in enumerate(zip(self._places, audio_ids, strict=True)):
            if group_ids[index] is None:
                group_ids[index] = audio_id
            if audio_id is not None and place_of_id.setdefault(audio_id, place) != place:
                problem = (
                    f"the `audio_id` {audio_id!r} is that of {place_of_id[audio_id]} already: please give every row "
                    "its own, or make them one row if they are one recording"
                )
                self.report(place, [problem])

    def _audio_id(self, row: dict[str, Any], name: str | None, problems: list[str]) -> str | None:
        """The row's own id; None if it has none, or it is wrong."""
        audio_id = row.get("audio_id")
        if audio_id is None and name:
            self._default_names[len(self._places)] = name
            return None
        if not isinstance(audio_id, (str, int)) or audio_id == "":
            problems.append(f"`audio_id` must be a string that is not empty, or a whole number, but is {audio_id!r}")
            return None
        return str(audio_id)

    def _group_id(self, row: dict[str, Any], problems: list[str]) -> str | None:
        """The row's own group; None if it has none, or it is wrong."""
        group_id = row.get(self.group_column or "group_id")
        if group_id is None and self.group_column is None:
            return None
        if not isinstance(group_id, (str, int)) or group_id == "":
            problems.append(
                f"the group `{self.group_column or 'group_id'}` must be a string or number, but is {group_id!r}"
            )
            return None
        return str(group_id)


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


def _check_audio(path: str | None, content: BinaryIO | None, problems: list[str]) -> None:
    if content is None and not path:
        problems.append("it names no recording (`file_name` beside the metadata, or `audio`)")
        return
    if content is None and not Path(path).is_file():
        problems.append(f"there is no file {path!r}")
        return
    try:
        num_samples = _num_samples(path, content)
    except ValueError as error:
        problems.append(str(error))
        return
    if num_samples < MIN_NUM_SAMPLES:
        name = f"{path!r}" if path else "the recording"
        problems.append(
            f"{name} is too short, {num_samples / SAMPLING_RATE:.3f} s, the model needs at least "
            f"{MIN_NUM_SAMPLES / SAMPLING_RATE} s: please leave the row out, or pad the file with silence"
        )


def _num_samples(path: str | None, content: BinaryIO | None) -> int:
    """Length of a recording at 16 kHz, by its header."""
    if content is not None:
        return audio_length({"path": path, "bytes": content})
    status = os.stat(path)
    return _num_samples_of_file(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=1_000_000)
def _num_samples_of_file(path: str, size: int, mtime_ns: int) -> int:
    # Kept, since the Trainer checks the rows again that `load_rows` made. A file that changed is read again.
    return audio_length(path)


def _resolve_captions(captions: Any, problems: list[str]) -> dict[str, Any]:
    """Captions by FLORES-200 code. What a data set of other rows lacks is None there: left out."""
    if not isinstance(captions, dict):
        problems.append(f"`captions` must be lists of strings by language, but is {captions!r}")
        return {}
    resolved: dict[str, Any] = {}
    for name, texts in captions.items():
        if texts is None:
            continue
        try:
            code = resolve_language(name)
        except ValueError as error:
            problems.append(str(error))
            continue
        if code in resolved:
            problems.append(f"the language {code} is there twice")
        resolved[code] = texts
    return resolved


def _check_captions(captions: dict[str, Any], languages: list[str], problems: list[str]) -> dict[str, list[str]]:
    missing = [language for language in languages if language not in captions]
    if missing:
        problems.append(f"captions are missing in {', '.join(missing)}")
    lengths = {}
    for language in languages:
        texts = captions.get(language, [""])
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
            problems.append(
                f"the captions in {language} must be a list of strings that is not empty, but are {texts!r}"
            )
        elif language in captions:
            lengths[language] = len(texts)
            problems.extend(
                f"caption {index} in {language} is empty" for index, text in enumerate(texts) if not text.strip()
            )
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{language} {length}" for language, length in lengths.items())
        problems.append(f"captions are parallel, so every language must have as many; there are: {counts}")
    return {language: captions.get(language) for language in languages}


__all__ = ["METADATA_FILE", "MIN_NUM_SAMPLES", "load_rows", "validate_rows"]
