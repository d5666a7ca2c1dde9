"""Checked rows of a whole source, before they are kept."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import datasets
import numpy as np
import pyarrow as pa

from ..bad_rows import BadRow
from ..checks.checked_row import CheckedRow


# Of a record batch on disk. The parts of a row lie together in one, so that few pages are read to look a row up.
_BATCH_BYTES, _BATCH_ROWS = 2**18, 1024


class Beside(NamedTuple):
    """What rows need that is not kept with them, because their source holds it.

    Args:
        columns: `audio`, for recordings that the rows contain, and columns of vectors.
        renamed: by number of the row, the paths of files whose names have another Unicode form on disk.
        unreadable: by number of the row, what is wrong with recordings that the rows contain.
    """

    columns: list[str]
    renamed: dict[int, str]
    unreadable: dict[int, str]


@dataclass
class Joined:
    """Checked rows of a source.

    Args:
        tables: returns the rows in parts, with the columns that `load_rows` returns. If some of these are taken from
            the source, only with the others, and a row that is left out is null.
        schema: of these parts.
        files: the recording of each row that is not left out, as the row names it; null without one.
        states: sizes, times of the last change and numbers of samples of the files, `(rows, 3)`, int64.
        bad_rows: rows that are left out.
        wrong: those of them that were checked one by one, each with the state of its file.
        beside: what is taken from the source; None if the rows are whole.
    """

    tables: Callable[[], Iterator[pa.Table]]
    schema: pa.Schema
    files: pa.ChunkedArray
    states: np.ndarray
    bad_rows: list[BadRow]
    wrong: list[tuple[CheckedRow, tuple[int, int]]] = field(default_factory=list)
    beside: Beside | None = None


def record_batches(table: pa.Table) -> list[pa.RecordBatch]:
    """Rows in batches for a file."""
    whole = table.combine_chunks()
    fitting = _BATCH_BYTES * len(whole) // max(1, whole.nbytes)
    batches: list[pa.RecordBatch] = whole.to_batches(max_chunksize=min(max(1, fitting), _BATCH_ROWS))
    return batches


def row_schema(
    languages: Sequence[str], has_audio: bool, vectors: Sequence[str], kept: Sequence[CheckedRow]
) -> pa.Schema:
    """The schema of checked rows as `datasets` writes it.

    Args:
        languages: of their captions.
        has_audio: whether there is a column of recordings.
        vectors: columns of vectors.
        kept: the rows with vectors.
    """
    columns: dict[str, Any] = {"audio": datasets.Audio(decode=False)} if has_audio else {}
    columns["audio_id"] = datasets.Value("string")
    columns["captions"] = {code: datasets.List(datasets.Value("string")) for code in languages}
    columns["group_id"] = datasets.Value("string")
    for name in vectors:
        values = [row.vectors.get(name) for row in kept]
        columns[name] = datasets.Dataset.from_dict({name: values}).features[name]
    return datasets.Features(columns).arrow_schema
