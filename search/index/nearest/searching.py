"""Search for the nearest rows: which way it goes, and the rows as they are returned."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from modeling_atri.top_k_atri import ROUNDING, check_top_k, exact_scores

from ..tables import KINDS, VECTOR, IndexTables, all_of, vector_values
from .kept import State, kept
from .memory import best_rows, row_ids


EXACT_ROWS = 50_000  # up to this number of rows, a question is compared with all of them
MEMORY_BYTES = 2**30  # vectors that are kept in memory for exact search; more of them are read for each question
_MORE_ROWS = 10  # that are read beyond those that are wanted, because their scores may be equal


def search(
    tables: IndexTables,
    vectors: np.ndarray,
    k: int,
    by: str = "file",
    where: str | None = None,
    exact: bool | None = None,
    columns: Sequence[str] | None = None,
) -> list[list[dict[str, Any]]]:
    """The `k` rows nearest to each vector, best first, with their `id`, their `score` and other columns.

    The score is the dot product of the row's vector and the question, from all their digits. Rows of equal score come
    in the order of their `id`. There are fewer than `k` rows where the index has fewer, or where fewer meet `where`.

    Args:
        tables: of the index.
        vectors: unit vectors, `(num_questions, projection_dim)`, float32.
        k: number of rows for each.
        by: `"file"` reads the rows of whole sounds, `"moment"` those of windows.
        where (*optional*): condition of SQL on the columns.
        exact (*optional*): True compares with every row. False uses the vector index, which may miss a row. Default:
            every row if there are at most 50,000 to compare with, and otherwise the vector index where there is one.
        columns (*optional*): names of the columns to return, without the vector. Default: all. Each column that is
            read from a table of a million rows takes a part of a millisecond, and one whose value is the same in all
            rows some milliseconds, because Lance makes a whole page of it to read a few rows.

    Raises:
        ValueError: `where` is no condition on the columns; the vectors have another width than those of the index; or
            the vector index is asked for and there is none; or the index was deleted or made anew since it was opened.
    """
    vectors = _questions(tables, vectors)
    check_top_k(k)
    if by not in KINDS:
        raise ValueError(f'`by` must be "file" or "moment", got {by!r}.')
    of_tables = kept(tables)
    state = of_tables.state()
    num_rows, index, dim = state.num_rows(by), state.index, tables.facts.projection_dim
    if exact is False and index is None:
        raise ValueError(
            f"`exact=False` asks for a vector index, and the index {tables.path!r} has none. It is built "
            f"for more than {EXACT_ROWS:,} rows when sounds are added, or by `optimize`; there are {num_rows:,} to "
            "compare with. Leave `exact` out."
        )
    is_exact = exact if exact is not None else _compares_all(state, by)
    condition = all_of(state.filter(by), where)
    names = [name for name in tables.windows.schema.names if name != VECTOR] if columns is None else ["id", *columns]
    names = list(dict.fromkeys(names))
    if is_exact and _fits(state, by, dim):
        with tables.explaining(where):
            allowed = None if where is None else row_ids(tables.windows, condition)
        blocks = of_tables.vectors.blocks(by)
        found = best_rows(blocks, vectors, k, allowed)
        return [_best(rows.select([*names, "score"]).to_pylist(), k) for rows in found]
    in_memory = [of for of in KINDS if _compares_all(state, of) and _fits(state, of, dim)]
    of_tables.vectors.release_others([kind for of in in_memory for kind in KINDS[of]])
    with tables.explaining(where):
        num_matching = num_rows if where is None else tables.windows.count_rows(condition)
        # The nearest of a few rows lie anywhere in the vector index.
        is_exact = is_exact or (exact is None and num_matching <= EXACT_ROWS)
        if is_exact or index is None:
            return [_rows(flat_search(tables, vector, k, condition, names), vector, k) for vector in vectors]
        run = partial(index.search, k=k, by=by, condition=condition, num_matching=num_matching, num_rows=num_rows)
        return [_rows(run(vector, columns=names), vector, k) for vector in vectors]


def _compares_all(state: State, by: str) -> bool:
    """Whether a search compares with all rows by default."""
    return state.index is None or state.num_rows(by) <= EXACT_ROWS


def _fits(state: State, by: str, dim: int) -> bool:
    """Whether the vectors that a search reads may be kept in memory."""
    return state.num_rows(by) * dim * np.dtype(np.float32).itemsize <= MEMORY_BYTES


def flat_search(
    tables: IndexTables, vector: np.ndarray, k: int, condition: str | None, columns: Sequence[str]
) -> pa.Table:
    """The rows that may be among the k nearest of all that meet a condition, without the vector index.

    The rows are read from storage, with their vectors and some columns. Those that are as near as the k-th, as far as
    float32 can tell, are returned too.
    """
    query = tables.windows.search(vector, vector_column_name=VECTOR).distance_type("dot").bypass_vector_index()
    query = query.select([VECTOR, "_distance", *columns])
    query = query if condition is None else query.where(condition, prefilter=True)
    number = k + _MORE_ROWS
    while True:
        found = query.limit(number).to_arrow()
        distances = found["_distance"].to_numpy()
        if len(found) < number or distances[-1] > distances[k - 1] + ROUNDING:
            return found
        number *= 4


def _questions(tables: IndexTables, vectors: np.ndarray) -> np.ndarray:
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    dim = tables.facts.projection_dim
    if vectors.ndim != 2 or vectors.shape[1] != dim:
        raise ValueError(f"The vectors of questions must have the shape (number, {dim}), got {vectors.shape}.")
    if not np.isfinite(vectors).all():
        raise ValueError("The vectors of questions have values that are not finite.")
    return vectors


def _rows(found: pa.Table, question: np.ndarray, k: int) -> list[dict[str, Any]]:
    """The rows that LanceDB has found, as they are returned."""
    scores = exact_scores(vector_values(found[VECTOR]), question)
    hidden = [VECTOR, *(name for name in found.column_names if name.startswith("_"))]
    return _best(found.drop_columns(hidden).append_column("score", pa.array(scores)).to_pylist(), k)


def _best(rows: list[dict[str, Any]], k: int) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: (-row["score"], row["id"]))[:k]
