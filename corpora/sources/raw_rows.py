"""Rows that come from files, as a `datasets.Dataset` with columns of any names and types."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa

from .audio_column import AUDIO_COLUMNS, NO_AUDIO, audio_name, undecoded
from .metadata import read_file_rows


# A column that says why a row cannot be used; null where it can. A data set without such rows does not have it.
PROBLEM_COLUMN = "__problem__"


def rows_of_files(paths: Sequence[Path], audio_column: str | None = None) -> datasets.Dataset:
    """Make a data set of files of rows, whose paths of recordings are relative to the file's folder.

    Args:
        paths: Files that `read_file_rows` reads.
        audio_column (*optional*): Column of the recordings. By default, the first of `AUDIO_COLUMNS` that a row has.
            With `NO_AUDIO`, the rows stay as they are.

    Raises:
        ValueError: if a file cannot be read, or all of them hold no rows.
    """
    rows: list[dict[str, Any]] = []
    for path in paths:
        for place, row, problem in read_file_rows(path):
            fault = problem and f"{path.name}, {place}: {problem}"
            if audio_column == NO_AUDIO:
                rows.append(row | {PROBLEM_COLUMN: fault})
                continue
            name = audio_name(row) if audio_column is None else row.get(audio_column)
            file = str(path.parent / name) if isinstance(name, str) and name else None
            other = {column: value for column, value in row.items() if column not in AUDIO_COLUMNS}
            rows.append({audio_column or "audio": file} | other | {PROBLEM_COLUMN: fault})
    if not rows:
        raise ValueError(f"{' and '.join(map(str, paths))}: there are no rows.")
    dataset, column = datasets.Dataset(row_table(rows)), audio_column or "audio"
    return undecoded(dataset, column) if column in dataset.column_names else dataset


def row_table(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Make a table of rows whose values may have different types.

    Where strings and lists of strings are mixed, strings become lists of one, also by language. What still differs is
    written as JSON. Columns without a value are left out.
    """
    rows = list(rows)
    columns = list(dict.fromkeys(column for row in rows for column in row))
    arrays = {column: _array([row.get(column) for row in rows]) for column in columns}
    return pa.table({column: array for column, array in arrays.items() if not pa.types.is_null(array.type)})


def _array(values: list[Any]) -> pa.Array:
    for change in (_same, _as_lists, _as_json):
        try:
            return pa.array([change(value) for value in values], from_pandas=False)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
            continue
    raise AssertionError("every value can be written as JSON")


def _same(value: Any) -> Any:
    return value


def _as_lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: [text] if isinstance(text, str) else text for name, text in value.items()}
    return [value] if isinstance(value, str) else value


def _as_json(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=True, default=str)
