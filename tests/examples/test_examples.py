"""The examples run, on a tiny model, and say what is true."""

import json
import re
import runpy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from modeling_atri import AtriModel, AtriProcessor
from modeling_atri.encode.encoding import encode_audio, encode_text
from modeling_atri.languages_atri import language_name
from modeling_atri.pipelines_atri import HYPOTHESIS_TEMPLATES
from modeling_atri.trainer import load_rows
from modeling_atri.trainer.evaluation.retrieval import RetrievalSet, embed_retrieval_set, retrieval_table
from tests.helpers.local_hub import LocalHub
from tests.helpers.taught import write_captions, write_clap, write_text_encoder
from tests.helpers.tiny import CAPTIONS, tiny_model, tiny_processor


pytestmark = pytest.mark.heavy


NAMES = ["a.wav", "b.flac", "below/c.ogg"]


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    tiny_model().save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return folder


@pytest.fixture
def sounds(tmp_path) -> Path:
    """Three clips of noise beside their captions in English and French."""
    folder = tmp_path / "sounds"
    (folder / "below").mkdir(parents=True)
    rng = np.random.default_rng(0)
    lines = []
    for number, name in enumerate(NAMES):
        soundfile.write(folder / name, rng.normal(scale=0.1 * (1 + number), size=8000), 16000)
        captions = {language: [f"{CAPTIONS[language]} {number}"] for language in ("eng_Latn", "fra_Latn")}
        lines.append(json.dumps({"file_name": name, "captions": captions}))
    (folder / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


@pytest.fixture
def run(repository_root, monkeypatch) -> Callable:
    def run(name: str, *argv: object) -> dict:
        monkeypatch.setattr("sys.argv", [name, *map(str, argv)])
        return runpy.run_path(str(repository_root / "examples" / name), run_name="__main__")

    return run


def test_search_folder_names_the_sounds_in_order_of_their_scores(run, model_folder, sounds, capsys):
    model, processor = tiny_model(), tiny_processor()
    (sounds / "broken.wav").write_bytes(b"RIFF")
    scores = (
        encode_audio(model, processor, [sounds / name for name in NAMES])
        @ encode_text(model, processor, "un chien aboie", "fr")[0]
    )
    expected = [f"{scores[place]:.3f}  {NAMES[place]}  0.0 to 0.5 s" for place in np.argsort(-scores)]
    for _ in range(2):  # the second time from the index on disk
        run("search_folder.py", model_folder, sounds, "un chien aboie", "--language", "fr")
        left_out, *lines = capsys.readouterr().out.splitlines()
        assert left_out.startswith("left out: broken.wav: ")
        assert lines == expected


def test_search_folder_says_when_there_is_nothing_to_search(run, model_folder, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit) as stop:
        run("search_folder.py", model_folder, tmp_path / "empty", "rain")
    assert stop.value.code == 2
    assert "There is no sound file below" in capsys.readouterr().err


def test_evaluate_model_prints_the_figures_of_each_language(run, model_folder, sounds, capsys):
    run("evaluate_model.py", model_folder, sounds, "--languages", "fr", "en")
    printed = capsys.readouterr().out
    languages = ["fra_Latn", "eng_Latn"]
    retrieval_set = RetrievalSet.from_rows(load_rows(sounds, languages=languages), languages)
    embeddings = embed_retrieval_set(tiny_model(), tiny_processor(), retrieval_set)
    table = retrieval_table(embeddings, retrieval_set.positives)
    for language in languages:
        first = rf"^{language_name(language)}\s+{100 * table[f'{language}_text_to_audio_R@1']:.1f}\s"
        assert re.search(first, printed, re.MULTILINE), printed
    assert f"mean rank variance {table['mrv']:.3f}" in printed
    found = [(text @ embeddings.audio.T).argmax(axis=1) for text in embeddings.text.values()]
    assert f"same first clip for {int((found[0] == found[1]).sum())} of 3 captions" in printed


def test_finetune_on_folder_trains_and_saves(run, model_folder, sounds, tmp_path, capsys):
    output = tmp_path / "run"
    run(
        *("finetune_on_folder.py", model_folder, sounds, sounds, "--languages", "en", "fr"),
        *("--epochs", "2", "--learning_rate", "1e-2", "--output_dir", output),
    )
    start, trained = tiny_model(), AtriModel.from_pretrained(output)
    moved = [
        name
        for (name, before), after in zip(start.named_parameters(), trained.parameters(), strict=True)
        if not before.equal(after)
    ]
    assert {"learned_logit_scale.weight", "audio_projection.fc1.weight", "text_model.embed_tokens.weight"} <= set(
        moved
    )
    figures = json.loads((output / "after_atri_results.json").read_text(encoding="utf-8"))["metrics"]
    assert json.loads((output / "atri_results.json").read_text(encoding="utf-8"))["metrics"] == figures
    assert "## Evaluation" in (output / "README.md").read_text(encoding="utf-8")
    line = re.search(r"^mean_text_to_audio_R@1\s+(\S+) -> (\S+)$", capsys.readouterr().out, re.MULTILINE)
    assert line
    assert line[2] == f"{figures['mean_text_to_audio_R@1']:.3f}"


def test_teach_clap_leaves_the_audio_embeddings_as_they_are(run, sounds, tmp_path, capsys):
    write_clap(tmp_path / "clap")
    write_text_encoder(tmp_path / "encoder")
    write_captions(tmp_path / "captions.jsonl")
    names = [sounds / name for name in NAMES]
    run(
        *("teach_clap.py", tmp_path / "clap", tmp_path / "encoder", tmp_path / "captions.jsonl", "--sounds", *names),
        *("--max_steps", "30", "--learning_rate", "1e-2", "--output_dir", tmp_path / "run"),
    )
    *figures, outcome = capsys.readouterr().out.splitlines()[-3:]
    assert outcome == "audio embeddings before and after: equal bit for bit"
    assert [line.split("  ")[1:] for line in figures] == [["eng_Latn", "dog barks"], ["fra_Latn", "chien aboie"]]
    model, processor = AtriModel.from_pretrained(tmp_path / "run"), AtriProcessor.from_pretrained(tmp_path / "run")
    english, french = encode_text(model, processor, ["dog barks", "chien aboie"], ["en", "fr"])
    assert figures[1].split("  ")[0] == f"{english @ french:.3f}"
    assert "## Embedding space" in (tmp_path / "run" / "README.md").read_text(encoding="utf-8")


def test_zero_shot_asks_in_every_language(run, model_folder, sounds, capsys):
    labels = run("zero_shot.py", model_folder, sounds / "a.wav", sounds / "b.flac")["LABELS"]
    assert list(labels) == list(HYPOTHESIS_TEMPLATES)
    assert {len(names) for names in labels.values()} == {5}
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 8 * 2
    model, processor = tiny_model(), tiny_processor()
    audio = encode_audio(model, processor, [sounds / "a.wav"])[0]
    sentences = [HYPOTHESIS_TEMPLATES["fra_Latn"].format(label) for label in labels["fra_Latn"]]
    logits = encode_text(model, processor, sentences, "fr") @ audio * model.logit_scale.exp().item()
    scores = np.exp(logits) / np.exp(logits).sum()
    (line,) = [line for line in lines if line.startswith("French") and line.endswith("a.wav)")]
    assert f" {scores.max():.2f}  {labels['fra_Latn'][int(scores.argmax())]}  (" in line


def test_push_to_hub_pushes_and_loads_again(run, model_folder, capsys, monkeypatch, tmp_path):
    with LocalHub() as hub:
        hub.connect(monkeypatch)
        for outcome in ("Pushed to", "Nothing had changed at"):
            run("push_to_hub.py", model_folder, "tester/tiny", "--private")
            printed = capsys.readouterr().out
            assert f"{outcome} {hub.url}/tester/tiny" in printed
            assert "  model.safetensors\n" in printed
            assert "Loaded from there: " in printed
        assert hub.repos["models/tester/tiny"].private
        assert "README.md" in hub.repos["models/tester/tiny"].files()


def test_push_to_hub_tells_a_mistake_in_a_line(run, tmp_path):
    with pytest.raises(SystemExit, match="There is no folder"):
        run("push_to_hub.py", tmp_path / "none", "tester/tiny")


def test_examples_are_short_and_listed(repository_root):
    scripts = list((repository_root / "examples").glob("*.py"))
    assert len(scripts) >= 5
    assert all(len(script.read_text(encoding="utf-8").splitlines()) <= 80 for script in scripts)
    table = (repository_root / "examples" / "README.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| `(\w+\.py)`", table, re.MULTILINE)) == sorted(script.name for script in scripts)
