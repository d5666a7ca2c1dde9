"""What changed below a folder since it was indexed."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from typing import Any

import pyarrow as pa

from modeling_atri.audio_io.discovery import FoundSound, SoundSearch


@dataclass
class FolderChanges:
    """What to do so that an index fits a folder again. Paths are relative to the folder."""

    new: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    touched: list[str] = field(default_factory=list)
    taken: list[Any] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    contents: dict[str, str] = field(default_factory=dict)
    sounds: Mapping[str, FoundSound] = field(default_factory=dict)


def content_digest(path: str | PathLike) -> str:
    """32 hexadecimal digits of the bytes of a file (BLAKE2b), by which files that were moved are recognised."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def compare_folder(
    files: pa.Table,
    folder: str,
    search: SoundSearch,
    window_s: float,
    num_workers: int | None = None,
    progress: bool = False,
) -> FolderChanges:
    """Compare the files of an index with those below a folder, by size and time of change."""
    columns = [files[name].to_pylist() for name in ("folder", "path", "size", "mtime_ns")]
    known = {path: tuple(state) for of, path, *state in zip(*columns, strict=True) if of == folder}
    changes = FolderChanges(sounds=search.sounds)
    for path, found in search.sounds.items():
        if path not in known:
            changes.new.append(path)
        elif known[path] != found[1:]:
            changes.changed.append(path)
    changes.gone = [path for path in known if path not in search.sounds and not search.misses(path)]
    return changes
