"""`IndexTables`: reads and writes the tables of an index."""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, replace
from datetime import timedelta
from difflib import get_close_matches
from os import PathLike
from pathlib import Path
from threading import Lock
from typing import Any

import pyarrow as pa

from modeling_atri.files import normalized_name

from ...object_storage import is_address
from .facts import FACTS_SCHEMA, IndexFacts, read_facts
from .filters import OF_FILES, all_of, column, explained, of_folder, of_sounds
from .locks import writer_lock
from .notes import NOTES_SCHEMA, Notes
from .places import (
    FACTS,
    FAILURES,
    NOTES,
    WINDOWS,
    check_is_free,
    check_place,
    connect,
    damaged,
    files_of_facts,
    has_no_facts,
    location_of,
    no_index,
)
from .rows import (
    FILE_COLUMNS,
    OWN_COLUMNS,
    RESERVED_NAMES,
    VECTOR,
    Failure,
    IndexedSound,
    SoundKey,
    Transfer,
    folders_and_paths,
    row_id,
    rows_of,
    with_columns,
)


FAILURES_SCHEMA = pa.schema(
    {"folder": pa.string(), "path": pa.string(), "reason": pa.string(), "size": pa.int64(), "mtime_ns": pa.int64()}
)
_KEYS_AT_ONCE = 10_000  # in one filter
_WIDER = "__as_double"  # ends the name of a column that is being made from one of whole numbers


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
        self._locks = {0: writer_lock(path)}
        self._made_of: frozenset[str] = frozenset()
        with suppress(ValueError, OSError):  # LanceDB reads some storage that PyArrow cannot list
            self._made_of = files_of_facts(path, storage_options)

    @classmethod
    def open(cls, path: str | PathLike[str], storage_options: Mapping[str, str] | None = None) -> "IndexTables":
        """Open the tables of an index.

        Raises:
            ValueError: there is no index at `path`, or it is of a newer form.
        """
        location = location_of(path)
        check_place(location)
        if has_no_facts(location):
            raise ValueError(no_index(location))
        database = connect(location, storage_options)
        facts = read_facts(database, location)
        if facts is None:
            raise ValueError(no_index(location))
        try:
            return cls(location, database, facts, storage_options)
        except (ValueError, RuntimeError) as error:
            raise ValueError(damaged(location, error)) from error

    @classmethod
    def exist(cls, path: str | PathLike[str], storage_options: Mapping[str, str] | None = None) -> bool:
        """Whether there is an index at `path`.

        Raises:
            ValueError: `path` is a file.
        """
        location = location_of(path)
        check_place(location)
        if has_no_facts(location):
            return False
        return read_facts(connect(location, storage_options), location) is not None

    @classmethod
    def check_new(cls, path: str | PathLike[str]) -> str:
        """Raise a ValueError if `path` is a file or a folder with other files; return it as an absolute path."""
        location = location_of(path)
        check_place(location)
        if not is_address(location):
            check_is_free(Path(location))
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
        database = connect(location, storage_options)
        with writer_lock(location):
            if read_facts(database, location) is not None:
                raise ValueError(f"There is an index at {location!r} already.")
            vector = pa.field(VECTOR, pa.list_(pa.float32(), facts.projection_dim), nullable=False)
            # Tables that are there were left by a process that was killed before it wrote the facts.
            database.create_table(WINDOWS, schema=OWN_COLUMNS.append(vector), mode="overwrite")
            database.create_table(FAILURES, schema=FAILURES_SCHEMA, mode="overwrite")
            database.create_table(NOTES, schema=NOTES_SCHEMA, mode="overwrite")
            row = pa.table({"facts": [json.dumps(asdict(facts))]}, schema=FACTS_SCHEMA)
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
        return self._locks.setdefault(rank, writer_lock(self.path, rank))

    def check_present(self) -> None:
        """Check that the index at this path is still the one that was opened.

        On object storage that PyArrow cannot list, nothing is checked.

        Raises:
            ValueError: it was deleted, or another index was made in its place. What was read of it is wrong then.
        """
        if self._made_of and self._made_of.isdisjoint(files_of_facts(self.path, self.storage_options)):
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
        for folder, path in folders_and_paths(self.files(["folder", "path"])):
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
            raise explained(error, where, self.windows.schema) from error

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
        for place, key in enumerate(folders_and_paths(rows)):
            places.setdefault(SoundKey(*key), []).append(place)
        pairs = [(transfer, place) for transfer in transfers for place in places.get(transfer.source, ())]
        numbers = [name.rpartition("#")[2] for name in rows["id"].to_pylist()]
        changed: dict[str, list[Any]] = {
            "id": [row_id(transfer.target, numbers[place]) for transfer, place in pairs],
            "folder": [transfer.target.folder for transfer, _ in pairs],
            "path": [transfer.target.path for transfer, _ in pairs],
            "size": [transfer.size for transfer, _ in pairs],
            "mtime_ns": [transfer.mtime_ns for transfer, _ in pairs],
        }
        keys = {key for transfer in transfers for key in (transfer.source, transfer.target)}
        self._replace(with_columns(rows.take([place for _, place in pairs]), changed), keys)

    def update_columns(self, values: Mapping[SoundKey, Mapping[str, Any]]) -> None:
        """Write the values of sounds in further columns, by sound and column. A column that is not named stays."""
        if not values:
            return
        rows = self.rows(of_sounds(values))
        keys = [SoundKey(*key) for key in folders_and_paths(rows)]
        names = {name for of_sound in values.values() for name in of_sound}
        changed = {
            name: [values[key].get(name, old) for key, old in zip(keys, rows[name].to_pylist(), strict=True)]
            for name in names
        }
        self._replace(with_columns(rows, changed), values)

    def delete(self, keys: Collection[SoundKey]) -> None:
        """Remove sounds, in one commit for each 10,000 of them."""
        listed = list(keys)
        for start in range(0, len(listed), _KEYS_AT_ONCE):
            self.windows.delete(of_sounds(listed[start : start + _KEYS_AT_ONCE]))

    def delete_where(self, where: str) -> int:
        """Remove the sounds that meet a filter, whole, and return their number."""
        found = self.rows(all_of(OF_FILES, where), ["folder", "path"])
        keys = {SoundKey(*key) for key in folders_and_paths(found)}
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
        folders, paths, *facts = (rows[name].to_pylist() for name in FAILURES_SCHEMA.names)
        return dict(zip(map(SoundKey, folders, paths), map(Failure, *facts), strict=True))

    def set_failures(
        self, folder: str, failures: Mapping[str, Failure], was_tried: Callable[[str], bool] = lambda path: True
    ) -> None:
        """Replace the failures of a folder, by path. Those of paths that were not tried stay."""
        before = {key.path: failure for key, failure in self.failures(folder).items()}
        failures = {path: failure for path, failure in before.items() if not was_tried(path)} | dict(failures)
        if before == failures:
            return
        condition = of_folder(folder)
        if not failures:
            self._failures.delete(condition)
            return
        columns = [[folder] * len(failures), list(failures), *zip(*failures.values(), strict=True)]
        rows = pa.table(dict(zip(FAILURES_SCHEMA.names, map(list, columns), strict=True)), schema=FAILURES_SCHEMA)
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
