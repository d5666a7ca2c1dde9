"""Files in a tar or zip archive, read one by one without unpacking the archive."""

import bz2
import gzip
import lzma
import os
import posixpath
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from modeling_atri.files import normalized_name

from ..layout import is_hidden


# What Python raises for an archive that is cut off, damaged or encrypted.
_ERRORS = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError),
    *(EOFError, RuntimeError, NotImplementedError, OSError, ValueError),
)
_DECOMPRESSORS: dict[bytes, Any] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
}


def check_content(path: Path) -> None:
    """Raise a ValueError if a file is what is often there in the place of data."""
    with path.open("rb") as file:
        head = file.read(64).lstrip().lower()
    if head.startswith(b"version https://git-lfs"):
        raise ValueError(f"{path} is a Git LFS pointer and not the data itself. Fetch the data: `git lfs pull`.")
    if head.startswith((b"<!doctype html", b"<html")):
        raise ValueError(f"{path} is an HTML page, probably a failed download. Download it again.")


class Archive:
    """An open archive; a context manager. Nothing is unpacked, so names such as `../../x` do no harm.

    Args:
        path: A tar file, which may be compressed with gzip, bzip2 or xz, or a zip file. The content decides, not the
            suffix. Compressed tar files are written to a temporary file first, so that any file in them can be read.
        keep_beginning (*optional*, defaults to `False`): Open a tar file that is cut off or damaged, with the files
            before the damage.

    Attributes:
        path: As it was given.
        names: Names of its files in their order, in NFC, without hidden ones and without `./`.
        damage: What is wrong after the last of the files; None if nothing is.

    Raises:
        ValueError: if the file is damaged, or is no archive.
    """

    def __init__(self, path: Path, keep_beginning: bool = False) -> None:
        self.path = path
        self.damage: str | None = None
        check_content(path)
        try:
            with ExitStack() as stack:
                file = stack.enter_context(open(path, "rb"))
                is_zip = zipfile.is_zipfile(file)
                file.seek(0)
                if is_zip:
                    self._read = _zip_readers(stack.enter_context(zipfile.ZipFile(file)))
                else:
                    plain, cut = stack.enter_context(_uncompressed(file))
                    archive = stack.enter_context(tarfile.open(fileobj=plain, mode="r:"))
                    self._read, self.damage = _tar_readers(archive)
                    self.damage = cut or self.damage
                    if self.damage and not keep_beginning:
                        raise EOFError(self.damage)
                self._stack = stack.pop_all()
        except PermissionError:
            raise
        except _ERRORS as error:
            raise ValueError(
                f"{path} cannot be read as an archive ({error}). Please copy or download it again."
            ) from error
        self.names = [name for name in self._read if not is_hidden(name)]

    def __enter__(self) -> "Archive":
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def read(self, name: str) -> bytes:
        """Read one of the `names`.

        Raises:
            ValueError: if it is damaged or encrypted.
        """
        try:
            return self._read[name]()
        except _ERRORS as error:
            raise ValueError(f"{name} in {self.path.name} cannot be read: {error}") from error


class FolderFiles:
    """The files in the folders of some sounds, with the methods of an `Archive`.

    Args:
        path: The folder that `sounds` are relative to.
        sounds: Paths with `/`.
    """

    def __init__(self, path: Path, sounds: Sequence[str]) -> None:
        self.path = path
        folders = dict.fromkeys(posixpath.dirname(sound) for sound in sounds)
        self.names = [posixpath.join(folder, name) for folder in folders for name in sorted(os.listdir(path / folder))]

    def read(self, name: str) -> bytes:
        """Read one of the `names`.

        Raises:
            ValueError: if it cannot be read.
        """
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            raise ValueError(f"{name} cannot be read: {error.strerror}") from error


def _zip_readers(archive: zipfile.ZipFile) -> dict[str, Callable[[], bytes]]:
    """Functions that read the files of an archive, by name."""
    members = [member for member in archive.infolist() if not member.is_dir()]
    return {_plain(_zip_name(member)): partial(archive.read, member) for member in members}


def _tar_readers(archive: tarfile.TarFile) -> tuple[dict[str, Callable[[], bytes]], str | None]:
    """Functions that read the files of an archive, by name, and what is wrong after the last of them."""
    members: list[tarfile.TarInfo] = []
    try:
        members.extend(member for member in archive if member.isreg())  # those before an error are kept
        damage = _damage_after(archive)
    except _ERRORS as error:
        damage = f"it is cut off or damaged after {len(members)} files: {error}"
    return {_plain(member.name): partial(_content, archive, member) for member in members}, damage


def _damage_after(archive: tarfile.TarFile) -> str | None:
    """Say that a tar file goes on after what Python takes for its end; None if it does not.

    Python takes a damaged header for the end. A tar file ends with a block of zeros, which some programs leave out.
    """
    file = archive.fileobj
    if file is None or not archive.getmembers():
        return None
    file.seek(archive.offset)
    block = file.read(tarfile.BLOCKSIZE)
    if not block.strip(b"\0"):
        return None
    return f"it is cut off or damaged after {len(archive.getmembers())} files: what follows is no header of a file"


@contextmanager
def _uncompressed(file: BinaryIO) -> Iterator[tuple[BinaryIO, str | None]]:
    """A tar file in which any place can be reached; a temporary one if `file` is compressed.

    The text says that the compressed file is damaged, and that the temporary one ends before the damage.
    """
    start = file.read(6)
    file.seek(0)
    opener = next((opener for magic, opener in _DECOMPRESSORS.items() if start.startswith(magic)), None)
    if opener is None:
        yield file, None
        return
    with opener(file, "rb") as compressed, tempfile.TemporaryFile() as plain:
        damage = None
        try:
            while block := compressed.read1(1 << 20):  # all that can be decompressed, before it fails
                plain.write(block)
        except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
            damage = f"it cannot be decompressed to its end: {error}"
        plain.seek(0)
        yield plain, damage


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    content = b"" if file is None else file.read()
    if len(content) < member.size:
        raise EOFError("the archive ends within it")
    return content


def _zip_name(member: zipfile.ZipInfo) -> str:
    """The name of a file in a zip. Many programs write UTF-8 without saying so, and Python then takes it for CP437."""
    if member.flag_bits & 0x800:
        return member.filename
    try:
        return member.filename.encode("cp437").decode()
    except UnicodeError:
        return member.filename


def _plain(name: str) -> str:
    return normalized_name(posixpath.normpath(name.replace("\\", "/")).lstrip("/"))
