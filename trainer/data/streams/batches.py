"""Batches of a stream: which rows a step has, and the place of a run after each of its batches."""

import logging
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch.utils.data import Sampler

from modeling_atri.corpora.rows.bad_rows import BadRow, Problem
from modeling_atri.corpora.streams.row_shards import RowStream

from ..batches import group_of, steps_of
from ..draws import MIX, Draw, number_of, random_stream
from .blocks import BlockReader, Gather, Slot
from .dealing import SourcePlace


logger = logging.getLogger(__name__)

_MOST_NAMED = 200  # batches whose clips can be named after they were used


@dataclass(frozen=True)
class StreamPlace:
    """The place of a process in its stream, after one of its batches.

    Args:
        epoch: Number of times that the stream was read before.
        step: Number of batches of this epoch.
        block: Number of the block that the last row came from.
        offset: Number of rows of the block that were used.
        sources: Where the block begins in each source. Empty for the beginning of an epoch.
    """

    epoch: int = 0
    step: int = 0
    block: int = 0
    offset: int = 0
    sources: tuple[SourcePlace, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The place as values that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "StreamPlace":
        """The place that `as_json` described."""
        return cls(**content | {"sources": tuple(SourcePlace.from_json(one) for one in content["sources"])})


_Made = tuple[list[dict[str, Any]], StreamPlace]  # a batch, and the place after it


class StreamBatches(Sampler[list[dict[str, Any]]]):
    """This process's batches of a stream. Each is a list of rows that have their draw, as `row["draw"]`.

    An epoch of Trainer has `num_batches`. It goes on with the stream where the last one ended. When the stream has no
    more rows, it is read again in another order, which is its next epoch for all draws. Each row is used once in an
    epoch of the stream, in steps as [`EpochBatchSampler`] makes them: the last step spreads the remaining rows
    evenly over the processes, and up to one row less than there are processes, or a single row, is left out.

    A row that is wrong has its place too, with its `problem`, so that the number of steps does not depend on it.

    Args:
        stream: The sources.
        num_batches: Number of batches of an iteration.
        batch_size: Number of rows of a batch.
        seed: Seed of the draws.
        rank, world_size: Number of this process, and of all.
        drop_last: Whether to leave out a last step of an epoch of the stream that is not full.
        block_size: Number of rows that are shuffled together.
        mix_probability: Probability that a row also has the recording of another row of its group and block, as
            `row["mix_with"]`.
        gather: Returns the values that all processes gave.

    Raises:
        ValueError: While iterating: an epoch of the stream does not fill a step.
    """

    def __init__(
        self,
        stream: RowStream,
        num_batches: int,
        batch_size: int,
        seed: int,
        *,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = False,
        block_size: int = 1000,
        mix_probability: float = 0.0,
        gather: Gather = lambda value: [value],
    ):
        self.stream, self.num_batches, self.batch_size, self.seed = stream, num_batches, batch_size, seed
        self.rank, self.world_size, self.drop_last = rank, world_size, drop_last
        self.block_size, self.mix_probability, self.gather = block_size, mix_probability, gather
        steps_of(batch_size * world_size, batch_size, world_size)  # a step of a single row is refused
        self._has_reported = False
        self.place = StreamPlace()  # after the last batch that was used
        self._first = 0  # batches of the next iteration that were used before the run was resumed
        self._made: Generator[_Made, None, None] | None = None
        self._reader: BlockReader | None = None
        self._unused: deque[tuple[StreamPlace, dict[int, str]]] = deque()
        self._names: deque[dict[int, str]] = deque(maxlen=_MOST_NAMED)

    def __len__(self) -> int:
        return self.num_batches

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        # Trainer passes over batches that were used before a run was resumed. They are not read again.
        for _ in range(self._first):
            yield []
        first, self._first = self._first, 0
        self._made = self._made or self._batches(self.place)
        for _ in range(self.num_batches - first):
            rows, place = next(self._made)
            self._unused.append((place, {row["draw"].item: row["audio_id"] for row in rows}))
            yield rows
        if self._reader is not None:
            self._reader.settle()  # data loaders fork their workers between iterations

    def set_epoch(self, epoch: int) -> None:
        """Do nothing: the number of the stream's epoch is part of its place, because Trainer's may be others."""

    def go_on(self, place: StreamPlace, num_used: int) -> None:
        """Go on from a place. The next iteration begins with `num_used` empty batches, which Trainer passes over."""
        self.close()
        self.place, self._first = place, num_used

    def close(self) -> None:
        """Stop reading ahead. Another iteration begins after the last batch that was used."""
        if self._made is not None:
            self._made.close()
        self._made = None
        self._unused.clear()

    def note_used(self, num_batches: int) -> None:
        """Move `place` to that after the next batches, which are used now."""
        for _ in range(num_batches):
            self.place, names = self._unused.popleft()
            self._names.append(names)

    def name_of(self, item: int) -> str:
        """The `audio_id` of a clip of one of the last batches that were used, by the number of its draw."""
        return next((names[item] for names in self._names if item in names), f"with the number {item}")

    # Reading

    def _batches(self, place: StreamPlace) -> Generator[_Made, None, None]:
        while True:
            yield from self._batches_of_epoch(place)
            place = StreamPlace(place.epoch + 1)

    def _batches_of_epoch(self, place: StreamPlace) -> Generator[_Made, None, None]:
        self._reader = reader = BlockReader(
            *(self.stream, self.seed, place.epoch, place.sources, place.block),
            *(self.rank, self.world_size, self.block_size, self.gather),
        )
        try:
            left: list[dict[str, Any]] = []  # rows of the last block that do not fill a batch
            skipped, is_last = place.offset, False
            while not is_last:
                block = reader.next_block()
                is_last = block.is_last
                rows = left + self._mixed(block.rows, place.epoch)[skipped:]
                before = skipped - len(left)
                sizes = self._batch_sizes([count - before for count in block.counts], place.step, is_last)
                used = 0
                for step, size in enumerate(sizes, start=place.step):
                    batch, used = rows[used : used + size], used + size
                    after = replace(place, step=step + 1, offset=used + before, sources=block.start)
                    if is_last and step + 1 == place.step + len(sizes):
                        after = StreamPlace(place.epoch + 1)
                    yield [row | {"draw": Draw(place.epoch, step, number_of(row["audio_id"]))} for row in batch], after
                left, skipped = rows[used:], 0
                place = replace(place, step=place.step + len(sizes), block=place.block + 1)
        finally:
            reader.close()

    def _batch_sizes(self, counts: list[int], step: int, is_last: bool) -> list[int]:
        """Sizes of the next batches of this process, if the processes have `counts` rows."""
        num_full = min(counts) // self.batch_size
        sizes = [self.batch_size] * num_full
        if is_last:
            rest = [count - self.batch_size * num_full for count in counts]
            num_rows = self.batch_size * self.world_size * (step + num_full) + sum(rest)
            if step + num_full < steps_of(num_rows, self.batch_size, self.world_size, self.drop_last, "row"):
                sizes.append(rest[self.rank])
            self._report_length(num_rows)
        return sizes

    def _report_length(self, num_rows: int) -> None:
        told = self.stream.num_rows
        is_exact = len(self.stream.sources) == 1
        if is_exact and self.rank == 0 and told not in (None, num_rows) and not self._has_reported:
            self._has_reported = True
            logger.warning(
                "%s has %d rows, but it was said to have %d. Every row is used once before the stream is read again, "
                "but epochs are counted, and evaluations and checkpoints at their ends are made, after %d rows.",
                *(self.stream.sources[0].name, num_rows, told, told),
            )

    def _mixed(self, slots: Sequence[Slot], epoch: int) -> list[dict[str, Any]]:
        """The rows of a block as dicts, with the recordings that are mixed into them."""
        rows = [as_row(slot) for slot in slots]
        if self.mix_probability == 0:
            return rows
        groups: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            if row.get("audio") is not None:
                groups.setdefault(group_of(row), []).append(row)
        for row in [row for group in groups.values() if len(group) > 1 for row in group]:
            rng = random_stream(self.seed, MIX, epoch, number_of(row["audio_id"]))
            others = [other for other in groups[group_of(row)] if other is not row]
            if rng.random() < self.mix_probability:
                row["mix_with"] = others[int(rng.integers(len(others)))]["audio"]
        return rows


def as_row(slot: Slot) -> dict[str, Any]:
    """A row of a stream as a dict. A row that is wrong has its `problem` instead of sounds and captions."""
    if isinstance(slot, BadRow):
        return {"audio_id": slot.name, "captions": {}, "problem": Problem(slot.kind, f"{slot.name}: {slot.reason}")}
    return dict(slot)
