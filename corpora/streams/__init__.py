"""Rows that are read one after the other from streams: parts that can be read apart, checked row by row."""

from typing import TYPE_CHECKING

from modeling_atri.lazy import lazy_names


if TYPE_CHECKING:
    from .opening import open_stream as open_stream
    from .opening import open_streams as open_streams
    from .row_shards import RowShards as RowShards
    from .row_shards import RowStream as RowStream
    from .row_shards import ShardReader as ShardReader
    from .row_shards import StreamFacts as StreamFacts

__getattr__, __all__ = lazy_names(__name__, __file__)
