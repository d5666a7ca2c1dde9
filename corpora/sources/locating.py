"""Find the files of a data set by its name: a path, a pattern of paths, or a name on the Hub.

| name | what is read |
|---|---|
| `clips`, `clips/metadata.csv` | a folder of sounds with a metadata file (an AudioFolder), or the file |
| `rows.jsonl`, `.json`, `.csv` | rows that name sounds by paths relative to the file |
| `rows.parquet`, `.arrow`, `data/train-*.parquet` | tables with embedded sounds or paths |
| `shards/{000..009}.tar`, `set.zip`, `set.tar.gz` | archives of sounds with a metadata file, or of a WebDataset |
| a folder of any of these | its splits are sub-folders, or words of the names, or the `configs` of its README |
| a folder that `save_to_disk` wrote | a `Dataset` or `DatasetDict` |
| `owner/name`, `owner/name:subset`, `hf://datasets/owner/name/...` | all of these on the Hub |
"""

import logging
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

from modeling_atri.sources import HubDataset, missing_source, nearest_path, parse_hub_dataset

from .archives.rows import splits_in_archives
from .dataset_card import find_subset_splits, glob_expression, read_configs
from .hub_files import HubFiles
from .layout import (
    ALL_SOUND_SUFFIXES,
    ARCHIVE_SUFFIXES,
    METADATA_FILES,
    ROW_SUFFIXES,
    TABLE_SUFFIXES,
    TEXT_SUFFIXES,
    UNNAMED,
    find_splits,
    is_hidden,
    suffix_of,
)
from .metadata import METADATA_ADVICE
from .splits import parse_split


logger = logging.getLogger(__name__)

_SAVED = ("dataset_dict.json", "state.json")  # files of folders that `save_to_disk` wrote
_WILDCARDS = re.compile(r"[*?{]|\[[^\]]+\]")
_BRACES = re.compile(r"\{([^{}]*)\}")
_KINDS = (
    f"folders, {', '.join((*TABLE_SUFFIXES, *ARCHIVE_SUFFIXES))} files, and .tsv, .csv, .jsonl or .json files of "
    "rows, which may be compressed (.tsv.gz, .csv.gz, .jsonl.gz, .json.gz)"
)


class Source(NamedTuple):
    """Where a data set is.

    Args:
        folder: Folder of the files.
        name: Name of the data set, for messages.
        splits: Files by split, relative to the folder. All files of a split are of one kind. Splits within an archive
            have the same file. None if `save_to_disk` wrote the folder.
        in_archive: Whether the splits are within an archive.
        hint: Begins the message about a split that does not exist. If it is not empty, even a single split must be
            named.
    """

    folder: Path
    name: str
    splits: dict[str, list[str]] | None
    in_archive: bool = False
    hint: str = ""


def find_source(name: str, split: str | None = None, subset: str | None = None) -> Source:
    """Find a data set. Of one on the Hub, the files of the split are downloaded.

    Raises:
        ValueError: if there is no such data set or subset, or one of several subsets must be named.
    """
    found = find_here_or_hub(name, split, subset)
    return found if isinstance(found, Source) else _of_hub(found, split)


def find_here_or_hub(name: str, split: str | None = None, subset: str | None = None) -> Source | HubDataset:
    """Find a data set on this machine, or take apart its name on the Hub, which is not asked.

    Raises:
        ValueError: as `find_source` does.
    """
    path = Path(os.path.expanduser(name))
    if path.is_file():
        return _of_file(path, split)
    if path.is_dir():
        return _of_folder(path, split, subset)
    hub = parse_hub_dataset(name)
    if hub is None and _WILDCARDS.search(name) and "://" not in name:
        return _of_pattern(name)
    folder, colon, after = name.rpartition(":")
    if colon and subset is None and Path(folder).is_dir():
        return _of_folder(Path(folder), split, after)
    if "://" not in name:
        # Beside an existing folder, a name of the form `folder/name` is taken for a path, as is one much like a path.
        if hub is None or Path(name).parent.exists() or nearest_path(name, cutoff=0.8):
            raise missing_source(name, "file or folder")
    if hub is None:
        raise ValueError(
            f"{name!r} is no data set on the Hub. Write owner/name, or hf://datasets/owner/name for some of its files."
        )
    return hub._replace(subset=subset or hub.subset)


