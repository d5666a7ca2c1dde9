import multiprocessing
import os
import pickle
import signal
import stat
import threading
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from modeling_atri.array_shards import ArrayShards


def key(number: int) -> bytes:
    return number.to_bytes(16, "little")


def array(number: int, frames: int = 50) -> np.ndarray:
    return np.random.default_rng(number).normal(size=(frames, 8)).astype(np.float32)


def filled(folder: Path, numbers, **options) -> ArrayShards:
    shards = ArrayShards(folder, "a", **options)
    for number in numbers:
        shards.put(key(number), array(number))
    return shards


def found(shards: ArrayShards, numbers) -> list[int]:
    """The numbers whose arrays are there, which are compared."""
    there = []
    for number in numbers:
        kept = shards.get(key(number))
        if kept is not None:
            assert kept.dtype == np.float32
            np.testing.assert_array_equal(kept, array(number))
            there.append(number)
    return there


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("shape", [(3, 4), (1, 1), (0, 4), (7,), (2, 3, 4)])
@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
def test_arrays_come_back(tmp_path, shape, dtype):
    value = (np.random.default_rng(0).random(shape) * 200).astype(dtype)
    shards = ArrayShards(tmp_path, "a", dtype)
    assert shards.get(key(0)) is None
    shards.put(key(0), value)
    for reader in (shards, ArrayShards(tmp_path, "a", dtype), pickle.loads(pickle.dumps(shards))):
        kept = reader.get(key(0))
        assert kept.dtype == dtype
        np.testing.assert_array_equal(kept, value)
        kept += 1  # may be changed
        np.testing.assert_array_equal(reader.get(key(0)), value)


def test_another_dtype_is_refused(tmp_path):
    with pytest.raises(ValueError, match="are of float16; got float32"):
        ArrayShards(tmp_path, "a", "float16").put(key(0), array(0))


def test_a_process_writes_one_arrow_stream(tmp_path):
    filled(tmp_path, range(20))
    (path,) = tmp_path.glob("a/*.arrow")
    batches = list(pa.ipc.open_stream(path))
    assert [batch["key"][0].as_py() for batch in batches] == [key(number) for number in range(20)]
    assert batches[3]["values"][0].as_py() == array(3).ravel().tolist()
    assert len(list(tmp_path.rglob("*"))) == 3, "the folder, the shard and its index"
    (tmp_path / "plain").touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_only_the_array_is_read(tmp_path, monkeypatch):
    shards = filled(tmp_path, range(20))
    check, sizes = zlib.crc32, []
    monkeypatch.setattr("zlib.crc32", lambda content: sizes.append(len(content)) or check(content))
    assert found(shards, [7]) == [7]
    assert len(sizes) == 1
    assert sizes[0] < array(7).nbytes + 1000


def test_a_shard_is_full_at_some_size(tmp_path, monkeypatch):
    monkeypatch.setattr("modeling_atri.array_shards._SHARD_BYTES", 10_000)
    filled(tmp_path, range(20))
    sizes = [path.stat().st_size for path in tmp_path.glob("a/*.arrow")]
    assert len(sizes) > 3
    assert max(sizes) <= 10_000
    assert found(ArrayShards(tmp_path, "a"), range(20)) == list(range(20))


def test_many_keys(tmp_path, monkeypatch):
    """More than are looked up in the dict of new places, some of them twice."""
    monkeypatch.setattr("modeling_atri.array_shards._FEW", 16)
    numbers = np.random.default_rng(0).permutation(120).tolist()
    shards = filled(tmp_path, [*numbers, *numbers[:40]])
    for reader in (shards, ArrayShards(tmp_path, "a")):
        assert found(reader, range(140)) == list(range(120))


def test_what_others_add_is_found(tmp_path):
    first, second = ArrayShards(tmp_path, "a"), ArrayShards(tmp_path, "a")
    for number in range(10):
        (first if number % 2 else second).put(key(number), array(number))
    for shards in (first, second):
        shards._look(at_once=True)
        assert found(shards, range(10)) == list(range(10))
    assert len(list(tmp_path.glob("a/*.arrow"))) == 2


