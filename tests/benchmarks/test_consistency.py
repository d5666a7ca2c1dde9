"""The grid, losses and statistics of `benchmarks/consistency.py`; the runs themselves take hours."""

import importlib
import itertools
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from modeling_atri.loss_atri import info_nce_loss
from modeling_atri.trainer.losses import akcl_loss, kcl_loss


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch, repository_root: Path):
    monkeypatch.syspath_prepend(repository_root / "benchmarks")
    return importlib.import_module


@pytest.fixture
def losses(load) -> ModuleType:
    return load("consistency_losses")


@pytest.fixture
def batch() -> dict:
    torch.manual_seed(0)
    views = F.normalize(torch.randn(9, 5, 7), dim=-1)
    return {"audio": views[0], "text": views[1:], "scale": torch.tensor(9.0), "ids": torch.tensor([0, 1, 0, 2, 3])}


# The grid


def test_the_text_budget_is_one(load):
    grid = load("consistency_grid")
    budget = [cell for cell in grid.CELLS.values() if grid.BUDGET_PART in cell.parts]
    assert {cell.steps * cell.captions_a_step for cell in budget} == {grid.CAPTIONS_A_CLIP}
    assert len(budget) >= 8
    steps = [cell for cell in grid.CELLS.values() if grid.STEPS_PART in cell.parts]
    assert {cell.steps for cell in steps} == {grid.STEPS}
    main = {name for name, cell in grid.CELLS.items() if cell.num_seeds == grid.MANY_SEEDS}
    assert {"mlclap", "cacl", "kcl", "akcl", "mlclap-budget", "kcl-budget", "akcl-budget"} <= main


def test_arguments_and_losses_of_the_grid_exist(load, losses, tmp_path):
    from modeling_atri.languages_atri import ATRI_LANGUAGES
    from modeling_atri.trainer import AtriTrainingArguments

    grid = load("consistency_grid")
    for cell in grid.CELLS.values():
        options = {"objective": cell.objective, "max_steps": cell.steps, "use_cpu": True} | cell.options
        assert AtriTrainingArguments(str(tmp_path), languages=list(ATRI_LANGUAGES), **options).max_steps == cell.steps
        assert cell.loss is None or cell.loss in losses.LOSSES
        assert cell.begins_with is None or cell.num_seeds <= grid.CELLS[cell.begins_with].num_seeds


def test_the_twin_draws_from_all_languages(load):
    consistency, grid = load("consistency"), load("consistency_grid")
    twins = {name: consistency.twin_of(cell).name for name, cell in grid.CELLS.items()}
    assert twins["mlclap"] == twins["akcl-w0.25"] == twins["kcl-rankings"] == twins["kcl"] == "kcl"
    assert twins["akcl-continued"] == "kcl-continued"
    assert twins["cacl-frozen-text"] == "kcl-frozen-text"
    assert twins["mlclap-bert"] == "kcl-bert"
    assert twins["akcl-budget"] == "kcl-budget"
    assert twins["mlclap-budget"] == "mlclap-budget"  # no KCL goes as many steps


# Losses


def test_rotating_anchor(losses, batch):
    for step in (0, 3, 11):
        expected = akcl_loss(*batch.values(), anchor=step % 8)
        assert torch.equal(losses.rotating_anchor(**batch, step=step), expected)


def test_all_pairs_are_the_mean_over_anchors(losses, batch):
    anchored = torch.stack([akcl_loss(*batch.values(), anchor=anchor, weight=0.0) for anchor in range(8)]).mean()
    expected = (kcl_loss(*batch.values()) + anchored) / 2
    torch.testing.assert_close(losses.all_pairs(**batch, step=0), expected)


def test_ranking_divergence_by_hand(losses, batch):
    found = losses.ranking_divergence(batch["audio"], batch["text"], batch["scale"])
    expected = 0.0
    for caption in range(5):
        p = [(9.0 * batch["audio"] @ language[caption]).softmax(0) for language in batch["text"]]
        mean = sum(p) / 8
        expected += sum((one * (one / mean).log()).sum() for one in p) / 8 / 5
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    same = batch["text"][:1].expand(8, -1, -1)
    assert losses.ranking_divergence(batch["audio"], same, batch["scale"]).item() == pytest.approx(0, abs=1e-6)


