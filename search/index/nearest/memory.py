"""The vectors of an index in memory, and those that score best with a question."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa

from modeling_atri.top_k_atri import best_places, exact_scores, near_best

from ..tables import KINDS, VECTOR, IndexTables, quoted, vector_values


_ROWS_AT_ONCE = 8192


@dataclass(frozen=True)
class Block:
    """The rows of one kind.

    Args:
        row_ids: the table's row ids, `(n,)` uint64. The vector behind a row id never changes.
        vectors: `(n, dim)`, float32.
        columns: the other columns.
    """

    row_ids: np.ndarray
    vectors: np.ndarray
    columns: pa.Table


@dataclass
class StoredVectors:
    """The rows of an index that were read into memory, by kind.

    Each kind is read when it is first needed. After a change of the table, only vectors of new rows are read.
    """

    tables: IndexTables
    _blocks: dict[str, tuple[int, Block]] = field(default_factory=dict)  # with the version of the table
    _lock: Any = field(default_factory=Lock)

    def blocks(self, by: str) -> list[Block]:
        """The rows that a search by `"file"` or `"moment"` reads, as they are in the table now."""
        with self._lock:
            version = self.tables.windows.version
            for kind in KINDS[by]:
                known, block = self._blocks.get(kind, (None, None))
                if known != version:
                    # A row that is written from here on may be in the block. The next search looks again anyway.
                    self._blocks[kind] = version, _read(self.tables, kind, block)
            return [self._blocks[kind][1] for kind in KINDS[by]]

    @property
    def num_bytes(self) -> int:
        """Memory that the vectors and the other columns take."""
        return sum(block.vectors.nbytes + block.columns.nbytes for _, block in self._blocks.values())

    def release_others(self, kinds: Collection[str]) -> None:
        """Free the memory of all rows but those of some kinds."""
        with self._lock:
            for kind in self._blocks.keys() - set(kinds):
                del self._blocks[kind]


def best_rows(
    blocks: Sequence[Block], questions: np.ndarray, k: int, allowed: np.ndarray | None = None
) -> Iterator[pa.Table]:
    """For each of the `(q, dim)` questions its k best rows, and all that score as much as the last of them.

    They are in no order, and have their `score`.

    Args:
        blocks: the rows that are compared, one block at least.
        questions: unit vectors.
        k: number of rows.
        allowed (*optional*): row ids of the only rows that may be found.

    Raises:
        ValueError: a vector holds NaN or infinity.
    """
    masks = [None if allowed is None else np.isin(block.row_ids, allowed) for block in blocks]
    found = [near_best(questions, block.vectors, k, mask) for block, mask in zip(blocks, masks, strict=True)]
    for question, *places in zip(questions, *found, strict=True):
        scores = [exact_scores(block.vectors, question, own) for block, own in zip(blocks, places, strict=True)]
        every = np.concatenate(scores)
        lowest = every[best_places(every, k)[-1]] if len(every) else 0.0
        parts = []
        for block, own, of_block in zip(blocks, places, scores, strict=True):
            is_best = of_block >= lowest
            rows = block.columns.take(own[is_best])
            parts.append(rows.append_column("score", pa.array(of_block[is_best])))
        yield pa.concat_tables(parts, promote_options="default")


def row_ids(table: Any, condition: str | None) -> np.ndarray:
    """The row ids of the rows that meet a condition, `(n,)` uint64."""
    query = table.search().with_row_id(True).select(["_rowid"])
    if condition is not None:
        query = query.where(condition)
    found: np.ndarray = query.to_arrow()["_rowid"].to_numpy()
    return found


def _read(tables: IndexTables, kind: str, before: Block | None) -> Block:
    """The rows of a kind. Vectors that are in the block from `before` are not read again."""
    table, dim = tables.windows, tables.facts.projection_dim
    condition = f"kind = {quoted(kind)}"
    names = [name for name in table.schema.names if name != VECTOR]
    columns = table.search().where(condition).with_row_id(True).select(names).to_arrow()
    present = columns["_rowid"].to_numpy()
    if before is None:
        before = Block(np.empty(0, np.uint64), np.empty((0, dim), np.float32), columns[:0])
    is_known = np.isin(present, before.row_ids)
    order = np.argsort(~is_known, kind="stable")  # known rows first
    row_ids, num_known = present[order], int(np.count_nonzero(is_known))
    vectors = np.empty((len(row_ids), dim), np.float32)
    if num_known:
        by_id = np.argsort(before.row_ids)
        places = by_id[np.searchsorted(before.row_ids[by_id], row_ids[:num_known])]
        np.take(before.vectors, places, axis=0, out=vectors[:num_known])
    new = np.sort(row_ids[num_known:])
    place_of = num_known + np.argsort(row_ids[num_known:])
    is_read = np.arange(len(row_ids)) < num_known
    for ids, column in _all_vectors(table, condition) if num_known == 0 else _vectors_of(table, new):
        found = np.minimum(np.searchsorted(new, ids), max(0, len(new) - 1))
        expected = new[found] == ids if len(new) else np.zeros(len(ids), dtype=bool)
        vectors[place_of[found[expected]]] = vector_values(column)[expected]
        is_read[place_of[found[expected]]] = True
    block = Block(row_ids, vectors, columns.drop_columns(["_rowid"]).take(order).combine_chunks())
    if is_read.all():
        return block
    # Another process has removed rows since their row ids were read.
    return Block(block.row_ids[is_read], block.vectors[is_read], block.columns.filter(is_read))


def _all_vectors(table: Any, condition: str) -> Iterator[tuple[np.ndarray, Any]]:
    query = table.search().with_row_id(True).select([VECTOR])
    if table.count_rows(f"NOT ({condition})"):
        query = query.where(condition)
    for batch in query.to_batches(_ROWS_AT_ONCE):
        yield batch["_rowid"].to_numpy(), batch[VECTOR]


def _vectors_of(table: Any, rows: np.ndarray) -> Iterator[tuple[np.ndarray, Any]]:
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        query = table.take_row_ids(rows[start : start + _ROWS_AT_ONCE].tolist())
        batch = query.select([VECTOR]).with_row_id().to_arrow()
        yield batch["_rowid"].to_numpy(), batch[VECTOR]
