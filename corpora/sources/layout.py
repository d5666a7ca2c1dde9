"""Which files of a folder, an archive or a repository hold rows, and which split each of them belongs to."""

import posixpath
import re
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from modeling_atri.audio_io import OTHER_SOUND_SUFFIXES, SOUND_SUFFIXES


METADATA_FILES = ("metadata.jsonl", "metadata.csv", "metadata.tsv", "metadata.parquet", "metadata.json")
ROW_SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".jsonl.gz", ".json.gz", ".csv.gz", ".tsv.gz")
TEXT_SUFFIXES = (".txt", ".text", ".caption", ".transcript")  # of captions beside a sound of the same name
TABLE_SUFFIXES = (".parquet", ".arrow")
ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip")
ALL_SOUND_SUFFIXES = SOUND_SUFFIXES + OTHER_SOUND_SUFFIXES
# Names that a column with the paths of recordings may have, the first of which goes before the others.
NAME_COLUMNS = (
    *("file_name", "audio", "filename", "file", "path", "file_path", "filepath", "audio_path", "audio_file", "sound"),
)

# Kinds of files that rows can be in, in the order in which they are looked for. A folder is read as one kind.
_KINDS = (
    (".parquet",),
    ARCHIVE_SUFFIXES,
    (".arrow",),
    (".jsonl", ".jsonl.gz"),
    (".json", ".json.gz"),
    (".csv", ".csv.gz"),
    (".tsv", ".tsv.gz"),
    ALL_SOUND_SUFFIXES,
)

# Names of splits, each with its other spellings.
_SPLITS = (("train", "training"), ("validation", "valid", "dev", "val"), ("test", "testing", "eval", "evaluation"))
_SPLIT_NAMES = {name for names in _SPLITS for name in names}

# Files that packages write beside data.
_NO_DATA = {
    *("config.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"),
    *("report.json", "left_out.jsonl", "lost_captions.jsonl", "overlap.jsonl"),
}
_SHARD = re.compile(r"(?P<split>.+?)-\d{5}-of-\d{5}")
UNNAMED = ""  # split of files whose names say none


def suffix_of(name: str) -> str:
    """The suffix of a file in lower case, with both parts of `.tar.gz` and `.jsonl.gz`."""
    stem, _, last = base_name(name).lower().rpartition(".")
    if not stem:  # without a suffix, or hidden
        return ""
    both = f".{stem.rpartition('.')[2]}.{last}" if "." in stem else ""
    return both if both in (*ARCHIVE_SUFFIXES, *ROW_SUFFIXES) else f".{last}"


def stem_of(name: str) -> str:
    """A path without its suffix."""
    return posixpath.splitext(name)[0]


def base_name(name: str) -> str:
    """The last part of a path with `/`. An archive may have a million of them, for which `PurePath` is slow."""
    return name.rpartition("/")[2]


def is_hidden(name: str) -> bool:
    """Whether a file is hidden, or was put into an archive by macOS."""
    if not name.startswith(".") and "/." not in name and "__MACOSX" not in name:
        return False
    parts = PurePosixPath(name).parts
    return any(part.startswith(".") and part not in (".", "..") for part in parts) or "__MACOSX" in parts


def find_splits(names: Iterable[str]) -> dict[str, list[str]]:
    """Find the files that hold rows, by split.

    Metadata files go before all others, as in an AudioFolder: their splits are folders, and the names of sounds do not
    matter. Splits of other files are words of their names (`train-00000-of-00002.parquet`, `data/test/000.tar`).

    Args:
        names: Files as paths relative to the folder, with `/`.

    Returns:
        Files by split, sorted; `UNNAMED` is the split of all files if their names say none. Empty if no file holds
        rows or sounds.
    """
    there = sorted(name for name in names if not is_hidden(name) and base_name(name) not in _NO_DATA)
    folders: dict[PurePosixPath, list[str]] = {}
    for name in there:
        if base_name(name) in METADATA_FILES:
            folders.setdefault(PurePosixPath(name).parent, []).append(name)
    splits: dict[str, list[str]] = {}
    for folder, files in folders.items():
        first = min(files, key=lambda file: METADATA_FILES.index(PurePosixPath(file).name))
        splits.setdefault(_split_of_folder(folder), []).append(first)
    if splits:
        return splits
    by_suffix: dict[str, list[str]] = {}
    for name in there:
        by_suffix.setdefault(suffix_of(name), []).append(name)
    sounds = {stem_of(name) for suffix in ALL_SOUND_SUFFIXES for name in by_suffix.get(suffix, [])}
    by_suffix[".json"] = [name for name in by_suffix.get(".json", []) if stem_of(name) not in sounds]
    for suffixes in _KINDS:
        if found := sorted(name for suffix in suffixes for name in by_suffix.get(suffix, [])):
            of_names = suffixes is not ALL_SOUND_SUFFIXES
            return _by_split(found, of_names)
    return {}


def _split_of_folder(folder: PurePosixPath) -> str:
    """The split of a folder with metadata: the part that names one, else the first part."""
    parts = [part for part in folder.parts if part != "data"]
    return next((part for part in parts if part.lower() in _SPLIT_NAMES), parts[0] if parts else UNNAMED)


def _by_split(names: Sequence[str], of_names: bool) -> dict[str, list[str]]:
    found = {name: _split_of_file(name, of_names) for name in names}
    if not any(found.values()):
        return {UNNAMED: list(names)}
    splits: dict[str, list[str]] = {}
    for name, split in found.items():
        if not of_names and split is None:
            continue  # a sound outside of the folders of splits
        splits.setdefault(split or PurePosixPath(name).stem, []).append(name)
    return splits


def _split_of_file(name: str, of_names: bool) -> str | None:
    path = PurePosixPath(name)
    if folder := next((part for part in path.parent.parts if part.lower() in _SPLIT_NAMES), None):
        return folder
    if not of_names:
        return None
    stem = path.name[: -len(suffix_of(name))]
    shard = _SHARD.fullmatch(stem)
    if shard and shard["split"] != "data":
        return shard["split"]
    return next((word for word in re.split(r"[-._ 0-9]+", stem) if word.lower() in _SPLIT_NAMES), None)


def match_split(wanted: str, known: Iterable[str]) -> str | None:
    """The split that is meant by a name or another spelling of it (`dev` for `validation`); None without one."""
    known = list(known)
    if wanted in known:
        return wanted
    spellings = next((names for names in _SPLITS if wanted.lower() in names), (wanted.lower(),))
    found = [name for name in known if name.lower() in spellings]
    if not found and known == [UNNAMED] and wanted == "train":
        return UNNAMED  # as `datasets` calls the split of files that have none
    return found[0] if len(found) == 1 else None
