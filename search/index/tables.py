"""The tables of an index on LanceDB: windows of sounds with their vectors, failures, and facts of the model."""

import json
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from difflib import get_close_matches
from os import PathLike
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from filelock import FileLock, Timeout

from modeling_atri.files import normalized_name
from modeling_atri.sources import path_advice

from ..object_storage import is_address, lance_options
from .notes import NOTES_SCHEMA, Notes


WINDOWS, FAILURES, FACTS, NOTES = "windows", "failures", "facts", "notes"  # names of the tables
LOCK_NAME = ".lock"
FORM = 1  # version of the tables

# Kinds of rows. A file of one window has one row, a clip. A longer file has its windows, and one row for the whole.
CLIP, WINDOW, WHOLE = "clip", "window", "whole"
# Filters for the rows that a search for whole files and a search for moments read.
OF_FILES, OF_MOMENTS = f"kind != '{WINDOW}'", f"kind != '{WHOLE}'"

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
_FAILURES_SCHEMA = pa.schema(
    {"folder": pa.string(), "path": pa.string(), "reason": pa.string(), "size": pa.int64(), "mtime_ns": pa.int64()}
)
_FACTS_SCHEMA = pa.schema({"facts": pa.string()})
_KEYS_AT_ONCE = 10_000  # in one filter
_WIDER = "__as_double"  # ends the name of a column that is being made from one of whole numbers


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
        spans: start and end of each window in seconds. A sound of one window has one span.
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


@dataclass(frozen=True)
class IndexFacts:
    """What an index notes when it is made.

    Args:
        model: Hub id or absolute folder of the model; None if it is not known.
        fingerprint: `audio_fingerprint` of the model.
        projection_dim: width of a vector.
        languages: languages of the model, as FLORES-200 codes.
        window_s, hop_s: length of a window and distance between the starts of two, in seconds; None for a model
            without an audio tower.
        version: of the form of the tables.
    """

    model: str | None
    fingerprint: str
    projection_dim: int
    languages: Sequence[str] = ()
    window_s: float | None = None
    hop_s: float | None = None
    version: int = FORM


def quoted(text: str) -> str:
    """A text as a literal of SQL. Every text that comes into a filter of this package goes through here."""
    return "'" + text.replace("'", "''") + "'"


def column(name: str) -> str:
    """The name of a column in SQL."""
    return "`" + name.replace("`", "``") + "`"


def of_sounds(keys: Iterable[SoundKey]) -> str:
    """A filter for the rows of some sounds."""
    by_folder: dict[str, list[str]] = {}
    for key in keys:
        by_folder.setdefault(key.folder, []).append(key.path)
    parts = [
        f"(folder = {quoted(folder)} AND path IN ({', '.join(map(quoted, paths))}))"
        for folder, paths in by_folder.items()
    ]
    return f"({' OR '.join(parts)})" if parts else "FALSE"


def of_folder(folder: str) -> str:
    """A filter for the rows of a folder."""
    return f"folder = {quoted(folder)}"


def all_of(*filters: str | None) -> str | None:
    """A filter for the rows that meet all filters. Filters that are None are left out.

    Raises:
        ValueError: the parentheses of a filter do not match, so that it would change the meaning of the others.
    """
    given = []
    for condition in filters:
        if condition is not None:
            _check_parentheses(condition)
            given.append(f"({condition})")
    return " AND ".join(given) or None


def _check_parentheses(condition: str) -> None:
    depth = 0
    for mark in re.findall(r"[()]", re.sub(r"'(?:[^']|'')*'|`[^`]*`|\"[^\"]*\"", "", condition)):
        depth += 1 if mark == "(" else -1
        if depth < 0:
            break
    if depth:
        raise ValueError(
            f"The filter {condition!r} cannot be used: a parenthesis of it has no partner. It is a condition of SQL "
            'on the columns, such as "duration_s < 30".'
        )


