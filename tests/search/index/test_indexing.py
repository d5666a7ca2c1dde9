"""Batches of the loop that adds sounds, and runs that are killed: no row is lost, and none is doubled."""

import importlib
import json
import os
import signal
import traceback
from pathlib import Path
from threading import Timer

import numpy as np
import pytest
import soundfile

from modeling_atri.search import SoundIndex
from modeling_atri.search.index import indexing
from modeling_atri.search.index.tables import IndexedSound, IndexTables
from tests.helpers.forks import call, check_call
from tests.helpers.tiny import tiny_model, tiny_processor


RATE = 16_000
NOT_WHOLE = 3  # exit status of a run that finds rows of a part of a file


def sized(path: str, num_windows: int = 1) -> IndexedSound:
    vectors = np.zeros((num_windows, 4), dtype=np.float32)
    return IndexedSound(path, "", 1.0, [(0.0, 1.0)] * num_windows, vectors, vectors[0])


def test_a_batch_ends_with_its_files_its_numbers_or_its_time(monkeypatch):
    def sizes(sounds) -> list[int]:
        return [len(batch) for batch in indexing.batches(sounds)]

    sounds = [sized(str(number)) for number in range(7)]
    assert sizes([]) == []
    assert sizes(sounds) == [7]
    monkeypatch.setattr(indexing, "FILES_AT_ONCE", 3)
    assert sizes(sounds) == [3, 3, 1]
    monkeypatch.setattr(indexing, "NUMBERS_AT_ONCE", 8)
    assert sizes(sounds) == [2, 2, 2, 1]
    assert sizes([sized("long", num_windows=5), *sounds[:3]]) == [1, 2, 1]
    monkeypatch.setattr(indexing, "SECONDS_AT_ONCE", 0.0)
    assert sizes(sounds) == [1] * 7


