"""Shards whose rows are checked while they are read."""

import lzma
import tarfile
import zlib
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from datasets.exceptions import DatasetsError
from huggingface_hub.errors import HTTPError

from ..rows.bad_rows import BadRow
from ..rows.schema import Row
from .raw.blocks import RawBlock, RawRow, RawShards
from .row_shards import ShardReader, StreamFacts
from .rules import RowRules


# What is raised for content that is damaged or in another form. An error of the disk has a number, and an error of the
# connection is none of the content: both are raised.
_DAMAGE = (
    *(ValueError, EOFError, OSError),
    *(pa.ArrowException, zlib.error, lzma.LZMAError, tarfile.TarError, DatasetsError),
)
_NO_DAMAGE = (ConnectionError, TimeoutError, FileNotFoundError, PermissionError, HTTPError)
_DAMAGED = "damaged"


class CheckedShards:
    """Shards of a source, as `RowShards`, whose rows are checked.

    Args:
        raw: The source.
        rules: The rules for its rows.
    """

    def __init__(self, raw: RawShards, rules: RowRules) -> None:
        self._raw, self._rules = raw, rules
        self.name, self.num_shards, self.num_rows = raw.name, raw.num_shards, raw.num_rows
        self.version, self.times = raw.version, raw.times

    @property
    def facts(self) -> StreamFacts:
        """What all rows have in common."""
        return self._rules.facts

    def open(self, shard: int, state: dict[str, Any] | None = None, part: int = 0, num_parts: int = 1) -> ShardReader:
        """Read a shard, as `RowShards.open` does.

        Raises:
            ValueError: if there is no such shard or part.
        """
        if not (0 <= shard < self.num_shards and 0 <= part < num_parts):
            raise ValueError(
                f"{self.name} has {self.num_shards} shards, but shard {shard}, part {part} of {num_parts}, is wanted."
            )
        return _CheckedReader(self._raw, self._rules, shard, state, part, num_parts)


class _CheckedReader:
    """Reads a shard. Its state is the beginning of a block, and the number of rows of it that were passed."""

    def __init__(
        self, raw: RawShards, rules: RowRules, shard: int, state: dict[str, Any] | None, part: int, num_parts: int
    ) -> None:
        self._raw, self._rules, self._shard = raw, rules, shard
        self._part, self._num_parts = part, num_parts
        self._state = {"block": None, "passed": 0} if state is None else dict(state)
        self._rows = self._read(**self._state)

    def __iter__(self) -> ShardReader:
        return self

    def __next__(self) -> Row | BadRow:
        row, self._state = next(self._rows)
        return row

    def state(self) -> dict[str, Any]:
        """The place after the last row that was given."""
        return dict(self._state)

    def _read(self, block: Any, passed: int) -> Iterator[tuple[Row | BadRow, dict[str, Any]]]:
        for raw in readable_blocks(self._raw, self._shard, block):
            numbers = [
                number for number in range(passed, raw.size) if (raw.first + number) % self._num_parts == self._part
            ]
            for number, row in zip(numbers, self._rules.check(raw, numbers) if numbers else (), strict=True):
                yield row, {"block": raw.start, "passed": number + 1}
            passed = 0


def readable_blocks(raw: RawShards, shard: int, start: Any = None) -> Iterator[RawBlock]:
    """The blocks of a shard. If its content is damaged, the last of them is a row that says so."""
    if isinstance(start, dict) and _DAMAGED in start:
        yield _damage(*start[_DAMAGED])
        return
    end = 0
    try:
        for block in raw.blocks(shard, start):
            yield block
            end = block.first + block.size
    except _NO_DAMAGE:
        raise
    except _DAMAGE as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        lines = str(error).strip().splitlines() or [type(error).__name__]
        yield _damage(raw.label(shard), end, f"the rest cannot be read: {lines[0]}")


def _damage(label: str, first: int, text: str) -> RawBlock:
    row = RawRow(f"{label}, row {first}", {}, problem=text)
    return RawBlock({_DAMAGED: [label, first, text]}, first, 1, lambda number: row)
