"""Files and folders: written whole or not at all, names in any Unicode form, and digests of what files hold."""

import hashlib
import io
import json
import os
import shutil
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4


def json_line(content: Any) -> bytes:
    """A line of a JSON lines file, in UTF-8. Lone surrogates, which UTF-8 cannot encode, are written as escapes."""
    return f"{json.dumps(content, ensure_ascii=False)}\n".encode(errors="backslashreplace")


def normalized_name(name: str) -> str:
    """A file name in the Unicode form NFC, in which names are compared.

    macOS writes `é` as two characters (NFD), most other systems as one (NFC), and archives and metadata keep either.
    """
    return unicodedata.normalize("NFC", name)


def printable(text: str) -> str:
    """A file name as it is shown to people: what would break the line or steer the terminal is written as escapes."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def existing_path(path: Path) -> Path:
    """The path of an existing file or folder, which may be written in another Unicode form or with backslashes.

    Returns:
        `path` itself if it exists or nothing fits. Otherwise the path as it is on disk.
    """
    if os.path.exists(path):
        return path
    if "\\" in str(path):  # written on Windows
        slashed = existing_path(Path(str(path).replace("\\", "/")))
        return slashed if os.path.exists(slashed) else path
    if str(path).isascii() or path == path.parent:
        return path
    parent = existing_path(path.parent)
    for form in ("NFC", "NFD"):  # before the folder is listed, which is slow for each of many files
        if os.path.exists(candidate := parent / unicodedata.normalize(form, path.name)):
            return candidate
    try:
        names = os.listdir(parent)
    except OSError:  # it does not exist or is closed: who opens the file is told
        names = []
    wanted = normalized_name(path.name)
    return parent / min((name for name in names if normalized_name(name) == wanted), default=path.name)


def content_digest(file: str | os.PathLike[str] | bytes) -> str:
    """32 hexadecimal digits of the bytes of a file (BLAKE2b), given as its path or as the bytes.

    Raises:
        OSError: the file cannot be read.
    """
    with io.BytesIO(file) if isinstance(file, bytes) else open(file, "rb") as opened:
        return hashlib.file_digest(opened, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def file_state(file: Path) -> tuple[int, int, int]:
    """Size in bytes, time of the last change and time of the change of the entry (ns), which show an edit of a file.

    Tools such as rsync give an edited file its old time of change back, but nobody can set that of its entry.
    """
    status = file.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


@contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that replaces `path` when the block ends without an error, and is removed otherwise.

    Until then, readers (other processes too) see the previous content of `path`.
    """
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # after a power cut the name must not exist without its content
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write an indented JSON file, whole or not at all. Missing folders are created."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as file:
        file.write(f"{json.dumps(content, indent=2, ensure_ascii=False)}\n".encode())


def write_json_lines(path: Path, items: Iterable[Any]) -> None:
    """Write a JSON lines file with [`written_whole`]."""
    with written_whole(path) as file:
        file.writelines(map(json_line, items))


@contextmanager
def folder_written_whole(folder: Path) -> Iterator[Path]:
    """Make a temporary folder whose files move to `folder` when the block ends without an error.

    Other files that are already in `folder` stay; files of the same name are replaced.
    """
    folder = folder.resolve()  # `.` needs a name and a parent
    temporary = folder.with_name(f".{folder.name}.{uuid4().hex}.tmp")
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if not folder.exists():
            temporary.rename(folder)
            return
        for path in files_in(temporary):
            target = folder / path.relative_to(temporary)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def sync_folder(folder: Path, recursive: bool = True) -> None:
    """Flush the entries of a folder to disk, and with `recursive` everything below it."""
    for path in [*(folder.rglob("*") if recursive else ()), folder]:
        if os.name == "posix" or path.is_file():  # other systems cannot open a folder
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def files_in(folder: Path) -> list[Path]:
    """All files in a folder and below it, sorted, so that the order is the same on every machine."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def remove_unfinished(folder: Path) -> None:
    """Remove the temporary files of processes that were killed inside `written_whole`."""
    for path in folder.glob(f".*.{'[0-9a-f]' * 32}.tmp"):
        path.unlink()
