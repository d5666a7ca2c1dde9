"""`atri quickstart`: with few steps what it writes and that it learns; in full, how well."""

import json
import re

import pytest

from modeling_atri import AtriModel, AtriProcessor
from modeling_atri.cli.main import main
from modeling_atri.languages_atri import ATRI_LANGUAGES, language_name


pytestmark = pytest.mark.heavy


def test_a_short_run_learns_and_leaves_everything_behind(tmp_path, capsys):
    folder = tmp_path / "out"
    argv = ["quickstart", "--output_dir", str(folder), "--num_train", "64", "--num_heldout", "10"]
    assert main([*argv, "--max_steps", "20", "--batch_size", "16", "--duration_s", "3"]) == 0
    shown = capsys.readouterr().out
    losses = [float(loss) for loss in re.findall(r"'loss': '([\d.]+)'", shown)]
    assert len(losses) == 20
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    for language in ATRI_LANGUAGES:
        assert f"\n  {language_name(language)}: " in shown  # a question in each
    assert "minutes of CPU time" in shown
    results = json.loads((folder / "atri_results.json").read_text())
    assert results["evaluated_on"]["languages"] == list(ATRI_LANGUAGES)
    assert results["training"]["objective"] == "akcl"
    assert results["training"]["steps"] == 20
    assert (folder / "results.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert "## Evaluation" in (folder / "README.md").read_text()
    model, processor = AtriModel.from_pretrained(folder), AtriProcessor.from_pretrained(folder)
    assert model.audio_model.mel_norm.is_set
    assert model(**processor(text="rain", language="en")).text_embeds.shape == (1, model.config.projection_dim)


def test_a_second_run_uses_the_sounds_of_the_first(tmp_path, capsys):
    argv = ["quickstart", "--output_dir", str(tmp_path), "--num_train", "8", "--num_heldout", "8", "--max_steps", "1"]
    argv += ["--batch_size", "8", "--duration_s", "3"]
    assert main(argv) == 0
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "sounds").rglob("*.flac")}
    assert len(written) == 16
    assert main([*argv, "--objective", "cacl"]) == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "sounds").rglob("*.flac")} == written


@pytest.mark.slow
def test_the_default_run_finds_held_out_scenes_in_every_language(tmp_path):
    assert main(["quickstart", "--output_dir", str(tmp_path)]) == 0
    metrics = json.loads((tmp_path / "atri_results.json").read_text())["metrics"]
    assert metrics["mean_text_to_audio_R@1"] >= 0.5
    assert min(metrics[f"{language}_text_to_audio_R@1"] for language in ATRI_LANGUAGES) >= 0.4
