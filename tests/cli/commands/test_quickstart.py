"""`atri quickstart`: with few steps what it writes and that it learns; in full, how well."""

import json
import os
import re
import shlex
import sys
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from modeling_atri import AtriModel, AtriProcessor, encode_audio, encode_text
from modeling_atri.cli.commands.quickstart import QuickstartArguments, next_commands
from modeling_atri.cli.main import main
from modeling_atri.corpora.soundscapes.captions import bare_captions
from modeling_atri.languages_atri import ATRI_LANGUAGES, language_name
from modeling_atri.search.page import page_app
from modeling_atri.trainer import load_rows


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--num_train", "0"], "`num_train` must be a whole number >= 2; got 0"),
        (["--num_train", "1"], "`num_train` must be a whole number >= 2; got 1"),
        (["--num_heldout", "0"], "`num_heldout` must be a whole number in [1, 355]; got 0"),
        (["--num_heldout", "356"], "`num_heldout` must be a whole number in [1, 355]; got 356"),
        (["--duration_s", "0.05"], "`duration_s` must be a number in [3, 60]; got 0.05"),
        (["--duration_s", "nan"], "`duration_s` must be a number in [3, 60]; got nan"),
        (["--max_steps", "0"], "`max_steps` must be a whole number >= 1; got 0"),
        (["--batch_size", "1"], "`batch_size` must be a whole number >= 2; got 1"),
        (["--learning_rate", "-1"], "`learning_rate` must be a finite number > 0; got -1.0"),
        (["--seed", "-1"], "`seed` must be a whole number in [0, 4294967295]; got -1"),
        (["--objective", "unknown"], "invalid choice: 'unknown'"),
        (["--num_train", "many"], "invalid int value: 'many'"),
        (["--max_step", "3"], "'--max_step' (did you mean '--max_steps'?)"),
        (["--output_dir", "file"], "`output_dir` must be a folder, but 'file' is a file"),
        (["--output_dir", "file/below"], "`output_dir` must be a folder, but 'file' is a file"),
    ],
)
def test_an_option_that_cannot_work_is_refused_before_anything_is_written(
    words, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    assert main(["quickstart", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 2
    assert os.listdir() == ["file"]


def test_what_to_do_next_is_called_as_it_can_be_found(monkeypatch, tmp_path):
    def programs() -> set[str]:
        return {line.split()[0] for line in next_commands(QuickstartArguments(), has_index=False)}

    folder, python = Path(sys.executable).parent, Path(sys.executable).name
    monkeypatch.setenv("PATH", str(folder))
    assert programs() == {"atri", python}
    monkeypatch.setenv("PATH", str(tmp_path))  # as without `. .venv/bin/activate`
    monkeypatch.chdir(folder.parent)
    assert programs() == {f"{folder.name}/atri", f"{folder.name}/{python}"}
    monkeypatch.chdir(tmp_path)
    assert programs() == {f"{folder}/atri", f"{folder}/{python}"}


def test_without_the_search_extra_the_index_is_left_to_the_user():
    with_index, without = (next_commands(QuickstartArguments(), has_index) for has_index in (True, False))
    assert [shlex.split(line)[1] for line in with_index] == ["search", "serve", "train"]
    assert shlex.split(without[0])[1:] == ["-m", "pip", "install", "modeling_atri[search]"]
    assert shlex.split(without[1])[1:] == [
        "index",
        "quickstart/sounds/single-72-scenes-of-4-s-seed-0",
        "quickstart/index",
        "--model",
        "quickstart",
    ]
    assert without[2:] == with_index


@pytest.mark.heavy
def test_a_short_run_learns_and_leaves_everything_behind_for_a_second(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "out"
    monkeypatch.chdir(tmp_path)
    argv = ["quickstart", "--output_dir", "out", "--num_train", "32", "--num_heldout", "8", "--duration_s", "3"]
    assert main([*argv, "--max_steps", "16", "--batch_size", "8"]) == 0
    shown = capsys.readouterr().out
    losses = [float(loss) for loss in re.findall(r"'loss': '([\d.]+)'", shown)]
    assert len(losses) == 16
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    captions, queries, _ = re.split(r"\n[456]\. ", shown)[1:]
    for language, texts in bare_captions("dog").items():
        assert f"\n  {language_name(language)}: " in captions  # a question in each
        assert f"\n  {language_name(language)}: {texts[1]}\n" in queries
    assert "minutes of CPU time" in shown
    results = json.loads((folder / "atri_results.json").read_text())
    assert results["evaluated_on"]["languages"] == list(ATRI_LANGUAGES)
    assert results["training"]["objective"] == "akcl"
    assert results["training"]["steps"] == 16
    assert (folder / "results.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    card = (folder / "README.md").read_text()
    assert "## Evaluation" in card
    metrics, definition = results["metrics"], results["evaluated_on"]["bare_queries"]
    found = [metrics[f"{language}_bare_query_R@1"] for language in ATRI_LANGUAGES]
    assert metrics["mean_bare_query_R@1"] == pytest.approx(sum(found) / len(found))
    assert "against 72 scenes of single sounds, 4 of each source" in definition
    stated = f"Short queries, R@1 in percent: {100 * metrics['mean_bare_query_R@1']:.1f} in the mean of languages"
    assert stated in card
    assert stated in shown
    assert definition in card
    assert definition in shown
    model, processor = AtriModel.from_pretrained(folder), AtriProcessor.from_pretrained(folder)
    assert model.audio_model.mel_norm.is_set
    assert model(**processor(text="rain", language="en")).text_embeds.shape == (1, model.config.projection_dim)
    assert bare_query_recall(model, processor, folder) == pytest.approx(metrics["mean_bare_query_R@1"])
    run_next_commands(shown, monkeypatch, capsys)
    # A second run uses the sounds of the first.
    written = {path: path.stat().st_mtime_ns for path in (folder / "sounds").rglob("*.flac")}
    assert len(written) == 32 + 8 + 72
    assert main([*argv, "--max_steps", "1", "--batch_size", "8", "--objective", "cacl"]) == 0
    assert {path: path.stat().st_mtime_ns for path in (folder / "sounds").rglob("*.flac")} == written


def bare_query_recall(model: AtriModel, processor: AtriProcessor, folder: Path) -> float:
    """Share of the queries whose best scene has their source, counted one by one."""
    (sounds,) = (folder / "sounds").glob("single-*")
    rows = load_rows(sounds)
    audio = encode_audio(model, processor, rows["audio"])
    hits = [
        rows[int((audio @ encode_text(model, processor, text, language)[0]).argmax())]["group_id"] == row["group_id"]
        for row in rows.select(range(18))  # one of each source
        for language, texts in row["captions"].items()
        for text in texts
    ]
    return sum(hits) / len(hits)


def run_next_commands(shown: str, monkeypatch, capsys) -> None:
    """Run the last three lines as a shell splits them, with less training and in this process, which is faster."""
    search, serve, train = map(shlex.split, shown.strip().splitlines()[-3:])
    assert main(search[1:]) == 0
    assert len(re.findall(r"only_[\w-]+\.flac", capsys.readouterr().out)) == 10
    pages = []

    def make_page(index, *rest, **more) -> None:
        pages.append(page_app(index))

    monkeypatch.setattr("modeling_atri.search.page.server.serve", make_page)
    assert main(serve[1:]) == 0
    assert TestClient(pages[0]).get("/").status_code == 200
    assert main([*train[1:], "--max_steps", "1", "--per_device_train_batch_size", "8"]) == 0
    assert Path("out-tuned", "model.safetensors").exists()


@pytest.mark.slow
def test_the_default_run_finds_held_out_scenes_in_every_language(tmp_path):
    assert main(["quickstart", "--output_dir", str(tmp_path)]) == 0
    metrics = json.loads((tmp_path / "atri_results.json").read_text())["metrics"]
    assert metrics["mean_text_to_audio_R@1"] >= 0.5
    assert min(metrics[f"{language}_text_to_audio_R@1"] for language in ATRI_LANGUAGES) >= 0.4
    assert metrics["mean_bare_query_R@1"] >= 0.8
