"""Stored embeddings of any origin, which are looked up by row or by id without loading all of them."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from glob import glob, has_magic
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..sources import path_advice
from .facts import StoreFacts
from .id_files import ids_beside, read_ids
from .store import part_paths
from .vector_tables import VectorTable


_NUMBERS_AT_ONCE = 2**22  # in a block of vectors that is read: 16 MB as float32
_UNIT_TOLERANCE = 1e-3  # the length of a unit vector in half precision is off by less


class StoredVectors:
    """Vectors with ids on disk. A look-up reads only its rows, and several processes share the pages of the file.

    [`open_vectors`] returns it. It can be pickled, for example for the workers of a data loader, which open it again.

    Args:
        source (`tuple`): the arguments of `open_vectors` that opened it.
        array (`np.ndarray`): the vectors, `(n, width)`, of a floating-point type, mapped from a file.
        ids (`pa.Array`): an id for each of them, strings or whole numbers.
        facts ([`StoreFacts`]): name and fingerprint of the model that made the vectors, each None if not known.

    Raises:
        ValueError: ids are missing or occur twice, or vectors and ids differ in number.
    """

    def __init__(self, source: tuple[Any, ...], array: np.ndarray, ids: pa.Array, facts: StoreFacts):
        self._source, self._array, self.facts = source, array, facts
        self.name = str(source[0])
        self._ids = _checked_ids(ids, len(array), self.name)

    def __reduce__(self) -> tuple[Any, ...]:
        return open_vectors, self._source

    def __len__(self) -> int:
        return len(self._array)

    def __getitem__(self, rows: int | slice | Sequence[int] | np.ndarray) -> np.ndarray:
        """A copy of the vector of a row, `(width,)`, or of several rows, `(n, width)`, float32."""
        return np.array(self._array[rows], dtype=np.float32)

    @property
    def width(self) -> int:
        """Length of a vector."""
        return self._array.shape[1]

    @cached_property
    def ids(self) -> list[str]:
        """The ids of all rows, in Unicode form NFC."""
        return self._ids.to_pylist()

    def find(self, names: Sequence[str] | pa.Array | pa.ChunkedArray) -> np.ndarray:
        """The rows of these ids, `(n,)`, int64; -1 for None and for ids that the store does not have."""
        if not isinstance(names, (pa.Array, pa.ChunkedArray)):
            names = pa.array(names, pa.large_string())
        places = pc.index_in(_normalized(names), value_set=self._ids, skip_nulls=True)
        return pc.fill_null(places, -1).to_numpy().astype(np.int64)

    def lengths(self, rows: Sequence[int] | np.ndarray | None = None) -> np.ndarray:
        """Euclidean lengths of the vectors of some or all rows, `(n,)`, float32; NaN for vectors that are not finite.

        The vectors are read block by block, so they are never all in memory.
        """
        wanted = np.arange(len(self)) if rows is None else np.asarray(rows, dtype=np.int64)
        places, inverse = np.unique(wanted, return_inverse=True)
        lengths = np.concatenate([lengths_of(block) for block in self._blocks(places)] or [np.empty(0, np.float32)])
        return lengths[inverse]

    def _blocks(self, places: np.ndarray) -> Iterator[np.ndarray]:
        """The vectors of sorted rows, some at a time."""
        array, most = self._array, max(1, _NUMBERS_AT_ONCE // self.width)
        start = 0
        while start < len(places):
            stop = int(np.searchsorted(places, places[start] + most))
            inside, span = places[start:stop] - places[start], int(places[stop - 1] - places[start]) + 1
            if isinstance(array, np.memmap) and array.flags.c_contiguous and 4 * len(inside) >= span:
                # Read instead of mapped, because mapped pages count as memory of the process.
                offset = array.offset + int(places[start]) * self.width * array.itemsize
                block = np.fromfile(str(array.filename), array.dtype, span * self.width, offset=offset)
                yield block.reshape(span, self.width)[inside]
            else:
                yield array[places[start:stop]]
            start = stop


def open_vectors(
    path: str | PathLike, id_column: str | None = None, vector_column: str | None = None
) -> StoredVectors:
    """Open stored embeddings for look-ups by row or id. They are mapped into memory, not loaded.

    Parquet files cannot be mapped, so their vectors are copied once into a hidden `.npy` file beside them.

    Args:
        path (`str` or `Path`): one of

            - a folder that `atri encode` or `encode_folder` wrote;
            - a `.npy` file of shape `(n, width)` and a floating-point type, with its ids in a file beside it: for
              `x.npy`, `x.ids.json` (a list, or an object with the list as `ids`), `x.ids.txt` (a line each) or
              `x.ids.npy`, or else `ids.json`, `ids.txt` or `ids.npy`. `load_embeddings(folder, out="x.npy")` and
              `atri encode --format npy` write such files;
            - a parquet file, a folder of parquet files or a pattern such as `"data/*.parquet"`, with a column of ids
              and a column of vectors (lists of half, single or double precision, of fixed size or not).
        id_column, vector_column (`str`, *optional*): columns of parquet files. By default those with a usual name
            (`id`, `audio_id`, ...; `embedding`, `vector`, ...), or else the only one of its type.

    Returns:
        [`StoredVectors`].

    Raises:
        ValueError: there is no such store, its ids or vectors are faulty, or the columns cannot be determined.
        OSError: the disk is full.
    """
    source = (str(path), id_column, vector_column)
    path = Path(path)
    if path.suffix == ".npy" and not path.is_dir():
        if not path.is_file():
            raise ValueError(f"There is no file {str(path)!r}. {path_advice(str(path))}".rstrip())
        if columns := [name for name in (id_column, vector_column) if name is not None]:
            raise ValueError(f"{str(path)!r} has no columns {columns}; they belong to parquet files.")
        ids, facts = read_ids(ids_beside(path))
        return StoredVectors(source, _mapped(path), ids, facts if any(facts) else _facts_of_parts(path.parent))
    if path.is_dir() and not (part_paths(path) or any(path.rglob("*.parquet"))):
        arrays = [file for file in path.glob("*.npy") if not file.stem.endswith("ids")]
        if len(arrays) == 1:
            return open_vectors(arrays[0], id_column, vector_column)
    table = VectorTable(_parquet_files(path), str(path), id_column, vector_column)
    return StoredVectors(source, table.as_npy(), table.ids(), table.facts)


def lengths_of(vectors: np.ndarray) -> np.ndarray:
    """Euclidean lengths of vectors `(n, width)`, as `(n,)`, float32; NaN for vectors that are not finite."""
    vectors = np.asarray(vectors, dtype=np.float32)
    with np.errstate(invalid="ignore", over="ignore"):
        lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    lengths[~np.isfinite(lengths)] = np.nan
    return lengths


def are_unit(lengths: Any) -> Any:
    """Whether these lengths are 1, up to the rounding of half precision."""
    return np.abs(lengths - 1) <= _UNIT_TOLERANCE


def _parquet_files(path: Path) -> list[Path]:
    if path.is_dir():
        found = part_paths(path) or [
            file
            for file in sorted(path.rglob("*.parquet"))
            if not any(part.startswith(".") for part in file.relative_to(path).parts)
        ]
        if not found:
            raise ValueError(
                f"{str(path)!r} holds no embeddings: no parquet file, and no single .npy file. Name a folder that "
                "`atri encode` wrote, a .npy file with ids, or parquet files."
            )
        return found
    if has_magic(str(path)) and not path.exists():
        found = sorted(map(Path, glob(str(path), recursive=True)))
        if not found:
            raise ValueError(f"No file matches {str(path)!r}.")
        return found
    if not path.is_file():
        raise ValueError(f"There is no embedding store {str(path)!r}. {path_advice(str(path))}".rstrip())
    if path.suffix != ".parquet":
        raise ValueError(
            f"{str(path)!r} is no embedding store. Name a folder that `atri encode` wrote, a .npy file with ids "
            "beside it, or parquet files."
        )
    return [path]


def _mapped(path: Path) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{str(path)!r} cannot be read: {error}. Please copy or write it again.") from error
    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind != "f" or 0 in array.shape:
        found = f"{array.dtype} of shape {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        raise ValueError(f"{str(path)!r} must hold floating-point numbers of shape (rows, width), but holds {found}.")
    return array


def _facts_of_parts(folder: Path) -> StoreFacts:
    """The facts of the parquet files of `atri encode` in the folder of an array, which were gathered into it."""
    parts = part_paths(folder)
    return VectorTable(parts, str(folder), "id", "embedding").facts if parts else StoreFacts()


def _normalized(names: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    return pc.utf8_normalize(names.cast(pa.large_string()), "NFC")


def _checked_ids(ids: pa.Array, num_rows: int, name: str) -> pa.Array:
    """The ids as strings in Unicode form NFC, after checks."""
    if pa.types.is_null(ids.type) or not len(ids):
        ids = ids.cast(pa.string())
    if pa.types.is_dictionary(ids.type):
        ids = ids.cast(ids.type.value_type)
    if not (pa.types.is_integer(ids.type) or pa.types.is_string(ids.type) or ids.type in _STRINGS):
        raise ValueError(f"The ids of {name!r} must be strings or whole numbers, but are {ids.type}.")
    if len(ids) != num_rows:
        raise ValueError(f"{name!r} has {num_rows} vectors but {len(ids)} ids. Each vector needs one.")
    if num_rows == 0:
        raise ValueError(f"{name!r} holds no vectors.")
    if ids.null_count:
        raise ValueError(f"{name!r}: {ids.null_count} rows have no id, the first of them row {_first_null(ids)}.")
    normalized = _normalized(ids)
    if pc.count_distinct(normalized).as_py() < num_rows:
        counts = pc.value_counts(normalized)
        twice = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
        shown = ", ".join(map(repr, twice[:3].to_pylist())) + (", ..." if len(twice) > 3 else "")
        raise ValueError(f"{name!r}: {len(twice)} ids occur more than once: {shown}. Every vector needs its own id.")
    return normalized


_STRINGS = (pa.large_string(), pa.string_view())


def _first_null(ids: pa.Array) -> int:
    return int(pc.index(ids.is_null(), True).as_py())
