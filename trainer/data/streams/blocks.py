"""Blocks of rows: what a process reads of a stream at once, and how all processes end an epoch together."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from modeling_atri.corpora.rows.bad_rows import BadRow
from modeling_atri.corpora.rows.schema import Row
from modeling_atri.corpora.streams.row_shards import RowStream

from ..draws import BLOCK_ORDER, SHARD_ORDER, SOURCE, random_stream
from .dealing import SourcePlace, SourceReader


_READ_AT_ONCE = 16  # rows that are read together where few may be needed

Slot = Row | BadRow
Gather = Callable[[Any], list[Any]]  # the values of all processes, in their order


@dataclass(frozen=True)
class Block:
    """Rows of a process, in the order in which they are used.

    Args:
        rows: The rows.
        start: Where each source was read from.
        counts: Number of rows that each process has.
        is_last: Whether it is the last block of the epoch.
    """

    rows: list[Slot]
    start: tuple[SourcePlace, ...]
    counts: list[int]
    is_last: bool


class BlockReader:
    """Reads the blocks of an epoch, the next one in a thread while the rows of the last are used.

    Every process gives the same number of rows for a block. Where one has fewer left than the others, all take as many
    as that one has, and the shards that are left are dealt again. The last block has what remains of the epoch. Rows
    of it move between processes so that their numbers differ by one at most.

    All processes must ask for the same blocks, because they tell each other how many rows they have.

    Args:
        stream: The sources.
        seed: Seed of the orders.
        epoch: The epoch.
        places: Where the first block begins in each source. Empty for the beginning of the epoch.
        number: Number of the first block in the epoch.
        rank, world_size: Number of this process, and of all.
        size: Number of rows of a block.
        gather: Returns the values that all processes gave. Not called by a single process.
    """

    def __init__(
        self,
        stream: RowStream,
        seed: int,
        epoch: int,
        places: Sequence[SourcePlace] = (),
        number: int = 0,
        rank: int = 0,
        world_size: int = 1,
        size: int = 1000,
        gather: Gather = lambda value: [value],
    ):
        self._weights, self._seed, self._epoch, self._size = stream.weights, seed, epoch, size
        self._number = number
        self._rank, self._world_size, self._gather = rank, world_size, gather
        self._sources = [
            SourceReader(
                source,
                random_stream(seed, SHARD_ORDER, epoch, number).permutation(source.num_shards).tolist(),
                places[number] if places else SourcePlace(),
                rank,
                world_size,
            )
            for number, source in enumerate(stream.sources)
        ]
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="stream")
        self._ahead: tuple[tuple[SourcePlace, ...], Future[tuple[list[Slot], int | None]]] | None = None

    def next_block(self) -> Block:
        """The next block of the epoch."""
        number, self._number = self._number, self._number + 1
        start, read = self._ahead or self._start_reading(number)
        self._ahead = None
        rows, short = read.result()
        if self._world_size == 1:
            is_last, counts = short is not None, [len(rows)]
        else:
            start, rows, is_last = self._agree(number, start, rows, short)
            if is_last:
                rows, counts = self._balance(rows)
            else:
                counts = [len(rows)] * self._world_size
        if not is_last:
            self._ahead = self._start_reading(number + 1)
        order = random_stream(self._seed, BLOCK_ORDER, self._epoch, number, self._rank).permutation(len(rows))
        return Block([rows[index] for index in order], start, counts, is_last)

    def settle(self) -> None:
        """Wait for the thread, so that no other can be forked amid its work."""
        if self._ahead is not None:
            self._ahead[1].exception()

    def close(self) -> None:
        """Stop reading, once what is read now has been read. This does not wait for it.

        Python may call this from any thread, when it collects an iterator that nobody finished. Waiting for a thread
        could then wait for ever, because Python holds a lock of its own while it starts or ends one.
        """
        self._pool.shutdown(wait=False, cancel_futures=True)

    # Reading

    @property
    def _places(self) -> tuple[SourcePlace, ...]:
        return tuple(source.place() for source in self._sources)

    def _start_reading(self, number: int) -> tuple[tuple[SourcePlace, ...], Future[tuple[list[Slot], int | None]]]:
        return self._places, self._pool.submit(self.read, number, self._size)

    def read(self, number: int, count: int) -> tuple[list[Slot], int | None]:
        """Up to `count` rows of a block, and the number of the source that has no more, if one has not."""
        if len(self._sources) == 1:
            rows = self._sources[0].take(count)
            return rows, None if len(rows) == count else 0
        drawn = random_stream(self._seed, SOURCE, self._epoch, number, self._rank).choice(
            len(self._sources), self._size, p=self._weights
        )
        rows = []
        for source in drawn[:count].tolist():
            found = self._sources[source].take(1)
            if not found:
                return rows, source
            rows += found
        return rows, None

    # All processes together

    def _agree(
        self, number: int, start: tuple[SourcePlace, ...], rows: list[Slot], short: int | None
    ) -> tuple[tuple[SourcePlace, ...], list[Slot], bool]:
        """Give up rows that others do not have as many of. Returns the block's start, its rows, and if it is last."""
        while True:
            found = self._gather((len(rows), short))
            short_sources = sorted({source for _, source in found if source is not None})
            if not short_sources:
                return start, rows, False
            if any(self._sources[source].deal.is_shared for source in short_sources):
                if len(self._sources) == 1:
                    rows += self._sources[0].take()
                return start, rows, True
            fewest = min(count for count, _ in found)
            if fewest > 0:
                self._go_to(start)
                return start, self.read(number, fewest)[0], False
            if rows:  # otherwise, there is nothing to give back, and shards without a row have been passed
                self._go_to(start)
            for source in short_sources:
                self._sources[source].deal_again(self._gather(self._sources[source].remains()))
            start = self._places
            rows, short = self.read(number, self._size)

    def _go_to(self, places: Sequence[SourcePlace]) -> None:
        for source, place in zip(self._sources, places, strict=True):
            source.go_to(place)

    def _balance(self, rows: list[Slot]) -> tuple[list[Slot], list[int]]:
        """Move rows from processes with more than their part to those with fewer."""
        found = self._gather(len(rows))
        total = sum(found)
        counts = [(total + self._world_size - 1 - rank) // self._world_size for rank in range(self._world_size)]
        parts = self._gather(rows[counts[self._rank] :])
        surplus = [row for part in parts for row in part]
        lacking = [max(0, wanted - count) for wanted, count in zip(counts, found, strict=True)]
        before = sum(lacking[: self._rank])
        own = rows[: counts[self._rank]]
        return own + surplus[before : before + lacking[self._rank]], counts


def first_rows(stream: RowStream, seed: int) -> Iterator[Slot]:
    """The rows of a stream in the order in which a single process reads them in its first epoch."""
    reader, number = BlockReader(stream, seed, epoch=0), 0
    reader.close()  # nothing is read ahead
    while True:
        rows, short = reader.read(number, _READ_AT_ONCE)
        yield from rows
        if short is not None:
            return
        number += 1
