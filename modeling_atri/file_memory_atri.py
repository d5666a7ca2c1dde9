"""What was found out about files on disk, which this process remembers until a file changes."""

import io
import os
from collections import OrderedDict
from threading import Lock
from typing import Any, Generic, TypeVar


Fact = TypeVar("Fact")

_NUM_FILES = 4096  # a fact takes about 2 kB


class FileMemory(Generic[Fact]):
    """Facts about the files that were asked for last. Threads may share it.

    A file is known by its device and number, its size, and the times of the last changes of its content and of its
    status. Nobody can set the latter back, so a file that was rewritten in place is another one, even if it has the
    same size and its time of change was restored. Nothing is remembered of files in memory.

    Args:
        num_files (`int`, *optional*, defaults to 4096): files that are remembered.
    """

    def __init__(self, num_files: int = _NUM_FILES):
        self._num_files = num_files
        self._facts: OrderedDict[tuple[int, ...], Fact] = OrderedDict()
        self._begin()
        if hasattr(os, "register_at_fork"):  # in a new process, no thread is left that would release the lock
            os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        self._lock = Lock()

    def find(self, file: Any) -> Fact | None:
        """The fact about an open file; None if none is remembered."""
        key = _key(file)
        with self._lock:
            if key is None or key not in self._facts:
                return None
            self._facts.move_to_end(key)
            return self._facts[key]

    def keep(self, file: Any, fact: Fact) -> None:
        """Remember a fact about an open file."""
        key = _key(file)
        if key is None:
            return
        with self._lock:
            self._facts[key] = fact
            self._facts.move_to_end(key)
            if len(self._facts) > self._num_files:
                self._facts.popitem(last=False)


def _key(file: Any) -> tuple[int, ...] | None:
    """What identifies the content of a file; None for a file that is not on disk."""
    if not isinstance(file, (io.FileIO, io.BufferedReader)):
        return None
    try:
        status = os.fstat(file.fileno())
    except OSError:  # a reader of something in memory
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
