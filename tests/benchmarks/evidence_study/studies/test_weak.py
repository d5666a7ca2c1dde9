"""The runs of the study on weak languages, and its report of made-up runs."""

import numpy as np
import pytest

from tests.helpers.study import made_up_run


def test_cells_have_the_changes_that_their_names_say():
    from evidence_study.studies.weak import CLEAN, STUDY, VARIED, WEIGHED

    cell = VARIED["teach", "noise30-ca"]
    assert (cell.name, cell.rows, cell.begins_with) == (
        "weak-teach-noise30-ca",
        "noise30-ca",
        CLEAN["teach"].begins_with,
    )
    assert cell.options["per_device_train_batch_size"] == 64
    assert VARIED["akcl", "few-ja"].options == CLEAN["akcl"].options
    assert [(one.rows, one.loss) for one in WEIGHED.values()] == [
        ("noise50-ca", "kcl-weight0.5-cat_Latn"),
        ("noise50-ca", "kcl-weight0-cat_Latn"),
    ]
    assert len(STUDY.cells) == 1 + 3 * 6 + 2


@pytest.mark.heavy
def test_report_of_made_up_runs(tmp_path):
    from consistency_study.results import edited_results
    from evidence_study.studies.weak import STUDY

    results = tmp_path / "weak.parquet"
    with pytest.raises(SystemExit, match="There are no runs"):
        STUDY.report(results, tmp_path / "none", tmp_path)
    right = np.full((8, 950), 2, dtype=np.uint16)
    wrong = right.copy()
    wrong[5] = 6  # Catalan: rank 3
    with edited_results(tmp_path / "supclap.parquet") as rows:
        rows += [made_up_run("heads-kcl", seed, doubled_ranks=right) for seed in range(2)]
    with edited_results(results) as rows:
        rows += [made_up_run("weak-kcl-noise50-ca", seed, doubled_ranks=wrong) for seed in range(2)]
        rows.append(made_up_run("weak-kcl-noise50-ca-weight0.5", 0, doubled_ranks=right))
    text = STUDY.report(results, tmp_path / "none", tmp_path)
    variance = np.var([3, *[1] * 7])
    assert "## Catalan" in text and "## Japanese" not in text
    assert "| KCL: clean | 2 | 100.0 [100.0, 100.0] | 100.0 [100.0, 100.0] | 0.0 [0.0, 0.0] |" in text
    assert "| KCL: 50% wrong | 2 | -100.0 [-100.0, -100.0] | < 0.01 | 0.0 [0.0, 0.0] | 1.00 |" in text
    assert f"| {variance:.1f} [{variance:.1f}, {variance:.1f}] | < 0.01 | 0.0 [0.0, 0.0] | 1.00 |" in text
    assert "| KCL, half the weight: 50% wrong | 1 | 100.0 [100.0, 100.0] | < 0.01 |" in text
    assert (tmp_path / "weak.png").stat().st_size > 10_000
