"""A stream as the training data of a run."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from modeling_atri.corpora.rows.bad_rows import BadRow, BadRowError
from modeling_atri.corpora.rows.lookup import EMBEDDING_COLUMN
from modeling_atri.corpora.streams.row_shards import RowStream

from .batches import as_row
from .blocks import first_rows


_LOOKED_AT = 100  # rows that are read before a run starts
_SEARCHED = 10_000  # rows among which these are searched if wrong rows are passed over
_RESERVE = 16  # rows that may take the place of others, kept in memory


class TrainingStream:
    """Rows of a stream, as [`AtriTrainer`] trains on them.

    The first 100 rows are read to see what they are. `len` is the number of rows if it is known.

    Args:
        stream: The sources.
        seed: Seed of the order of the shards, which decides what the first rows are.
        skips_bad: Whether wrong rows are passed over.

    Raises:
        BadRowError: One of the first rows is wrong; with `skips_bad`, none of them can be used.
    """

    def __init__(self, stream: RowStream, seed: int, skips_bad: bool = False):
        self.stream, self.facts, self._seed = stream, stream.facts, seed
        self.name = " and ".join(source.name for source in stream.sources)
        rows: list[dict[str, Any]] = []
        bad_rows: list[BadRow] = []
        for slot in islice(first_rows(stream, seed), _SEARCHED if skips_bad else _LOOKED_AT):
            if isinstance(slot, BadRow):
                bad_rows.append(slot)
            else:
                rows.append(dict(slot))
            if len(rows) == _LOOKED_AT:
                break
        if bad_rows and not (skips_bad and rows):
            num_rows = len(rows) + len(bad_rows)
            what = f"{len(bad_rows)} of the first {num_rows} rows" if rows else f"None of the first {num_rows} rows"
            first = f"{bad_rows[0].name}: {bad_rows[0].reason}"
            advice = "" if skips_bad else " With `on_bad_row='skip'` training goes around such rows."
            raise BadRowError(
                f"{what} of {self.name} can{'not' * bool(rows)} be used; the first: {first}.{advice}", bad_rows[0].kind
            )
        self._reserve = rows[:_RESERVE]
        light = ("audio", EMBEDDING_COLUMN)
        self._sample = [{name: value for name, value in row.items() if name not in light} for row in rows]

    def __len__(self) -> int:
        if self.stream.num_rows is None:
            raise TypeError(f"The number of rows of {self.name} is not known.")
        return self.stream.num_rows

    @property
    def num_rows(self) -> int | None:
        """Number of rows of an epoch, if it is known."""
        return self.stream.num_rows

    def first(self, count: int) -> Iterator[dict[str, Any]]:
        """The first `count` rows, as an iterator. Wrong rows have their `problem`."""
        return (as_row(slot) for slot in islice(first_rows(self.stream, self._seed), count))

    @property
    def sample(self) -> list[dict[str, Any]]:
        """The first rows that can be used, without sounds."""
        return self._sample

    @property
    def reserve(self) -> list[dict[str, Any]]:
        """The rows that may take the place of others that cannot be used."""
        return self._reserve

    def digest(self) -> str:
        """A digest of what the order of the rows depends on, and of the first rows."""
        sources = [
            [source.num_shards, source.num_rows, source.version, weight]
            for source, weight in zip(self.stream.sources, self.stream.weights, strict=True)
        ]
        first = [[row["audio_id"], row["captions"], row.get("group_id")] for row in self._sample]
        content = json.dumps([sources, first], sort_keys=True, default=repr)
        return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()

    def times(self) -> str:
        """When the files were changed last, as a digest for each source; empty if that is not known."""
        # Sources of other people may know nothing of it.
        return " ".join(getattr(source, "times", "") for source in self.stream.sources).strip()


def num_rows_of(rows: Sequence[dict] | TrainingStream) -> int | None:
    """Number of rows to train on; None if it is not known."""
    return rows.num_rows if isinstance(rows, TrainingStream) else len(rows)