def _of_file(path: Path, split: str | None) -> Source:
    suffix = suffix_of(path.name)
    if suffix not in (*ROW_SUFFIXES, *TABLE_SUFFIXES, *ARCHIVE_SUFFIXES):
        raise ValueError(f"Rows are read from {_KINDS}, but {str(path)!r} is none of them.")
    if split is not None and suffix in ROW_SUFFIXES and "[" not in split:
        raise ValueError(
            f"A file has no splits, but `split` is {split!r}. Please pass the folder, or leave out `split`."
        )
    return _within_archive(Source(path.parent, str(path), {UNNAMED: [path.name]}))


def _within_archive(source: Source) -> Source:
    """The splits within the archive, if an archive is all there is."""
    files = (source.splits or {}).get(UNNAMED, [])
    if len(source.splits or {}) != 1 or len(files) != 1 or suffix_of(files[0]) not in ARCHIVE_SUFFIXES:
        return source
    inner = splits_in_archives([source.folder / files[0]])
    return source._replace(splits=dict.fromkeys(inner, files), in_archive=True) if inner else source


def _of_folder(folder: Path, split: str | None, subset: str | None) -> Source:
    if any((folder / file).is_file() for file in _SAVED):
        return Source(folder, str(folder), None)
    if subset is None:
        # Without a look at the other files, of which there may be a million.
        part = folder / (split or "")
        found = next((part / file for file in METADATA_FILES if (part / file).is_file()), None)
        if found is not None:
            return Source(folder, str(folder), {split or UNNAMED: [str(found.relative_to(folder))]})
    names = _names_below(folder)
    splits = find_subset_splits(names, read_configs(folder / "README.md"), subset, repr(str(folder)))
    if not splits:
        raise _no_rows(str(folder), names, subset)
    hint = ""
    if any(PurePath(name).name in METADATA_FILES for files in splits.values() for name in files):
        hint = f"There is no file {str(folder / (split or '') / METADATA_FILES[0])!r}. "
    return _within_archive(Source(folder, str(folder), splits, hint=hint))


def _of_pattern(pattern: str) -> Source:
    """All files that a pattern matches, with `{000..009}` and `{train,test}` as in a shell."""
    patterns = [str(PurePath(one)) for one in _expand_braces(os.path.expanduser(pattern))]
    folder = Path(_WILDCARDS.split(os.path.expanduser(pattern))[0] + "x").parent  # before the first wildcard
    matches = [re.compile(glob_expression(one)) for one in patterns]
    names = _names_below(folder) if folder.is_dir() else []
    found = [name for name in names if any(match.fullmatch(str(folder / name)) for match in matches)]
    splits = find_splits(found)
    if not splits:
        raise ValueError(f"No file of rows matches the pattern {pattern!r}. Rows are read from {_KINDS}.")
    if missing := [one for one in patterns if not _WILDCARDS.search(one) and not Path(one).exists()]:
        raise ValueError(
            f"The pattern {pattern!r} names {len(missing)} files that do not exist, such as {missing[0]!r}."
        )
    return _within_archive(Source(folder, pattern, splits))


def _expand_braces(pattern: str) -> Iterator[str]:
    """`{000..002}` and `{a,b}` as a shell expands them."""
    match = _BRACES.search(pattern)
    if match is None:
        yield pattern
        return
    begin, dots, end = match[1].partition("..")
    if dots and begin.isdigit() and end.isdigit():
        numbers = range(int(begin), int(end) + 1) if int(begin) <= int(end) else range(int(begin), int(end) - 1, -1)
        width = max(len(begin), len(end)) if begin.startswith("0") or end.startswith("0") else 0
        choices = [f"{number:0{width}d}" for number in numbers]
    else:
        choices = match[1].split(",")
    for choice in choices:
        yield from _expand_braces(pattern[: match.start()] + choice + pattern[match.end() :])


