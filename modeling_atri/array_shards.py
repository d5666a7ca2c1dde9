"""Arrays on disk, found by key, in few files that many processes add to: for what can be made again."""

import logging
import os
import shutil
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import numpy as np
import pyarrow as pa
from filelock import FileLock


logger = logging.getLogger(__name__)

KEY_BYTES = 16
_SHARD_BYTES = 2**28  # a process begins another shard when it has written this much: 1000 clips of 10 s
_DAY = 24 * 3600.0
_NOTED_EVERY = 3600.0  # seconds after which a process notes again that it uses a folder
_LOOKING_SHARE = 0.02  # of the time may be spent on looking for what other processes have added
_FEW = 4096
# An entry of an index: where an array's message is in the shard, and checksums of the message and of the entry.
_ENTRY = np.dtype([("key", f"V{KEY_BYTES}"), ("start", "<u8"), ("size", "<u8"), ("sum", "<u4"), ("own_sum", "<u4")])
_SUMMED = _ENTRY.itemsize - 4  # bytes of an entry that its own checksum covers
_PLACE = np.dtype([("key", f"V{KEY_BYTES}"), ("start", "<u8"), ("size", "<u8"), ("sum", "<u4"), ("shard", "<u4")])


class ArrayShards:
    """Arrays of numbers by key, in the folder `folder/name`.

    Each process adds to a shard of its own, `*.arrow`: an Arrow stream (`pyarrow.ipc.open_stream`) with one record
    batch an array. The file `*.index` beside it has an entry of 40 bytes for each, with checksums. The entry is
    written after the array, and an array is used only if both checksums are right. So a process may be killed at any
    moment, and after a power cut, what was lost is merely missing: nothing waits for the disk (`fsync`). One array is
    read by its offset, not with its shard. An array takes 48 bytes of memory.

    With `max_bytes`, arrays are added until all files below `folder` have this size. Then the folders of other names
    that no process has used for a day are removed, the oldest first. If that would not be enough, they stay, and
    nothing more is added: an epoch reads every array once, in random order, so a cache that replaced its oldest arrays
    would throw away what the epoch still needs, and write every array again in every epoch.

    When a file cannot be written, the process logs a warning, and writes nothing more.

    Args:
        folder (`Path`): Folder that several sets of arrays share. It must exist or be possible to create.
        name (`str`): Name of this set.
        dtype (`str`, *optional*, defaults to `"float32"`): Type of the arrays, such as `"float32"` or `"uint8"`.
        max_bytes (`int`, *optional*): Largest size of all files below `folder`. Default: no limit.

    Raises:
        OSError: The folder does not exist and cannot be created.
    """

    def __init__(self, folder: Path, name: str, dtype: str = "float32", max_bytes: int | None = None):
        self._arguments = (folder, name, dtype, max_bytes)
        self.folder, self.max_bytes = folder / name, max_bytes
        folder.mkdir(parents=True, exist_ok=True)
        self._dtype = np.dtype(dtype)
        values = pa.large_list(pa.from_numpy_dtype(self._dtype))
        self._schema = pa.schema({"key": pa.binary(KEY_BYTES), "shape": pa.list_(pa.int64()), "values": values})
        self._places = _Places()
        self._shards: list[Path] = []  # by number
        self._read_until: dict[str, tuple[int, int]] = {}  # number of a shard, and how much of its index was read
        self._look_again = 0.0
        self._can_write = True
        self._start_process()
        self._look(at_once=True)

    def __reduce__(self):
        return ArrayShards, self._arguments

    def get(self, key: bytes) -> np.ndarray | None:
        """The array of a key, which may be changed; None if there is none or its file is damaged."""
        self._notice_fork()
        with self._lock:
            self._note_use()
            place = self._places.find(key)
            if place is None:
                self._look()
                place = self._places.find(key)
        if place is None:
            return None
        message = self._read(place)
        if message is None:
            with self._lock:
                self._places.forget(key)
            return None
        batch = pa.ipc.read_record_batch(pa.py_buffer(message), self._schema)
        values = batch.column("values").values.to_numpy(zero_copy_only=True)
        return np.array(values).reshape(batch.column("shape")[0].as_py())

    def put(self, key: bytes, array: np.ndarray) -> None:
        """Add an array, unless the folder is full or cannot be written.

        Args:
            key (`bytes`): 16 bytes.
            array (`np.ndarray`): Numbers of the dtype of the shards, of any shape.

        Raises:
            ValueError: They are of another dtype.
        """
        if array.dtype != self._dtype:
            raise ValueError(f"The arrays in {self.folder} are of {self._dtype}; got {array.dtype}.")
        self._notice_fork()
        if not self._can_write:
            return
        flat = pa.array(np.ascontiguousarray(array).reshape(-1))
        offsets = pa.array([0, len(flat)], pa.int64())
        columns = [
            pa.array([key], pa.binary(KEY_BYTES)),
            pa.array([array.shape], pa.list_(pa.int64())),
            pa.LargeListArray.from_arrays(offsets, flat),
        ]
        message = pa.record_batch(columns, schema=self._schema).serialize()
        with self._lock:
            try:
                with self._room_for(message.size) as has_room:
                    if has_room:
                        self._append(key, message)
                    elif self._can_write:
                        self._can_write = False
                        logger.info("%s is full. What it does not hold is computed each time.", self.folder.parent)
            except OSError as error:  # a full disk is no reason to lose a training run
                if self._can_write:
                    self._can_write = False
                    logger.warning(
                        "From now on, nothing is added to %s. What it does not hold is computed each time: %s",
                        *(self.folder.parent, error),
                    )

    def _start_process(self) -> None:
        self._process = os.getpid()
        self._lock = threading.RLock()
        self._writer: _Writer | None = None
        self._note_again = 0.0
        self._note_use()

    def _note_use(self) -> None:
        """Set the folder's time of change, which says when it was last used, unless that was just done."""
        if time.monotonic() >= self._note_again:
            self._note_again = time.monotonic() + _NOTED_EVERY
            with suppress(OSError):  # there is none yet, it has just been removed, or it may only be read
                os.utime(self.folder)

    def _notice_fork(self) -> None:
        """A forked process shares what was read, but writes a shard of its own."""
        if self._process != os.getpid():
            if self._writer is not None:
                self._writer.close()  # this process's copies of the descriptors
            self._start_process()

    def _look(self, at_once: bool = False) -> None:
        """Read what has been added to the indexes, unless it was just done."""
        if not at_once and time.monotonic() < self._look_again:
            return
        began = time.monotonic()
        for path in self._grown_indexes():
            try:
                self._read_index(path)
            except FileNotFoundError:  # another process has just removed the folder
                continue
        self._look_again = time.monotonic() + (time.monotonic() - began) / _LOOKING_SHARE

    def _grown_indexes(self) -> list[Path]:
        """Indexes that have entries to read, the last written last, so that its arrays count."""
        if not self.folder.is_dir():
            return []
        with os.scandir(self.folder) as found:
            indexes = [(entry.stat(), entry.name) for entry in found if entry.name.endswith(".index")]
        grown = [
            (status.st_mtime_ns, name)
            for status, name in indexes
            if status.st_size >= self._read_until.get(name, (0, 0))[1] + _ENTRY.itemsize
        ]
        return [self.folder / name for _, name in sorted(grown)]

    def _read_index(self, path: Path) -> None:
        """Read the new entries of an index. Damaged entries are passed over."""
        number, done = self._read_until.get(path.name, (len(self._shards), 0))
        with open(path, "rb") as file:
            file.seek(done)
            content = file.read()
        if number == len(self._shards):
            self._shards.append(path.with_suffix(".arrow"))
        content = content[: len(content) // _ENTRY.itemsize * _ENTRY.itemsize]
        self._read_until[path.name] = number, done + len(content)
        entries = np.frombuffer(content, _ENTRY)
        sums = [zlib.crc32(content[at : at + _SUMMED]) for at in range(0, len(content), _ENTRY.itemsize)]
        self._places.add(entries[entries["own_sum"] == np.array(sums, np.uint32)], number)

    def _read(self, place: np.void) -> bytes | None:
        """The message at a place, or None if it is not there or not whole."""
        path = self._shards[int(place["shard"])]
        try:
            with open(path, "rb", buffering=0) as file:
                file.seek(int(place["start"]))
                message = file.read(int(place["size"]))
        except OSError:  # it was removed, or the disk cannot read it: the caller computes the array again
            return None
        return message if zlib.crc32(message) == int(place["sum"]) else None

    @contextmanager
    def _room_for(self, size: int) -> Iterator[bool]:
        """Whether that many bytes may be added. Other processes with a limit wait until the block ends."""
        if self.max_bytes is None:
            yield True
            return
        folder = self.folder.parent
        with FileLock(folder / ".lock"):
            needed = size + _ENTRY.itemsize + len(self._schema.serialize())
            sizes = {path: _size_of(path) for path in folder.iterdir() if path.is_dir()}
            unused = [path for path in sizes if path != self.folder and _age(path) > _DAY]
            too_much = sum(sizes.values()) + needed - self.max_bytes
            if too_much <= sum(sizes[path] for path in unused):  # otherwise they would be lost in vain
                for path in sorted(unused, key=_age, reverse=True):
                    if too_much <= 0:
                        break
                    shutil.rmtree(path)
                    too_much -= sizes[path]
            yield too_much <= 0

    def _append(self, key: bytes, message: pa.Buffer) -> None:
        if self._writer is not None and self._writer.end + message.size > _SHARD_BYTES:
            self._writer.close()
            self._writer = None
        if self._writer is None:
            self.folder.mkdir(exist_ok=True)
            self._writer = _Writer(self.folder / f"{uuid4().hex}.arrow", self._schema)
        self._writer.append(key, message)
        self._read_index(self._writer.index_path)


class _Writer:
    """Appends to a shard and its index, which no other process writes to."""

    def __init__(self, path: Path, schema: pa.Schema):
        self.index_path = path.with_suffix(".index")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        self._data = os.open(path, flags, 0o666)
        try:
            self._index = os.open(self.index_path, flags, 0o666)
        except OSError:
            os.close(self._data)
            raise
        self.end = 0
        self._write(self._data, schema.serialize())
        self.end = os.fstat(self._data).st_size

    def append(self, key: bytes, message: pa.Buffer) -> None:
        """Write an array's message and then its entry. After an error, the writer must not be used again."""
        entry = np.zeros(1, _ENTRY)
        entry["key"], entry["start"], entry["size"] = np.void(key), self.end, message.size
        entry["sum"] = zlib.crc32(message)
        entry["own_sum"] = zlib.crc32(entry.tobytes()[:_SUMMED])
        self._write(self._data, message)
        self._write(self._index, pa.py_buffer(entry.tobytes()))
        self.end += message.size

    def close(self) -> None:
        """Close both files."""
        os.close(self._data)
        os.close(self._index)

    @staticmethod
    def _write(descriptor: int, content: pa.Buffer) -> None:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]


