"""How the shards of a source are split over the processes of a run, and how each reads its part."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, NamedTuple

from modeling_atri.corpora.rows.bad_rows import BadRow
from modeling_atri.corpora.rows.schema import Row
from modeling_atri.corpora.streams.row_shards import RowShards, ShardReader


class Remains(NamedTuple):
    """What is left to read of a shard: everything, or the rows after the place `state` of a reader of all its rows."""

    shard: int
    state: dict[str, Any] | None = None


@dataclass(frozen=True)
class Deal:
    """What a process reads of a source, until the shards are dealt again.

    Args:
        own: Shards, or remains of shards, that the process reads.
        rest: What no process reads in this deal. It is the same on all processes.
        is_shared: Whether every process reads the shards `own`, but each other rows of them.
    """

    own: tuple[Remains, ...]
    rest: tuple[Remains, ...] = ()
    is_shared: bool = False

    @classmethod
    def of(cls, remains: Sequence[Remains], rank: int, world_size: int) -> "Deal":
        """Deal what is left to all processes: as many whole shards to each as there are, then the rows of the rest."""
        whole = [one for one in remains if one.state is None]
        begun = [one for one in remains if one.state is not None]
        dealt = len(whole) - len(whole) % world_size
        if dealt == 0:
            return cls((*begun, *whole), is_shared=world_size > 1)
        return cls(tuple(whole[rank:dealt:world_size]), (*begun, *whole[dealt:]))


@dataclass(frozen=True)
class SourcePlace:
    """How far a process has read a source.

    Args:
        deal: What the process reads. None stands for the first deal of an epoch.
        item: Number of the shard among `deal.own` that is read next.
        state: Place in this shard; None for its beginning.
        seen: Rows that were read of this shard, if it is shared and was begun in an earlier deal.
    """

    deal: Deal | None = None
    item: int = 0
    state: dict[str, Any] | None = None
    seen: int = 0

    def as_json(self) -> dict[str, Any]:
        """The place as values that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "SourcePlace":
        """The place that `as_json` described."""
        deal = content["deal"]
        if deal is not None:
            own, rest = (tuple(Remains(*one) for one in deal[name]) for name in ("own", "rest"))
            deal = Deal(own, rest, deal["is_shared"])
        return cls(**content | {"deal": deal})


class SourceReader:
    """The rows of a source that a process reads.

    Args:
        shards: The source.
        order: Numbers of its shards, in the order of the epoch.
        place: Where to begin.
        rank, world_size: Number of this process, and of all.
    """

    def __init__(self, shards: RowShards, order: Sequence[int], place: SourcePlace, rank: int, world_size: int):
        self._shards, self._rank, self._world_size = shards, rank, world_size
        self._first = tuple(Remains(int(shard)) for shard in order)
        self.go_to(place)

    def go_to(self, place: SourcePlace) -> None:
        """Read from another place on."""
        self._deal_again = place.deal
        self.deal = place.deal or Deal.of(self._first, self._rank, self._world_size)
        self._item, self._state, self._seen = place.item, place.state, place.seen
        self._reader: ShardReader | None = None

    def take(self, count: int | None = None) -> list[Row | BadRow]:
        """The next `count` rows, or all. There are fewer only if there are no more."""
        rows: list[Row | BadRow] = []
        while self._item < len(self.deal.own):
            if self._reader is None:
                self._reader = self._open(self.deal.own[self._item])
            rows += islice(self._own_rows(self._reader), None if count is None else count - len(rows))
            if len(rows) == count:
                break
            self._item, self._state, self._seen, self._reader = self._item + 1, None, 0, None
        return rows

    def _own_rows(self, reader: ShardReader) -> Iterator[Row | BadRow]:
        return self._every_other_row(reader) if self._is_split_by_row else reader

    def _every_other_row(self, reader: ShardReader) -> Iterator[Row | BadRow]:
        for row in reader:
            self._seen += 1
            if (self._seen - 1) % self._world_size == self._turn:
                yield row

    @property
    def _turn(self) -> int:
        """Which rows of a shared shard are those of this process. The first row of each is another process's."""
        return (self._rank + self._item) % self._world_size

    @property
    def _is_split_by_row(self) -> bool:
        """Whether the reader gives the rows of all processes: its state may not be that of a reader of a part."""
        return self.deal.is_shared and self.deal.own[self._item].state is not None

    def _open(self, item: Remains) -> ShardReader:
        state = item.state if self._state is None else self._state
        if self.deal.is_shared and item.state is None:
            return self._shards.open(item.shard, state, self._turn, self._world_size)
        return self._shards.open(item.shard, state)

    def place(self) -> SourcePlace:
        """The place after the last row that was given."""
        state = self._state if self._reader is None else self._reader.state()
        return SourcePlace(self._deal_again, self._item, state, self._seen if self._is_begun else 0)

    @property
    def _is_begun(self) -> bool:
        return self._item < len(self.deal.own) and self._is_split_by_row

    def remains(self) -> list[Remains]:
        """What is left of this process's own shards."""
        left = list(self.deal.own[self._item :])
        state = self.place().state
        if left and state is not None:
            left[0] = Remains(left[0].shard, state)
        return left

    def deal_again(self, remains_of_all: Sequence[Sequence[Remains]]) -> None:
        """Split what is left of all processes' shards, and what no process had, over them."""
        left = [one for remains in remains_of_all for one in remains] + list(self.deal.rest)
        self.go_to(SourcePlace(Deal.of(left, self._rank, self._world_size)))
