"""The report of made-up runs, and the report in the repository."""

import itertools
import re

import pytest

from tests.helpers.study import made_up_run


@pytest.mark.heavy
def test_report_of_made_up_runs(tmp_path, capsys):
    from consistency_study.grid import CELLS
    from consistency_study.report import report
    from consistency_study.results import edited_results
    from consistency_study.runs import read_runs

    file, tuning = tmp_path / "consistency.parquet", tmp_path / "tuning.parquet"
    errors = {"cacl": (0.5, 0.75)}
    with edited_results(file) as rows:
        for name, seed in itertools.product(("mlclap", "cacl", "cacl-by-batch"), range(2)):
            rows.append(made_up_run(name, seed, weight_error=errors.get(name, (None, None))[seed]))
    with edited_results(tuning) as rows:
        for seed, recall in enumerate((0.25, 0.5)):
            metrics = {"mean_text_to_audio_R@1": recall, "mrv": 8.0 * recall}
            rows.append(made_up_run("kcl-0.001", seed, metrics=metrics, doubled_ranks=None))
    report(file, tuning)
    text = (tmp_path / "consistency.md").read_text(encoding="utf-8")
    assert text.strip() == capsys.readouterr().out.strip()
    runs = read_runs(file)
    assert runs["cacl"].seeds == [0, 1]
    assert runs["cacl"].variance.mean() == pytest.approx(runs["cacl"].ranks.var(axis=1).mean())
    recall = 100 * (runs["cacl"].ranks == 1).mean()
    assert f"| CACL | 2 | 600 | 1200 | {recall:.1f} [" in text
    assert "| 50.0 | 25.0 |" in text
    assert "| 0.62 | 1.5 | 700 |" in text
    assert "CACL and ML-CLAP (equal steps)" in text
    assert f"| {CELLS['cacl-by-batch'].title} - CACL | 0.0 [0.0, 0.0] | 1.00 |" in text  # the same made-up ranks
    assert "| KCL |  |  | **37.5 / 3.0** |  |" in text
    for name in ("consistency.png", "consistency_ranks.png", "consistency_beyond.png"):
        assert (tmp_path / name).stat().st_size > 20_000


def test_report_needs_runs_of_ml_clap(tmp_path):
    from consistency_study.report import report

    with pytest.raises(SystemExit, match="There are no runs of ML-CLAP"):
        report(tmp_path / "consistency.parquet", tmp_path / "tuning.parquet")


def test_the_documentation_gives_the_figures_of_the_report(repository_root):
    """Every mean with its interval in the documentation is in the row of the same name of the report."""
    pages = [repository_root / "docs" / "results" / name for name in ("over_seeds.md", "beyond_the_paper.md")]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    report = (repository_root / "benchmarks" / "results" / "consistency.md").read_text(encoding="utf-8")
    figures = re.compile(r"-?[\d.]+ \[-?[\d.]+, -?[\d.]+\]")
    in_report = {(line.split(" | ")[0], figure) for line in report.splitlines() for figure in figures.findall(line)}
    in_pages = {(line.split(" | ")[0], figure) for line in text.splitlines() for figure in figures.findall(line)}
    assert len(in_pages) > 15
    assert in_pages - in_report == set()