def test_names_are_apart(tmp_path):
    filled(tmp_path, [1])
    assert ArrayShards(tmp_path, "b").get(key(1)) is None


@pytest.mark.parametrize("suffix", ["arrow", "index"])
@pytest.mark.parametrize("keep", [0, 1, 39, 41, 300, 2000, 2500, -1])
def test_truncated_files(tmp_path, suffix, keep):
    """What is lost is missing, what is left is right, and what is added again is found."""
    shards = filled(tmp_path, range(3))
    (path,) = tmp_path.glob(f"a/*.{suffix}")
    path.write_bytes(path.read_bytes()[:keep])
    left = found(ArrayShards(tmp_path, "a"), range(3))
    assert len(left) < 3 or (suffix == "index" and keep > 120)
    if suffix == "arrow":
        assert found(shards, range(3)) == left
    filled(tmp_path, set(range(3)) - {*left})
    assert found(ArrayShards(tmp_path, "a"), range(3)) == [0, 1, 2]


@pytest.mark.parametrize("suffix", ["arrow", "index"])
def test_no_flipped_bit_gives_a_wrong_array(tmp_path, suffix):
    filled(tmp_path, range(2))
    (path,) = tmp_path.glob(f"a/*.{suffix}")
    content = path.read_bytes()
    for place in np.linspace(0, len(content) - 1, 80).astype(int).tolist():
        changed = bytearray(content)
        changed[place] ^= 0x10
        path.write_bytes(changed)
        assert len(found(ArrayShards(tmp_path, "a"), range(2))) >= 1
    path.write_bytes(bytes(len(content)))  # as after a power cut
    assert found(ArrayShards(tmp_path, "a"), range(2)) == []


def test_files_of_others_are_left_alone(tmp_path):
    (tmp_path / "0123.npy").write_bytes(b"old")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.index").write_bytes(b"something else" * 20)
    assert found(filled(tmp_path, range(2)), range(3)) == [0, 1]
    assert (tmp_path / "0123.npy").read_bytes() == b"old"


def test_a_full_disk_is_told_once(tmp_path, monkeypatch, caplog):
    shards = filled(tmp_path, range(2))
    write, calls = os.write, []

    def write_a_part(descriptor, content):
        calls.append(1)
        if len(calls) > 1:
            raise OSError(28, "No space left on device")
        return write(descriptor, content[:100])

    monkeypatch.setattr("os.write", write_a_part)
    for number in (2, 3):
        shards.put(key(number), array(number))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "nothing is added" in caplog.text
    assert "No space left on device" in caplog.text
    assert found(shards, range(4)) == found(ArrayShards(tmp_path, "a"), range(4)) == [0, 1]


def test_a_folder_that_cannot_be_written_is_read(tmp_path, monkeypatch, caplog):
    filled(tmp_path, range(2))
    opened = os.open

    def refuse(path, flags, *more, **options):
        if flags & os.O_CREAT:
            raise OSError(30, "Read-only file system", str(path))
        return opened(path, flags, *more, **options)

    monkeypatch.setattr("os.open", refuse)
    shards = ArrayShards(tmp_path, "a", max_bytes=10**9)
    shards.put(key(2), array(2))
    shards.put(key(3), array(3))
    assert found(shards, range(4)) == [0, 1]
    assert caplog.text.count("Read-only file system") == 1


def test_a_file_in_the_way_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        ArrayShards(tmp_path / "file", "a")


def test_a_limit_stops_adding(tmp_path):
    shards = filled(tmp_path, range(20), max_bytes=20_000)
    size = size_of(tmp_path)
    assert 17_000 < size <= 20_000
    assert found(shards, range(20)) == list(range(len(found(shards, range(20)))))
    filled(tmp_path, [50], max_bytes=20_000)
    assert size_of(tmp_path) == size, "neither does another process"
    assert found(filled(tmp_path, [50]), [50]) == [50], "without a limit it is added"


