"""Blocks of rows as they are in a source, unchecked, and what a source of them is."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import pyarrow as pa


class RawRow(NamedTuple):
    """A row as it is in its source.

    Args:
        place: Where it is, as `"shard-000.tar, row 3"`.
        row: Its columns. Those of the recording may be among them.
        sound: Returns its recording; None if it has none.
        name: Name of the recording, relative to the data set.
        problem: Why it cannot be read; None if it can.
    """

    place: str
    row: Mapping[str, Any]
    sound: Callable[[], Any] | None = None
    name: str | None = None
    problem: str | None = None


class RawBlock(NamedTuple):
    """Successive rows of a shard.

    Args:
        start: Where the block begins, as a value that JSON can hold. `RawShards.blocks` goes on from it.
        first: Number of its first row in the shard.
        size: Number of its rows.
        row_at: Returns a row by its number in the block.
        table: The rows in columns, for rows without recordings.
    """

    start: Any
    first: int
    size: int
    row_at: Callable[[int], RawRow]
    table: pa.Table | None = None


class RawShards(Protocol):
    """A source of unchecked rows. The members are as in `RowShards`."""

    @property
    def name(self) -> str: ...

    @property
    def num_shards(self) -> int: ...

    @property
    def num_rows(self) -> int | None: ...

    @property
    def version(self) -> str: ...

    @property
    def times(self) -> str: ...

    def label(self, shard: int) -> str:
        """The name of a shard in messages."""
        ...

    def blocks(self, shard: int, start: Any = None) -> Iterator[RawBlock]:
        """Read a shard from its beginning, or from the `start` of one of its blocks."""
        ...


def relative_name(name: str, folders: Sequence[Path] = ()) -> str:
    """The name of a recording, of which its id is made: relative to the first of the folders that it is below.

    Of other absolute paths, it is the whole path. What a set of paths shares is not known while they are streamed.
    """
    for folder in folders:
        if name.startswith(f"{folder}{os.sep}"):
            return name[len(str(folder)) + 1 :]
    return name.lstrip("/")


Item = TypeVar("Item")


def in_lists(items: Iterator[Item], size: int) -> Iterator[list[Item]]:
    """Collect items in lists. An error is raised after those before it were given."""
    error: Exception | None = None
    while error is None:
        found: list[Item] = []
        try:
            found.extend(islice(items, size))  # items before an error stay
        except Exception as raised:  # noqa: BLE001 - raised below
            error = raised
        if found:
            yield found
        elif error is None:
            return
    raise error
