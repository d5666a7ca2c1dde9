"""Files that others read while we write, arrays that are longer than memory."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

import numpy as np


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


def remove_unfinished(folder: Path) -> None:
    """Remove what a process that was killed inside `written_whole` left in a folder."""
    for path in folder.glob(f".*.{'[0-9a-f]' * 32}.tmp"):
        path.unlink()


def write_npy(path: Path, blocks: Iterable[np.ndarray], width: int) -> np.ndarray:
    """Write blocks of rows one after the other, as many as come, and map the file into memory.

    Args:
        path: of the `.npy` file, which is written whole or not at all.
        blocks: `(k, width)` each.
        width: columns.

    Returns:
        `np.ndarray` of shape `(n, width)`, float32, read-only, whose rows stay on disk until they are used.
    """
    num_rows = 0
    with written_whole(path) as file:
        _write_header(file, num_rows, width)
        for block in blocks:
            file.write(np.ascontiguousarray(block, dtype=np.float32).data)
            num_rows += len(block)
        file.seek(0)
        _write_header(file, num_rows, width)  # numpy leaves room in it for a first dimension that grows
    return np.load(path, mmap_mode="r")


def _write_header(file: BinaryIO, num_rows: int, width: int) -> None:
    header = {"descr": np.dtype(np.float32).str, "fortran_order": False, "shape": (num_rows, width)}
    np.lib.format.write_array_header_1_0(file, header)


__all__ = ["remove_unfinished", "write_npy", "written_whole"]
