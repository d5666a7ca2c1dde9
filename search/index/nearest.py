"""The rows of an index whose vectors are nearest to those of a question."""

from typing import Any

import numpy as np

from .tables import OF_FILES, OF_MOMENTS, VECTOR, IndexTables, all_of


def search(
    tables: IndexTables,
    vectors: np.ndarray,
    k: int,
    by: str = "file",
    where: str | None = None,
    exact: bool | None = None,
) -> list[list[dict[str, Any]]]:
    """The `k` rows nearest to each vector, best first, with all columns but the vector, and their `score`.

    Args:
        tables: of the index.
        vectors: unit vectors, `(num_questions, projection_dim)`, float32.
        k: number of rows for each.
        by: `"file"` reads the rows of whole sounds, `"moment"` those of windows.
        where (*optional*): condition of SQL on the columns.
        exact (*optional*): whether to compare with every row. Default: as the size of the index demands.
    """
    condition = all_of(OF_FILES if by == "file" else OF_MOMENTS, where)
    with tables.explaining(where):
        rows = tables.windows.search().where(condition).to_arrow()
    stored = rows[VECTOR].combine_chunks().flatten().to_numpy().reshape(len(rows), vectors.shape[1])
    scores = vectors @ stored.T
    found = []
    for of_question in scores:
        best = np.argsort(-of_question, kind="stable")[:k]
        shown = rows.drop_columns([VECTOR]).take(best).to_pylist()
        found.append([row | {"score": float(of_question[place])} for row, place in zip(shown, best, strict=True)])
    return found
