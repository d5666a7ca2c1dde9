"""Columns of an index from side files: `metadata.jsonl` or `.csv` beside the sounds, or a file that is named."""

import os
import posixpath
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from modeling_atri.audio_io.discovery import FoundSound
from modeling_atri.corpora.sources.layout import METADATA_FILES, NAME_COLUMNS
from modeling_atri.corpora.sources.metadata import FileRow, read_file_rows
from modeling_atri.files import normalized_name
from modeling_atri.sources import path_advice

from .column_types import Cell, typed_column
from .tables import RESERVED_NAMES, SoundKey


LEFT_OUT = frozenset({"captions"})  # columns that are for training
_PREFIX = "metadata_"  # of columns whose name the index cannot use
_NOT_IN_NAMES = str.maketrans(dict.fromkeys(".`'\"\\", "_"))  # LanceDB cannot use them in the name of a column
_SHOWN = 3  # faulty rows that a note names
_SUFFIXES = (".jsonl", ".csv", ".tsv", ".json", ".parquet")


@dataclass
class SideColumns:
    """What side files say about the sounds of a folder.

    Args:
        types: the columns, with their types.
        values: the values of a sound by column, by path. Missing values are left out.
        notes: sentences about rows and columns that were not taken as they are.
        files: the side files, relative to the folder if they are below it.
        num_unmatched: rows that name no sound below the folder.
    """

    types: dict[str, pa.DataType] = field(default_factory=dict)
    values: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    num_unmatched: int = 0

    def of(self, path: str) -> dict[str, Any]:
        """The values of a sound by column."""
        return self.values.get(path, {})


def read_side_files(
    folder: str | PathLike[str],
    sounds: Mapping[str, FoundSound | None],
    columns: str | PathLike[str] | None = None,
    stored: Mapping[str, pa.DataType] | None = None,
) -> SideColumns | None:
    """Read the columns of the sounds below a folder.

    In each folder that holds sounds or folders of sounds, the first of `metadata.jsonl`, `.csv`, `.tsv`, `.parquet`
    and `.json` is read. Its rows name sounds as `file_name`, relative to the file. If several files name a sound, the
    nearest one counts. The column `captions` is left out.

    Args:
        folder: the folder of the sounds.
        sounds: the sounds below it, by path relative to it; with `columns`, the paths are enough.
        columns (*optional*): a file to read instead. Its rows name sounds relative to it or to the folder, in one of
            the columns `NAME_COLUMNS`.
        stored (*optional*): the further columns that the index has already, with their types.

    Returns:
        `SideColumns`, or None if there is no side file.

    Raises:
        ValueError: a file cannot be read, has no column of names, or (of a file that is named) names no sound; a value
            does not fit the type of its column in the index; or two columns would have the same name.
    """
    root = Path(folder)
    if columns is not None:
        files = [(columns_file(columns), "")]
    else:
        files = list(files_beside(root, sounds))
    if not files:
        return None
    side = SideColumns()
    rows: dict[str, _Row] = {}
    for path, place in files:
        found = _SideFile(path, place, root, is_named=columns is not None)
        side.files.append(found.name)
        rows |= found.match(sounds)
        side.notes += found.notes
        side.num_unmatched += found.num_unmatched
    _fill(side, rows, stored or {})
    return side


def differing_values(stored: pa.Table, folder: str, side: SideColumns) -> dict[SoundKey, dict[str, Any]]:
    """The values that must be written so that the sounds of a folder have the columns of their side files.

    Args:
        stored: `folder`, `path` and all further columns of the index, a row for each sound. Rows of other folders are
            passed over.
        folder: the folder of the side files, as the index calls it.
        side: what the side files say. Columns that they do not have become null.
    """
    names = [name for name in stored.column_names if name not in ("folder", "path")]
    lists = [stored[name].to_pylist() for name in names]
    differing = {}
    for row, (of_folder, path) in enumerate(
        zip(stored["folder"].to_pylist(), stored["path"].to_pylist(), strict=True)
    ):
        if of_folder != folder:
            continue
        wanted = side.of(path)
        changed = {
            name: wanted.get(name)
            for name, values in zip(names, lists, strict=True)
            if values[row] != wanted.get(name)
        }
        changed |= {name: value for name, value in wanted.items() if name not in stored.column_names}
        if changed:
            differing[SoundKey(folder, path)] = changed
    return differing


def columns_file(columns: str | PathLike[str]) -> Path:
    """The path of a file of columns.

    Raises:
        ValueError: there is no such file, or it has another form.
    """
    path = Path(columns).expanduser()
    if not path.is_file():
        raise ValueError(f"There is no file {str(path)!r} of columns. {path_advice(str(path))}".rstrip())
    if path.suffix.lower() not in _SUFFIXES:
        raise ValueError(f"Columns are read from {', '.join(_SUFFIXES)} files, but {str(path)!r} is none of them.")
    return path


def files_beside(root: Path, sounds: Mapping[str, FoundSound | None]) -> Iterable[tuple[Path, str]]:
    """The side files with their folders relative to the root, from the root downwards."""
    places = {"": str(root)}
    for name, sound in sounds.items():
        if sound is None:
            continue
        place, on_disk = posixpath.dirname(name), os.path.dirname(sound.path)
        while place not in places:
            places[place] = on_disk
            place, on_disk = posixpath.dirname(place), os.path.dirname(on_disk)
    for place in sorted(places, key=lambda place: (place.count("/") + bool(place), place)):
        for name in METADATA_FILES:
            if os.path.isfile(path := os.path.join(places[place], name)):
                yield Path(path), place
                break


