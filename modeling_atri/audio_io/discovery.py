"""The sound files below a folder."""

import os
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import NamedTuple

from ..sound_files_atri import SOUND_SUFFIXES


class FoundSound(NamedTuple):
    """A sound file that was found."""

    path: Path
    size: int  # in bytes; -1 for a link to a file that does not exist
    mtime_ns: int  # time of its last change in nanoseconds; -1 for such a link


def find_sounds(folder: str | PathLike) -> dict[str, FoundSound]:
    """The sound files below a folder, by id: the path relative to the folder, with `/`.

    Sound files are those with one of `SOUND_SUFFIXES`. Hidden files and folders are left out, and links to folders are
    not followed.

    Raises:
        ValueError: no such folder, or no sound file in it.
        OSError: a folder that cannot be searched.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"There is no folder {str(folder)!r}.")
    sounds = {}
    for path in _files_below(folder):
        if path.suffix.lower() not in SOUND_SUFFIXES:
            continue
        # A name that is not valid UTF-8 must not stop the others.
        name = os.fsencode(path.relative_to(folder).as_posix()).decode("utf-8", errors="backslashreplace")
        try:
            status = path.stat()
            sounds[name] = FoundSound(path, status.st_size, status.st_mtime_ns)
        except OSError:  # a link to a file that does not exist, which is reported when it is read
            sounds[name] = FoundSound(path, -1, -1)
    if not sounds:
        raise ValueError(f"There is no sound file below {str(folder)!r} ({' '.join(SOUND_SUFFIXES)}).")
    return sounds


def _files_below(folder: Path) -> Iterator[Path]:
    """All files except hidden ones. Unlike `Path.rglob`, it raises where a folder may not be read."""

    def refuse(error: OSError) -> None:
        raise error

    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]  # `os.walk` goes on with these
        yield from (Path(parent, name) for name in names if not name.startswith("."))
