"""Open a data set by its name, as rows with columns of any names and undecoded recordings."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
from datasets.exceptions import DatasetGenerationError, DatasetsError

from .archives.files import check_content
from .archives.rows import rows_of_archives, rows_of_sounds
from .audio_column import find_audio_column, undecoded
from .layout import ALL_SOUND_SUFFIXES, ARCHIVE_SUFFIXES, ROW_SUFFIXES, TABLE_SUFFIXES, suffix_of
from .locating import Source, find_source
from .raw_rows import rows_of_files
from .splits import parse_split, take_parts


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
    source = find_source(name, split, subset)
    if source.splits is None:
        with _in_words(source.name):
            saved = datasets.load_from_disk(str(source.folder))
        return _with_audio(pick_split(saved, split, repr(name)), audio_column)
    parts = parse_split(split, list(source.splits), repr(source.name), source.hint, must_name=bool(source.hint))
    for name in (name for known, _ in parts for name in source.splits[known]):
        if suffix_of(name) in (*ROW_SUFFIXES, *TABLE_SUFFIXES):
            check_content(source.folder / name)
    files = source.splits[parts[0][0]]
    if len(parts) == 1 and not parts[0][1] and len(files) == 1 and suffix_of(files[0]) in ROW_SUFFIXES:
        return source.folder / files[0]
    return take_parts(parts, {known: _open_split(source, known, audio_column) for known, _ in parts}, split)


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


def _open_split(source: Source, split: str, audio_column: str | None) -> datasets.Dataset:
    """Open the files of a split, which are of one kind."""
    names = (source.splits or {})[split]
    paths = [source.folder / name for name in names]
    suffix = suffix_of(names[0])
    if suffix in ARCHIVE_SUFFIXES:
        return rows_of_archives(paths, split if source.in_archive else None)
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
    builder = datasets.load_dataset_builder(kind, data_files=[str(path.resolve()) for path in paths])
    try:
        builder.download_and_prepare()
    except DatasetGenerationError:  # perhaps the files have different columns
        if len(paths) == 1:
            raise
        found = [table for path in paths if (table := _read_tables(kind, [path])) is not None]
        return datasets.concatenate_datasets(found) if found else None
    split = (builder.info.splits or {}).get("train")
    return builder.as_dataset(split="train") if split and split.num_examples else None


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
