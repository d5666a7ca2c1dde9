"""One writer at a time: the file locks of an index."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ...object_storage import is_address
from .places import LOCK_NAME


class IndexInUseError(ValueError):
    """Another process writes to an index."""


class _WriterLock:
    """Holds the file lock of an index. It can be taken again by the thread that holds it.

    Of several processes that write together, each has a lock of its own. A process that survives the others therefore
    still keeps a new run from writing.
    """

    def __init__(self, location: str, rank: int):
        self._location, self._rank = location, rank
        self._lock = FileLock(Path(location, f"{LOCK_NAME}.{rank}" if rank else LOCK_NAME), timeout=0)

    def __enter__(self) -> None:
        try:
            self._lock.acquire()
            if self._rank == 0:
                self._check_others()
        except Timeout as error:
            self._lock.release()
            raise IndexInUseError(
                f"Another process is writing to the index {self._location!r}. Wait until it has ended, and try again."
            ) from error

    def __exit__(self, *exception: object) -> None:
        self._lock.release()

    def _check_others(self) -> None:
        """Raise a Timeout if a process with another number holds its lock."""
        if self._lock.lock_counter == 1:
            for path in Path(self._location).glob(f"{LOCK_NAME}.*"):
                with FileLock(path, timeout=0):
                    pass


def writer_lock(location: str, rank: int = 0) -> AbstractContextManager[Any]:
    """The lock of an index for one of the processes that write to it; on object storage there is none."""
    return nullcontext() if is_address(location) else _WriterLock(location, rank)
