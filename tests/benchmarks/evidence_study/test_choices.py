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
    from evidence_study.choices import best_rate, enough_steps
    from evidence_study.reports.paper import measured_rates, measured_steps, read_measured, recalls_of
    from evidence_study.studies import paper

    file = repository_root / "benchmarks" / "results" / "evidence" / "paper_tuning.parquet"
    rates = measured_rates(paper.STUDY, read_measured(file))
    steps = measured_steps(paper.STUDY, file)
    assert {name: best_rate(recalls_of(found)) for name, found in rates.items()} == paper.CHOSEN_RATES
    assert {name: enough_steps(recalls_of(found))[0] for name, found in steps.items()} == paper.CHOSEN_STEPS
