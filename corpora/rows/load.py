"""Load rows from wherever they are, and check them."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets

from modeling_atri.languages_atri import resolve_languages

from .audio_column import AUDIO_COLUMNS, audio_alone, audio_name, find_audio_column
from .bad_rows import BadRow, describe
from .checks import RowChecker
from .metadata import read_file_rows
from .opening import open_source, pick_split
from .raw_rows import PROBLEM_COLUMN
from .recordings import audio_sources


logger = logging.getLogger(__name__)

_OWN_COLUMNS = {*AUDIO_COLUMNS, "audio_id", "captions", "group_id"}


def load_rows(
    source: str | Path | datasets.Dataset | datasets.DatasetDict,
    split: str | None = None,
    *,
    languages: Sequence[str] | None = None,
    group_column: str | None = None,
    left_out: list[BadRow] | None = None,
) -> datasets.Dataset:
    """Load rows and check them. Recordings are not decoded: only their headers are read.

    Args:
        source: A folder with a `metadata.jsonl` (or with a subfolder `split` that has one), a `.jsonl` or `.json`
            file of the same rows, a `datasets.Dataset` or `DatasetDict`, or the id of a data set on the Hub
            (`"owner/name"`). In a file, `file_name` (or `audio`, if it is a string) is relative to the file's folder.
        split (`str`, *optional*): Which split to load. Needed where there are several.
        languages (*optional*): Languages that every row must have, as in `resolve_languages`.
            Other languages are left out. By default, the languages of the first row.
        group_column (`str`, *optional*): Column whose values say which rows describe the same sound. By default
            `group_id` where a row has it, else every row is its own group.
        left_out (`list`, *optional*): If given, wrong rows are added to this list instead of raising an error, and one
            warning says how many there are of each kind.

    Returns:
        `datasets.Dataset`: Rows as [`Row`] describes them, with exactly the columns `audio`, `audio_id`, `captions`
        and `group_id`. `audio_id` defaults to the recording's `file_name` without its suffix; the suffix is kept where
        two names differ only there. Of absolute paths, it is the part below the folder that all of them share.

    Raises:
        ValueError: If the source is not found or not understood, or any row is wrong. A recording is wrong if it is
            missing, unreadable or shorter than 0.15 s. The error shows the first 20 problems, each with its line
            number, and the number of problems. With `left_out`, only if no row is right, or a language is missing in
            every row.
    """
    codes = None if languages is None else resolve_languages(languages)
    if codes is not None and (not codes or len(set(codes)) < len(codes)):
        raise ValueError(f"`languages` must name at least one language and none twice, but is {languages}.")
    checker, skip = RowChecker(codes, group_column), left_out is not None
    name = "the data set"
    if isinstance(source, (str, Path)):
        name, source, split = str(source), open_source(str(source), split), None
    if isinstance(source, Path):
        name = str(source)
        rows, bad_rows = _load_file(source, checker, skip)
    else:
        rows, bad_rows = _load_dataset(pick_split(source, split), checker, skip, name)
    if left_out is not None and bad_rows:
        logger.warning("%s: %s", name, describe(bad_rows, len(rows) + len(bad_rows)))
        left_out.extend(bad_rows)
    return rows


def read_other_columns(path: Path, split: str | None, bad_rows: Sequence[BadRow] = ()) -> list[dict[str, Any]]:
    """Read the other columns of each row that `load_rows` returned for the same file; it left out `bad_rows`."""
    found = open_source(str(path), split)
    if not isinstance(found, Path):
        raise ValueError(f"{str(path)!r} is no folder or file of rows. Write it as one with `atri prepare hub` first.")
    wrong = {row.place for row in bad_rows}
    rows = [row for place, row, _ in read_file_rows(found) if place not in wrong]
    return [{name: value for name, value in row.items() if name not in _OWN_COLUMNS} for row in rows]


def _load_file(path: Path, checker: RowChecker, skip: bool) -> tuple[datasets.Dataset, list[BadRow]]:
    for place, row, problem in read_file_rows(path):
        if problem is not None:
            checker.report_line(place, problem)
            continue
        name = audio_name(row)
        if name is not None:
            checker.check(place, row, name, str(path.parent / name))
        else:
            checker.check(place, row, None, None)
    kept, bad_rows = checker.finish(str(path), skip)
    rows = datasets.Dataset.from_dict({"audio": [row.path for row in kept]} | checker.columns(kept))
    return rows.cast_column("audio", datasets.Audio(decode=False)), bad_rows


def _load_dataset(
    dataset: datasets.Dataset, checker: RowChecker, skip: bool, name: str
) -> tuple[datasets.Dataset, list[BadRow]]:
    audio_column = find_audio_column(dataset.features)
    missing = [] if audio_column else ["audio"]
    missing += [] if "captions" in dataset.column_names else ["captions"]
    if audio_column is None or missing:
        raise ValueError(
            f"The data set has no column {' and no column '.join(missing)}; it has {', '.join(dataset.column_names)}. "
            "Please rename its columns (`dataset.rename_column`)."
        )
    audio = audio_alone(dataset, audio_column)
    wanted = {"captions", "audio_id", "group_id", checker.group_column, PROBLEM_COLUMN}
    rows = dataset.select_columns([column for column in sorted(dataset.column_names) if column in wanted])
    for index, (row, (path, content)) in enumerate(zip(rows, audio_sources(audio), strict=True)):
        if row.get(PROBLEM_COLUMN):
            checker.report_line(f"row {index}", row[PROBLEM_COLUMN])
        else:
            checker.check(f"row {index}", row, path, path, content)
    kept, bad_rows = checker.finish(name, skip)
    if not bad_rows:
        columns = datasets.Dataset.from_dict(checker.columns(kept))
        return datasets.concatenate_datasets([audio, columns], axis=1), bad_rows
    # Columns are joined before rows are selected, because selecting first would copy embedded sounds. The joined
    # columns need a value for rows that are left out as well: any will do.
    row_at = {row.number: row for row in kept}
    columns = datasets.Dataset.from_dict(checker.columns(row_at.get(index, kept[0]) for index in range(len(audio))))
    return datasets.concatenate_datasets([audio, columns], axis=1).select(list(row_at)), bad_rows
