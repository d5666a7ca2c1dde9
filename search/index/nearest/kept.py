"""What a process keeps of an index between two searches."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Lock

from ..tables import CLIP, KINDS, WHOLE, WINDOW, IndexTables, of_kinds, quoted
from .memory import StoredVectors
from .vector_index import VectorIndex


@dataclass(frozen=True)
class State:
    """What a version of the tables has.

    Args:
        version: of the windows and of the notes.
        counts: number of rows of each kind.
        index: the vector index, if there is one.
    """

    version: tuple[int, int]
    counts: Mapping[str, int]
    index: VectorIndex | None

    def num_rows(self, by: str) -> int:
        """Number of rows that a search by `"file"` or `"moment"` reads."""
        return sum(self.counts[kind] for kind in KINDS[by])

    def filter(self, by: str) -> str | None:
        """A condition for these rows; None if that is all rows."""
        if self.num_rows(by) == sum(self.counts.values()):
            return None
        return of_kinds(by)


@dataclass
class Kept:
    """What is kept of the tables of an index: vectors in memory, and the state of the tables.

    Both are read again after a change of the tables.
    """

    tables: IndexTables
    vectors: StoredVectors
    _state: State | None = None
    _lock: Lock = field(default_factory=Lock)

    def state(self) -> State:
        """The state of the tables now.

        Raises:
            ValueError: the index was deleted or made anew, see `IndexTables.check_present`.
        """
        tables = self.tables
        tables.check_present()
        version = (tables.windows.version, tables.notes.version)
        with self._lock:
            if self._state is None or self._state.version != version:
                counts = {kind: tables.windows.count_rows(f"kind = {quoted(kind)}") for kind in (CLIP, WHOLE, WINDOW)}
                self._state = State(version, counts, VectorIndex.read(tables))
            return self._state


def kept(tables: IndexTables) -> Kept:
    """What this process keeps of an index, as long as its tables are open."""
    with tables.kept_lock:
        if tables.kept is None:
            tables.kept = Kept(tables, StoredVectors(tables))
        found: Kept = tables.kept
        return found