def write_sound(path: Path, seed: int) -> None:
    samples = np.random.default_rng(seed).normal(scale=0.1, size=RATE // 2 + 4000 * (seed % 4))
    soundfile.write(path, samples, RATE)


def write_folder(folder: Path, num_sounds: int = 24) -> Path:
    folder.mkdir()
    for number in range(num_sounds):
        write_sound(folder / f"{number:02d}.wav", number)
    return folder


def change_folder(folder: Path, round: int) -> None:
    """Change, add, remove and rename some of the sounds."""
    sounds = sorted(folder.iterdir())
    generator = np.random.default_rng(round)
    changed, gone, moved = generator.choice(len(sounds), 3, replace=False)
    write_sound(sounds[changed], 1000 + round)
    sounds[gone].unlink()
    sounds[moved].rename(folder / f"moved{round:02d}.wav")
    write_sound(folder / f"new{round:02d}.wav", 2000 + round)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "model"
    for part in (tiny_model(), tiny_processor()):
        part.save_pretrained(folder)
    return folder


def add(index: Path, model: Path, sounds: Path) -> None:
    """Index a folder with three files in each commit."""
    indexing.FILES_AT_ONCE = 3
    SoundIndex.open(index, model, window_s=0.4).add(sounds, num_workers=0)


def add_and_die(index: Path, model: Path, sounds: Path, commit: int, after: bool) -> None:
    """Kill the process before or after it makes a commit."""
    write, num_commits = indexing.write_batch, 0

    def write_or_die(*args) -> None:
        nonlocal num_commits
        num_commits += 1
        if num_commits == commit and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        write(*args)
        if num_commits == commit:
            os.kill(os.getpid(), signal.SIGKILL)

    indexing.write_batch = write_or_die
    add(index, model, sounds)


def add_and_die_some_time(index: Path, model: Path, sounds: Path, delay: float) -> None:
    """Kill the process some seconds after it has begun to compare the folder with the index."""
    search = indexing.search_folder

    def search_and_die_later(folder, left_out):
        timer = Timer(delay, os.kill, (os.getpid(), signal.SIGKILL))
        timer.daemon = True
        timer.start()
        return search(folder, left_out)

    indexing.search_folder = search_and_die_later
    add(index, model, sounds)


def rows_of(index: Path) -> dict[str, tuple]:
    """What each row says, and its vector; fails if an id occurs twice."""
    rows = IndexTables.open(index).rows().to_pylist()
    assert len({row["id"] for row in rows}) == len(rows)
    facts = ("kind", "start_s", "end_s", "duration_s", "size", "mtime_ns", "content")
    return {row["id"]: (tuple(row[name] for name in facts), np.float32(row["vector"])) for row in rows}


def check_equal(found: dict[str, tuple], expected: dict[str, tuple]) -> None:
    assert found.keys() == expected.keys()
    for name, (facts, vector) in expected.items():
        assert found[name][0] == facts
        np.testing.assert_allclose(found[name][1], vector, atol=1e-5)


def files_are_whole(rows: dict[str, tuple]) -> bool:
    """Whether every file with windows has its whole row, and all windows from the first to the end of the sound."""
    by_file: dict[str, dict[int, tuple]] = {}
    for name, (facts, _) in rows.items():
        path, _, number = name.rpartition("#")
        by_file.setdefault(path, {})[int(number)] = facts
    return all(
        (-1 in numbers) == (len(numbers) > 1)
        and sorted(numbers)[-1] == len([number for number in numbers if number >= 0]) - 1
        and numbers[max(numbers)][2] == numbers[max(numbers)][3]
        for numbers in by_file.values()
    )


@pytest.mark.heavy
@pytest.mark.parametrize("after", [False, True])
def test_a_run_that_is_killed_at_a_commit_goes_on(tmp_path, model, after):
    sounds = write_folder(tmp_path / "sounds", 12)
    assert call(add_and_die, tmp_path / "index", model, sounds, 3, after).status == -signal.SIGKILL
    left = rows_of(tmp_path / "index")
    assert len({name.rpartition("#")[0] for name in left}) == (9 if after else 6)
    assert files_are_whole(left)
    summary = SoundIndex.open(tmp_path / "index").add(sounds)
    assert summary.num_encoded == (3 if after else 6)
    SoundIndex.open(tmp_path / "whole", model, window_s=0.4).add(sounds)
    check_equal(rows_of(tmp_path / "index"), rows_of(tmp_path / "whole"))


def add_and_die_again_and_again(index: Path, model: Path, sounds: Path, parts: list[float], log: Path) -> None:
    """Kill one run after the other, change the folder after each, and write the statuses with which they ended.

    Each is killed at a part of the longest delay, which shrinks when a run has ended before, so that it fits any
    machine. The runs are forked from this process, which has imported what they need except LanceDB.
    """
    importlib.import_module("modeling_atri.search.windows.encoding")
    importlib.import_module("modeling_atri.search.index.nearest")
    statuses: list[int] = []
    longest = 0.8  # seconds
    for round, part in enumerate(parts):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                if IndexTables.exist(index) and not files_are_whole(rows_of(index)):
                    status = NOT_WHOLE
                else:
                    add_and_die_some_time(index, model, sounds, part * longest)
                    status = 0
            finally:
                traceback.print_exc()
                os._exit(status)
        statuses.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        if statuses[-1] == 0:
            longest *= 0.7
        change_folder(sounds, round)
    log.write_text(json.dumps(statuses))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_twenty_kills_at_any_time_lose_and_double_nothing(tmp_path, model):
    sounds = write_folder(tmp_path / "sounds")
    parts = np.random.default_rng(0).uniform(0.02, 1, size=20).tolist()
    arguments = (tmp_path / "index", model, sounds, parts, tmp_path / "statuses.json")
    said = check_call(add_and_die_again_and_again, *arguments, timeout=1100)
    statuses = json.loads((tmp_path / "statuses.json").read_text())
    assert set(statuses) <= {-signal.SIGKILL, 0}, said[-8000:]
    assert statuses.count(-signal.SIGKILL) >= 10, statuses
    SoundIndex.open(tmp_path / "index", model, window_s=0.4).add(sounds)
    SoundIndex.open(tmp_path / "whole", model, window_s=0.4).add(sounds)
    check_equal(rows_of(tmp_path / "index"), rows_of(tmp_path / "whole"))