class _Row(NamedTuple):
    values: dict[str, Any]
    place: str  # in messages
    is_text: bool  # all values are the text of a CSV file


class _SideFile:
    """A file of rows that name sounds."""

    def __init__(self, path: Path, place: str, root: Path, is_named: bool):
        self.path, self._place, self._root, self._is_named = path, place, root, is_named
        self.name = posixpath.join(place, path.name) if not is_named else str(path)
        self.notes: list[str] = []
        self.num_unmatched = 0

    def match(self, sounds: Mapping[str, FoundSound | None]) -> dict[str, _Row]:
        """The rows by the path of the sound that they name."""
        is_text = self.path.suffix.lower() in (".csv", ".tsv")
        matched: dict[str, _Row] = {}
        faults, unmatched, twice, num_rows = [], [], [], 0
        name_columns = NAME_COLUMNS if self._is_named else NAME_COLUMNS[:1]
        for place, row, problem in _read_rows(self.path):
            num_rows += 1
            column = next((one for one in name_columns if isinstance(row.get(one), str) and row[one]), None)
            if problem or column is None:
                faults.append(f"{place}: {problem or f'it has no `{name_columns[0]}`'}")
                continue
            path = next((one for one in self._paths(row[column]) if one in sounds), None)
            if path is None:
                unmatched.append(f"{row[column]!r} ({place})")
                continue
            if path in matched:
                twice.append(f"{row[column]!r} ({place})")
            values = {name: value for name, value in row.items() if name != column}
            matched[path] = _Row(values, f"{self.name}, {place}", is_text)
        self._note(faults, unmatched, twice, num_rows)
        self.num_unmatched = len(unmatched)
        if self._is_named and not matched:
            raise ValueError(
                f"{' '.join([f'No row of {self.name!r} names a sound below {str(self._root)!r}.', *self.notes])} Name "
                f"sounds relative to that folder or to the file, in a column `{NAME_COLUMNS[0]}`."
            )
        return matched

    def _paths(self, name: str) -> Iterable[str]:
        """Paths relative to the root that a name may mean."""
        name = normalized_name(name).replace("\\", "/")
        root = normalized_name(os.path.abspath(self._root))
        yield posixpath.normpath(posixpath.join(self._place, name))
        for base in (os.path.abspath(self.path.parent), root):
            absolute = posixpath.normpath(posixpath.join(normalized_name(base), name))
            if absolute.startswith(f"{root.rstrip('/')}/"):
                yield absolute.removeprefix(f"{root.rstrip('/')}/")

    def _note(self, faults: list[str], unmatched: list[str], twice: list[str], num_rows: int) -> None:
        if faults:
            self.notes.append(f"{self.name}: {len(faults)} of {num_rows} rows cannot be used. {_first(faults)}.")
        if unmatched:
            self.notes.append(
                f"{self.name}: {len(unmatched)} of {num_rows} rows name sounds that are not below the folder: "
                f"{_first(unmatched)}."
            )
        if twice:
            self.notes.append(
                f"{self.name}: sounds are named more than once, and the last row counts: {_first(twice)}."
            )


def _first(items: list[str]) -> str:
    return "; ".join(items[:_SHOWN]) + ("; ..." if len(items) > _SHOWN else "")


def _read_rows(path: Path) -> Iterable[FileRow]:
    if path.suffix.lower() != ".parquet":
        yield from read_file_rows(path)
        return
    try:
        with pq.ParquetFile(path) as file:
            rows = file.read().to_pylist()
    except pa.ArrowException as error:
        raise ValueError(f"{str(path)!r} cannot be read as parquet: {error}.") from error
    for number, row in enumerate(rows):
        yield FileRow(f"row {number}", row)


def _fill(side: SideColumns, rows: Mapping[str, _Row], stored: Mapping[str, pa.DataType]) -> None:
    """Give each column a name and a type."""
    cells: dict[str, dict[str, Cell]] = defaultdict(dict)
    for path, row in rows.items():
        for name, value in row.values.items():
            if value is not None and name not in LEFT_OUT and name.strip():
                cells[name][path] = Cell(value, row.place, row.is_text)
    origins: dict[str, str] = {}
    for name, of_column in cells.items():
        used = usable_name(name)
        if used in origins:
            raise ValueError(
                f"The columns `{origins[used]}` and `{name}` of {', '.join(side.files)} would both be called "
                f"`{used}`. Rename one of them."
            )
        origins[used] = name
        column = typed_column(name, list(of_column.values()), stored.get(used))
        if column.type is None:
            continue
        side.types[used] = column.type
        for path, value in zip(of_column, column.values, strict=True):
            if value is not None:
                side.values.setdefault(path, {})[used] = value
        if column.note is not None:
            side.notes.append(column.note)
        if used != name:
            side.notes.append(f"The column `{name}` of {', '.join(side.files[:_SHOWN])} is indexed as `{used}`.")


def usable_name(name: str) -> str:
    """The name of a column, changed where the index or LanceDB needs it."""
    used = name.strip().translate(_NOT_IN_NAMES)
    return f"{_PREFIX}{used.lstrip('_')}" if used in RESERVED_NAMES or used.startswith("_") else used
