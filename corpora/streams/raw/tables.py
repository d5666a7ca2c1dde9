"""Rows in Parquet and Arrow files, and in a `datasets.Dataset`, in parts that can be read apart."""

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from ...rows.captions import caption_columns
from ...rows.checks.row_checker import VECTOR_COLUMNS
from ...rows.lookup import EMBEDDING_COLUMN
from ...sources.archives.files import check_content
from ...sources.audio_column import AUDIO_COLUMNS, find_audio_column
from .blocks import RawBlock, RawRow, relative_name
from .shard_files import ShardFiles


_ROWS_AT_ONCE, _SOUNDS_AT_ONCE = 1024, 16
_ROWS_OF_SHARD = 2**14  # row groups with fewer rows are read together, so that few files are opened


class _Span(NamedTuple):
    """A shard: successive row groups of a file, or all of it.

    Args:
        file: Number of the file.
        groups: Numbers of its row groups; None for the whole file.
        first: Number of the first row in the file.
        size: Number of rows; None if it is not known.
    """

    file: int
    groups: range | None = None
    first: int = 0
    size: int | None = None


class TableShards:
    """Parquet or Arrow files as `RawShards`. Shards are groups of rows of Parquet files, and whole other files.

    Args:
        files: The files.
        group_column: Column of the groups.
        reads_sounds: Whether rows have recordings that are used. Otherwise their names are read alone.
    """

    def __init__(self, files: ShardFiles, group_column: str | None = None, reads_sounds: bool = True) -> None:
        self._files, self._group_column, self._reads_sounds = files, group_column, reads_sounds
        self.name, self.version, self.times = files.name, files.version(), files.times()
        spans = [span for number in range(len(files.names)) for span in _spans(files, number)]
        self._spans = [span for span in spans if span.size != 0]
        counts = [span.size for span in self._spans]
        self.num_shards = len(self._spans)
        self.num_rows = None if None in counts else sum(count or 0 for count in counts)

    def label(self, shard: int) -> str:
        """The name of a shard in messages."""
        return self._files.names[self._spans[shard].file]

    def blocks(self, shard: int, start: int | None = None) -> Iterator[RawBlock]:
        """Read a shard from the number of one of its rows."""
        span = self._spans[shard]
        with self._files.open(span.file) as path:
            check_content(path)
            batches = _parquet_batches if path.suffix.lower() == ".parquet" else _arrow_batches
            folders = [path.parent.absolute()] + (
                [] if self._files.folder is None else [self._files.folder.absolute()]
            )
            maker = _BlockMaker(self.label(shard), folders, self._reads_sounds)
            first = 0
            for batch in batches(path, span.groups, partial(self._columns, path)):
                begin = max(0, (start or 0) - first)
                if begin < len(batch):
                    table = pa.Table.from_batches([batch.slice(begin)])
                    yield from maker.blocks(table, first + begin, span.first)
                first += len(batch)

    def _columns(self, path: Path, schema: pa.Schema) -> tuple[list[str], int]:
        """The columns that are needed, and the number of rows to read at once."""
        wanted = {"audio_id", "group_id", "captions", EMBEDDING_COLUMN, *AUDIO_COLUMNS, *VECTOR_COLUMNS}
        wanted |= {self._group_column} if self._group_column else set()
        try:
            wanted |= {name for names in caption_columns(tuple(schema.names)).values() for name in names}
        except ValueError:  # each row says what is wrong with them
            wanted |= set(schema.names)
        columns = [name for name in schema.names if name in wanted or _is_language(name)]
        uses_sounds = self._reads_sounds and not _has_embeddings(schema)
        if not self._reads_sounds and EMBEDDING_COLUMN not in schema.names:
            columns = [_name_alone(schema.field(name)) for name in columns]
        return columns, _SOUNDS_AT_ONCE if uses_sounds and sound_column(schema) else _ROWS_AT_ONCE


