"""The tables of made-up runs, and those in the repository."""

import itertools
from pathlib import Path
from typing import Any

import pytest

from modeling_atri.languages_atri import ATRI_LANGUAGES


def made_up(cell: str, seed: int, recall: float, mrv: float, seconds: float, **more: Any) -> dict[str, Any]:
    metrics = {f"{code}_text_to_audio_R@1": recall for code in ATRI_LANGUAGES}
    metrics |= {"mean_text_to_audio_R@1": recall, "mean_text_to_audio_R@10": 0.75, "mrv": mrv}
    return {
        "cell": cell,
        "seed": seed,
        "metrics": metrics,
        "cpu_seconds": seconds,
        "cpu_seconds_of_text_states": None,
        "keeps_audio_side": True if "teach" in cell else None,
        **more,
    }


@pytest.fixture
def runs() -> list[dict[str, Any]]:
    made = []
    for seed in range(2):
        made.append(made_up("use-english", seed, 0.25, 700.0, 90.0, cpu_seconds_of_text_states=20.0 * (1 - seed)))
        made.append(made_up("use-joint-mlclap", seed, 0.2, 30.0, 100.0 + 20.0 * seed))
        made.append(made_up("use-teach-akcl", seed, 0.25 - 0.01 * seed, 6.0 + 6.0 * seed, 30.0))
        made.append(made_up("scratch-english", seed, 0.25, 700.0, 90.0))
        made.append(made_up("scratch-teach-akcl", seed, 0.125, 6.0, 300.0))
    return made


def test_the_bars_are_about_means_over_seeds(runs):
    from teaching_study.report import report

    grid = [made_up("mlclap", seed, 0.0625, 15.0, 80.0) for seed in range(5)]
    text = report(runs, grid)
    frozen, scratch = text.split("## ")[2:0:-1]
    assert "| taught: AKCL | 24.5 [25.0, 24.0] | 24.5 [25.0, 24.0] | 75.0 [75.0, 75.0] | 9.0 [6.0, 12.0] |" in frozen
    # 0.245 / 0.25; 9 / 30; 30 / 110, which is more than a fifth
    assert "| 0.98 [1.00, 0.96]: reached | 0.30 [0.20, 0.40]: reached | 0.27 [0.30, 0.25]: missed |" in frozen
    assert "computed once for all runs. No row of the tables includes that time" in frozen
    assert "| 0.50 [0.50, 0.50]: missed | 0.40 [0.40, 0.40]: missed |" in scratch  # no bar on time
    assert "| ML-CLAP, all languages at once | 6.2 [6.2, 6.2, 6.2] |" in scratch  # two more seeds are left out


def test_a_changed_audio_side_is_seen(runs):
    from teaching_study.report import report

    assert "of its teacher: yes." in report(runs, [])
    runs[2]["keeps_audio_side"] = False
    assert "of its teacher: **no**." in report(runs, [])


def test_a_result_replaces_an_earlier_one(tmp_path):
    from teaching_study.results import add_result, read_results

    file = tmp_path / "teaching.jsonl"
    assert read_results(file) == []
    for cell, seed in itertools.product(("use-teach-kcl", "scratch-english"), (1, 0)):
        add_result(file, made_up(cell, seed, 0.5, 1.0, 1.0))
    add_result(file, made_up("scratch-english", 1, 0.25, 1.0, 1.0))
    found = [(one["cell"], one["seed"], one["metrics"]["mean_text_to_audio_R@1"]) for one in read_results(file)]
    assert found == [
        *(("scratch-english", 0, 0.5), ("scratch-english", 1, 0.25)),
        *(("use-teach-kcl", 0, 0.5), ("use-teach-kcl", 1, 0.5)),
    ]


def test_the_tables_in_the_repository_are_those_of_the_results(benchmarks_folder: Path):
    from consistency_study.results import read_results as read_grid
    from teaching_study.report import report
    from teaching_study.results import read_results

    folder = benchmarks_folder / "results"
    results = read_results(folder / "teaching.jsonl")
    assert {one["keeps_audio_side"] for one in results if "teach" in one["cell"]} <= {True}
    assert report(results, read_grid(folder / "consistency.parquet")) == (folder / "teaching.md").read_text("utf-8")
