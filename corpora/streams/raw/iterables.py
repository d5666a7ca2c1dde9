"""A `datasets.IterableDataset` of any kind as shards of raw rows."""

import pickle
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from typing import Any

import datasets

from modeling_atri.audio_inputs_atri import path_of

from ...rows.plain_rows import sound_of
from .blocks import RawBlock, RawRow, in_lists, relative_name


_ROWS_AT_ONCE = 64
_ROWS_COMPARED = 16  # one alone may be the same by chance, behind a small buffer


class IterableShards:
    """The parts of a streamed data set as `RawShards`. Sounds are not decoded.

    A reader goes on from the data set's own `state_dict`. If that does not lead back to the same rows, as with
    `.shuffle(buffer_size=...)`, the rows before are read again and passed over.

    Args:
        dataset: The data set.
        name: Its name, for messages.
        num_rows (*optional*): Number of its rows.
    """

    def __init__(self, dataset: datasets.IterableDataset, name: str, num_rows: int | None = None) -> None:
        self._dataset = _undecoded(dataset.with_format(None))
        self.name, self.num_rows, self.num_shards = name, num_rows, max(1, dataset.num_shards)
        self.version = self.times = ""
        self._is_exact: bool | None = None  # not known before a shard was read

    def label(self, shard: int) -> str:
        """The name of a shard in messages."""
        return f"{self.name}, shard {shard}" if self.num_shards > 1 else self.name

    def blocks(self, shard: int, start: Mapping[str, Any] | None = None) -> Iterator[RawBlock]:
        """Read a shard from the number of a row, and the state of the data set before it."""
        if self._is_exact is None:
            self._is_exact = _is_exact(self._shard(shard))
        dataset = self._shard(shard)
        first, state = (0, None) if start is None else (start["row"], start["state"])
        if state is not None:
            dataset.load_state_dict(state)
        rows = islice(_rows(dataset), first if state is None else 0, None)
        begin = {"row": first, "state": state}
        for found in in_lists(rows, _ROWS_AT_ONCE):
            yield RawBlock(begin, first, len(found), self._row_at(found, shard, first))
            first += len(found)
            begin = {"row": first, "state": dataset.state_dict() if self._is_exact else None}

    def _shard(self, shard: int) -> datasets.IterableDataset:
        return self._dataset.shard(num_shards=self.num_shards, index=shard)

    def _row_at(self, rows: list[Any], shard: int, first: int) -> Callable[[int], RawRow]:
        prefix = f"shard {shard}, row" if self.num_shards > 1 else "row"

        def row_at(number: int) -> RawRow:
            row, place = rows[number], f"{prefix} {first + number}"
            sound = sound_of(row)
            if sound is None:
                return RawRow(place, row)
            name = path_of(sound)
            return RawRow(place, row, lambda: sound, name and relative_name(name))

        return row_at


def _rows(dataset: datasets.IterableDataset) -> Iterator[dict[str, Any]]:
    # Iterating over the data set itself would leave rows to the other workers of a data loader.
    for batch in dataset.iter(batch_size=1):
        yield {name: values[0] for name, values in batch.items()}


def _undecoded(dataset: datasets.IterableDataset) -> datasets.IterableDataset:
    """A data set whose sounds are neither decoded nor, in rows of a generator, encoded, which needs torchcodec."""
    for name, feature in (dataset.features or {}).items():
        if isinstance(feature, datasets.Audio):
            sound = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
            dataset = dataset.cast_column(name, sound)
    return dataset


def _is_exact(dataset: datasets.IterableDataset) -> bool:
    """Whether the state of a data set leads back to the next rows. Behind a buffer of shuffled rows it does not."""
    with suppress(Exception):  # the same error comes when the rows are read
        rows = _rows(dataset)
        if next(rows, None) is not None:
            state = dataset.state_dict()
            following = list(islice(rows, _ROWS_COMPARED))
            dataset.load_state_dict(state)
            return pickle.dumps(list(islice(_rows(dataset), _ROWS_COMPARED))) == pickle.dumps(following)
    return True
