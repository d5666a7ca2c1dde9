"""Open a data set by its name, as rows with columns of any names and undecoded recordings."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
from datasets.exceptions import DatasetGenerationError, DatasetsError

from modeling_atri.files import file_state

from .archives.files import check_content
from .archives.rows import rows_of_archives, rows_of_sounds, sounds_of_archives
from .audio_column import find_audio_column, undecoded
from .layout import ALL_SOUND_SUFFIXES, ARCHIVE_SUFFIXES, ROW_SUFFIXES, TABLE_SUFFIXES, base_name, suffix_of
from .locating import Source, find_source
from .raw_rows import rows_of_files
from .splits import parse_split, take_parts


@dataclass(frozen=True)
class FoundRows:
    """Rows that were found in tables, archives, several files of rows or a folder of sounds.

    Args:
        folder: the folder that the files are in.
        label: a short name for them, which can be that of a file.
        files: the files that hold the rows; None if the rows are those of a folder of sounds, which can be a million.
        choice: which of the rows in these files were chosen, as values that JSON can hold.
        read: opens the rows, or, if it is passed True, at least their recordings.
    """

    folder: Path
    label: str
    files: list[Path] | None
    choice: list[Any]
    read: Callable[[bool], datasets.Dataset]

    @cached_property
    def rows(self) -> datasets.Dataset:
        """All columns, with undecoded recordings."""
        return self.read(False)

    @cached_property
    def sounds(self) -> datasets.Dataset:
        """The recordings, perhaps with other columns, which are not parsed if the rows are in archives."""
        return self.read(True)


def open_source(
    name: str, split: str | None = None, subset: str | None = None, audio_column: str | None = None
) -> Path | datasets.Dataset:
    """Open a data set with columns of any names. Of the Hub, only the files of the split are downloaded.

    Args:
        name: A path, a pattern of paths, or a name on the Hub, as the table in `locating.py` shows.
        split (*optional*): Split, or parts and sums of splits as `datasets` writes them: `train[:10%]`, `train+test`.
            Needed where there are several.
        subset (*optional*): Configuration. Needed where there are several. It can also follow the name after a colon.
        audio_column (*optional*): Column of the recordings. By default, `find_audio_column` finds it. With `NO_AUDIO`,
            names of recordings stay as they are.

    Returns:
        The path of a file of rows, or a data set. Its recordings are undecoded, and the paths of those that are not
        embedded are absolute.

    Raises:
        ValueError: if there is no such data set, split or subset, one of several must be named, or it cannot be read.
    """
    found = find_rows(name, split, subset, audio_column)
    return found if isinstance(found, Path) else found.rows


def find_rows(
    name: str, split: str | None = None, subset: str | None = None, audio_column: str | None = None
) -> Path | FoundRows:
    """Find the rows of a data set as `open_source` does, but open them only when they are needed.

    Args:
        name, split, subset, audio_column: as for `open_source`.

    Raises:
        ValueError: as `open_source` does; about what is wrong within the files, when they are opened.
    """
    source = find_source(name, split, subset)
    choice = [split, subset, audio_column]
    if source.splits is None:
        read_saved = partial(_open_saved, source, split, repr(name), audio_column)
        patterns = ("*.arrow", "*.json", "[!.]*/*.arrow", "[!.]*/*.json")  # of one split, or of several
        saved = sorted(file for pattern in patterns for file in source.folder.glob(pattern))
        return FoundRows(source.folder, source.folder.name, saved, choice, read_saved)
    parts = parse_split(split, list(source.splits), repr(source.name), source.hint, must_name=bool(source.hint))
    for name in (name for known, _ in parts for name in source.splits[known]):
        if suffix_of(name) in (*ROW_SUFFIXES, *TABLE_SUFFIXES):
            check_content(source.folder / name)
    names = list(dict.fromkeys(file for known, _ in parts for file in source.splits[known]))
    if len(parts) == 1 and not parts[0][1] and len(names) == 1 and suffix_of(names[0]) in ROW_SUFFIXES:
        return source.folder / names[0]
    read = partial(_open_parts, source, parts, split, audio_column)
    of_sounds = any(suffix_of(file) in ALL_SOUND_SUFFIXES for file in names)
    files = None if of_sounds else [source.folder / file for file in names]
    return FoundRows(source.folder, base_name(names[0]), files, choice, read)


def open_dataset(
    name: str, split: str | None = None, subset: str | None = None, audio_column: str | None = None
) -> datasets.Dataset:
    """Open a data set as `open_source` does. A file of rows is read, too."""
    found = open_source(name, split, subset, audio_column)
    return rows_of_files([found], audio_column) if isinstance(found, Path) else found


def pick_split(source: Any, split: str | None, name: str = "The data set") -> datasets.Dataset:
    """Return a split of a `DatasetDict`, or the only one there is. A `Dataset` is returned as it is.

    Raises:
        ValueError: if there is no such split, one of several must be named, or `source` is something else.
    """
    if isinstance(source, datasets.Dataset):
        if split is not None:
            raise ValueError(f"{name} has no splits, but `split` is {split!r}: please leave it out.")
        return source
    if not isinstance(source, datasets.DatasetDict):
        raise ValueError(
            "Rows are read from a path, the id of a data set on the Hub, a `datasets.Dataset` or a `DatasetDict`, but "
            f"this is a {type(source).__name__}."
        )
    parts = parse_split(split, list(map(str, source)), name)
    return take_parts(parts, {known: source[known] for known, _ in parts}, split)


def _open_saved(
    source: Source, split: str | None, name: str, audio_column: str | None, only_sounds: bool
) -> datasets.Dataset:
    with _in_words(source.name):
        saved = datasets.load_from_disk(str(source.folder))
    return _with_audio(pick_split(saved, split, name), audio_column)


def _open_parts(
    source: Source, parts: Any, split: str | None, audio_column: str | None, only_sounds: bool
) -> datasets.Dataset:
    opened = {known: _open_split(source, known, audio_column, only_sounds) for known, _ in parts}
    return take_parts(parts, opened, split)


def _open_split(source: Source, split: str, audio_column: str | None, only_sounds: bool) -> datasets.Dataset:
    """Open the files of a split, which are of one kind."""
    names = (source.splits or {})[split]
    paths = [source.folder / name for name in names]
    suffix = suffix_of(names[0])
    if suffix in ARCHIVE_SUFFIXES:
        read = sounds_of_archives if only_sounds else rows_of_archives
        return read(paths, split if source.in_archive else None)
    if suffix in ROW_SUFFIXES:
        return rows_of_files(paths, audio_column)
    if suffix in ALL_SOUND_SUFFIXES:
        return rows_of_sounds(source.folder, names)
    with _in_words(source.name):
        table = _read_tables(suffix.removeprefix("."), paths)
    if table is None:
        raise ValueError(f"{source.name} holds no rows.")
    return _with_audio(table, audio_column, [paths[0].parent.absolute(), source.folder.absolute()])


def _read_tables(kind: str, paths: Sequence[Path]) -> datasets.Dataset | None:
    """Read files with a builder of `datasets`; None if they hold no rows. A column that a file lacks is null there."""
    files = [path.resolve() for path in paths]
    name, state = (
        hashlib.blake2b(json.dumps(part).encode(), digest_size=8).hexdigest()
        for part in (list(map(str, files)), list(map(file_state, files)))
    )
    # `datasets` looks only at the times of change, but the configuration is a part of the path in its cache.
    builder = datasets.load_dataset_builder(kind, f"{name}-{state}", data_files=list(map(str, files)))
    try:
        builder.download_and_prepare()
        _remove_earlier(builder, name, state)
    except DatasetGenerationError:  # perhaps the files have different columns
        if len(paths) == 1:
            raise
        found = [table for path in paths if (table := _read_tables(kind, [path])) is not None]
        return datasets.concatenate_datasets(found) if found else None
    split = (builder.info.splits or {}).get("train")
    return builder.as_dataset(split="train") if split and split.num_examples else None


def _remove_earlier(builder: datasets.DatasetBuilder, name: str, state: str) -> None:
    """Remove what is in the cache of earlier states of the same files. `datasets` itself would keep all of them."""
    own = next(folder for folder in Path(builder.cache_dir).parents if folder.name.startswith(f"{name}-{state}"))
    for folder in own.parent.glob(f"{name}-*"):
        if not folder.name.startswith(f"{name}-{state}"):
            shutil.rmtree(folder, ignore_errors=True)


def _with_audio(dataset: datasets.Dataset, audio_column: str | None, folders: Sequence[Path] = ()) -> datasets.Dataset:
    column = find_audio_column(dataset.features) if audio_column is None else audio_column
    if column is None or column not in dataset.column_names:
        return dataset
    return undecoded(dataset, column, folders)


@contextmanager
def _in_words(name: str) -> Iterator[None]:
    """Raise what `datasets` and Arrow raise for files that they cannot read as a ValueError with the first cause."""
    try:
        yield
    except (DatasetsError, pa.ArrowException, FileNotFoundError, TypeError, KeyError, ValueError) as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        lines = str(cause).strip().splitlines() or [type(cause).__name__]
        raise ValueError(f"{name!r} cannot be read: {lines[0]}. Please copy or write it again.") from error
