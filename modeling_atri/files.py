"""Files and folders that appear whole or not at all."""

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4


def json_line(content: Any) -> bytes:
    """A line of a JSON lines file, in UTF-8; half characters, which UTF-8 has not, stay the escapes of JSON."""
    return f"{json.dumps(content, ensure_ascii=False)}\n".encode(errors="backslashreplace")


@contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which appears at `path` when all went well and leaves nothing behind when not.

    Whoever reads meanwhile, also in another process, finds what was there before or the whole new file.
    """
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # the name must not outlive a power cut that the content does not
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json_lines(path: Path, items: Iterable[Any]) -> None:
    """A JSON lines file, written whole."""
    with written_whole(path) as file:
        file.writelines(map(json_line, items))


@contextmanager
def folder_written_whole(folder: Path) -> Iterator[Path]:
    """A folder to write to, whose files appear in `folder` when all went well; leaves nothing behind when not.

    Files that are in `folder` already stay, unless one of that name was written.
    """
    folder = folder.resolve()  # so that `.` has a name, and a place beside it
    temporary = folder.with_name(f".{folder.name}.{uuid4().hex}.tmp")
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if not folder.exists():
            temporary.rename(folder)
            return
        for path in [path for path in temporary.rglob("*") if path.is_file()]:
            target = folder / path.relative_to(temporary)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def sync_folder(folder: Path, recursive: bool = True) -> None:
    """Wait until the names in a folder, and (`recursive`) all that is below it, would outlive a power cut."""
    for path in [*(folder.rglob("*") if recursive else ()), folder]:
        if os.name == "posix" or path.is_file():  # elsewhere a folder cannot be opened
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def files_in(folder: Path) -> list[Path]:
    """All files in a folder and below it, in one order everywhere."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def remove_unfinished(folder: Path) -> None:
    """Remove what a process that was killed inside `written_whole` left in a folder."""
    for path in folder.glob(f".*.{'[0-9a-f]' * 32}.tmp"):
        path.unlink()


__all__ = ["files_in", "folder_written_whole", "remove_unfinished", "sync_folder", "written_whole"]
