"""What the search of an index takes and finds, for its statistics."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...object_storage import is_address
from ..tables import WINDOWS, IndexTables
from .kept import kept
from .vector_index import Effort


@dataclass(frozen=True)
class SearchFigures:
    """Figures of the search of an index.

    Args:
        is_indexed: whether there is a vector index. Without it, a question is compared with all rows.
        num_groups: number of groups of the vector index.
        num_indexed, num_new: rows that are in the vector index, and rows that are not in it yet. Both are found.
        index_bytes: size of the vector index in storage; None on object storage.
        memory_bytes: memory that vectors take in this process.
        efforts: for a search by `"file"` or `"moment"`, what it reads of the vector index for 10 and for 100 rows, and
            the part of the true nearest rows that it finds then (`recall`), measured on vectors of the index.
    """

    is_indexed: bool = False
    num_groups: int = 0
    num_indexed: int = 0
    num_new: int = 0
    index_bytes: int | None = 0
    memory_bytes: int = 0
    efforts: Mapping[str, Sequence[Effort]] = field(default_factory=dict)


def figures(tables: IndexTables) -> SearchFigures:
    """The figures of the search of an index."""
    memory = kept(tables).vectors.num_bytes
    index = kept(tables).state().index
    if index is None:
        return SearchFigures(num_new=tables.windows.count_rows(), memory_bytes=memory)
    statistics = index.statistics()
    indexed, new = statistics.num_indexed_rows, statistics.num_unindexed_rows
    return SearchFigures(True, index.num_groups, indexed, new, _index_bytes(tables.path), memory, index.efforts)


def _index_bytes(path: str) -> int | None:
    if is_address(path):
        return None
    folder = Path(path) / f"{WINDOWS}.lance" / "_indices"
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
