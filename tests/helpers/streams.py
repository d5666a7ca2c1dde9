"""Streams in memory, whose shards keep count of what is read of them."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from modeling_atri.corpora.rows.bad_rows import UNREADABLE_RECORDING, BadRow
from modeling_atri.corpora.rows.lookup import EmbeddingFacts
from modeling_atri.corpora.streams.row_shards import RowStream, StreamFacts
from modeling_atri.embedding_store.facts import StoreFacts
from tests.helpers.training import LANGUAGES


class MemoryReader:
    def __init__(self, shards: "MemoryShards", shard: int, index: int, part: int, num_parts: int):
        self.shards, self.shard, self.index, self.part, self.num_parts = shards, shard, index, part, num_parts

    def __iter__(self):
        return self

    def __next__(self):
        rows = self.shards.rows[self.shard]
        while self.index < len(rows):
            index, self.index = self.index, self.index + 1
            if index % self.num_parts == self.part:
                self.shards.num_read += 1
                return rows[index]
        raise StopIteration

    def state(self) -> dict[str, Any]:
        return {"index": self.index, "part": [self.part, self.num_parts]}


class MemoryShards:
    """Shards that are lists of rows. `num_rows` may be another number than it is, or None."""

    def __init__(self, rows: Sequence[Sequence[Any]], facts: StreamFacts, num_rows: int | None = None, name="memory"):
        self.rows, self.facts, self.num_rows, self.name = rows, facts, num_rows, name
        self.version = self.times = ""
        self.num_shards, self.num_read, self.num_opened = len(rows), 0, 0

    def open(self, shard: int, state: dict[str, Any] | None = None, part: int = 0, num_parts: int = 1) -> MemoryReader:
        assert state is None or state["part"] == [part, num_parts]
        self.num_opened += 1
        return MemoryReader(self, shard, 0 if state is None else state["index"], part, num_parts)


def split(rows: Sequence[Any], sizes: Sequence[int]) -> list[list[Any]]:
    """Cut rows into shards of these sizes."""
    ends = np.cumsum(sizes).tolist()
    assert ends[-1] == len(rows)
    return [list(rows[start:end]) for start, end in zip([0, *ends], ends, strict=False)]


def stream_of(rows: Sequence[Any], sizes: Sequence[int] | None = None, is_known: bool = True, **facts) -> RowStream:
    """A stream of one source, with the rows in shards of these sizes."""
    sizes = sizes or [len(rows)]
    of_rows = facts_of(rows)
    shards = MemoryShards(split(rows, sizes), of_rows._replace(**facts), len(rows) if is_known else None)
    return RowStream((shards,))


def facts_of(rows: Sequence[Any]) -> StreamFacts:
    first = next((row for row in rows if not isinstance(row, BadRow)), None)
    if first is None:
        return StreamFacts(LANGUAGES, True)
    vector = first.get("audio_embedding")
    facts = None
    if vector is not None:
        facts = EmbeddingFacts("the column `audio_embedding`", len(vector), 1.0, 1.0, StoreFacts())
    return StreamFacts(list(first["captions"]), "audio" in first, facts, "teacher_embedding" in first)


def named(count: int, prefix: str = "clip") -> list[dict]:
    """Rows that are only names."""
    return [
        {"audio_id": f"{prefix} {number}", "captions": {}, "group_id": f"{prefix} {number}"} for number in range(count)
    ]


def bad(number: int) -> BadRow:
    return BadRow(f"line {number}", f"bad {number}", UNREADABLE_RECORDING, "it is no sound")


def on_ranks(world_size: int, task: Callable[[int, Callable], Any]) -> list[Any]:
    """Results of a task on processes that are threads. It is called with its rank and with a function that gathers."""
    barrier, values, results, errors = threading.Barrier(world_size), [None] * world_size, [None] * world_size, []

    def run(rank: int) -> None:
        def gather(value: Any) -> list[Any]:
            values[rank] = value
            barrier.wait(20)
            found = list(values)
            barrier.wait(20)
            return found

        try:
            results[rank] = task(rank, gather if world_size > 1 else lambda value: [value])
        except BaseException as error:  # noqa: BLE001 - raised below
            barrier.abort()
            errors.append(error)

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(world_size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results
