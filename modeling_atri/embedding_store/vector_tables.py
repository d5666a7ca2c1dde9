"""Parquet files with a column of ids and a column of vectors, and their `.npy` copy for fast look-ups of rows."""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from filelock import FileLock
from huggingface_hub.constants import HF_HOME

from .dropped_rows import DROPPED_NAME, kept_rows
from .facts import FACTS_KEY, StoreFacts
from .npy_files import write_npy


# Usual names of the columns, the most usual first. Without one, the only column of the right type is used.
_ID_NAMES = ("id", "audio_id", "ids", "key", "name", "file_name", "filename", "path", "file", "uuid", "url")
_VECTOR_NAMES = ("embedding", "audio_embedding", "vector", "embeddings", "audio_embeddings", "audio_embed", "vectors")
_NUMBERS_AT_ONCE = 2**22  # of a block: 16 MB as float32


class VectorTable:
    """Parquet files with an id and a vector in each row.

    Args:
        paths: the files, in order.
        name: name of the files in error messages.
        id_column, vector_column (*optional*): names of the columns. By default those with a usual name, or else the
            only column of strings or whole numbers, and the only column of lists of floating-point numbers.

    Raises:
        ValueError: a file cannot be read, or a column is missing, ambiguous or of another type.
    """

    def __init__(self, paths: Sequence[Path], name: str, id_column: str | None, vector_column: str | None):
        self.paths, self.name = paths, name
        schema = self._schema(paths[0])
        self.id_column = _pick("id", id_column, _ID_NAMES, _is_id, schema, name)
        self.vector_column = _pick("vector", vector_column, _VECTOR_NAMES, _is_vector, schema, name)
        self.facts = self._facts(schema)
        for path in paths[1:]:
            other = self._schema(path)
            for column, fits in ((self.id_column, _is_id), (self.vector_column, _is_vector)):
                if column not in other.names or not fits(other.field(column).type):
                    found = f"of type {other.field(column).type}" if column in other.names else "missing"
                    raise ValueError(f"The column `{column}` of {str(paths[0])!r} is {found} in {str(path)!r}.")
            if (facts := self._facts(other)) != self.facts:
                raise ValueError(
                    f"{name!r} holds embeddings of several models: {self.facts.name} and {facts.name}. Use a "
                    "separate folder for each model."
                )

    def ids(self) -> pa.Array:
        """The ids of all rows."""
        return pa.concat_arrays(
            [batch.column(0) for path in self.paths for batch in self._batches(path, self.id_column, 2**16)]
        )

    def as_npy(self) -> np.ndarray:
        """The vectors of all rows, mapped from a `.npy` file that is written once, `(n, width)`, float32.

        The file is hidden, beside the parquet files or, if their folder is not writable, in the cache folder of
        Hugging Face. It is rewritten when the parquet files have changed. A row without a vector is NaN.

        Raises:
            ValueError: vectors differ in width, or the parquet files changed while they were read.
            OSError: the disk is full.
        """
        folder = Path(os.path.commonpath([path.absolute().parent for path in self.paths]))
        if not os.access(folder, os.W_OK):
            folder = Path(HF_HOME) / "modeling_atri"
            folder.mkdir(parents=True, exist_ok=True)
        stem = f".vectors-{_digest([*map(str, self.paths), self.vector_column], 6)}"
        path = folder / f"{stem}-{self._state()}.npy"
        with FileLock(folder / f"{stem}.lock"):  # several processes of a run open the same store
            if path.exists():
                return np.load(path, mmap_mode="r")
            for old in folder.glob(f"{stem}-*.npy"):
                old.unlink()
            array = write_npy(path, self._blocks(), self._width())
            if path.name != f"{stem}-{self._state()}.npy":
                path.unlink()
                raise ValueError(f"{self.name!r} was changed while it was read. Wait until it is complete.")
        return array

    def _state(self) -> str:
        """A digest of the sizes and modification times of the files."""
        removed = {path.parent.parent / DROPPED_NAME for path in self.paths if self._is_ours(path)}
        paths = [*self.paths, *sorted(path for path in removed if path.exists())]
        found = [(path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
        return _digest([self.vector_column, *map(str, found)], 12)

    def _is_ours(self, path: Path) -> bool:
        """Whether this is a part of an `EmbeddingStore`, of which rows may have been removed."""
        return self.facts.fingerprint is not None and path.stem.isdecimal()

    def _width(self) -> int:
        kind = self._schema(self.paths[0]).field(self.vector_column).type
        if pa.types.is_fixed_size_list(kind):
            return kind.list_size
        for path in self.paths:
            for batch in self._batches(path, self.vector_column, 1024):
                lengths = pc.list_value_length(batch.column(0)).drop_null()
                if len(lengths):
                    return lengths[0].as_py()
        raise ValueError(f"The column `{self.vector_column}` of {self.name!r} holds no vectors.")

    def _blocks(self) -> Iterator[np.ndarray]:
        width, row = self._width(), 0
        if width == 0:
            raise ValueError(f"The vectors in the column `{self.vector_column}` of {self.name!r} are empty.")
        for path in self.paths:
            for batch in self._batches(path, self.vector_column, max(1, _NUMBERS_AT_ONCE // width)):
                yield vectors_of(batch.column(0), width, f"{str(path)!r}, row {{}}", row)
                row += batch.num_rows
            row = 0

    def _batches(self, path: Path, column: str, size: int) -> Iterator[pa.RecordBatch]:
        try:
            # Without a buffer, whole groups of rows would be read at once, and some files are a single group.
            with pq.ParquetFile(path, pre_buffer=False, buffer_size=2**20) as file:
                num_rows, start = file.metadata.num_rows, 0
                kept = kept_rows(path, num_rows) if self._is_ours(path) else None
                for batch in file.iter_batches(size, columns=[column]):
                    stop = start + batch.num_rows
                    if kept is not None:
                        inside = kept[np.searchsorted(kept, start) : np.searchsorted(kept, stop)]
                        batch = batch.take(pa.array(inside - start, pa.int64()))
                    start = stop
                    if batch.num_rows:
                        yield batch
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:  # an error of the disk, not of the content
                raise
            raise ValueError(f"{str(path)!r} cannot be read: {error}. Please copy or write it again.") from error

    def _schema(self, path: Path) -> pa.Schema:
        try:
            return pq.read_schema(path)
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{str(path)!r} cannot be read as parquet: {error}.") from error

    def _facts(self, schema: pa.Schema) -> StoreFacts:
        try:
            facts = json.loads((schema.metadata or {})[FACTS_KEY])
            return StoreFacts(facts.get("model"), facts.get("fingerprint"))
        except (KeyError, ValueError, AttributeError):  # files that another program wrote
            return StoreFacts()


def vectors_of(column: pa.Array, width: int, place: str = "row {}", first: int = 0) -> np.ndarray:
    """The vectors of a column of lists, `(n, width)`, float32. Missing vectors are NaN.

    Args:
        column: lists of floating-point numbers of any precision, of variable or fixed size.
        width: the width that all vectors must have.
        place: name of a row in error messages, with `{}` for its number.
        first: number of the first row.

    Raises:
        ValueError: a vector has another width.
    """
    lengths = pc.list_value_length(column).to_numpy(zero_copy_only=False)  # NaN for null
    is_there = np.asarray(column.is_valid())
    wrong = np.flatnonzero(is_there & (lengths != width))
    if len(wrong):
        raise ValueError(
            f"{place.format(first + wrong[0])}: the vector has {int(lengths[wrong[0]])} numbers, but others have "
            f"{width}. All vectors must have the same width."
        )
    values = column.drop_null().flatten()
    numbers = values.to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
    rows = numbers.reshape(-1, width)
    if is_there.all():
        return rows
    whole = np.full((len(column), width), np.nan, dtype=np.float32)
    whole[is_there] = rows
    return whole


def _is_id(kind: pa.DataType) -> bool:
    of_strings = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_integer)
    if pa.types.is_dictionary(kind):
        return _is_id(kind.value_type)
    return any(check(kind) for check in of_strings)


def _is_vector(kind: pa.DataType) -> bool:
    of_lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(check(kind) for check in of_lists) and pa.types.is_floating(kind.value_type)


def _pick(role: str, given: str | None, usual: Sequence[str], fits, schema: pa.Schema, name: str) -> str:
    """The name of the column of ids or vectors."""
    columns = {field.name: field.type for field in schema}
    kinds = "strings or whole numbers" if role == "id" else "lists of floating-point numbers"
    shown = ", ".join(f"{column} ({kind})" for column, kind in columns.items())
    if given is not None:
        if given not in columns or not fits(columns[given]):
            found = f"is of type {columns[given]}" if given in columns else "does not exist"
            raise ValueError(
                f"The column `{given}` of {name!r} {found}, but the {role} column must hold {kinds}. The columns are "
                f"{shown}."
            )
        return given
    fitting = [column for column, kind in columns.items() if fits(kind)]
    known = [column for column in usual if column in fitting]
    if known or len(fitting) == 1:
        return (known or fitting)[0]
    if not fitting:
        raise ValueError(f"{name!r} has no column of {kinds} for the {role}s. The columns are {shown}.")
    raise ValueError(
        f"{name!r} has several columns of {kinds}: {', '.join(fitting)}. Name the one with the {role}s, as "
        f"`{role}_column`, or the columns of ids and vectors as `embedding_columns`."
    )


def _digest(parts: Sequence[str], num_bytes: int) -> str:
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=num_bytes).hexdigest()
