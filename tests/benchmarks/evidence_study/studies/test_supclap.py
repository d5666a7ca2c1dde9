"""The runs of the study on SupCLAP, and its report of made-up runs."""

import pytest

from tests.helpers.study import made_up_run


def test_the_chosen_readings_were_compared():
    from evidence_study.studies.supclap import CHOSEN, TUNED, WITH_SVR

    assert set(CHOSEN.items()) <= set(TUNED)
    assert [cell.loss for cell in WITH_SVR if cell.name == "svr-cacl-dynamic"] == [f"cacl-dynamic-{CHOSEN['dynamic']}"]
    assert {cell.num_seeds for cell in WITH_SVR} == {3}


def test_report_of_made_up_runs(tmp_path):
    from consistency_study.results import edited_results
    from evidence_study.studies.supclap import STUDY, TUNING

    results, tuning = tmp_path / "supclap.parquet", tmp_path / "supclap_tuning.parquet"
    with pytest.raises(SystemExit, match="There are no runs"):
        STUDY.report(results, tuning, tmp_path)
    learnt = made_up_run("", 0)["metrics"] | {"radius": 0.375, "pair_distance": 1.125}
    with edited_results(results) as rows:
        for seed in range(2):
            rows.append(made_up_run("heads-kcl", seed))
            rows.append(made_up_run("svr-kcl-static", seed, metrics=learnt))
    with edited_results(tuning) as rows:
        rows.append(made_up_run("tuned-heads", 0))
        rows.append(made_up_run("tuned-static-renormalised", 0, metrics=learnt))
    text = STUDY.report(results, tuning, tmp_path)
    assert (tmp_path / "supclap.md").read_text(encoding="utf-8") == text
    assert "4 of 27 planned runs are done" in text
    assert "svr-kcl-static (1 of its seeds), svr-kcl-dynamic (3 of its seeds)" in text
    assert "| 0.38 | 1.12 | 90 |" in text
    assert "| KCL and SVR, static R - KCL | 2 | 0.0 [0.0, 0.0] | 1.00 | 0.0 [0.0, 0.0] | 1.00 |" in text  # same ranks
    assert TUNING[0].title in text
    assert "| 33.3 | 3.1 | 0.38 | 1.12 |" in text
