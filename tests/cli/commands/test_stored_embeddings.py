"""`atri train` and `atri evaluate` on stored embeddings."""

import json

import numpy as np
import pytest

from modeling_atri import AtriModel, AtriProcessor
from modeling_atri.cli.main import main
from tests.helpers.embedded import soundless, write_store
from tests.helpers.tiny import tiny_model, tiny_processor
from tests.helpers.training import make_rows


pytestmark = pytest.mark.heavy

SIZES = [
    "--text_hidden_size",
    "16",
    "--text_layers",
    "1",
    "--text_heads",
    "2",
    "--projection_dim",
    "8",
    "--vocab_size",
    "600",
]
QUIET = ["--use_cpu", "true", "--disable_tqdm", "true", "--save_strategy", "no", "--languages", "en", "fr", "ja"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Rows without sounds, a store of their embeddings, and a model that was trained on it."""
    folder = tmp_path_factory.mktemp("stored")
    rows = soundless(make_rows(6))
    (folder / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    vectors = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
    write_store(folder / "s.npy", [row["audio_id"] for row in rows], vectors, model="clap", fingerprint="abc")
    write_store(folder / "other.npy", [row["audio_id"] for row in rows], vectors, model="other", fingerprint="def")
    assert main([*train(folder, "out"), *SIZES, "--eval_data", str(folder / "rows.jsonl")]) == 0
    return folder


def train(folder, name, store="s.npy"):
    argv = ["train", "--train_data", str(folder / "rows.jsonl"), "--audio_embeddings", str(folder / store)]
    return [*argv, "--output_dir", str(folder / name), "--max_steps", "1", *QUIET]


def test_a_model_from_scratch_has_a_head_for_the_embeddings(data):
    model, processor = AtriModel.from_pretrained(data / "out"), AtriProcessor.from_pretrained(data / "out")
    config = model.config.audio_config
    assert (config.hidden_size, config.source, config.fingerprint, config.normalized) == (5, "clap", "abc", False)
    assert model.config.has_audio_head
    assert (processor.feature_extractor.feature_size, processor.feature_extractor.source) == (5, "clap")
    assert json.loads((data / "out" / "atri_results.json").read_text())["evaluated_on"]["num_clips"] == 6


def test_it_is_evaluated_and_trained_further(data):
    argv = ["evaluate", "--model", str(data / "out"), "--data", str(data / "rows.jsonl")]
    argv += ["--audio_embeddings", str(data / "s.npy"), "--output", str(data / "again.json")]
    assert main(argv) == 0
    found = json.loads((data / "again.json").read_text())["metrics"]
    expected = json.loads((data / "out" / "atri_results.json").read_text())["metrics"]
    assert found == pytest.approx(expected, abs=1e-6)
    assert main([*train(data, "further"), "--model", str(data / "out"), "--learning_rate", "1e-3"]) == 0


@pytest.mark.parametrize(
    "options, message",
    [
        (["--audio_embeddings", "{}/other.npy"], "another model, 'other' (fingerprint def), but the model takes the"),
        ([], "names no recording"),
        (["--audio_embeddings", "{}/none.npy"], "There is no file"),
        (["--audio_embeddings", "{}/s.npy", "--embedding_columns", "a"], "takes two names"),
        (["--embedding_columns", "a", "b"], "Pass both"),
    ],
)
def test_what_is_wrong_is_said(data, capsys, options, message):
    argv = ["evaluate", "--model", str(data / "out"), "--data", str(data / "rows.jsonl")]
    assert main([*argv, *(word.format(data) for word in options)]) != 0
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_a_model_with_a_tower_says_what_to_freeze(data, capsys):
    tiny_model().save_pretrained(data / "tiny")
    tiny_processor().save_pretrained(data / "tiny")
    assert main([*train(data, "no"), "--model", str(data / "tiny")]) != 0
    assert "Freeze both (`freeze_audio` and `freeze_audio_head`)" in capsys.readouterr().err
