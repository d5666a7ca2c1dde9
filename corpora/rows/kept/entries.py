"""Locks of what is kept of a source, so that one process at a time makes it, and removes what nobody needs."""

import logging
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from .places import CACHE_VARIABLE


logger = logging.getLogger(__name__)

_DAYS_KEPT = 30  # since the rows were last used


@contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Lock what is kept in a folder. Yields False if it cannot be locked, such as one that another user has made.

    The file of the lock stays, because removing it would let two processes lock different files of the same name.
    """
    lock = _lock(folder)
    try:
        lock.acquire()
    except (OSError, NotImplementedError) as error:
        warn_not_kept(folder, error)
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def remove_unfinished(folder: Path) -> None:
    """Remove the files that a killed process was writing. The caller has locked the folder."""
    for file in folder.rglob(".*.tmp"):
        file.unlink(missing_ok=True)


def remove_old(folder: Path, is_current: Callable[[Path], bool]) -> None:
    """Remove what is kept of earlier states of a source, and what nobody has used for a month.

    What another process has locked stays, as it is being made or taken over. Rows that a process has mapped into
    memory stay readable after their file is removed.

    Args:
        folder: The rows of the source, which were checked now. What was checked with other options is beside it.
        is_current: Whether a folder beside it is of the present state of the source.
    """
    name, oldest = folder.name.rpartition("-")[0], time.time() - _DAYS_KEPT * 86_400
    for other in folder.parent.iterdir():
        if other == folder or other.name.rpartition("-")[0] != name or not other.is_dir():
            continue
        lock = _lock(other)
        try:
            lock.acquire(timeout=0)
        except (Timeout, OSError, NotImplementedError):
            continue
        try:
            if other.stat().st_mtime < oldest or not is_current(other):
                shutil.rmtree(other, ignore_errors=True)
        except FileNotFoundError:  # another process was faster
            continue
        finally:
            lock.release()


def note_use(folder: Path) -> None:
    """Note that rows are used, so that they are not removed as old. The folder may be one of another user."""
    try:
        folder.touch()
    except OSError:
        logger.debug("The use of %s cannot be noted.", folder)


def warn_not_kept(folder: Path | None, error: Exception) -> None:
    """Warn that checked rows cannot be kept in a folder."""
    logger.warning(
        "The checked rows cannot be kept in %s (%s), so later runs will check them again. Set %s to a folder that can "
        "be written and has enough space, or to `off`.",
        *(folder, error, CACHE_VARIABLE),
    )


def _lock(folder: Path) -> FileLock:
    return FileLock(f"{folder}.lock")
