"""Lengths of sound files, which are known until a file changes, in memory and in files that later runs read."""

import hashlib
import logging
import os
import stat
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import NamedTuple, TypeVar

import numpy as np

from modeling_atri.cores_atri import usable_cores


logger = logging.getLogger(__name__)

_FILES_AT_ONCE = 256  # that a thread looks at before the next part is begun
_MAX_THREADS = 16
_SLOW_STAT_S = 50e-6  # a `stat` of a file on a local disk takes about 2 microseconds
_MERGED_AT = 2**16  # new lengths that are looked up in a dict before they are sorted into the others
_BYTES = 32  # of an entry in a file: digest of the path, size, time of the last change, number of samples

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class FileStates(NamedTuple):
    """Sizes in bytes and times of the last change (`mtime_ns`) of files, `(files,)`, int64; -1 where there is none."""

    sizes: np.ndarray
    times: np.ndarray


class Lengths:
    """The lengths of sound files by path, size and time of change, 32 bytes each.

    A file that cannot be read is not kept but looked at again each time, because a decoder may have been installed.
    """

    def __init__(self) -> None:
        self._known = np.zeros((0, 4), dtype=np.int64)  # sorted by the first column
        self._new: dict[tuple[int, int, int], int] = {}
        self._files: set[Path] = set()  # that were read
        self._unread: list[Path] = []

    def look_in(self, file: Path) -> None:
        """Also look lengths up in a file, which is read when one is not known otherwise."""
        if file not in self._files and file not in self._unread:
            self._unread.append(file)

    def find(self, keys: np.ndarray, states: FileStates, file: Path | None = None) -> np.ndarray:
        """Numbers of samples at 16 kHz, `(files,)`, int64; -1 where they are not known, in memory or in a file."""
        if file is not None:
            self.look_in(file)
        found = self._look_up(keys, states)
        if self._unread and (found < 0).any():
            self._merge([_read(unread) for unread in self._unread])
            self._files.update(self._unread)
            self._unread = []
            found = self._look_up(keys, states)
        return found

    def add(self, keys: np.ndarray, states: FileStates, samples: np.ndarray, file: Path | None = None) -> None:
        """Keep lengths in memory, and add them to a file if one is given."""
        entries = np.column_stack([keys, states.sizes, states.times, samples]).astype("<i8")
        for key, size, time, length in entries.tolist():
            self._new[key, size, time] = length
        if len(self._new) > _MERGED_AT:
            self._merge([])
        if file is not None and len(entries):
            _append(file, entries)

    def length_of(self, path: str, measure: Callable[[str], int]) -> int:
        """The number of samples of a file, measured if it is not known.

        Raises:
            OSError: if there is no such file, or it cannot be accessed; and what `measure` raises.
        """
        status = os.stat(path)
        keys, states = keys_of([path]), FileStates(np.array([status.st_size]), np.array([status.st_mtime_ns]))
        known = int(self.find(keys, states)[0])
        if known >= 0:
            return known
        samples = measure(path)
        self.add(keys, states, np.array([samples]))
        return samples

    def lengths_of(
        self, paths: Sequence[str], states: FileStates, measure: Callable[[str], int], file: Path | None = None
    ) -> np.ndarray:
        """The numbers of samples of files, which are measured in threads where they are not known yet.

        Args:
            paths, states: The files.
            measure: Returns the number of samples of a file, from its header.
            file (*optional*): Where new lengths are kept for later runs.

        Returns:
            `(files,)`, int64; -1 for files that are missing, or for which `measure` raises a ValueError or OSError.
        """
        keys = keys_of(paths)
        samples = self.find(keys, states, file)
        unknown = np.flatnonzero((samples < 0) & (states.sizes >= 0))
        if len(unknown):
            _, first, number = np.unique(keys[unknown], return_index=True, return_inverse=True)
            different = [paths[place] for place in unknown[first].tolist()]
            samples[unknown] = np.array(_in_threads(partial(_measured, measure), different), dtype=np.int64)[number]
            unknown = unknown[first]
            good = unknown[samples[unknown] >= 0]
            self.add(keys[good], FileStates(states.sizes[good], states.times[good]), samples[good], file)
        return samples

    def _look_up(self, keys: np.ndarray, states: FileStates) -> np.ndarray:
        samples = np.full(len(keys), -1, dtype=np.int64)
        if len(self._known):
            places = np.minimum(np.searchsorted(self._known[:, 0], keys), len(self._known) - 1)
            entries = self._known[places]
            is_same = (entries[:, 0] == keys) & (entries[:, 1] == states.sizes) & (entries[:, 2] == states.times)
            samples[is_same] = entries[is_same, 3]
        if self._new:
            of_file = zip(keys.tolist(), states.sizes.tolist(), states.times.tolist(), strict=True)
            new = np.array([self._new.get(entry, -1) for entry in of_file], dtype=np.int64)
            samples = np.where(new >= 0, new, samples)
        return samples

    def _merge(self, others: Sequence[np.ndarray]) -> None:
        """Sort further entries into the known ones. Of a file, the last entry counts."""
        new = np.array([[*entry, length] for entry, length in self._new.items()], dtype=np.int64).reshape(-1, 4)
        joined = np.concatenate([self._known, *others, new])[::-1]
        _, first = np.unique(joined[:, 0], return_index=True)
        self._known, self._new = joined[first], {}


