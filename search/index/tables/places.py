"""Where an index is: its folder or address, what may be there, and the connection to its database."""

import os
import re
from collections.abc import Mapping
from datetime import timedelta
from os import PathLike
from pathlib import Path
from typing import Any

from modeling_atri.sources import path_advice

from ...object_storage import is_address, lance_options, object_names


WINDOWS, FAILURES, FACTS, NOTES = "windows", "failures", "facts", "notes"  # names of the tables
LOCK_NAME = ".lock"


def location_of(path: str | PathLike[str]) -> str:
    """A path as an index is opened with: an address as it is, a local path absolutely."""
    text = os.fspath(path)
    if not isinstance(text, str) or not text:
        raise ValueError(f"The path of an index must be a text that is not empty, got {path!r}.")
    return text.rstrip("/") if is_address(text) else os.path.abspath(os.path.expanduser(text))


def check_place(location: str) -> None:
    """Raise a ValueError if a location is a file."""
    if not is_address(location) and os.path.isfile(location):
        raise ValueError(f"{location!r} is a file, and an index is a folder. Name a folder.")


def check_is_free(folder: Path) -> None:
    """Raise a ValueError if a folder holds anything but what the making of an index leaves."""
    own = {LOCK_NAME, *(f"{name}.lance" for name in (WINDOWS, FAILURES, FACTS, NOTES))}
    others = sorted(entry.name for entry in folder.iterdir() if entry.name not in own) if folder.is_dir() else []
    if others:
        shown = f"{', '.join(others[:5])}{' and more' if len(others) > 5 else ''}"
        raise ValueError(
            f"There is no index in {str(folder)!r}, but it holds other files: {shown}. Name a new or empty folder for "
            "the index."
        )


def has_no_facts(location: str) -> bool:
    """Whether a folder on this machine cannot be an index, so that LanceDB need not read it.

    LanceDB makes a folder that is missing, and cannot list one with a file whose name holds a line break.
    """
    return not is_address(location) and not os.path.isdir(os.path.join(location, f"{FACTS}.lance"))


def files_of_facts(location: str, storage_options: Mapping[str, str] | None = None) -> frozenset[str]:
    """The files that hold the facts of an index, whose names no other index has; none if there is no index.

    Raises:
        ValueError: it is on object storage that PyArrow does not read.
        OSError: it is on object storage that cannot be reached.
    """
    place = f"{location}/{FACTS}.lance/data"
    if is_address(location):
        return object_names(place, storage_options)
    try:
        return frozenset(os.listdir(place))
    except OSError:
        return frozenset()


def connect(location: str, storage_options: Mapping[str, str] | None) -> Any:
    """The LanceDB database at a location.

    Raises:
        ImportError: LanceDB is not installed.
    """
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


def no_index(location: str) -> str:
    """The sentence on a location where there is no index."""
    if is_address(location):
        return f"There is no index at {location!r}. `atri index SOUNDS {location} --model MODEL` makes one."
    if not os.path.isdir(location):
        return f"There is no index {location!r}. {path_advice(location)}".rstrip()
    held = sorted(os.listdir(location))[:5]
    return (
        f"The folder {location!r} is no index. It holds {', '.join(held) or 'nothing'}. `atri index SOUNDS INDEX "
        "--model MODEL` makes one."
    )


def damaged(location: str, error: Exception) -> str:
    """The sentence on an index whose tables cannot be read."""
    return (
        f"The index {location!r} is damaged: {reason_of(error).rstrip('.')}. Copy it again, or delete it and "
        "index the sounds again."
    )


def reason_of(error: Exception) -> str:
    """The text of an error of LanceDB in one line, without the place in its source."""
    return re.split(r"\s*(?:, /\S+\.rs:\d+|\. This was likely caused)", " ".join(str(error).split()))[0]


def table_names(database: Any) -> set[str]:
    """The names of the tables of a database."""
    return set(database.list_tables().tables)
