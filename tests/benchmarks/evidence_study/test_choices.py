"""The rules by which tuning runs choose settings, and whether the studies' settings follow them."""

from pathlib import Path

import pytest


def test_the_rate_of_the_highest_recall_is_best():
    from evidence_study.choices import best_rate

    assert best_rate({4e-3: 0.1, 1e-3: 0.3, 2e-3: 0.3}) == 1e-3


@pytest.mark.parametrize(
    ("recalls", "expected"),
    [
        ({300: 0.10, 600: 0.20, 1200: 0.205, 2400: 0.30}, (600, True)),  # the first plateau counts
        ({300: 0.10, 600: 0.20, 1200: 0.30}, (1200, False)),  # still rises
        ({300: 0.10}, (300, False)),  # no double was run
        ({300: 0.30, 600: 0.25}, (300, True)),  # recall falls
        ({300: 0.30, 1200: 0.31}, (1200, False)),  # neither is the double of the other
    ],
)
def test_steps_are_enough_where_their_double_brings_too_little(recalls, expected):
    from evidence_study.choices import enough_steps

    assert enough_steps(recalls) == expected


def test_the_settings_of_the_paper_study_are_those_that_its_tuning_runs_chose(repository_root: Path):
    from consistency_study.results import read_results
    from evidence_study.choices import best_rate, enough_steps
    from evidence_study.studies import paper

    results = read_results(repository_root / "benchmarks" / "results" / "evidence" / "paper_tuning.parquet")
    recalls = {run["cell"]: run["metrics"]["mean_text_to_audio_R@1"] for run in results}
    by_rate: dict[str, dict[float, float]] = {}
    by_steps: dict[str, dict[int, float]] = {}
    for cell in paper.TUNING:
        name, rate, steps = (cell.options[key] for key in ("objective", "learning_rate", "max_steps"))
        if cell.text == "use" and cell.name in recalls:
            if steps == paper.RATE_STEPS:
                by_rate.setdefault(name, {})[rate] = recalls[cell.name]
            if rate == paper.CHOSEN_RATES[name]:
                by_steps.setdefault(name, {})[steps] = recalls[cell.name]
    assert {name: best_rate(found) for name, found in by_rate.items()} == paper.CHOSEN_RATES
    assert {name: enough_steps(found)[0] for name, found in by_steps.items()} == paper.CHOSEN_STEPS
