import json
import logging
import sys

import numpy as np
import pytest
import soundfile

from tests.helpers.tiny import tiny_model, tiny_processor


mteb = pytest.importorskip("mteb", reason="needs the extra mteb")
pytestmark = pytest.mark.heavy

from modeling_atri.mteb.__main__ import main  # noqa: E402
from modeling_atri.mteb.installed import MODEL_REGISTRY, TASK_REGISTRY  # noqa: E402
from modeling_atri.mteb.registering import register_model  # noqa: E402


@pytest.fixture(autouse=True)
def _leave_mteb_as_it_was(monkeypatch):
    """What a run registers and sets would stay for the other tests."""
    monkeypatch.setattr(sys, "argv", sys.argv)
    saved = [dict(registry) for registry in (MODEL_REGISTRY, TASK_REGISTRY)]
    level, root_level = logging.getLogger("mteb").level, logging.getLogger().level
    yield
    for registry, entries in zip((MODEL_REGISTRY, TASK_REGISTRY), saved, strict=True):
        registry.clear()
        registry.update(entries)
    logging.getLogger("mteb").setLevel(level)
    logging.getLogger().setLevel(root_level)


@pytest.fixture
def model_folder(tmp_path):
    folder = tmp_path / "first"
    tiny_model().save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return folder


@pytest.fixture
def clips(tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    lines = []
    for name, hertz in (("low", 300), ("high", 3000)):
        soundfile.write(folder / f"{name}.wav", np.sin(2 * np.pi * hertz * np.arange(8000) / 16_000) / 3, 16_000)
        captions = {"en": [f"a {name} tone"], "fr": [f"un son {name}"]}
        lines.append(json.dumps({"file_name": f"{name}.wav", "captions": captions}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder


def test_run_evaluates_a_folder_and_keeps_the_results(model_folder, clips, tmp_path, monkeypatch):
    words = ["run", "--data", str(clips), "-m", str(model_folder), "--output-folder", str(tmp_path / "out")]
    words += ["--no-co2-tracker", "-v", "0"]
    main(words)
    files = sorted((tmp_path / "out").rglob("Clips*.json"))
    assert [file.name[:18] for file in files] == ["ClipsA2TRetrieval-", "ClipsT2ARetrieval-"]
    assert files[0].parts[-3] == "local__first"
    scores = json.loads(files[1].read_text())["scores"]["test"]
    assert {of_subset["hf_subset"] for of_subset in scores} == {"eng_Latn", "fra_Latn"}
    assert all(of_subset["mrv"] >= 0 for of_subset in scores)
    assert str(tmp_path) not in (files[0].parent / "model_meta.json").read_text()

    def encode(*_, **__):
        raise AssertionError("all results are there")

    monkeypatch.setattr("modeling_atri.mteb.encoder.AtriMtebEncoder.encode", encode)
    main([*words, "--name", "Clips", "-l", "fra"])


@pytest.mark.parametrize("revision", [None, "v2"])
def test_models_that_mteb_knows_are_left_to_it(tmp_path, revision):
    baseline = "mteb/baseline-random-encoder"
    assert register_model(baseline, revision) == (baseline, revision)
    other = tmp_path / "bert"
    other.mkdir()
    (other / "config.json").write_text('{"model_type": "bert"}')
    assert register_model(str(other), revision) == (str(other), revision)


@pytest.mark.parametrize("words", [[], ["--model-revision", "v2"], ["--model_revision=v2"]])
def test_the_revision_of_a_model_of_mteb_is_passed_on(words, monkeypatch):
    asked = []
    monkeypatch.setattr("mteb.cli.main", lambda: asked.append(sys.argv[1:]))
    main(["run", "-m", "mteb/baseline-random-encoder", *words, "-v", "0"])
    revision = ["--model-revision", "v2"] if words else []
    assert asked == [["run", "-v", "0", "-m", "mteb/baseline-random-encoder", *revision]]


@pytest.mark.parametrize(
    "words, message",
    [
        (["run", "--data", "no/such/folder"], "no/such/folder"),
        (["run", "-m", "no such folder"], "no such folder"),
    ],
)
def test_mistakes_end_in_one_line(words, message, capsys):
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert len(printed.strip().splitlines()) == 1


def test_help(capsys):
    main(["--help"])
    assert "--data" in capsys.readouterr().out
