"""The vector index of an index: vectors in groups of neighbours, each shortened to one bit a dimension.

A search reads the groups whose centres are nearest to the question, and compares the best rows again by their stored
vectors. See RaBitQ (https://arxiv.org/abs/2405.12497) for the short form, and LanceDB's `IvfRq` for the index.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from ..tables import VECTOR, IndexTables


NOTE = "vector_index"  # name of the note
_ITERATIONS, _SAMPLE_RATE = (
    15,
    64,
)  # of the search for groups; LanceDB's 50 and 256 took four times as long for nothing


@dataclass(frozen=True)
class Effort:
    """How much of the vector index a search reads, and what it finds then.

    Args:
        k: number of rows that are searched for.
        groups: number of groups that are read.
        refine: this many times `k` rows are compared by their stored vectors.
        recall: part of the true `k` rows that is found, as `measure_recall` has measured it.
    """

    k: int
    groups: int
    refine: int
    recall: float | None = None


@dataclass(frozen=True)
class VectorIndex:
    """The vector index of the tables of an index.

    Args:
        tables: of the index.
        name: of the vector index in LanceDB.
        num_groups: number of groups.
        num_rows_trained: number of rows when the groups were made.
        efforts: for a search by `"file"` or `"moment"`, with the effort for a small `k` first.
    """

    tables: IndexTables
    name: str
    num_groups: int
    num_rows_trained: int
    efforts: Mapping[str, list[Effort]]

    @classmethod
    def read(cls, tables: IndexTables) -> "VectorIndex | None":
        """The vector index of tables; None if there is none."""
        names = [index.name for index in tables.windows.list_indices() if list(index.columns) == [VECTOR]]
        if not names:
            return None
        note = tables.notes.read(NOTE)
        rows = note.get("num_rows_trained") or tables.windows.count_rows()
        efforts = {by: [Effort(**effort) for effort in listed] for by, listed in note.get("efforts", {}).items()}
        return cls(tables, names[0], note.get("num_groups") or groups_for(rows), rows, efforts)

    def note(self, efforts: Mapping[str, list[Effort]]) -> None:
        """Write down the efforts that were measured."""
        noted = {by: [asdict(effort) for effort in listed] for by, listed in efforts.items()}
        facts = {"num_groups": self.num_groups, "num_rows_trained": self.num_rows_trained}
        self.tables.notes.write(NOTE, {**facts, "efforts": noted})

    def effort(self, k: int, by: str) -> Effort:
        """The effort for `k` rows. Before it was measured, a quarter of the groups is read."""
        measured = self.efforts.get(by, [])
        if not measured:
            return Effort(k, math.ceil(self.num_groups / 4), 10)
        found = next((effort for effort in measured if effort.k >= k), measured[-1])
        more = max(1.0, k / found.k)  # more rows lie in more groups
        return Effort(k, min(self.num_groups, math.ceil(found.groups * more)), found.refine, found.recall)

    def search(
        self,
        vector: np.ndarray,
        k: int,
        by: str,
        condition: str | None,
        num_matching: int,
        num_rows: int,
        columns: Sequence[str],
    ) -> pa.Table:
        """The nearest rows that meet a condition, with their vectors and some columns.

        Args:
            vector: of the question.
            k: number of rows.
            by: `"file"` or `"moment"`.
            condition: for the rows; None for all.
            num_matching: number of rows that meet it. If it is a part of those that the search usually reads, the
                nearest of them lie in more groups.
            num_rows: number of rows that a search reads without a filter of the user.
            columns: names of the columns.
        """
        effort = self.effort(k, by)
        groups = min(self.num_groups, math.ceil(effort.groups * num_rows / max(1, num_matching)))
        found = self.run(vector, Effort(k, groups, effort.refine), condition, columns)
        if len(found) < min(k, num_matching) and groups < self.num_groups:
            return self.run(vector, Effort(k, self.num_groups, effort.refine), condition, columns)
        return found

    def run(self, vector: np.ndarray, effort: Effort, condition: str | None, columns: Sequence[str] = ()) -> pa.Table:
        """Search with a given effort, for vectors and some columns."""
        query = self.tables.windows.search(vector, vector_column_name=VECTOR)
        query = query if condition is None else query.where(condition, prefilter=True)
        query = query.select([VECTOR, "_distance", *columns])
        return query.nprobes(effort.groups).refine_factor(effort.refine).limit(effort.k).to_arrow()

    def statistics(self) -> Any:
        """LanceDB's statistics, with the number of rows that are in the vector index and of those that are not."""
        return self.tables.windows.index_stats(self.name)


def groups_for(num_rows: int) -> int:
    """Number of groups for a number of rows."""
    return max(1, round(math.sqrt(num_rows)))


def build(tables: IndexTables) -> VectorIndex:
    """Make the vector index of all rows, in place of another one."""
    from lancedb.index import IvfRq, IvfSq

    num_rows = tables.windows.count_rows()
    groups = groups_for(num_rows)
    tables.notes.write(NOTE, {"num_groups": groups, "num_rows_trained": num_rows})
    # RaBitQ takes widths that are a multiple of 8. Others are kept with one byte a dimension.
    kind = IvfSq if tables.facts.projection_dim % 8 else IvfRq
    config = kind(distance_type="l2", num_partitions=groups, max_iterations=_ITERATIONS, sample_rate=_SAMPLE_RATE)
    tables.windows.create_index(VECTOR, config=config, replace=True)
    index = VectorIndex.read(tables)
    if index is None:
        raise RuntimeError(f"LanceDB has made no vector index of {tables.path!r}.")
    return index


def index_columns(tables: IndexTables) -> None:
    """Make the indexes of columns by which rows of large tables are looked up, as far as they are missing.

    A search for files or moments then finds the rows of its kinds, and a sound is found by its path, without reading
    these columns: among a million rows in 2 ms instead of 60.
    """
    from lancedb.index import Bitmap, BTree

    present = {name for index in tables.windows.list_indices() for name in index.columns}
    for name, kind in (("kind", Bitmap), ("path", BTree)):
        if name not in present:
            tables.windows.create_index(name, config=kind())
