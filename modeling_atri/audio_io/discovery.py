"""The sound files below a folder, and what could not be searched."""

import os
import stat
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from transformers.utils import logging

from ..files import normalized_name, printable
from ..sound_files_atri import OTHER_SOUND_SUFFIXES, SOUND_SUFFIXES


logger = logging.get_logger(__name__)

_SUFFIXES = frozenset(SOUND_SUFFIXES + OTHER_SOUND_SUFFIXES)


class FoundSound(NamedTuple):
    """A sound file that was found."""

    path: Path
    size: int  # in bytes
    mtime_ns: int  # time of its last change in nanoseconds


@dataclass
class SoundSearch:
    """What a search below a folder found.

    Args:
        sounds: the sound files by id, which is the path relative to the folder, with `/` and in Unicode form NFC.
        problems: the ids of folders, links and files that could not be searched or used, each with the reason.
        other_files: number of visible files that are no sound files, by suffix.
    """

    sounds: dict[str, FoundSound] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    other_files: Counter[str] = field(default_factory=Counter)

    def misses(self, name: str) -> bool:
        """Whether a file of this id may exist although it was not found, because of a problem on its path."""
        return any(str(place) in self.problems for place in (name, *PurePosixPath(name).parents))


def find_sounds(folder: str | PathLike) -> dict[str, FoundSound]:
    """The sound files below a folder, by id: the path relative to the folder, with `/` and in Unicode form NFC.

    Sound files are those with one of the suffixes of `SOUND_SUFFIXES` or `OTHER_SOUND_SUFFIXES`. Hidden files and
    folders are left out. Links are followed, but no folder is searched twice. A folder that cannot be searched, a
    broken link, and a name that differs from another one only in its Unicode form are logged as warnings.

    Raises:
        ValueError: no such folder, or no sound file in it.
        OSError: the folder itself cannot be searched.
    """
    search = search_folder(folder)
    for name, reason in search.problems.items():
        logger.warning(f"Skipped: {printable(name)}: {reason}")
    return search.sounds


def search_folder(folder: str | PathLike, left_out: str | PathLike | None = None) -> SoundSearch:
    """Search a folder as [`find_sounds`] does, and return the problems instead of logging them.

    A folder that can be reached in several ways is searched under its own path if that is below `folder`, and
    otherwise under the first link in alphabetical order. A link to a folder that contains the link or `folder` is not
    followed.

    Args:
        folder: the folder.
        left_out (*optional*): a folder below it that is not searched, such as one that holds results.

    Raises:
        ValueError: no such folder, or no sound file in it.
        OSError: the folder itself cannot be searched.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ValueError(f"There is no folder {str(folder)!r}.")
    search = SoundSearch()
    for path in _entries_below(root, search.problems, left_out):
        suffix = path.suffix.lower()
        if suffix not in _SUFFIXES:
            search.other_files[suffix] += 1
            continue
        try:
            status = path.stat()
        except OSError as error:  # it was removed meanwhile, or its folder may be listed but not entered
            search.problems[_id_of(path, root)] = f"The file cannot be reached: {error.strerror}."
        else:
            _add(search, root, FoundSound(path, status.st_size, status.st_mtime_ns))
    if not search.sounds:
        problems = "".join(f" {name}: {reason}" for name, reason in islice(search.problems.items(), 3))
        suffixes = " ".join(sorted(_SUFFIXES))
        raise ValueError(f"There is no sound file below {str(folder)!r} ({suffixes}).{problems}")
    return search


def _add(search: SoundSearch, root: Path, sound: FoundSound) -> None:
    """Add a sound. Of two whose names are equal in form NFC, the one that is written so keeps the id."""
    name = _id_of(sound.path, root)
    first = search.sounds.setdefault(name, sound)
    if first is sound:
        return
    if _spelled(sound.path, root) == name:
        search.sounds[name], first, sound = sound, sound, first
    search.problems[_spelled(sound.path, root)] = (
        f"Its name and that of {_spelled(first.path, root)!a} are the same text in different Unicode forms. Rename "
        "one of the files."
    )


def _entries_below(root: Path, problems: dict[str, str], left_out: str | PathLike | None) -> Iterator[Path]:
    """All visible files below a folder and in the folders that links lead to. Problems are added by id."""
    root_place = os.path.realpath(root)
    searched = {root_place} if left_out is None else {root_place, os.path.realpath(left_out)}
    folders = deque([(root, root_place)])  # each with its place, free of links
    links: deque[tuple[Path, str, str]] = deque()  # each with the place that it leads to, and the place that holds it
    while folders or links:  # links come last, so that a folder below the root keeps its own path
        if folders:
            folder, place = folders.popleft()
        else:
            folder, place, holder = links.popleft()
            if place in searched:
                continue
            if any(Path(inner).is_relative_to(place) for inner in (holder, root_place)):
                problems[_id_of(folder, root)] = f"The link leads to {place!r}, which contains it. It is not followed."
                continue
        searched.add(place)
        try:
            with os.scandir(folder) as scanned:
                entries = sorted(scanned, key=lambda entry: entry.name)
        except OSError as error:
            if folder is root:
                raise
            problems[_id_of(folder, root)] = f"The folder cannot be searched: {error.strerror}."
            continue
        for entry in entries:
            path = folder / entry.name
            if entry.name.startswith("."):
                continue
            try:
                is_folder = stat.S_ISDIR(entry.stat().st_mode) if entry.is_symlink() else entry.is_dir()
            except OSError as error:
                problems[_id_of(path, root)] = f"The link to {os.path.realpath(path)!r} is broken: {error.strerror}."
                continue
            if not is_folder:
                yield path
            elif entry.is_symlink():
                links.append((path, os.path.realpath(path), place))
            elif (below := os.path.join(place, entry.name)) not in searched:
                folders.append((path, below))


def _spelled(path: Path, root: Path) -> str:
    """The path relative to the root as it is spelled. A name that is no valid UTF-8 must not stop the others."""
    return os.fsencode(path.relative_to(root).as_posix()).decode("utf-8", errors="backslashreplace")


def _id_of(path: Path, root: Path) -> str:
    return normalized_name(_spelled(path, root))
