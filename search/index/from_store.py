"""Stored embeddings as sounds of an index, without encoding anything."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm.auto import tqdm

from modeling_atri.corpora.sources.layout import METADATA_FILES
from modeling_atri.embedding_store.facts import StoreFacts
from modeling_atri.embedding_store.store import part_paths, read_part
from modeling_atri.embedding_store.vector_tables import VectorTable, vectors_of
from modeling_atri.embedding_store.vectors import StoredVectors, open_vectors
from modeling_atri.files import normalized_name

from .indexing import IndexSummary, LoadModel
from .side_files import SideColumns, read_side_files
from .tables import NO_FOLDER, Failure, IndexedSound, IndexFacts, IndexTables, SoundKey


ROWS_AT_ONCE = 20_000  # in a commit
_NUMBERS_AT_ONCE = 2**23  # in the vectors of a commit: 32 MB
_SHOWN_FAILURES = 10_000  # that are listed; a store of a million vectors without a length is one mistake
_TABLES = (".npy", ".parquet")
_COLUMNS = ("id", "embedding", "duration_s", "size", "mtime_ns")  # of a part


class _Rows(NamedTuple):
    """Some rows of a store: ids, vectors `(n, width)`, float32, and what is known about the files, else None."""

    ids: Sequence[str]
    vectors: np.ndarray
    durations_s: Sequence[float]
    sizes: Sequence[int | None]
    mtimes_ns: Sequence[int | None]


@dataclass(frozen=True)
class _Store:
    """A store, and how to read its rows some at a time."""

    name: str
    facts: StoreFacts
    width: int
    num_rows: int
    ids: Callable[[], Sequence[str]]
    read: Callable[[int], Iterator[_Rows]]  # takes the number of rows to read at once


def is_store(source: Any) -> bool:
    """Whether this is a store of embeddings, or the path of one, and no folder of sounds.

    A folder is one if `atri encode` wrote it, or if it holds `.npy` or parquet files and nothing else but the ids of
    `.npy` files. Its side files do not count.
    """
    if isinstance(source, StoredVectors):
        return True
    if not isinstance(source, (str, PathLike)):
        return False
    path = Path(source)
    if not path.is_dir():
        return path.suffix in _TABLES
    if part_paths(path):
        return True
    names = [entry.name for entry in path.iterdir() if not entry.name.startswith(".")]
    others = {".json", ".txt"}
    tables = [name for name in names if name.endswith(_TABLES) and name not in METADATA_FILES]
    return bool(tables) and all(Path(name).suffix in (*_TABLES, *others) for name in names)


def add_store(
    tables: IndexTables,
    load: LoadModel,
    source: StoredVectors | str | PathLike[str],
    columns: str | PathLike[str] | None = None,
    progress: bool = False,
) -> IndexSummary:
    """Add the embeddings of a store to an index, one row for each id. Nothing is encoded.

    The ids become paths of sounds whose folder is not known. A row has no windows, so the sound is its own moment.
    Ids that the index has below a folder are left out, and so are those that are in the index with the same size and
    time of change. Other ids that are in the index get the vector of the store.

    Args:
        tables: of the index.
        load: returns model and processor. It is only called for a model that takes stored embeddings, whose head then
            projects the vectors.
        source: a folder that `atri encode` wrote, or what [`~embedding_store.open_vectors`] opens or returned.
        columns (*optional*): file with columns, which names the ids as `file_name`.
        progress: show a progress bar.

    Raises:
        ValueError: there is no such store, its vectors have another width or are of another model than those of the
            index, another process writes to the index, or the file of columns is refused.
    """
    began = time.perf_counter()
    store = _open(source)
    summary, failures = IndexSummary(), dict[str, Failure]()
    project = _projection(tables.facts, load, store)
    if store.facts.fingerprint is None:
        summary.notes.append(
            f"{store.name!r} does not say which model made its vectors. They were accepted because they have the "
            f"{store.width} numbers of {tables.facts.model!r}. If another model made them, no search will be right."
        )
    with tables.writing():
        side = _side_columns(tables, store, columns)
        summary.notes += side.notes
        known = _Known(tables)
        num_read = max(1, min(ROWS_AT_ONCE, _NUMBERS_AT_ONCE // store.width))
        with tqdm(total=store.num_rows, desc="vectors", disable=not progress) as bar:
            for rows in store.read(num_read):
                sounds = list(_sounds(rows, project, side, known, failures))
                tables.replace([sound for sound in sounds if sound.key in known.homeless])
                tables.append([sound for sound in sounds if sound.key not in known.homeless])
                summary.num_sounds += len(sounds)
                bar.update(len(rows.ids))
        tables.set_failures(NO_FOLDER, failures, known.was_seen)
    summary.num_sounds += known.num_current
    if known.num_left_out:
        summary.notes.append(
            f"{known.num_left_out} ids of {store.name!r} were left out, because the index has sounds of these paths "
            "below a folder."
        )
    summary.failures = {path: failure.reason for path, failure in failures.items()}
    summary.seconds = time.perf_counter() - began
    return summary


class _Known:
    """The sounds that an index has, and which ids of a store need not be written."""

    def __init__(self, tables: IndexTables):
        files = tables.files(["folder", "path", "size", "mtime_ns"])
        self.homeless: dict[SoundKey, tuple[int | None, int | None]] = {}
        self._housed: set[str] = set()
        self._seen: set[str] = set()
        self.num_current, self.num_left_out = 0, 0
        for folder, path, size, mtime_ns in zip(
            *(files[name].to_pylist() for name in files.column_names), strict=True
        ):
            if folder:
                self._housed.add(path)
            else:
                self.homeless[SoundKey(NO_FOLDER, path)] = size, mtime_ns

    def was_seen(self, path: str) -> bool:
        """Whether the store has an id."""
        return path in self._seen

    def is_new(self, path: str, size: int | None, mtime_ns: int | None) -> bool:
        """Whether an id must be written."""
        if path in self._seen:  # an earlier version stored two Unicode forms of one name
            return False
        self._seen.add(path)
        if path in self._housed:
            self.num_left_out += 1
            return False
        if size is not None and self.homeless.get(SoundKey(NO_FOLDER, path)) == (size, mtime_ns):
            self.num_current += 1
            return False
        return True


def _sounds(
    rows: _Rows,
    project: Callable[[np.ndarray], np.ndarray],
    side: SideColumns,
    known: _Known,
    failures: dict[str, Failure],
) -> Iterator[IndexedSound]:
    """The rows of a store that must be written. Vectors that have no direction go to `failures`."""
    paths = [normalized_name(name) for name in rows.ids]
    facts = zip(paths, rows.sizes, rows.mtimes_ns, strict=True)
    wanted = [place for place, fact in enumerate(facts) if known.is_new(*fact)]
    lengths = np.linalg.norm(rows.vectors[wanted].astype(np.float64), axis=1)
    usable = np.isfinite(lengths) & (lengths > 0)
    for place in np.flatnonzero(~usable)[: max(0, _SHOWN_FAILURES - len(failures))]:
        row = wanted[place]
        failures[paths[row]] = Failure(
            "Its stored vector is zero, or holds NaN or infinity.", rows.sizes[row], rows.mtimes_ns[row]
        )
    used = np.asarray(wanted, dtype=np.int64)[usable]
    vectors = project(rows.vectors[used])
    for row, vector in zip(used.tolist(), vectors, strict=True):
        path, duration_s = paths[row], rows.durations_s[row]
        yield IndexedSound(
            path,
            NO_FOLDER,
            duration_s,
            [(0.0, duration_s)],
            vector[None],
            vector,
            rows.sizes[row],
            rows.mtimes_ns[row],
            None,
            side.of(path),
        )


def _projection(facts: IndexFacts, load: LoadModel, store: _Store) -> Callable[[np.ndarray], np.ndarray]:
    """What makes vectors of an index from those of a store, after a check that they are of one model.

    Raises:
        ValueError: the vectors have another width, or are of another model.
    """
    width, fingerprint, project = facts.projection_dim, facts.fingerprint, _with_length_1
    if not facts.window_s:
        model, processor = load()
        if model.config.has_audio_head:
            from modeling_atri.encode import encode_audio

            config: Any = model.config.audio_config
            width, fingerprint = config.hidden_size, config.fingerprint

            def project(vectors: np.ndarray) -> np.ndarray:
                return encode_audio(model, processor, list(vectors)) if len(vectors) else vectors

    if store.facts.fingerprint is not None and fingerprint is not None and store.facts.fingerprint != fingerprint:
        raise ValueError(
            f"{store.name!r} holds vectors of another model, {store.facts.name}, which cannot be compared with those "
            f"of the index, {StoreFacts(facts.model, fingerprint).name}. Add embeddings of that model, or make "
            "another index."
        )
    if store.width != width:
        raise ValueError(
            f"The vectors of {store.name!r} have {store.width} numbers, but the model of the index, {facts.model!r}, "
            f"takes {width}. Add embeddings of that model, or make another index."
        )
    return project


def _with_length_1(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    scaled: np.ndarray = (vectors / lengths).astype(np.float32)
    return scaled


def _side_columns(tables: IndexTables, store: _Store, columns: str | PathLike[str] | None) -> SideColumns:
    if columns is None:
        return SideColumns()
    ids = dict.fromkeys(map(normalized_name, store.ids()))
    side = read_side_files(store.name, ids, columns, tables.columns) or SideColumns()
    tables.ensure_columns(side.types)
    return side


def _open(source: StoredVectors | str | PathLike[str]) -> _Store:
    if isinstance(source, (str, PathLike)) and (parts := part_paths(Path(source))):
        return _of_parts(parts, str(source))
    return _of_vectors(source if isinstance(source, StoredVectors) else open_vectors(source))


def _of_parts(parts: Sequence[Path], name: str) -> _Store:
    """The store that `atri encode` wrote, whose parts are read one after the other."""
    facts = VectorTable(parts, name, "id", "embedding").facts
    width = pq.read_schema(parts[0]).field("embedding").type.list_size
    num_rows = sum(len(table) for table in _tables(parts, ["size"]))

    def read(num_rows: int) -> Iterator[_Rows]:
        waiting: list[pa.Table] = []
        for table in _tables(parts):
            waiting.append(table)
            if sum(map(len, waiting)) >= num_rows:
                yield _rows_of(pa.concat_tables(waiting), width)
                waiting = []
        if waiting:
            yield _rows_of(pa.concat_tables(waiting), width)

    return _Store(name, facts, width, num_rows, lambda: _ids(parts), read)


def _tables(parts: Iterable[Path], names: Sequence[str] = _COLUMNS) -> Iterator[pa.Table]:
    for path in parts:
        yield read_part(path, list(names))


def _ids(parts: Iterable[Path]) -> list[str]:
    return [name for table in _tables(parts, ["id"]) for name in table["id"].to_pylist()]


def _rows_of(table: pa.Table, width: int) -> _Rows:
    vectors = vectors_of(table["embedding"].combine_chunks(), width)
    facts = (table[name].to_pylist() for name in _COLUMNS[2:])
    return _Rows(table["id"].to_pylist(), vectors, *facts)


def _of_vectors(store: StoredVectors) -> _Store:
    """A store of which only ids and vectors are known."""

    def read(num_rows: int) -> Iterator[_Rows]:
        for start in range(0, len(store), num_rows):
            vectors = store[start : start + num_rows]
            unknown = [None] * len(vectors)
            yield _Rows(store.ids[start : start + num_rows], vectors, [0.0] * len(vectors), unknown, unknown)

    return _Store(store.name, store.facts, store.width, len(store), lambda: store.ids, read)
