"""The rows of an index: their columns, what a sound is written from, and how it becomes rows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa


# Kinds of rows. A file of one window has one row, a clip. A longer file has its windows, and one row for the whole.
CLIP, WINDOW, WHOLE = "clip", "window", "whole"
KINDS = {"file": (CLIP, WHOLE), "moment": (CLIP, WINDOW)}  # that a search by file and a search by moment read
VECTOR = "vector"
NO_FOLDER = ""  # of sounds whose folder is not known
OWN_COLUMNS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),  # {folder}/{path}#{number of the window, -1 for the whole file}
        pa.field("path", pa.string(), nullable=False),  # below `folder`, with `/`, in Unicode form NFC
        pa.field("folder", pa.string(), nullable=False),  # absolute path or address; empty if it is not known
        pa.field("kind", pa.string(), nullable=False),
        pa.field("start_s", pa.float64()),
        pa.field("end_s", pa.float64()),
        pa.field("duration_s", pa.float64()),
        pa.field("size", pa.int64()),  # of the file in bytes; null if it is not known, as are the next two
        pa.field("mtime_ns", pa.int64()),
        pa.field("content", pa.string()),
    ]
)
FILE_COLUMNS = ("folder", "path", "kind", "duration_s", "size", "mtime_ns", "content")
RESERVED_NAMES = frozenset([*OWN_COLUMNS.names, VECTOR, "score"])


class SoundKey(NamedTuple):
    """What names a sound of an index."""

    folder: str
    path: str


class Failure(NamedTuple):
    """A file that could not be read."""

    reason: str
    size: int | None = None
    mtime_ns: int | None = None


class Transfer(NamedTuple):
    """A file with the content of a sound of the index, whose rows it gets without being encoded.

    Args:
        source: the sound that has the rows. Where its file was touched only, it is the target itself.
        target: the file.
        size, mtime_ns: of the file.
    """

    source: SoundKey
    target: SoundKey
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class IndexedSound:
    """A sound with its vectors, as it is written to an index.

    Args:
        path (`str`): its path below `folder`, with `/` and in Unicode form NFC.
        folder (`str`): absolute path or address of the folder; empty if it is not known.
        duration_s (`float`): its length in seconds.
        spans: start and end of each window in seconds; the first starts at 0. A sound of one window has one span.
        vectors (`np.ndarray` of shape `(len(spans), projection_dim)`): a unit vector for each window, float32.
        whole (`np.ndarray` of shape `(projection_dim,)`): the unit vector of the whole sound, float32.
        size, mtime_ns, content: of the file: bytes, time of its last change in nanoseconds, and digest of its bytes.
            None for what is not known.
        columns: its values in further columns, by column. Missing values are null.
    """

    path: str
    folder: str
    duration_s: float
    spans: Sequence[tuple[float, float]]
    vectors: np.ndarray
    whole: np.ndarray
    size: int | None = None
    mtime_ns: int | None = None
    content: str | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> SoundKey:
        """What names the sound in the index."""
        return SoundKey(self.folder, self.path)


def rows_of(sounds: Sequence[IndexedSound], schema: pa.Schema) -> pa.Table:
    """The rows of sounds, as a table of this schema has them. Values of columns that it lacks are left out."""
    names = [name for name in schema.names if name not in RESERVED_NAMES]
    columns: dict[str, list[Any]] = {name: [] for name in [*OWN_COLUMNS.names, *names]}
    vectors = []
    for sound in sounds:
        for number, (kind, (start_s, end_s), vector) in enumerate(_windows_of(sound), -1):
            label = number if len(sound.spans) > 1 else 0
            own = (row_id(sound.key, label), sound.path, sound.folder, kind, start_s, end_s)
            facts = (sound.duration_s, sound.size, sound.mtime_ns, sound.content)
            for name, value in zip(OWN_COLUMNS.names, own + facts, strict=True):
                columns[name].append(value)
            for name in names:
                columns[name].append(sound.columns.get(name))
            vectors.append(vector)
    flat = pa.array(np.stack(vectors).astype(np.float32, copy=False).reshape(-1))
    arrays = {
        item.name: pa.FixedSizeListArray.from_arrays(flat, type=item.type)
        if item.name == VECTOR
        else _typed(columns[item.name], item)
        for item in schema
    }
    return pa.table(arrays, schema=schema)


def _windows_of(sound: IndexedSound) -> Iterator[tuple[str, tuple[float, float], np.ndarray]]:
    """Kind, span and vector of each row of a sound. The row of the whole sound comes first."""
    if len(sound.spans) != len(sound.vectors):
        raise ValueError(f"{sound.path!r} has {len(sound.spans)} spans and {len(sound.vectors)} vectors.")
    if len(sound.spans) == 1:
        yield CLIP, sound.spans[0], sound.whole
        return
    yield WHOLE, (0.0, sound.duration_s), sound.whole
    for span, vector in zip(sound.spans, sound.vectors, strict=True):
        yield WINDOW, span, vector


def vector_values(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """A column of vectors as an array `(number of rows, projection_dim)`, float32."""
    flat = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    values: np.ndarray = flat.flatten().to_numpy(zero_copy_only=False)
    return values.reshape(len(column), column.type.list_size)


def row_id(key: SoundKey, number: int | str) -> str:
    """The `id` of a row, with the number of its window; -1 for the row of a whole sound of several windows."""
    return f"{key.folder}/{key.path}#{number}"


def folder_of_row(name: str, path: str) -> str:
    """The folder of a row, from its `id` and the path of its sound."""
    return name.rpartition("#")[0].removesuffix(f"/{path}")


def folders_and_paths(rows: pa.Table) -> Iterator[tuple[str, str]]:
    """Folder and path of each row."""
    return zip(rows["folder"].to_pylist(), rows["path"].to_pylist(), strict=True)


def with_columns(rows: pa.Table, changed: Mapping[str, list[Any]]) -> pa.Table:
    """The rows with other values in some columns, by column."""
    for name, values in changed.items():
        place = rows.schema.get_field_index(name)
        rows = rows.set_column(place, rows.schema.field(name), _typed(values, rows.schema.field(name)))
    return rows


def _typed(values: list[Any], item: pa.Field) -> pa.Array:
    try:
        return pa.array(values, item.type)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise ValueError(f"The column {item.name!r} takes values of type {item.type}: {error}.") from error
