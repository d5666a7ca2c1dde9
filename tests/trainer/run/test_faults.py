"""Training processes that are killed, run out of disk or diverge; `make test-faults` runs them all.

What is broken, and how, is in `faults.py`.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.faults import break_at_places
from tests.helpers.forks import check_call


pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict:
    """What `faults.py` found where it broke runs at chosen places."""
    folder = tmp_path_factory.mktemp("places")
    check_call(break_at_places, folder)
    return json.loads((folder / "found.json").read_text())


def run_faults(*words: str, root: Path, before: tuple[str, ...] = ()) -> str:
    """Run `faults.py`, through the command `before`, and return what it printed."""
    command = [*before, sys.executable, "-m", "tests.helpers.faults", *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    return done.stdout


def test_a_run_killed_inside_its_saves_ends_as_if_it_never_was(found):
    inside = found["inside_a_checkpoint"]
    assert inside["status"] == inside["second status"] == -signal.SIGKILL
    assert "optimizer.pt" in inside["part"]
    assert "rng_state.pth" not in inside["part"]
    assert [name for name in inside["left"] if "checkpoint" in name] == ["checkpoint-2", "checkpoint-3"]
    assert ".unfinished" in inside["left"]
    assert "model.safetensors" not in inside["left in the end"]
    assert inside["differences"] == []
    assert "model.safetensors" in inside["at last"]
    assert ".unfinished" not in inside["at last"]


@pytest.mark.parametrize("file", ["weights", "optimizer"])
def test_a_full_disk_leaves_the_last_checkpoint(found, file):
    full = found["full_disk"][file]
    assert full["status"] == 1
    assert [name for name in full["left"] if not name.endswith(".json")] == ["checkpoint-5"]
    said = full["said"].strip().splitlines()[-1]
    assert "checkpoint-10 could not be written (" in said
    assert " MB are free; " in said
    assert "run/checkpoint-5 is whole: make room" in said


def test_two_processes_end_together_where_one_cannot_write(found):
    full = found["full_processes"]
    assert full["statuses"] == [1, 1]
    assert [name for name in full["left"] if "checkpoint" in name or "unfinished" in name] == ["checkpoint-3"]
    for said in full["said"]:
        assert "checkpoint-6 could not be written (" in said
        assert "run/checkpoint-3 is whole: make room" in said
    assert "another process failed, and says why" in full["said"][1]


def test_two_processes_end_together_where_there_is_nothing_to_resume(found):
    nothing = found["processes_without_a_checkpoint"]
    assert nothing["statuses"] == [1, 1]
    for said in nothing["said"]:
        assert "ValueError: There is no checkpoint in " in said


@pytest.mark.parametrize(
    ("part", "files"),
    [
        ("two_processes", ["rng_state_{}.pth"]),
        ("two_processes_on_a_stream", ["rng_state_{}.pth", "stream_place_{}.json"]),
    ],
)
def test_two_processes_are_resumed(found, part, files):
    two = found[part]
    assert two["status"] == -signal.SIGKILL
    assert [name for name in two["left"] if "checkpoint" in name] == ["checkpoint-1", "checkpoint-2"]
    assert two["own"] == [name.format(rank) for name in files for rank in (0, 1)]
    assert two["differences"] == []


def test_two_processes_end_together_at_a_nan_loss(found):
    two = found["diverging_processes"]
    assert two["statuses"] == [1, 1]
    for said in two["said"]:
        assert "TrainingDivergedError: The loss of step 2 (epoch 0.67) is nan." in said


@pytest.mark.slow
def test_a_file_system_without_room(tmp_path, repository_root):
    """A small one in memory, which Linux lets everybody mount in a namespace of their own."""
    mounted = 'mount -t tmpfs -o size=2m none "$0" && exec "$@"'
    before = ("unshare", "--map-root-user", "--mount", "sh", "-c", mounted, str(tmp_path))
    try:
        subprocess.run([*before, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no file system can be mounted here: {error}")
    found = json.loads(run_faults("full", str(tmp_path), root=repository_root, before=before).splitlines()[-1])
    assert [name for name in found["left"] if not name.endswith(".json")] == sorted(found["whole"])
    assert len(found["whole"]) >= 1
    assert "could not be written (0." in found["said"]
    assert f"{found['whole'][-1]} is whole" in found["said"]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_twenty_kills_at_random_points(tmp_path, repository_root):
    printed = run_faults("kill", str(tmp_path), "20", "0", root=repository_root)
    print(printed)
    result = json.loads(printed.splitlines()[-1])
    assert result["kills"] >= 20
    assert result["all equal"]