def find_on_hub(hub: HubDataset) -> tuple[HubFiles, dict[str, list[str]]]:
    """The files of a data set on the Hub, and those of them that hold rows, by split. None of them is downloaded.

    Raises:
        ValueError: if there is no such data set or subset, or it has no rows.
    """
    logger.warning("%r is no file or folder here: looking for a data set of that name on the Hub.", hub.repo)
    files = HubFiles(hub)
    if hub.files is None:
        splits = find_subset_splits(files.names, read_configs(files.readme), hub.subset, repr(hub.repo))
    else:
        match = re.compile(glob_expression(hub.files))
        splits = find_splits(name for name in files.names if match.fullmatch(name))
    if not splits:
        raise _no_rows(hub.repo, files.names, hub.subset)
    return files, splits


def _of_hub(hub: HubDataset, split: str | None) -> Source:
    """Download the files of a split, and the sounds that they may name."""
    files, splits = find_on_hub(hub)
    if list(splits) == [UNNAMED] and suffix_of(splits[UNNAMED][0]) in ARCHIVE_SUFFIXES:
        wanted = [UNNAMED]  # the split may be within the archive
    else:
        wanted = [known for known, _ in parse_split(split, list(splits), repr(hub.repo))]
    rows = [name for known in wanted for name in splits[known]]
    folder = files.download([*rows, *_named_sounds(rows, files.names), *_captions_beside(rows, files.names)])
    return _within_archive(Source(folder, hub.repo, splits))


def _named_sounds(rows: Sequence[str], names: Sequence[str]) -> list[str]:
    """The sounds that files of rows may name: all below their folders."""
    lists = [
        PurePath(name) for name in rows if suffix_of(name) in ROW_SUFFIXES or PurePath(name).name in METADATA_FILES
    ]
    folders = tuple("" if path.parent == PurePath() else f"{path.parent}/" for path in lists)
    return [name for name in names if suffix_of(name) in ALL_SOUND_SUFFIXES and name.startswith(folders)]


def _captions_beside(rows: Sequence[str], names: Sequence[str]) -> list[str]:
    """The files of captions beside sounds that have no metadata file."""
    folders = {PurePath(name).parent for name in rows if suffix_of(name) in ALL_SOUND_SUFFIXES}
    beside = (name for name in names if suffix_of(name) in (".json", *TEXT_SUFFIXES))
    return [name for name in beside if PurePath(name).parent in folders]


def _names_below(folder: Path) -> list[str]:
    """All files below a folder, through links too, but not twice where links form a circle."""

    def report(error: OSError) -> None:
        logger.warning("%s is left out: %s", error.filename, error.strerror)

    seen: set[str] = set()
    found = []
    for place, folders, names in os.walk(folder, followlinks=True, onerror=report):
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        folders[:] = [name for name in folders if os.path.realpath(os.path.join(place, name)) not in seen]
        seen.update(os.path.realpath(os.path.join(place, name)) for name in folders)
        relative = PurePath(place).relative_to(folder)
        found += [(relative / name).as_posix() for name in sorted(names) if not is_hidden(name)]
    return found


def _no_rows(name: str, names: Sequence[str], subset: str | None) -> ValueError:
    """The error for a folder or repository without rows, or with a loading script in place of data."""
    where = f"{name!r} (subset {subset!r})" if subset else repr(name)
    scripts = [file for file in names if file.endswith(".py") and "/" not in file]
    if scripts:
        return ValueError(
            f"{where} holds no data, but a loading script ({scripts[0]}), which `datasets` no longer runs. The Hub "
            "has parquet files of many such data sets: try hf://datasets/OWNER/NAME@refs/convert/parquet."
        )
    first = (
        f" There is no file {METADATA_FILES[0]!r} in it." if not names else f" Its files are {', '.join(names[:5])}."
    )
    return ValueError(f"There are no rows in {where}.{first} Rows are read from {_KINDS}. {METADATA_ADVICE}.")
