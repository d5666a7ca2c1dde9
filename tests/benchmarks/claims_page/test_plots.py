"""The plots of `benchmarks/claims.py`."""

import numpy as np
import pytest

from modeling_atri.languages_atri import ATRI_LANGUAGES


def test_agreement_of_two_languages():
    from claims_page.plots import agreement

    ranks = np.full((1, len(ATRI_LANGUAGES), 4), 50)
    ranks[0, 0] = [1, 10, 11, 90]  # two captions find their clip
    ranks[0, 1] = [3, 50, 2, 90]  # one of these, and another one
    shares = agreement(ranks)
    assert shares[0, 1] == shares[1, 0] == pytest.approx(1 / 3)
    assert shares[0, 0] == 1
    assert shares[0, 2] == 0


def test_every_point_but_english_alone_belongs_to_one_way():
    from claims_page.pareto import WAYS
    from evidence_study.reports.points import ENGLISH, Point
    from evidence_study.studies import cost

    points = [Point(cell, None, 0.0, 0.0) for cells in cost.CELLS.values() for cell in cells]
    for point in points:
        assert sum(way.has(point) for way in WAYS) == (point.kind != ENGLISH), point.label


def test_fronts_are_drawn_for_towers_that_have_runs(tmp_path, monkeypatch):
    from claims_page import pareto
    from claims_page.pareto import draw_fronts, recall_of
    from consistency_study.runs import Runs
    from evidence_study.reports.points import Point
    from evidence_study.studies import cost

    ranks = np.full((1, len(ATRI_LANGUAGES), 10), 9.0)
    ranks[:, 2, :3] = 1.0
    cells = [cell for cell in cost.CELLS["use"] if cell.options["max_steps"] == 150]
    points = [Point(cell, Runs(cell, [0], [], ranks), 10.0, 0.0) for cell in cells]
    assert (recall_of(points[0], 2), recall_of(points[0], 3)) == (30.0, 0.0)
    monkeypatch.setattr(pareto, "COSTS", {"captions": pareto.COSTS["captions"]})  # one plot is enough
    draw_fronts({"scratch": [], "use": points}, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["claims_pareto_use_captions.png"]