def test_weighted_languages(losses, batch):
    terms = [info_nce_loss(batch["audio"], text, batch["scale"], batch["ids"]) for text in batch["text"]]
    expected = (sum(terms[:6]) + 2 * terms[6] + 2 * terms[7]) / 10  # Japanese and Chinese are the last two
    torch.testing.assert_close(losses.weighted_languages(**batch, step=0), expected)


# Statistics


def test_holm_by_hand(load):
    holm = load("consistency_statistics").holm
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]


def test_bootstrap_intervals(load):
    statistics = load("consistency_statistics")
    rng = np.random.default_rng(0)
    bootstrap = statistics.Bootstrap(40, num_draws=4000)
    same = bootstrap.estimate(np.full((5, 40), 0.25))
    assert (same.mean, same.low, same.high) == pytest.approx((0.25, 0.25, 0.25))
    assert same.p_value < 0.001
    # One seed: clips alone vary, and the interval is that of a mean.
    values = rng.normal(1.0, 1.0, size=(1, 40))
    found = bootstrap.estimate(values)
    half = 1.96 * values.std() / 40**0.5
    assert found.high - found.low == pytest.approx(2 * half, rel=0.1)
    # Seeds vary too, and then the interval is wider.
    shifted = values + np.linspace(-1, 1, 5)[:, None]
    assert bootstrap.estimate(shifted).high - bootstrap.estimate(shifted).low > 1.5 * (found.high - found.low)
    # A difference that is paired is found where the single figures overlap.
    first, second = shifted + 0.1, shifted
    assert bootstrap.estimate(first).low < bootstrap.estimate(second).high
    assert bootstrap.estimate(first - second).p_value < 0.001
    assert bootstrap.estimate(rng.normal(size=(5, 40))).p_value > 0.05


def test_report_of_made_up_runs(load, tmp_path, capsys):
    grid, report = load("consistency_grid"), load("consistency_report")
    rng = np.random.default_rng(0)
    folder = tmp_path / "consistency"
    folder.mkdir()
    figures = {"mean_text_to_audio_R@10": 0.5, "mean_audio_to_text_R@1": 0.25, "mean_rank_std": 1.0}
    figures |= {"embedding_gap": 0.125, "embedding_distance": 0.5}
    for (name, top), seed in itertools.product({"mlclap": 8, "cacl": 4, "kcl-2": 4}.items(), range(2)):
        ranks = rng.integers(1, top, size=(8, 950), endpoint=True)
        np.savez_compressed(folder / f"{name}-{seed}.npz", doubled_ranks=(2 * ranks).astype(np.uint16))
        cell = {
            "num_parameters": 1234,
            "cpu_seconds": 90.0,
            "peak_memory_mb": 700,
        }
        cell["environment"] = {"versions": {"torch": "2.13", "transformers": "5.23"}}
        (folder / f"{name}-{seed}.json").write_text(json.dumps(cell | {"metrics": figures}))
    (folder / "weight_errors.json").write_text(json.dumps({"cacl-0": 0.5, "cacl-1": 0.75}))
    report.report(folder)
    text = (tmp_path / "consistency.md").read_text(encoding="utf-8")
    assert text.strip() == capsys.readouterr().out.strip()
    runs = report.read_runs(folder)
    assert runs["cacl"].seeds == [0, 1]
    assert runs["cacl"].variance.mean() == pytest.approx(runs["cacl"].ranks.var(axis=1).mean())
    recall = 100 * (runs["cacl"].ranks == 1).mean()
    assert f"| CACL | 2 | {grid.STEPS} | {2 * grid.STEPS} | {recall:.1f} [" in text
    assert "| 50.0 | 25.0 |" in text
    assert "| 0.62 | 1.5 | 700 |" in text
    assert "CACL and ML-CLAP (equal steps)" in text
    assert (tmp_path / "consistency.png").stat().st_size > 20_000
    assert (tmp_path / "consistency_ranks.png").stat().st_size > 20_000
