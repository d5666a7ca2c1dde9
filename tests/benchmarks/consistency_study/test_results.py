"""The results file of a study."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.study import made_up_run


def without_ranks(run: dict) -> dict:
    return {name: value for name, value in run.items() if name != "doubled_ranks"}


def test_runs_come_back_as_they_were(tmp_path):
    from consistency_study.results import add_run, read_results

    file = tmp_path / "results" / "study.parquet"
    assert read_results(file) == []
    runs = [
        made_up_run("kcl", 1, weight_error=0.25),
        made_up_run("akcl-2", 0),
        made_up_run("kcl", 0, doubled_ranks=None),
    ]
    for run in runs:
        add_run(file, run)
    found = read_results(file)
    assert [(run["cell"], run["seed"]) for run in found] == [("akcl-2", 0), ("kcl", 0), ("kcl", 1)]
    for run, expected in zip(found, [runs[1], runs[2], runs[0]], strict=True):
        assert without_ranks(run) == without_ranks(expected)
        assert json.dumps(run["metrics"]) == json.dumps(expected["metrics"])  # in the same order
        if expected["doubled_ranks"] is None:
            assert run["doubled_ranks"] is None
        else:
            assert run["doubled_ranks"].dtype == np.uint16
            assert np.array_equal(run["doubled_ranks"], expected["doubled_ranks"])
    add_run(file, made_up_run("kcl", 1, steps=7))
    assert [run["steps"] for run in read_results(file)] == [600, 600, 7]
    assert [path.name for path in file.parent.iterdir()] == ["study.parquet"]


def test_a_failed_change_leaves_the_file_as_it_was(tmp_path):
    from consistency_study.results import add_run, edited_results

    file = tmp_path / "study.parquet"
    add_run(file, made_up_run("kcl", 0))
    before = file.read_bytes()
    with pytest.raises(KeyError, match="metrics"):  # a run that lacks columns is not written
        add_run(file, {"cell": "kcl", "seed": 1, "options": {}, "environment": {}})
    editing = edited_results(file)
    editing.__enter__().clear()
    assert editing.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None) is False
    assert file.read_bytes() == before


@pytest.mark.heavy
def test_processes_that_add_runs_do_not_lose_those_of_others(tmp_path, benchmarks_folder: Path):
    from consistency_study.results import read_results

    file, runs_file = tmp_path / "study.parquet", tmp_path / "run.json"
    runs_file.write_text(json.dumps(made_up_run("kcl", 0, doubled_ranks=None)))
    script = f"""
import json, sys
sys.path.insert(0, {str(benchmarks_folder)!r})
from pathlib import Path
from consistency_study.results import add_run
run = json.loads(Path({str(runs_file)!r}).read_text())
for seed in range(10):
    add_run(Path({str(file)!r}), run | {{"cell": sys.argv[1], "seed": seed}})
"""
    cells = ("akcl", "kcl", "cacl")
    processes = [subprocess.Popen([sys.executable, "-c", script, cell]) for cell in cells]
    assert [process.wait() for process in processes] == [0, 0, 0]
    found = [(run["cell"], run["seed"]) for run in read_results(file)]
    assert found == [(cell, seed) for cell in sorted(cells) for seed in range(10)]


def test_the_results_in_the_repository_are_whole(benchmarks_folder: Path):
    """Every run has its figures, and the ranks give the recall that the run reports."""
    from consistency_study.grid import CELLS, TUNING_CELLS
    from consistency_study.results import read_results

    runs = read_results(benchmarks_folder / "results" / "consistency.parquet")
    assert len(runs) == sum(cell.num_seeds for cell in CELLS.values()) == 136
    for run in runs:
        cell = CELLS[run["cell"]]
        assert (run["options"], run["steps"]) == (cell.options, cell.steps)
        assert run["doubled_ranks"].shape == (8, 950)
        recall = [run["metrics"][f"mean_text_to_audio_R@{k}"] for k in (1, 10)]
        assert [(run["doubled_ranks"] <= 2 * k).mean() for k in (1, 10)] == pytest.approx(recall)
        assert (run["doubled_ranks"] / 2).var(axis=0).mean() == pytest.approx(run["metrics"]["mrv"])
    assert sum(run["weight_error"] is not None for run in runs) == 41
    tuning = read_results(benchmarks_folder / "results" / "consistency_tuning.parquet")
    assert len(tuning) == sum(cell.num_seeds for cell in TUNING_CELLS.values()) == 28
    assert all(run["options"] == TUNING_CELLS[run["cell"]].options for run in tuning)
