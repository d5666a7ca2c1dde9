"""What a stream of rows is: shards that can be read apart, and readers whose place can be kept and found again."""

from typing import Any, NamedTuple, Protocol

from ..rows.bad_rows import BadRow
from ..rows.lookup import EmbeddingFacts
from ..rows.schema import Row


class ShardReader(Protocol):
    """An iterator over the rows of a shard, checked as `load_rows` checks them. A row that is wrong is a `BadRow`.

    Captions are clean, and recordings are undecoded. A row has the keys of [`Row`], with `group_id`, and
    `teacher_embedding` if there is one. `audio_embedding` is an array of `(width,)`, float32.
    """

    def __iter__(self) -> "ShardReader": ...

    def __next__(self) -> Row | BadRow: ...

    def state(self) -> dict[str, Any]:
        """The place after the last row that was given. It can be written as JSON, and `RowShards.open` takes it."""
        ...


class StreamFacts(NamedTuple):
    """What the first row of a source says about all of them. A row that differs is a `BadRow`.

    Args:
        languages: FLORES-200 codes of the captions that rows have, in the order of the run.
        has_audio: Whether rows have recordings.
        embeddings: Facts of the audio embeddings; None if rows have none. Where they are in the rows themselves,
            `shortest` and `longest` are those of the first rows.
        has_teacher: Whether rows have a `teacher_embedding`.
        group_column: The column that the groups of rows are read from; None for an optional `group_id`.
    """

    languages: list[str]
    has_audio: bool
    embeddings: EmbeddingFacts | None = None
    has_teacher: bool = False
    group_column: str | None = None


class RowShards(Protocol):
    """A source of rows in shards: files, row groups of parquet files, archives, or the parts of a streamed data set.

    It can be pickled, so that the workers of a data loader have it. Nothing is open before `open` is called.
    """

    @property
    def name(self) -> str:
        """Name of the source, for messages."""
        ...

    @property
    def num_shards(self) -> int:
        """Number of parts that can be read apart. At least one."""
        ...

    @property
    def num_rows(self) -> int | None:
        """Number of rows, wrong ones counted; None if it is not known without reading everything."""
        ...

    @property
    def version(self) -> str:
        """A text that is another one if the shards have changed, as far as that is known without reading them."""
        ...

    @property
    def times(self) -> str:
        """A digest of the times at which the files of the shards were changed last; empty if they are not known."""
        ...

    @property
    def facts(self) -> StreamFacts:
        """What all rows have in common."""
        ...

    def open(self, shard: int, state: dict[str, Any] | None = None, part: int = 0, num_parts: int = 1) -> ShardReader:
        """Read a shard from its beginning, or from a place that the `state` of a reader of the same part gave.

        With `num_parts`, only the rows `part`, `part + num_parts`, ... of the shard are given. The others are passed
        over at little cost, so that several processes can share a shard.
        """
        ...


class RowStream(NamedTuple):
    """Sources of rows that are read together.

    With one source, an epoch reads each of its rows once. With several, the source of each next row is drawn with
    `weights`, and an epoch ends when a drawn source has no more rows (as `datasets.interleave_datasets` has it with
    `stopping_strategy="first_exhausted"`): no row comes twice in an epoch. The next epoch has other rows of the larger
    sources, because the order of shards is drawn for each epoch.

    Args:
        sources: The sources. Their rows are of the same kind and have the same languages.
        weights: Probability of each source. Their sum is 1.
        told_rows: Number of rows of an epoch as the user has told it; None if it was not told.
    """

    sources: tuple[RowShards, ...]
    weights: tuple[float, ...] = (1.0,)
    told_rows: int | None = None

    @property
    def facts(self) -> StreamFacts:
        """What the rows of all sources have in common."""
        return self.sources[0].facts

    @property
    def num_rows(self) -> int | None:
        """Number of rows of an epoch, wrong ones counted; None if it is neither told nor known.

        For several sources, it is the expected number of rows until one of them has no more.
        """
        if self.told_rows is not None:
            return self.told_rows
        counts = [source.num_rows for source in self.sources]
        if None in counts:
            return None
        return min(int((count or 0) / weight) for count, weight in zip(counts, self.weights, strict=True))