class IndexTables:
    """The tables of one index, in a folder or on object storage.

    `IndexTables.open` and `IndexTables.create` return it. Each method that writes makes one commit, unless it says
    otherwise, so that a process which is killed leaves the tables as they were before or as they are after it. Write
    inside of `with tables.writing():`.
    """

    def __init__(self, path: str, database: Any, facts: IndexFacts, storage_options: Mapping[str, str] | None = None):
        self.path = path
        self.facts = facts
        self.storage_options = storage_options
        self.windows = database.open_table(WINDOWS)  # a `lancedb.table.Table`
        self.notes = Notes(database.open_table(NOTES))
        self.kept: Any = None  # what a search keeps of the tables for the next one
        self.kept_lock = Lock()
        self._failures = database.open_table(FAILURES)
        self._facts = database.open_table(FACTS)
        self._locks = {0: _lock(path)}
        self._made_of = _files_of_facts(path)

    @classmethod
    def open(cls, path: str | PathLike[str], storage_options: Mapping[str, str] | None = None) -> "IndexTables":
        """Open the tables of an index.

        Raises:
            ValueError: there is no index at `path`, or it is of a newer form.
        """
        location = location_of(path)
        _check_place(location)
        if _has_no_facts(location):
            raise ValueError(_no_index(location))
        database = _connect(location, storage_options)
        facts = _read_facts(database, location)
        if facts is None:
            raise ValueError(_no_index(location))
        try:
            return cls(location, database, facts, storage_options)
        except (ValueError, RuntimeError) as error:
            raise ValueError(_damaged(location, error)) from error

    @classmethod
    def exist(cls, path: str | PathLike[str], storage_options: Mapping[str, str] | None = None) -> bool:
        """Whether there is an index at `path`.

        Raises:
            ValueError: `path` is a file.
        """
        location = location_of(path)
        _check_place(location)
        if _has_no_facts(location):
            return False
        return _read_facts(_connect(location, storage_options), location) is not None

    @classmethod
    def check_new(cls, path: str | PathLike[str]) -> str:
        """Raise a ValueError if `path` is a file or a folder with other files; return it as an absolute path."""
        location = location_of(path)
        _check_place(location)
        if not is_address(location):
            _check_is_free(Path(location))
        return location

    @classmethod
    def create(
        cls, path: str | PathLike[str], facts: IndexFacts, storage_options: Mapping[str, str] | None = None
    ) -> "IndexTables":
        """Make the tables of a new index. It exists once its facts are written, which is the last step.

        Raises:
            ValueError: there is an index already, or other files.
        """
        location = cls.check_new(path)
        if not is_address(location):
            Path(location).mkdir(parents=True, exist_ok=True)
        database = _connect(location, storage_options)
        with _lock(location):
            if _read_facts(database, location) is not None:
                raise ValueError(f"There is an index at {location!r} already.")
            vector = pa.field(VECTOR, pa.list_(pa.float32(), facts.projection_dim), nullable=False)
            # Tables that are there were left by a process that was killed before it wrote the facts.
            database.create_table(WINDOWS, schema=OWN_COLUMNS.append(vector), mode="overwrite")
            database.create_table(FAILURES, schema=_FAILURES_SCHEMA, mode="overwrite")
            database.create_table(NOTES, schema=NOTES_SCHEMA, mode="overwrite")
            row = pa.table({"facts": [json.dumps(asdict(facts))]}, schema=_FACTS_SCHEMA)
            database.create_table(FACTS, data=row, mode="overwrite")
        return cls(location, database, facts, storage_options)

    def writing(self, rank: int = 0) -> AbstractContextManager[Any]:
        """Keep other processes from writing to an index on this machine while the block runs.

        On object storage there is no lock. LanceDB's commits then fail or are tried again where two conflict.

        Args:
            rank: number of this process among those that write together. Process 0 takes its lock first, and only if
                no process of another group holds one.

        Raises:
            IndexInUseError: another process is writing.
            ValueError: the index is not the one that was opened, see `check_present`.
        """
        self.check_present()
        return self._locks.setdefault(rank, _lock(self.path, rank))

    def check_present(self) -> None:
        """Check that the index at this path is still the one that was opened. On object storage, nothing is checked.

        Raises:
            ValueError: it was deleted, or another index was made in its place. What was read of it is wrong then.
        """
        if self._made_of and self._made_of.isdisjoint(_files_of_facts(self.path)):
            raise ValueError(
                f"The index {self.path!r} was deleted or made anew since it was opened. Open it again, or restart the "
                "page or the command that uses it."
            )

    def note_model(self, name: str) -> None:
        """Note another place of the model."""
        self.facts = replace(self.facts, model=name)
        self._facts.update(values={"facts": json.dumps(asdict(self.facts))})

    # Reading

    @property
    def columns(self) -> dict[str, pa.DataType]:
        """The further columns with their types: those that came from a side file or from rows."""
        own = RESERVED_NAMES
        return {item.name: item.type for item in self.windows.schema if item.name not in own}

    def files(self, columns: Sequence[str] = FILE_COLUMNS) -> pa.Table:
        """Columns of the sounds of all folders, one row for each sound."""
        return self.rows(OF_FILES, columns)

    def rows(self, where: str | None = None, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows that meet a filter, with all columns or some of them."""
        query = self.windows.search()
        if where is not None:
            query = query.where(where)
        if columns is not None:
            query = query.select(list(columns))
        with self.explaining(where):
            return query.to_arrow()

    def keys_of(self, paths: Iterable[str]) -> list[SoundKey]:
        """The sounds of some paths, which are below their folders as the index has them, or absolute.

        Raises:
            ValueError: the index has no sound of a path.
        """
        by_path: dict[str, list[SoundKey]] = {}
        for folder, path in _keys(self.files(["folder", "path"])):
            for name in {path, f"{folder}/{path}" if folder else path}:
                by_path.setdefault(name, []).append(SoundKey(folder, path))
        found: dict[SoundKey, None] = {}
        for path in map(normalized_name, paths):
            if path not in by_path:
                near = get_close_matches(path, by_path, n=1)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                raise ValueError(f"The index {self.path!r} has no sound {path!r}.{hint}")
            found |= dict.fromkeys(by_path[path])
        return list(found)

    def count_sounds(self, where: str | None = None) -> int:
        """The number of sounds, or of those that meet a filter."""
        with self.explaining(where):
            return int(self.windows.count_rows(all_of(OF_FILES, where)))

    @contextmanager
    def explaining(self, where: str | None) -> Iterator[None]:
        """Turn an error of a query that has the user's filter `where` into a ValueError that explains it."""
        try:
            yield
        except (ValueError, RuntimeError, OSError) as error:
            if where is None:
                raise
            shown = {item.name: item.type for item in self.windows.schema if item.name != VECTOR}
            reason = _reason(error)
            if unknown := re.search(r"No field named (\S+?)\. ", reason):
                name = unknown[1].strip('"`')
                near = get_close_matches(name, shown, n=1)
                reason = f"there is no column {name!r}" + (f". Did you mean {near[0]!r}?" if near else "")
            elif "literal of type 'Date32'" in reason:
                reason += ". Write a day as date '2024-05-01'"
            elif "literal of type 'Timestamp" in reason:
                reason += ". Write a time as timestamp '2024-05-01 12:00:00'"
            elif "literal of type 'List(" in reason:
                reason += ". Ask what a list holds with array_has(column, 'text')"
            raise ValueError(
                f"The filter {where!r} cannot be used: {reason.rstrip('.?')}{'?' if reason.endswith('?') else '.'} It "
                "is a condition of SQL on the columns "
                f'{", ".join(f"{name} ({kind})" for name, kind in shown.items())}, such as "duration_s < 30".'
            ) from error

    # Writing

    def append(self, sounds: Sequence[IndexedSound]) -> None:
        """Add sounds that are not in the index."""
        if sounds:
            self.windows.add(rows_of(sounds, self.windows.schema))

    def replace(self, sounds: Sequence[IndexedSound]) -> None:
        """Write sounds, whether they are in the index or not. All rows that they had before are gone afterwards."""
        if sounds:
            self._replace(rows_of(sounds, self.windows.schema), [sound.key for sound in sounds])

    def transfer(self, transfers: Sequence[Transfer]) -> None:
        """Give the rows of sounds to other files, with their vectors and columns as they are.

        All rows that the targets had before are gone afterwards. Two sounds can change places.
        """
        if not transfers:
            return
        rows = self.rows(of_sounds({transfer.source for transfer in transfers}))
        places: dict[SoundKey, list[int]] = {}
        for place, key in enumerate(_keys(rows)):
            places.setdefault(SoundKey(*key), []).append(place)
        pairs = [(transfer, place) for transfer in transfers for place in places.get(transfer.source, ())]
        numbers = [name.rpartition("#")[2] for name in rows["id"].to_pylist()]
        changed: dict[str, list[Any]] = {
            "id": [_row_id(transfer.target, numbers[place]) for transfer, place in pairs],
            "folder": [transfer.target.folder for transfer, _ in pairs],
            "path": [transfer.target.path for transfer, _ in pairs],
            "size": [transfer.size for transfer, _ in pairs],
            "mtime_ns": [transfer.mtime_ns for transfer, _ in pairs],
        }
        keys = {key for transfer in transfers for key in (transfer.source, transfer.target)}
        self._replace(_with_columns(rows.take([place for _, place in pairs]), changed), keys)

    def update_columns(self, values: Mapping[SoundKey, Mapping[str, Any]]) -> None:
        """Write the values of sounds in further columns, by sound and column. A column that is not named stays."""
        if not values:
            return
        rows = self.rows(of_sounds(values))
        keys = [SoundKey(*key) for key in _keys(rows)]
        names = {name for of_sound in values.values() for name in of_sound}
        changed = {
            name: [values[key].get(name, old) for key, old in zip(keys, rows[name].to_pylist(), strict=True)]
            for name in names
        }
        self._replace(_with_columns(rows, changed), values)

    def delete(self, keys: Collection[SoundKey]) -> None:
        """Remove sounds, in one commit for each 10,000 of them."""
        listed = list(keys)
        for start in range(0, len(listed), _KEYS_AT_ONCE):
            self.windows.delete(of_sounds(listed[start : start + _KEYS_AT_ONCE]))

    def delete_where(self, where: str) -> int:
        """Remove the sounds that meet a filter, whole, and return their number."""
        found = self.rows(all_of(OF_FILES, where), ["folder", "path"])
        keys = {SoundKey(*key) for key in _keys(found)}
        self.delete(keys)
        return len(keys)

    def ensure_columns(self, types: Mapping[str, pa.DataType]) -> None:
        """Add the columns that the tables lack. A column of whole numbers becomes one of floating-point numbers.

        Each change is a commit of its own.

        Raises:
            ValueError: a name is reserved, or the column has another type.
        """
        self._finish_widening()
        present = self.columns
        missing = {}
        for name, kind in types.items():
            if name in RESERVED_NAMES or not name or name.startswith("_") or name.endswith(_WIDER):
                raise ValueError(
                    f"A column cannot be called {name!r}. The index uses {', '.join(sorted(RESERVED_NAMES))} itself, "
                    "and names that begin with `_`. Rename the column."
                )
            if name not in present:
                missing[name] = kind
            elif pa.types.is_floating(kind) and pa.types.is_integer(present[name]):
                self._widen(name)
            elif kind != present[name] and not (pa.types.is_integer(kind) and pa.types.is_floating(present[name])):
                raise ValueError(
                    f"The column {name!r} of the index {self.path!r} holds values of type {present[name]}, but the "
                    f"new ones are of type {kind}. Give them the same type, or rename the new column."
                )
        if missing:
            self.windows.add_columns(pa.schema(missing))

    def failures(self, folder: str | None = None) -> dict[SoundKey, Failure]:
        """The files that could not be read when they were last tried, in all folders or in one."""
        query = self._failures.search()
        if folder is not None:
            query = query.where(of_folder(folder))
        rows = query.to_arrow()
        folders, paths, *facts = (rows[name].to_pylist() for name in _FAILURES_SCHEMA.names)
        return dict(zip(map(SoundKey, folders, paths), map(Failure, *facts), strict=True))

    def set_failures(self, folder: str, failures: Mapping[str, Failure]) -> None:
        """Replace the failures of a folder, by path."""
        if self.failures(folder) == {SoundKey(folder, path): failure for path, failure in failures.items()}:
            return
        condition = of_folder(folder)
        if not failures:
            self._failures.delete(condition)
            return
        columns = [[folder] * len(failures), list(failures), *zip(*failures.values(), strict=True)]
        rows = pa.table(dict(zip(_FAILURES_SCHEMA.names, map(list, columns), strict=True)), schema=_FAILURES_SCHEMA)
        merge = self._failures.merge_insert(["folder", "path"]).when_matched_update_all()
        merge.when_not_matched_insert_all().when_not_matched_by_source_delete(condition).execute(rows)

    def remove_doubles(self) -> int:
        """Keep one of the rows of each id, and return how many were removed.

        Two processes that write to the same object storage at the same time can write a row twice.
        """
        rows = self.windows.search().select(["id"]).with_row_id(True).to_arrow()
        first: dict[str, int] = {}
        doubles = []
        for name, row in zip(rows["id"].to_pylist(), rows["_rowid"].to_pylist(), strict=True):
            if first.setdefault(name, row) != row:
                doubles.append(row)
        for start in range(0, len(doubles), _KEYS_AT_ONCE):
            self.windows.delete(f"_rowid IN ({', '.join(map(str, doubles[start : start + _KEYS_AT_ONCE]))})")
        return len(doubles)

    def compact(self, keep: timedelta = timedelta(hours=1)) -> None:
        """Merge small fragments, and remove versions that are older than `keep` and which nobody reads any more."""
        for table in (self.windows, self._failures):
            table.optimize(cleanup_older_than=keep)

    def _replace(self, rows: pa.Table, keys: Iterable[SoundKey]) -> None:
        merge = self.windows.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
        merge.when_not_matched_by_source_delete(of_sounds(keys)).execute(rows)

    def _widen(self, name: str) -> None:
        """Make a column of whole numbers one of floating-point numbers. A process that is killed can go on."""
        self.windows.add_columns({name + _WIDER: f"CAST({column(name)} AS DOUBLE)"})
        self.windows.drop_columns([name])
        self._finish_widening()

    def _finish_widening(self) -> None:
        names = self.windows.schema.names
        for wider in [name for name in names if name.endswith(_WIDER)]:
            if wider.removesuffix(_WIDER) in names:
                self.windows.drop_columns([wider])
            else:
                self.windows.alter_columns({"path": wider, "rename": wider.removesuffix(_WIDER)})


def location_of(path: str | PathLike[str]) -> str:
    """A path as an index is opened with: an address as it is, a local path absolutely."""
    text = os.fspath(path)
    if not isinstance(text, str) or not text:
        raise ValueError(f"The path of an index must be a text that is not empty, got {path!r}.")
    return text.rstrip("/") if is_address(text) else os.path.abspath(os.path.expanduser(text))


def _lock(location: str, rank: int = 0) -> AbstractContextManager[Any]:
    return nullcontext() if is_address(location) else _WriterLock(location, rank)


class IndexInUseError(ValueError):
    """Another process writes to an index."""


class _WriterLock:
    """Holds the file lock of an index. It can be taken again by the thread that holds it.

    Of several processes that write together, each has a lock of its own. A process that survives the others therefore
    still keeps a new run from writing.
    """

    def __init__(self, location: str, rank: int):
        self._location, self._rank = location, rank
        self._lock = FileLock(Path(location, f"{LOCK_NAME}.{rank}" if rank else LOCK_NAME), timeout=0)

    def __enter__(self) -> None:
        try:
            self._lock.acquire()
            if self._rank == 0:
                self._check_others()
        except Timeout as error:
            self._lock.release()
            raise IndexInUseError(
                f"Another process is writing to the index {self._location!r}. Wait until it has ended, and try again."
            ) from error

    def __exit__(self, *exception: object) -> None:
        self._lock.release()

    def _check_others(self) -> None:
        """Raise a Timeout if a process with another number holds its lock."""
        if self._lock.lock_counter == 1:
            for path in Path(self._location).glob(f"{LOCK_NAME}.*"):
                with FileLock(path, timeout=0):
                    pass


def _connect(location: str, storage_options: Mapping[str, str] | None) -> Any:
    os.environ.setdefault("LANCEDB_LOG", "error")  # it warns of every table that is made
    try:
        import lancedb
    except ImportError as error:
        raise ImportError(
            'An index of sounds needs LanceDB, which is not installed. Run `pip install "modeling_atri[search]"`.'
        ) from error
    # With this interval, a reader sees what other processes have written since its last query.
    return lancedb.connect(
        location, storage_options=lance_options(location, storage_options), read_consistency_interval=timedelta(0)
    )


def _table_names(database: Any) -> set[str]:
    return set(database.list_tables().tables)


def _read_facts(database: Any, location: str) -> IndexFacts | None:
    """The facts of an index; None if there is no index."""
    if FACTS not in _table_names(database):
        return None
    try:
        found = database.open_table(FACTS).to_arrow()["facts"].to_pylist()
        values = json.loads(found[0]) if found else None
    except (ValueError, RuntimeError) as error:
        raise ValueError(_damaged(location, error)) from error
    if values is None:
        return None
    if values["version"] > FORM:
        raise ValueError(
            f"The index {location!r} was made by a newer version of this package (form {values['version']}; this one "
            f"knows {FORM}). Run `pip install --upgrade modeling_atri`."
        )
    return IndexFacts(**values)


def _files_of_facts(location: str) -> frozenset[str]:
    """The files that hold the facts of a local index, whose names no other index has; none if there is no index."""
    try:
        return frozenset(os.listdir(Path(location, f"{FACTS}.lance", "data")))
    except OSError:
        return frozenset()


def _has_no_facts(location: str) -> bool:
    """Whether a folder on this machine cannot be an index, so that LanceDB need not read it.

    LanceDB makes a folder that is missing, and cannot list one with a file whose name holds a line break.
    """
    return not is_address(location) and not os.path.isdir(os.path.join(location, f"{FACTS}.lance"))


def _check_place(location: str) -> None:
    if not is_address(location) and os.path.isfile(location):
        raise ValueError(f"{location!r} is a file, and an index is a folder. Name a folder.")


def _check_is_free(folder: Path) -> None:
    """Raise a ValueError if a folder holds anything but what the making of an index leaves."""
    own = {LOCK_NAME, *(f"{name}.lance" for name in (WINDOWS, FAILURES, FACTS, NOTES))}
    others = sorted(entry.name for entry in folder.iterdir() if entry.name not in own) if folder.is_dir() else []
    if others:
        shown = f"{', '.join(others[:5])}{' and more' if len(others) > 5 else ''}"
        raise ValueError(
            f"There is no index in {str(folder)!r}, but it holds other files: {shown}. Name a new or empty folder for "
            "the index."
        )


def _reason(error: Exception) -> str:
    """The text of an error of LanceDB in one line, without the place in its source."""
    return re.split(r"\s*(?:, /\S+\.rs:\d+|\. This was likely caused)", " ".join(str(error).split()))[0]


def _damaged(location: str, error: Exception) -> str:
    return (
        f"The index {location!r} is damaged: {_reason(error).rstrip('.')}. Copy it again, or delete it and index the "
        "sounds again."
    )


def _no_index(location: str) -> str:
    if is_address(location):
        return f"There is no index at {location!r}. `atri index SOUNDS {location} --model MODEL` makes one."
    if not os.path.isdir(location):
        return f"There is no index {location!r}. {path_advice(location)}".rstrip()
    held = sorted(os.listdir(location))[:5]
    return (
        f"The folder {location!r} is no index. It holds {', '.join(held) or 'nothing'}. `atri index SOUNDS INDEX "
        "--model MODEL` makes one."
    )


def vector_values(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """A column of vectors as an array `(number of rows, projection_dim)`, float32."""
    flat = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    values: np.ndarray = flat.flatten().to_numpy(zero_copy_only=False)
    return values.reshape(len(column), column.type.list_size)


def rows_of(sounds: Sequence[IndexedSound], schema: pa.Schema) -> pa.Table:
    """The rows of sounds, as a table of this schema has them. Values of columns that it lacks are left out."""
    names = [name for name in schema.names if name not in RESERVED_NAMES]
    columns: dict[str, list[Any]] = {name: [] for name in [*OWN_COLUMNS.names, *names]}
    vectors = []
    for sound in sounds:
        for number, (kind, (start_s, end_s), vector) in enumerate(_windows_of(sound), -1):
            label = number if len(sound.spans) > 1 else 0
            own = (_row_id(sound.key, label), sound.path, sound.folder, kind, start_s, end_s)
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


def _row_id(key: SoundKey, number: int | str) -> str:
    return f"{key.folder}/{key.path}#{number}"


def _keys(rows: pa.Table) -> Iterator[tuple[str, str]]:
    return zip(rows["folder"].to_pylist(), rows["path"].to_pylist(), strict=True)


def _with_columns(rows: pa.Table, changed: Mapping[str, list[Any]]) -> pa.Table:
    for name, values in changed.items():
        place = rows.schema.get_field_index(name)
        rows = rows.set_column(place, rows.schema.field(name), _typed(values, rows.schema.field(name)))
    return rows


def _typed(values: list[Any], item: pa.Field) -> pa.Array:
    try:
        return pa.array(values, item.type)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise ValueError(f"The column {item.name!r} takes values of type {item.type}: {error}.") from error