class DatasetShards:
    """A `datasets.Dataset` as `RawShards`. Its shards are successive rows.

    Args:
        dataset: The rows.
        name: Its name, for messages.
        reads_sounds: As for `TableShards`.
    """

    def __init__(self, dataset: datasets.Dataset, name: str, reads_sounds: bool = True) -> None:
        self._rows, self.name, self._reads_sounds = dataset.with_format("arrow"), name, reads_sounds
        self.num_rows, self.version, self.times = len(dataset), "", ""
        self.num_shards = -(-len(dataset) // _ROWS_OF_SHARD)

    def label(self, shard: int) -> str:
        """The name of a shard in messages."""
        return self.name

    def blocks(self, shard: int, start: int | None = None) -> Iterator[RawBlock]:
        """Read a shard from the number of one of its rows."""
        begin, end = shard * _ROWS_OF_SHARD, min(len(self._rows), (shard + 1) * _ROWS_OF_SHARD)
        schema = self._rows.data.schema
        uses_sounds = self._reads_sounds and not _has_embeddings(schema) and sound_column(schema)
        size = _SOUNDS_AT_ONCE if uses_sounds else _ROWS_AT_ONCE
        maker = _BlockMaker("", [], self._reads_sounds)
        for first in range(begin + (start or 0), end, size):
            yield from maker.blocks(self._rows[first : min(first + size, end)], first - begin, begin)


class _BlockMaker(NamedTuple):
    """Makes blocks of tables.

    Args:
        label: Name of the file, for messages.
        folders: Relative paths are below the first of them that has the file.
        reads_sounds: As for `TableShards`.
    """

    label: str
    folders: Sequence[Path]
    reads_sounds: bool

    def blocks(self, table: pa.Table, first: int, before: int) -> Iterator[RawBlock]:
        """A block of rows. The first has the number `first` in the shard, which has `before` rows before it."""
        column = None if not self.reads_sounds or _has_embeddings(table.schema) else sound_column(table.schema)
        light = table if column is None else table.drop_columns([column])
        prefix = f"{self.label}, row" if self.label else "row"

        def row_at(number: int) -> RawRow:
            row = light.slice(number, 1).to_pylist()[0]
            place = f"{prefix} {before + first + number}"
            if column is None:
                return RawRow(place, row)
            value = table[column][number]
            if not value.is_valid:
                return RawRow(place, row)
            name, read = self._sound(value)
            return RawRow(place, row, read, name)

        yield RawBlock(first, first, len(table), row_at, table if column is None else None)

    def _sound(self, value: Any) -> tuple[str | None, Callable[[], Any] | None]:
        """The name of a recording, and the function that returns it."""
        if not isinstance(value, pa.StructScalar):
            content = value.as_py()
            if isinstance(content, bytes):
                return None, lambda: {"bytes": content, "path": None}
            return self._found(content)
        fields = {name for name in value.type.names if value[name].is_valid}
        name = value["path"].as_py() if "path" in fields else None
        if not fields & {"bytes", "array"}:
            return self._found(name) if name else (None, None)
        return name and relative_name(name, self.folders), value.as_py

    def _found(self, name: str) -> tuple[str, Callable[[], str]]:
        """The name of a file below one of the folders, and the function that returns its path."""
        if not self.folders or os.path.isabs(name) or "://" in name:
            return relative_name(name, self.folders), lambda: name
        paths = [str(folder / name) for folder in self.folders]
        return name, lambda: next((path for path in paths if os.path.exists(path)), paths[0])


def sound_column(schema: pa.Schema) -> str | None:
    """The column of recordings; None if there is none."""
    fields = [field for field in schema if field.name in AUDIO_COLUMNS]
    return find_audio_column(datasets.Features.from_arrow_schema(pa.schema(fields))) if fields else None


def _has_embeddings(schema: pa.Schema) -> bool:
    return EMBEDDING_COLUMN in schema.names and not pa.types.is_null(schema.field(EMBEDDING_COLUMN).type)


def _name_alone(field: pa.Field) -> str:
    """The part of a column of recordings that names them."""
    is_sound = field.name in AUDIO_COLUMNS and pa.types.is_struct(field.type) and "path" in field.type.names
    return f"{field.name}.path" if is_sound else str(field.name)


def _is_language(name: str) -> bool:
    """Whether a column may be one of captions in a language that was named, such as `no` or `ita`."""
    return bool(caption_columns((name,), None)) or (len(name) <= 3 and name.isalpha())


def _spans(files: ShardFiles, number: int) -> Iterator[_Span]:
    """The shards of a file. One that cannot be read is a shard that says so when it is read."""
    if files.folder is None:
        yield _Span(number)
        return
    path = files.folder / files.names[number]
    try:
        if path.suffix.lower() != ".parquet":
            yield _Span(number, size=_count_arrow(path))
            return
        metadata = pq.read_metadata(path)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise ValueError(f"{path} cannot be opened: {error.strerror}.") from error
        yield _Span(number)
        return
    first, begin, count = 0, 0, 0
    for group in range(metadata.num_row_groups):
        count += metadata.row_group(group).num_rows
        if count >= _ROWS_OF_SHARD or group + 1 == metadata.num_row_groups:
            yield _Span(number, range(begin, group + 1), first, count)
            first, begin, count = first + count, group + 1, 0


_Columns = Callable[[pa.Schema], tuple[list[str], int]]


def _parquet_batches(path: Path, groups: range | None, columns: _Columns) -> Iterator[pa.RecordBatch]:
    # Without a buffer, whole groups of rows would be read at once, and some files are a single group.
    with pq.ParquetFile(path, pre_buffer=False, buffer_size=2**20) as file:
        names, size = columns(file.schema_arrow)
        yield from file.iter_batches(size, columns=names, row_groups=None if groups is None else list(groups))


def _arrow_batches(path: Path, groups: range | None, columns: _Columns) -> Iterator[pa.RecordBatch]:
    with pa.memory_map(str(path)) as source:
        reader, batches = _arrow_reader(source)
        names, size = columns(reader.schema)
        for batch in batches:
            table = batch.select([name.partition(".")[0] for name in names])
            for first in range(0, len(table), size):
                yield table.slice(first, size)


def _arrow_reader(source: Any) -> tuple[Any, Iterator[pa.RecordBatch]]:
    """A reader of an Arrow file in either of its formats, and its batches."""
    try:
        stream = pa.ipc.open_stream(source)
        return stream, iter(stream)
    except pa.ArrowInvalid:
        source.seek(0)
        file = pa.ipc.open_file(source)
        return file, (file.get_batch(number) for number in range(file.num_record_batches))


def _count_arrow(path: Path) -> int:
    with pa.memory_map(str(path)) as source:
        return sum(len(batch) for batch in _arrow_reader(source)[1])