KNOWN_LENGTHS = Lengths()  # of all files that this process has looked at


def keys_of(paths: Sequence[str]) -> np.ndarray:
    """A number for each path, which is the same in every process, `(files,)`, int64."""
    digest = hashlib.blake2b
    absolute = [path if path.startswith("/") else os.path.abspath(path) for path in paths]
    digests = [digest(path.encode(errors="surrogatepass"), digest_size=8).digest() for path in absolute]
    return np.frombuffer(b"".join(digests), dtype="<i8").astype(np.int64)


def file_states(paths: Sequence[str]) -> FileStates:
    """Look at files: one `stat` each, in threads only if the disk takes long to answer."""
    parts = [paths[start : start + _FILES_AT_ONCE] for start in range(0, len(paths), _FILES_AT_ONCE)]
    begin = perf_counter()
    states = [_states_of(part) for part in parts[:1]]
    is_slow = perf_counter() - begin > _SLOW_STAT_S * _FILES_AT_ONCE
    states += _in_threads(_states_of, parts[1:]) if is_slow else map(_states_of, parts[1:])
    found = np.array([state for part in states for state in part], dtype=np.int64).reshape(-1, 2)
    return FileStates(found[:, 0], found[:, 1])


def _states_of(paths: Sequence[str]) -> list[tuple[int, int]]:
    states = []
    for path in paths:
        try:
            status = os.stat(path)
            states.append((status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else (-1, -1))
        except (OSError, ValueError):  # a ValueError for a name that no file can have
            states.append((-1, -1))
    return states


def _measured(measure: Callable[[str], int], path: str) -> int:
    """The number of samples of a file; -1 if it cannot be read, which is explained where its row is checked."""
    try:
        return measure(path)
    except (OSError, ValueError):
        return -1


def _in_threads(function: Callable[[_Item], _Result], items: Sequence[_Item]) -> list[_Result]:
    """Results in the order of the items. More threads than cores, because they wait for the disk most of the time."""
    if len(items) < 2:
        return [function(item) for item in items]
    with ThreadPoolExecutor(min(_MAX_THREADS, 2 * usable_cores(), len(items)), "atri-files") as pool:
        return list(pool.map(function, items, chunksize=1))


def _read(file: Path) -> np.ndarray:
    try:
        content = file.read_bytes()
    except OSError:  # nothing was kept
        content = b""
    whole = len(content) // _BYTES * _BYTES  # a process that was killed may have left an unfinished entry
    return np.frombuffer(content[:whole], dtype="<i8").astype(np.int64).reshape(-1, 4)


def _append(file: Path, entries: np.ndarray) -> None:
    try:
        with open(file, "ab", buffering=0) as opened:
            if rest := opened.tell() % _BYTES:
                opened.truncate(opened.tell() - rest)
            opened.write(entries.tobytes())
    except OSError as error:  # a full disk, or a file of another user
        logger.warning("Lengths of sounds cannot be kept in %s (%s), so later runs will read them again.", file, error)
