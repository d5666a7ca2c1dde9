"""Rows of a stream as the workers of a data loader get them, and the rows that may take the place of one."""

from collections.abc import Iterator, Sequence
from typing import Any

from torch.utils.data import Dataset

from ..draws import STAND_IN, number_of, random_stream


class HandedRows(Dataset):
    """Passes on the rows that a [`StreamBatches`] gives in place of numbers of rows.

    Only the main process reads the stream. The workers get the rows of whole batches and decode their recordings, so
    that batches do not depend on the number of workers.

    Args:
        seed: Seed of the draws.
        reserve: Rows that may take the place of one that cannot be used, after the other rows of its batch. None if no
            row may, so that a wrong row ends the run.
        unused: Columns that are dropped.
    """

    def __init__(self, seed: int, reserve: Sequence[dict[str, Any]] | None = None, unused: Sequence[str] = ()):
        self.seed, self.unused = seed, set(unused)
        self.reserve = None if reserve is None else [self._used(row) for row in reserve]

    def _used(self, row: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in row.items() if name not in self.unused} if self.unused else row

    def __getitems__(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        rows = [self._used(row) for row in rows]
        if self.reserve is None:
            return rows
        return [row | {"stand_ins": self._stand_ins(row, rows)} for row in rows]

    def _stand_ins(self, row: dict[str, Any], batch: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        draw = row["draw"]
        rng = random_stream(self.seed, STAND_IN, draw.epoch, draw.item)
        for candidates in (batch, self.reserve or ()):
            for index in rng.permutation(len(candidates)):
                item = number_of(candidates[index]["audio_id"])
                if item != draw.item:
                    yield candidates[index] | {"draw": draw._replace(item=item), "stand_ins": ()}
