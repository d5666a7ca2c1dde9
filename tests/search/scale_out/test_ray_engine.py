"""Workers of Ray write the rows of one process, and lose nothing if they are killed."""

import json
import os
import signal
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from threading import Event, Thread
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from modeling_atri.search import RayEngine, SoundIndex
from modeling_atri.search.index.indexing import EncodeOptions, FolderResult, FolderWork
from tests.helpers.object_storage import BUCKET, put, s3_server
from tests.helpers.tiny import tiny_model, tiny_processor


pytest.importorskip("lance_ray")
pytestmark = pytest.mark.timeout(900)  # Ray takes minutes to start on a busy machine
NUM_SOUNDS = 24


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "cuda:1"}, "Ray chooses the GPU; got 'cuda:1'"),
        ({"num_workers": 0}, "must be at least 1 with Ray, got 0"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        RayEngine(**options)


def test_ray_is_not_started_if_there_is_nothing_to_encode():
    nothing = SimpleNamespace()
    work = FolderWork("/sounds", {}, {})
    assert RayEngine()(nothing, nothing, nothing, work, EncodeOptions()) == FolderResult()


@pytest.fixture
def sounds(tmp_path) -> Path:
    """Short clips, recordings of several windows, a broken file, and a side file."""
    folder = tmp_path / "sounds"
    folder.mkdir()
    for number in range(NUM_SOUNDS):
        write(folder / f"{number:02}.wav", number, 25 if number % 8 == 2 else 0.5 + number / 10)
    (folder / "broken.wav").write_bytes(b"no sound")
    rows = [{"file_name": f"{number:02}.wav", "licence": "cc0", "rank": number} for number in range(NUM_SOUNDS)]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def write(path: Path, seed: int, seconds: float) -> None:
    samples = 0.1 * np.random.default_rng(seed).normal(size=int(16000 * seconds))
    soundfile.write(path, samples.astype(np.float32), 16000)


def open_index(path, **options) -> SoundIndex:
    return SoundIndex.open(path, tiny_model(), tiny_processor(), **options)


def assert_same_rows(first: SoundIndex, second: SoundIndex) -> None:
    one, two = (index.tables.rows().sort_by("id") for index in (first, second))
    assert len(one) > NUM_SOUNDS
    assert one.drop(["vector"]).equals(two.drop(["vector"]))
    vectors = [np.stack(rows["vector"].to_pylist()) for rows in (one, two)]
    np.testing.assert_allclose(*vectors, atol=1e-5)


@pytest.mark.slow
def test_two_workers_write_the_rows_of_one_process(sounds, tmp_path, capfd):
    alone, index = open_index(tmp_path / "alone"), open_index(tmp_path / "workers")
    expected = alone.add(sounds)
    capfd.readouterr()
    summary = index.add(sounds, engine=RayEngine(num_workers=2))
    assert "".join(capfd.readouterr()) == "", "Ray says nothing on the terminal"
    assert summary.num_encoded == expected.num_encoded == NUM_SOUNDS
    assert summary.failures == expected.failures
    assert summary.hours == pytest.approx(expected.hours)
    assert_same_rows(index, alone)
    assert index.tables.windows.version == 3, "made, two columns added, and one commit"

    # Changed files are replaced, and the other rows stay.
    for number in range(6):
        write(sounds / f"{number:02}.wav", 100 + number, 25 if number < 2 else 0.7)
    (sounds / "23.wav").unlink()
    for each, engine in ((alone, None), (index, RayEngine(num_workers=2))):
        summary = each.add(sounds, engine=engine)
        assert (summary.num_encoded, summary.num_dropped) == (6, 1)
    assert_same_rows(index, alone)
    index.optimize()
    assert_same_rows(index, alone)


@pytest.mark.slow
def test_a_worker_that_is_killed_loses_nothing(sounds, tmp_path):
    index = open_index(tmp_path / "workers")
    killed, ended = [], Event()
    killer = Thread(target=kill_one_worker, args=(killed, ended))
    killer.start()
    try:
        summary = index.add(sounds, engine=RayEngine(num_workers=2))
    finally:
        ended.set()
        killer.join()
    assert len(killed) == 1
    assert summary.num_encoded == NUM_SOUNDS
    alone = open_index(tmp_path / "alone")
    alone.add(sounds)
    assert_same_rows(index, alone)


@pytest.mark.slow
def test_a_file_that_cannot_be_read_can_end_the_run(sounds, tmp_path):
    index = open_index(tmp_path / "workers")
    with pytest.raises(ValueError, match="broken.wav"):
        index.add(sounds, engine=RayEngine(num_workers=2), on_error="raise")
    written = index.tables.count_sounds()
    (sounds / "broken.wav").unlink()
    summary = index.add(sounds, engine=RayEngine(num_workers=2), on_error="raise")
    assert (summary.num_encoded, summary.num_sounds, summary.failures) == (NUM_SOUNDS - written, NUM_SOUNDS, {})
    alone = open_index(tmp_path / "alone")
    alone.add(sounds)
    assert_same_rows(index, alone)


@pytest.mark.slow
def test_sounds_on_object_storage(sounds, tmp_path, monkeypatch):
    pytest.importorskip("moto.server")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    (sounds / "metadata.jsonl").unlink()  # side files are those of folders
    with s3_server() as options:
        for path in sounds.iterdir():
            put(options, f"sounds/{path.name}", path.read_bytes())
        address = f"s3://{BUCKET}/sounds"
        alone, index = (open_index(tmp_path / name, storage_options=options) for name in ("alone", "workers"))
        expected = alone.add(address)
        summary = index.add(address, engine=RayEngine(num_workers=2))
        assert summary.num_encoded == expected.num_encoded == NUM_SOUNDS
        assert summary.failures == expected.failures
        assert_same_rows(index, alone)


def kill_one_worker(killed: list[int], ended: Event) -> None:
    """Kill the first worker that encodes, and no other process."""
    while not killed and not ended.wait(0.01):
        for pid, title in descendants(os.getpid()):
            if title.startswith("ray::MapWorker(MapBatches(_Worker)).submit"):  # it has a task
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
                return


def descendants(ancestor: int) -> Iterator[tuple[int, str]]:
    """Processes that a process started, or that these did, with their titles."""
    parents, titles = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status = (folder / "stat").read_text().rpartition(")")[2].split()
            titles[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it has ended
            continue
        parents[int(folder.name)] = int(status[1])
    for pid in titles:
        parent = pid
        for _ in count():
            parent = parents.get(parent, 0)
            if parent in (0, ancestor):
                break
        if parent == ancestor:
            yield pid, titles[pid]
