"""Two processes index a folder together, as a launcher starts them: their rows are those of one process."""

import json
import os
import signal
import socket
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from tests.helpers.forks import call, check_call
from tests.helpers.tiny import tiny_model, tiny_processor


pytestmark = pytest.mark.heavy
pytest.importorskip("lancedb")
NUM_SOUNDS = 9


@pytest.fixture
def sounds(tmp_path) -> Path:
    """Short clips, two recordings of several windows, a broken file, and a side file."""
    folder = tmp_path / "sounds"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(NUM_SOUNDS):
        seconds = 25 if number in (2, 5) else 0.5 + number / 10
        write(folder / f"{number}.wav", rng, seconds)
    (folder / "broken.wav").write_bytes(b"no sound")
    rows = [{"file_name": f"{number}.wav", "licence": "cc0", "rank": number} for number in range(NUM_SOUNDS)]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def write(path: Path, rng: np.random.Generator, seconds: float) -> None:
    soundfile.write(path, (0.1 * rng.normal(size=int(16000 * seconds))).astype(np.float32), 16000)


def index_alone(folder: Path, name: str):
    """The rows that one process writes, and what it tells."""
    from modeling_atri.search import SoundIndex

    index = SoundIndex.open(folder / name, tiny_model(), tiny_processor())
    summary = index.add(folder / "sounds")
    return index.tables.rows().sort_by("id"), summary


def assert_same_rows(first, second) -> None:
    assert first.drop(["vector"]).equals(second.drop(["vector"]))
    one, two = (np.stack(rows["vector"].to_pylist()) for rows in (first, second))
    np.testing.assert_allclose(one, two, atol=1e-5)


def index_together(rank: int, port: int, folder: Path, killed: bool) -> None:
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in ranks.items()} | {"MASTER_ADDR": "127.0.0.1"}
    from modeling_atri.processes import launched_processes, main_first, num_processes, process_rank
    from modeling_atri.search import SoundIndex
    from modeling_atri.search.index import indexing

    indexing.FILES_AT_ONCE = 1
    with launched_processes():
        assert (num_processes(), process_rank()) == (2, rank), "a launcher can start one process without a word"
        index = main_first(lambda: SoundIndex.open(folder / "together", tiny_model(), tiny_processor()))
        if killed and rank == 1:
            kill_after_commits(index.tables, 2)
        summary = index.add(folder / "sounds")
    found = {"encoded": summary.num_encoded, "sounds": summary.num_sounds, "failed": list(summary.failures)}
    (folder / f"{rank}.json").write_text(json.dumps(found))


def kill_after_commits(tables, number: int) -> None:
    replace, written = tables.replace, []

    def killing(sounds) -> None:
        replace(sounds)
        written.append(sounds)
        if len(written) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    tables.replace = killing


def start(folder: Path, killed: bool) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.start_processes(index_together, (port, folder, killed), 2, start_method="fork")


def test_two_processes_write_the_rows_of_one(tmp_path, sounds):
    check_call(start, tmp_path, False)
    expected, alone = index_alone(tmp_path, "alone")
    assert alone.num_encoded == NUM_SOUNDS and len(expected) > NUM_SOUNDS + 4
    together, summary = index_alone(tmp_path, "together")
    assert summary.num_encoded == 0
    assert_same_rows(together, expected)
    told = {"encoded": NUM_SOUNDS, "sounds": NUM_SOUNDS, "failed": ["broken.wav"]}
    assert [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)] == [told, told]


def test_a_process_that_is_killed_loses_nothing_that_was_committed(tmp_path, sounds):
    """The two processes replace files that changed."""
    index_alone(tmp_path, "together")
    rng = np.random.default_rng(1)
    for number in range(NUM_SOUNDS):
        write(sounds / f"{number}.wav", rng, 25 if number < 2 else 0.7)
    ended = call(start, tmp_path, True)
    assert ended.status != 0
    together, summary = index_alone(tmp_path, "together")
    assert 0 < summary.num_encoded <= NUM_SOUNDS - 2
    assert_same_rows(together, index_alone(tmp_path, "alone")[0])
