"""The grid, losses and statistics of `benchmarks/consistency.py`; the runs themselves take hours."""

import importlib
import itertools
import json
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from modeling_atri.loss_atri import info_nce_loss
from modeling_atri.trainer.losses import akcl_loss, cacl_loss, kcl_loss


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
    for cell in (grid.CELLS | grid.TUNING_CELLS).values():
        options = {"objective": cell.objective, "max_steps": cell.steps, "use_cpu": True} | cell.options
        assert AtriTrainingArguments(str(tmp_path), languages=list(ATRI_LANGUAGES), **options).max_steps == cell.steps
        assert cell.loss is None or cell.loss in losses.LOSSES
        assert cell.variant_of is None or cell.num_seeds <= grid.CELLS[cell.variant_of].num_seeds
        assert cell.begins_with is None or cell.num_seeds <= grid.CELLS[cell.begins_with].num_seeds


def test_settings_that_were_chosen_were_compared(load):
    grid = load("consistency_grid")
    for objective, rates in grid.RATES.items():
        assert grid.LEARNING_RATES[objective] in grid.CLOSE_RATES[objective]
        assert set(grid.CLOSE_RATES[objective]) <= set(rates)
    assert grid.RANKING_WEIGHT in grid.RANKING_WEIGHTS
    names = [*grid.CELLS, *grid.TUNING_CELLS]
    assert len(set(names)) == len(names)


def test_a_run_of_other_options_is_not_done(load, tmp_path):
    consistency, cell = load("consistency"), load("consistency_grid").CELLS["kcl-2"]
    assert not consistency.is_done(cell, 0, tmp_path)
    for options, expected in ((cell.options, True), (cell.options | {"learning_rate": 0.5}, False)):
        (tmp_path / "kcl-2-0.json").write_text(json.dumps({"options": options}))
        assert consistency.is_done(cell, 0, tmp_path) is expected


def test_weight_errors_of_the_models_there(load, monkeypatch, tmp_path):
    consistency, grid = load("consistency"), load("consistency_grid")
    monkeypatch.setattr(consistency, "RESULTS", tmp_path / "results")
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "weight_errors.json").write_text(json.dumps({"kcl-4-1": 0.5, "akcl-0": 0.5, "kcl-4-2": 1}))
    for name, seed, value in (
        ("kcl", 0, 1.0),
        ("kcl-2", 0, 4.0),
        ("kcl", 1, 1.0),
        ("kcl-4", 1, None),
        ("kcl-1", 0, 9.0),
    ):
        options = {} if name == "kcl-1" else grid.CELLS[name].options  # of kcl-1 an older model is there
        report = {"options": options, "distance_from_start": 2.0}
        (tmp_path / "results" / f"{name}-{seed}.json").write_text(json.dumps(report))
        if value is not None:
            (tmp_path / f"{name}-{seed}").mkdir()
            save_file({"weight": torch.full((4,), value)}, tmp_path / f"{name}-{seed}" / "model.safetensors")
    consistency.write_weight_errors(tmp_path)
    # kcl-4-1 was measured when its model was there; kcl-4-2 has no run, and akcl-0 no twin.
    expected = {"kcl-2-0": 3.0, "kcl-4-1": 0.5}
    assert json.loads((tmp_path / "results" / "weight_errors.json").read_text()) == expected


def test_the_twin_draws_from_all_languages(load):
    consistency, grid = load("consistency"), load("consistency_grid")
    twins = {name: consistency.twin_of(cell).name for name, cell in grid.CELLS.items()}
    assert twins["mlclap"] == twins["kcl-2"] == twins["kcl-rankings"] == twins["kcl"] == "kcl"
    assert twins["akcl-w0.25"] == "akcl-w0.25"  # of another learning rate
    assert twins["akcl-continued"] == "kcl-continued"
    assert twins["cacl-frozen-text"] == "kcl-frozen-text"
    assert twins["mlclap-bert"] == "kcl-bert"
    assert twins["mlclap-budget"] == "mlclap-budget"  # no KCL goes as many steps