class _Places:
    """Where the arrays of keys are: in a sorted table, and new places in a dict until they are many."""

    def __init__(self):
        self._hashes = np.empty(0, np.uint64)  # the first half of each key
        self._table = np.empty(0, _PLACE)
        self._new: dict[bytes, np.void | None] = {}  # None: not in the table either

    def find(self, key: bytes) -> np.void | None:
        """The place of a key; None if there is none."""
        if key in self._new:
            return self._new[key]
        row = int(np.searchsorted(self._hashes, np.frombuffer(key, np.uint64, 1)[0]))
        found = row < len(self._table) and self._table[row]["key"].tobytes() == key
        return self._table[row] if found else None

    def forget(self, key: bytes) -> None:
        """Remove a key."""
        self._new[key] = None

    def add(self, entries: np.ndarray, shard: int) -> None:
        """Add entries of an index. A later entry of a key takes the place of an earlier one."""
        places = np.zeros(len(entries), _PLACE)
        for name in ("key", "start", "size", "sum"):
            places[name] = entries[name]
        places["shard"] = shard
        if len(self._new) + len(places) <= max(_FEW, len(self._table) // 8):
            self._new |= {place["key"].tobytes(): place for place in places}
            return
        new = np.array([place for place in self._new.values() if place is not None], _PLACE)
        replaced = np.frombuffer(b"".join(self._new), np.uint64)[::2]
        table = np.concatenate([self._table[~np.isin(self._hashes, replaced)], new, places])
        hashes = np.frombuffer(table["key"].tobytes(), np.uint64)[::2]
        _, last = np.unique(hashes[::-1], return_index=True)  # the last of equal ones
        rows = len(table) - 1 - last
        self._hashes, self._table, self._new = hashes[rows], table[rows], {}


def _age(folder: Path) -> float:
    return time.time() - folder.stat().st_mtime


def _size_of(folder: Path) -> int:
    with os.scandir(folder) as found:
        return sum(entry.stat().st_size for entry in found if entry.is_file())
