"""The reports of the studies `paper` and `cost` on made-up runs."""

import numpy as np
import pytest

from tests.helpers.study import made_up_run


@pytest.fixture
def results(tmp_path):
    from consistency_study.results import add_run
    from evidence_study.studies import cost, paper

    file = tmp_path / "evidence" / "paper.parquet"
    for cell in paper.EQUAL.values():
        for seed in range(2):
            add_run(file, made_up_run(cell.name, seed))
    other = file.with_name("cost.parquet")
    for cell in (cost.english("use", 600), cost.taught("use", "akcl", 600, 600)):
        add_run(other, made_up_run(cell.name, 0))
    return file


def test_the_report_of_the_paper_study_has_its_claims_and_names_what_is_missing(results):
    from evidence_study.studies import paper

    text = paper.STUDY.report(results, results.with_name("none.parquet"), results.parent)
    assert results.with_suffix(".md").read_text(encoding="utf-8") == text
    assert results.with_suffix(".png").exists()
    lines = text.splitlines()
    assert sum(line.startswith("| KCL - CACL |") for line in lines) == 3
    assert "8 of " in text and "(3 of its seeds)" in text
    assert "## Trained encoder" not in text and "## Settings" not in text


def test_the_rank_variance_without_the_unknown_language(results):
    from consistency_study.runs import read_runs
    from evidence_study.reports.paper import known_variance
    from evidence_study.studies import paper

    cell = paper.EQUAL["kcl"]
    found = read_runs(results, {cell.name: cell})[cell.name]
    expected = np.delete(found.ranks, 5, axis=1).var(axis=1).reshape(2, 190, 5).mean(axis=-1)
    np.testing.assert_allclose(known_variance(found), expected)
    np.testing.assert_allclose(found.deviations.mean(axis=1), found.variance)


def test_the_report_of_the_cost_study_compares_taught_runs_with_others(results):
    from evidence_study.studies import cost

    file = results.with_name("cost.parquet")
    text = cost.STUDY.report(file, file, file.parent)
    assert file.with_suffix(".png").exists()
    assert "## Frozen pretrained text encoder" in text and "## Text tower from scratch" not in text
    assert "| English, then taught: AKCL (600 + 600) | 50 % |" in text
    assert any(line.startswith("| captions <= ") for line in text.splitlines())
