"""The first rows of a stream, for what has to be known before all of them were read."""

from itertools import islice
from typing import Any

from ..rows.bad_rows import BadRow
from .row_shards import RowStream


_MOST_ROWS, _MOST_SOUNDS = 20_000, 2_000
_MOST_SHARDS = 50


def first_rows(stream: RowStream) -> list[dict[str, Any]]:
    """The first rows of evenly spaced shards, without recordings and embeddings. Rows that are wrong are passed over.

    They are 20,000 at most, and 2,000 of rows with recordings, which have to be read to be checked.
    """
    most = _MOST_SOUNDS if stream.facts.has_audio else _MOST_ROWS
    shards = [(source, shard) for source in stream.sources for shard in range(source.num_shards)]
    taken = shards[:: -(-len(shards) // _MOST_SHARDS)]
    found: list[dict[str, Any]] = []
    for source, shard in taken:
        rows = (row for row in islice(source.open(shard), -(-most // len(taken))) if not isinstance(row, BadRow))
        found += [{name: row.get(name) for name in ("audio_id", "captions", "group_id")} for row in rows]
    return found
