"""Collect rows without recordings, which are read one by one, in an Arrow table that takes little memory."""

from collections.abc import Iterable, Mapping
from itertools import chain, islice
from typing import Any

import numpy as np
import pyarrow as pa

from ...sources.raw_rows import PROBLEM_COLUMN, row_table
from ..checks.row_checker import VECTOR_COLUMNS
from ..lookup import EMBEDDING_COLUMN


_ROWS_AT_ONCE = 4096


def soundless_table(rows: Iterable[tuple[Any, str | None]]) -> pa.Table:
    """Make a table of rows. Each comes with a text that says what is wrong with it, or None.

    The column `audio_embedding` holds lists in single precision, or ids. A value of another kind than that of the
    first row is left out, and described in `PROBLEM_COLUMN`.
    """
    blocks, kind = [], None
    iterator = iter(rows)
    for first in iterator:
        block = [_as_row(row, problem) for row, problem in chain([first], islice(iterator, _ROWS_AT_ONCE - 1))]
        kind = kind or next((type_ for row in block if (type_ := _kind(row.get(EMBEDDING_COLUMN)))), None)
        blocks.append(_block(block, kind))
    if not blocks:
        return pa.table({})
    try:
        return pa.concat_tables(blocks, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):  # columns of changing types
        others = row_table(row for block in blocks for row in _without_embeddings(block).to_pylist())
        if all(EMBEDDING_COLUMN not in block.column_names for block in blocks):
            return others
        embeddings = pa.chunked_array([chunk for block in blocks for chunk in block[EMBEDDING_COLUMN].chunks])
        return others.append_column(EMBEDDING_COLUMN, embeddings)


def _without_embeddings(table: pa.Table) -> pa.Table:
    return table.drop_columns([EMBEDDING_COLUMN] if EMBEDDING_COLUMN in table.column_names else [])


def _as_row(row: Any, problem: str | None) -> dict[str, Any]:
    if isinstance(row, Mapping):
        vectors = {name: _nested(row[name]) for name in VECTOR_COLUMNS if row.get(name) is not None}
        return {**row, **vectors} if problem is None else {**row, **vectors, PROBLEM_COLUMN: problem}
    return {PROBLEM_COLUMN: f"a row must be a dict, but this is a {type(row).__name__}"}


def _nested(vectors: Any) -> Any:
    """A vector or a list of vectors as a list of lists, so that a column can have both; other values unchanged."""
    try:
        found = np.asarray(vectors, dtype=np.float64)
    except (TypeError, ValueError):
        return vectors
    return np.atleast_2d(found).tolist() if found.ndim in (1, 2) else vectors


def _kind(embedding: Any) -> pa.DataType | None:
    """The type of a column with this embedding; None if it is missing."""
    if embedding is None or (
        isinstance(embedding, float) and np.isnan(embedding)
    ):  # pandas has NaN for missing values
        return None
    return pa.string() if isinstance(embedding, (str, int)) else pa.list_(pa.float32())


def _block(rows: list[dict[str, Any]], kind: pa.DataType | None) -> pa.Table:
    if kind is None:
        for row in rows:
            row.pop(EMBEDDING_COLUMN, None)
        return row_table(rows)
    values = [_checked(row, kind) for row in rows]
    table = row_table(rows)
    if not table.column_names:  # nothing but embeddings
        return pa.table({EMBEDDING_COLUMN: pa.array(values, kind)})
    return table.append_column(EMBEDDING_COLUMN, pa.array(values, kind))


def _checked(row: dict[str, Any], kind: pa.DataType) -> Any:
    """Remove and return the embedding of a row; None, with a problem noted in the row, if it is of another kind."""
    value = row.pop(EMBEDDING_COLUMN, None)
    own = _kind(value)
    if own is None:
        return None
    if own == kind == pa.string():
        return str(value)
    try:
        vector = np.asarray(value, dtype=np.float32) if own == kind else None
    except (TypeError, ValueError):  # a list of other things
        vector = None
    if vector is not None and vector.ndim == 1:
        return vector
    wanted = "an id, as in" if kind == pa.string() else "a list of numbers, as in"
    row[PROBLEM_COLUMN] = f"`audio_embedding` must be {wanted} the first row, but is {value!r:.100}"
    return None