@pytest.mark.parametrize("days", [0, 2])
def test_sets_that_nobody_uses_make_room(tmp_path, days):
    for name in ("old", "older"):
        other = ArrayShards(tmp_path, name)
        for number in range(4):
            other.put(key(number), array(number))
        now = os.stat(tmp_path).st_mtime
        os.utime(tmp_path / name, (0, now - 24 * 3600 * (days + (name == "older") * days)))
    size = size_of(tmp_path)
    shards = filled(tmp_path, range(4), max_bytes=size + int(2.5 * size / 8))
    assert found(shards, range(4)) == ([0, 1, 2, 3] if days else [0, 1])
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == (
        ["a", "old"] if days else ["a", "old", "older"]
    )


@pytest.mark.parametrize("max_bytes", [0, 100])
def test_no_set_is_removed_in_vain(tmp_path, max_bytes):
    """Where not even that would make room."""
    filled(tmp_path, range(4))
    long_ago = os.stat(tmp_path).st_mtime - 48 * 3600
    os.utime(tmp_path / "a", (0, long_ago))
    other = ArrayShards(tmp_path, "b", max_bytes=max_bytes)
    other.put(key(0), array(0))
    assert found(other, [0]) == []
    assert found(ArrayShards(tmp_path, "a"), range(4)) == [0, 1, 2, 3]


@pytest.mark.parametrize(("every", "is_noted"), [(3600.0, False), (0.0, True)])
def test_a_set_that_is_only_read_is_in_use(tmp_path, monkeypatch, every, is_noted):
    monkeypatch.setattr("modeling_atri.array_shards._NOTED_EVERY", every)
    shards = filled(tmp_path, range(2))
    os.utime(tmp_path / "a", (0, 0))
    assert found(shards, [0]) == [0]
    assert (os.stat(tmp_path / "a").st_mtime > 0) == is_noted


def test_a_set_that_was_removed_is_begun_again(tmp_path):
    shards = filled(tmp_path, range(3))
    for path in sorted(tmp_path.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    assert found(shards, range(3)) == []
    assert found(filled(tmp_path, [1]), range(3)) == [1]


def test_threads_share_an_object(tmp_path, monkeypatch):
    monkeypatch.setattr("modeling_atri.array_shards._FEW", 8)
    shards, there = ArrayShards(tmp_path, "a"), []

    def work(first: int) -> None:
        for number in range(first, 60, 4):
            shards.put(key(number), array(number))
            there.extend(found(shards, [number]))

    threads = [threading.Thread(target=work, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(there) == list(range(60))
    assert len(list(tmp_path.glob("a/*.arrow"))) == 1


def _add(shards: ArrayShards, numbers: list[int]) -> None:
    for number in numbers:
        if not found(shards, [number]):
            shards.put(key(number), array(number))


@pytest.mark.heavy
def test_forked_processes_share_a_folder(tmp_path):
    shards, numbers = filled(tmp_path, [100]), list(range(30))
    context = multiprocessing.get_context("fork")
    processes = [
        context.Process(target=_add, args=(shards, order)) for order in ([200, *numbers], [201, *numbers[::-1]])
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert len(list(tmp_path.glob("a/*.arrow"))) == 3, "each process writes a shard of its own"
    everything = [*numbers, 100, 200, 201]
    assert found(ArrayShards(tmp_path, "a"), everything) == everything


def _add_endlessly(shards: ArrayShards, connection, first: int) -> None:
    number = first
    while True:
        shards.put(key(number), array(number))
        connection.send(number)
        number += 2


@pytest.mark.heavy
@pytest.mark.parametrize("max_bytes", [None, 10**7])
def test_processes_that_are_killed(tmp_path, max_bytes):
    """Two write at once and are killed at any moment. What they had finished is there and right."""
    context = multiprocessing.get_context("fork")
    shards, finished, first = ArrayShards(tmp_path, "a", max_bytes=max_bytes), [], 0
    for wait in (1, 4, 9):
        running = []
        for parity in range(2):
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(target=_add_endlessly, args=(shards, sender, first + parity))
            process.start()
            sender.close()
            running.append((process, receiver))
        for process, receiver in running:
            done = [receiver.recv() for _ in range(wait)]
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            finished += done
        first += 10_000
    reader = ArrayShards(tmp_path, "a")
    assert found(reader, finished) == finished
    found(reader, range(30_000))  # those that were only begun are missing, or right
