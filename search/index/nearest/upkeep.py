"""Building the vector index, taking new rows into it, and measuring what it finds."""

from ..tables import KINDS, IndexTables
from .kept import kept
from .recall import WANTED, measure_recall
from .searching import EXACT_ROWS
from .vector_index import VectorIndex, build, index_columns


GROWTH = 2.0  # the groups are made anew when the index has grown by this factor
# New rows are found without being in the vector index, but each search compares with all of them.
_NEW_ROWS, _NEW_PART = 2_000, 0.01


def refresh(tables: IndexTables, is_thorough: bool = False) -> None:
    """Build, extend or remove the vector index, as the number of rows demands. Call it inside of `tables.writing()`.

    Above 50,000 rows for one kind of search, there is a vector index, and `kind` and `path` have indexes of their own.
    The vector index takes new rows in once they are many. It is built anew when the index has twice the rows that it
    had then, or when it no longer finds 95 % of the true nearest rows. After each change its recall is measured, and
    the effort of a search is set so that it finds enough.

    Args:
        tables: of the index.
        is_thorough: take all new rows in, however few they are, and measure again.
    """
    state = kept(tables).state()
    index = state.index
    large = [by for by in KINDS if state.num_rows(by) > EXACT_ROWS]
    if not large:
        if index is not None:
            tables.windows.drop_index(index.name)
        return
    index_columns(tables)
    if index is None or tables.windows.count_rows() >= GROWTH * index.num_rows_trained:
        _measured(build(tables), large)
        return
    num_new = index.statistics().num_unindexed_rows
    is_due = num_new > max(_NEW_ROWS, _NEW_PART * index.num_rows_trained)
    if is_due or (is_thorough and num_new):
        tables.compact()
    if is_due or is_thorough or any(by not in index.efforts for by in large):
        grown = tables.windows.count_rows() != index.num_rows_trained
        if not _measured(VectorIndex.read(tables) or index, large) and grown:
            _measured(build(tables), large)


def _measured(index: VectorIndex, large: list[str]) -> bool:
    """Measure and note the efforts for some searches, and return whether all find enough."""
    state = kept(index.tables).state()
    by_filter = {condition: measure_recall(index, condition) for condition in {state.filter(by) for by in large}}
    efforts = {by: by_filter[state.filter(by)] for by in large}
    index.note(efforts)
    return all((effort.recall or 0.0) >= WANTED for listed in efforts.values() for effort in listed)
