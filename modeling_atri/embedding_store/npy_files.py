"""Arrays that are larger than memory, in `.npy` files."""

from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..files import written_whole


def write_npy(path: Path, blocks: Iterable[np.ndarray], width: int) -> np.ndarray:
    """Write any number of blocks of rows, each of shape `(k, width)`, completely or not at all.

    Returns the file mapped into memory, of shape `(n, width)`, float32, read-only.
    """
    num_rows = 0
    with written_whole(path) as file:
        _write_header(file, num_rows, width)
        for block in blocks:
            file.write(np.ascontiguousarray(block, dtype=np.float32).data)
            num_rows += len(block)
        file.seek(0)
        _write_header(file, num_rows, width)  # numpy leaves room in it for a larger first dimension
    return np.load(path, mmap_mode="r")


def write_npy_rows(path: Path, rows: Iterable[tuple[int, np.ndarray]], num_rows: int, width: int) -> np.ndarray:
    """Do the same for rows in any order, given as pairs of their place and values; every place occurs once."""
    with written_whole(path) as file:  # not mapped, because a full disk would kill a process that writes to a map
        _write_header(file, num_rows, width)
        start = file.tell()
        for place, row in rows:
            file.seek(start + place * width * np.dtype(np.float32).itemsize)
            file.write(np.ascontiguousarray(row, dtype=np.float32).data)
    return np.load(path, mmap_mode="r")


def _write_header(file: BinaryIO, num_rows: int, width: int) -> None:
    header = {"descr": np.dtype(np.float32).str, "fortran_order": False, "shape": (num_rows, width)}
    np.lib.format.write_array_header_1_0(file, header)
