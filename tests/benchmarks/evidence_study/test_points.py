"""The front of figures over cost, and what a taught run costs."""

import numpy as np
import pytest

from tests.helpers.study import made_up_run


def test_a_front_has_the_points_that_no_other_beats():
    from evidence_study.reports.points import front

    costs, values = [3, 1, 2, 2, 4, 5], [5, 2, 1, 4, 5, 7]
    assert front(costs, values) == [1, 3, 0, 5]


def test_a_front_of_random_points_agrees_with_the_definition():
    from evidence_study.reports.points import front

    rng = np.random.default_rng(0)
    costs, values = rng.integers(8, size=40), rng.integers(8, size=40)
    unbeaten = {
        (cost, value)
        for cost, value in zip(costs, values, strict=True)
        if not any(c <= cost and v >= value and (c, v) != (cost, value) for c, v in zip(costs, values, strict=True))
    }
    assert {(costs[place], values[place]) for place in front(costs, values)} == unbeaten


def test_a_taught_run_costs_what_its_teacher_and_the_embeddings_cost_too(tmp_path):
    from consistency_study.results import add_run
    from evidence_study.reports.points import TAUGHT, read_points
    from evidence_study.studies import cost

    results = tmp_path / "evidence" / "cost.parquet"
    teacher, taught = cost.english("scratch", 300), cost.taught("scratch", "akcl", 300, 50)
    for seed, seconds in ((0, 10.0), (1, 14.0)):
        add_run(results, made_up_run(teacher.name, seed, cpu_seconds=seconds))
    for seed in range(3):  # the teacher of seed 2 is not known
        add_run(results, made_up_run(taught.name, seed, cpu_seconds=5.0 + seed, cpu_seconds_of_archive=2.0))
    points = {point.cell.name: point for point in read_points([teacher, taught], {}, results)}
    assert points[teacher.name].seconds == pytest.approx(12.0)
    point = points[taught.name]
    assert (point.kind, point.runs.seeds) == (TAUGHT, [0, 1])
    assert point.teacher_seconds == pytest.approx(12.0)
    assert point.seconds == pytest.approx(5.5 + 2 + 12)
    assert point.captions == 300 * 32 + 50 * 64 * 8
    assert point.label == "English, then taught: AKCL (300 + 50)"


def test_runs_of_the_grid_are_points(tmp_path):
    from consistency_study.results import add_run
    from evidence_study.reports.points import DRAWN, JOINT, read_points
    from evidence_study.studies import cost

    for seed in range(5):
        add_run(tmp_path / "consistency.parquet", made_up_run("kcl", seed))
        add_run(tmp_path / "consistency.parquet", made_up_run("kcl-2", seed % 3))
    results = tmp_path / "evidence" / "cost.parquet"
    points = {point.cell.name: point for point in read_points(cost.CELLS["scratch"], cost.OF_GRID, results)}
    assert {name: (point.kind, len(point.runs.seeds)) for name, point in points.items()} == {
        "scratch-kcl-600": (JOINT, 5),
        "scratch-kcl-600-drawn2": (DRAWN, 3),
    }
    assert points["scratch-kcl-600"].captions == 600 * 32 * 8
