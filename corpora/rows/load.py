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
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import Any, BinaryIO

import datasets
import pyarrow

from modeling_atri.languages_atri import resolve_language
from modeling_atri.sources import is_hub_id, missing_source

from .bad_rows import WRONG_LINE, BadRow, describe
from .checks import Problem, RowChecker, recording_length


logger = logging.getLogger(__name__)

METADATA_FILE = "metadata.jsonl"
_OWN_COLUMNS = {"file_name", "audio", "audio_id", "captions", "group_id"}


def load_rows(
    source: str | Path | datasets.Dataset | datasets.DatasetDict,
    split: str | None = None,
    *,
    languages: Sequence[str] | None = None,
    group_column: str | None = None,
    left_out: list[BadRow] | None = None,
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
        left_out (`list`, *optional*): with it, wrong rows are no error: they are left out and put into this list, and
            one warning says how many there are of each kind. By default they are errors.

    Returns:
        `datasets.Dataset` with exactly the columns `audio`, `audio_id`, `captions` and `group_id` as the module's
        docstring describes them. `audio_id` defaults to the recording's `file_name` without its suffix, which is kept
        where two differ only there; of absolute paths, to the part below the folder that all of them share.

    Raises:
        ValueError: if the source is not found or not understood, or any row is wrong; a recording is wrong that is
            missing, unreadable or below 0.15 s. Wrong rows are reported together: the first 20 problems, each with
            its line number, and how many there are. With `left_out` only if no row is right, or a language is missing
            in every row.
    """
    codes = None if languages is None else [resolve_language(language) for language in languages]
    if codes is not None and (not codes or len(set(codes)) < len(codes)):
        raise ValueError(f"`languages` must name at least one language and none twice, but is {list(languages)}.")
    checker = RowChecker(codes, group_column, skips=left_out is not None)
    if isinstance(source, (str, Path)) and Path(source).exists():
        name = str(_metadata_file(Path(source), split))
        rows = _load_file(Path(name), checker)
    else:
        name = "the data set"
        if isinstance(source, (str, Path)):
            source, split = _load_from_hub(str(source), split), None
        rows = _load_dataset(_pick_split(source, split), checker)
    if checker.bad_rows:
        logger.warning("%s: %s", name, describe(checker.bad_rows, len(rows) + len(checker.bad_rows)))
        left_out.extend(checker.bad_rows)
    return rows


def read_other_columns(path: Path, split: str | None, bad_rows: Sequence[BadRow] = ()) -> list[dict[str, Any]]:
    """What a file holds beside the columns of `load_rows`: a dict, as it stands there, for each row of its.

    Args:
        path, split: that `load_rows` was given; a folder or file.
        bad_rows: that it left out.
    """
    file = _metadata_file(path, split)
    wrong = {row.place for row in bad_rows}
    items = _json_lines(file, RowChecker(None, None)) if file.suffix == ".jsonl" else _json_items(file)
    rows = [row for place, row in items if place not in wrong]
    return [{name: value for name, value in row.items() if name not in _OWN_COLUMNS} for row in rows]


def count_longer(rows: datasets.Dataset, seconds: float) -> int:
    """How many recordings of rows that `load_rows` made last longer than this, by their headers."""
    return sum(recording_length(path, content) > seconds for path, content in _audio_sources(rows))


def _load_file(path: Path, checker: RowChecker) -> datasets.Dataset:
    paths = []
    for place, row in _read_json(path, checker):
        name = row.get("file_name", row.get("audio"))
        name = name if isinstance(name, str) and name else None
        audio_path = None if name is None else str(path.parent / name)
        checker.check(place, row, name, audio_path)
        paths.append(audio_path)
    kept, columns = checker.finish(str(path))
    columns = {"audio": [paths[index] for index in kept]} | columns
    return datasets.Dataset.from_dict(columns).cast_column("audio", datasets.Audio(decode=False))


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


def _read_json(path: Path, checker: RowChecker) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows that can be read, each with its place in the file."""
    for place, row in _json_lines(path, checker) if path.suffix == ".jsonl" else _json_items(path):
        if isinstance(row, dict):
            yield place, row
        else:
            problem = f"a row must be a JSON object, but this is a {type(row).__name__}"
            checker.report(place, [Problem(WRONG_LINE, problem)])


def _json_lines(path: Path, checker: RowChecker) -> Iterator[tuple[str, Any]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:  # wrong JSON, wrong UTF-8, or brackets without end
                checker.report(f"line {number}", [Problem(WRONG_LINE, f"this is not JSON ({error})")])
            else:
                yield f"line {number}", row


def _json_items(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        rows = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} is not JSON: {error}. (JSON Lines end in .jsonl.)") from error
    if not isinstance(rows, list):
        raise ValueError(f"{str(path)!r} must hold a list of rows, but holds a {type(rows).__name__}.")
    return ((f"item {index}", row) for index, row in enumerate(rows))


def _load_from_hub(name: str, split: str | None) -> datasets.Dataset | datasets.DatasetDict:
    similar = _similar_path(name)
    if similar is not None:
        raise ValueError(f"There is no file or folder {name!r}. Did you mean {similar!r}?")
    # Beside an existing folder, a name of the form `folder/name` is taken for a path.
    if not is_hub_id(name) or Path(name).parent.exists():
        raise missing_source(name, "file or folder")
    logger.warning("%r is no file or folder here: looking for a data set of that name on the Hub.", name)
    try:
        return datasets.load_dataset(name, split=split)
    except (FileNotFoundError, ConnectionError) as error:
        raise ValueError(
            f"{name!r} is neither an existing file or folder, nor a data set that can be reached on the Hub ({error})."
        ) from error


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


def _load_dataset(dataset: datasets.Dataset, checker: RowChecker) -> datasets.Dataset:
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
    kept, columns = checker.finish("the data set")
    if len(kept) == len(audio):
        return datasets.concatenate_datasets([audio, datasets.Dataset.from_dict(columns)], axis=1)
    # Selected after they are joined: the other way round, embedded sounds would be copied.
    place_of = {index: place for place, index in enumerate(kept)}
    places = [place_of.get(index, 0) for index in range(len(audio))]
    columns = datasets.Dataset.from_dict(
        {name: [values[place] for place in places] for name, values in columns.items()}
    )
    return datasets.concatenate_datasets([audio, columns], axis=1).select(kept)


def _audio_sources(audio: datasets.Dataset) -> Iterator[tuple[str | None, BinaryIO | None]]:
    """Path and embedded file, row by row; of the files nothing is copied, and only what is read leaves the disk."""
    for table in audio.with_format("arrow").iter(batch_size=100):
        for column in table["audio"].chunks:
            for path, content in zip(column.field("path"), column.field("bytes"), strict=True):
                yield path.as_py(), pyarrow.BufferReader(content.as_buffer()) if content.is_valid else None


__all__ = ["METADATA_FILE", "count_longer", "load_rows", "read_other_columns"]