def test_rates_are_compared_without_dev(load, tmp_path):
    consistency = load("consistency")
    clips = {"a": ["1-1.wav"], "b": ["3-1.wav"], "c": ["3-2.wav", "2-1.wav"], "d": ["3-3.wav"], "e": ["4-1.wav"]}
    rows = [
        {"file_name": f"{name}.wav", "triple": triple, "sources": [{"clip": clip} for clip in of_row]}
        for (name, of_row), triple in zip(clips.items(), "axcxe", strict=True)
    ]
    (tmp_path / "data" / "train").mkdir(parents=True)
    (tmp_path / "data" / "train" / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    folder = consistency.held_out(tmp_path / "data", tmp_path / "held_out")
    found = {
        part: [Path(json.loads(line)["file_name"]) for line in (folder / part / "metadata.jsonl").open()]
        for part in ("train", "dev")
    }
    # c has clips of the held-out fold and of another; d is of b's triple, of which one is enough.
    assert found == {
        "train": [tmp_path / "data" / "train" / name for name in ("a.wav", "e.wav")],
        "dev": [tmp_path / "data" / "train" / "b.wav"],
    }


# Losses


def test_rotating_anchor(losses, batch):
    for step in (0, 3, 11):
        expected = akcl_loss(*batch.values(), anchor=step % 8)
        assert torch.equal(losses.rotating_anchor(**batch, step=step), expected)


def test_all_pairs_are_the_mean_over_anchors(losses, batch):
    anchored = torch.stack([akcl_loss(*batch.values(), anchor=anchor, weight=0.0) for anchor in range(8)]).mean()
    expected = (kcl_loss(*batch.values()) + anchored) / 2
    torch.testing.assert_close(losses.all_pairs(**batch, step=0), expected)


def test_weighted_languages(losses, batch):
    terms = [info_nce_loss(batch["audio"], text, batch["scale"], batch["ids"]) for text in batch["text"]]
    expected = (sum(terms[:6]) + 2 * terms[6] + 2 * terms[7]) / 10  # Japanese and Chinese are the last two
    torch.testing.assert_close(losses.weighted_languages(**batch, step=0), expected)


def test_anchored_thirds_are_cacl_on_average(losses, batch):
    audio, (anchor, *others), scale, ids = batch.values()
    pairs = [cacl_loss(audio, anchor, other, scale, ids) for other in others]
    torch.testing.assert_close(losses.anchored_thirds(**batch, step=0), torch.stack(pairs).mean())


def test_akcl_of_drawn_clips_is_akcl_on_average(losses, batch):
    # Where all clips draw the same language: the mean over the languages is AKCL of all.
    estimates = [
        losses.akcl_of_drawn_clips(**batch | {"text": batch["text"][[0, other]]}, step=0) for other in range(1, 8)
    ]
    torch.testing.assert_close(torch.stack(estimates).mean(), akcl_loss(*batch.values()))


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
    for (name, top), seed in itertools.product({"mlclap": 8, "cacl": 4, "cacl-by-batch": 4}.items(), range(2)):
        ranks = rng.integers(1, top, size=(8, 950), endpoint=True)
        np.savez_compressed(folder / f"{name}-{seed}.npz", doubled_ranks=(2 * ranks).astype(np.uint16))
        cell = {
            "num_parameters": 1234,
            "cpu_seconds": 90.0,
            "peak_memory_mb": 700,
        }
        cell["environment"] = {"versions": {"torch": "2.13", "transformers": "5.23"}}
        (folder / f"{name}-{seed}.json").write_text(json.dumps(cell | {"metrics": figures}))
    rates = tmp_path / "consistency_tuning"
    rates.mkdir()
    for seed, recall in enumerate((0.25, 0.5)):
        metrics = {"mean_text_to_audio_R@1": recall, "mrv": 8.0 * recall}
        (rates / f"kcl-0.001-{seed}.json").write_text(json.dumps({"metrics": metrics}))
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
    assert f"| {grid.CELLS['cacl-by-batch'].title} - CACL | " in text
    assert "| KCL |  |  | **37.5 / 3.0** |  |" in text
    assert (tmp_path / "consistency.png").stat().st_size > 20_000
    assert (tmp_path / "consistency_ranks.png").stat().st_size > 20_000
    assert (tmp_path / "consistency_beyond.png").stat().st_size > 20_000


def test_the_documentation_gives_the_figures_of_the_report(repository_root):
    """Means with their intervals: a row of the documentation has the figures of the row of that name in the report."""
    pages = [repository_root / "docs" / "results" / name for name in ("over_seeds.md", "beyond_the_paper.md")]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    report = (repository_root / "benchmarks" / "results" / "consistency.md").read_text(encoding="utf-8")
    figures = re.compile(r"-?[\d.]+ \[-?[\d.]+, -?[\d.]+\]")
    in_report = {(line.split(" | ")[0], figure) for line in report.splitlines() for figure in figures.findall(line)}
    in_pages = {(line.split(" | ")[0], figure) for line in text.splitlines() for figure in figures.findall(line)}
    assert len(in_pages) > 15
    assert in_pages - in_report == set()
