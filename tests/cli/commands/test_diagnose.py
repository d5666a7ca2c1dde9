"""`atri diagnose` from the command line to figures, tables and plots."""

import json

import numpy as np
import pytest
from matplotlib.figure import Figure

from modeling_atri.cli.commands.diagnose.plots import plot_alignment, plot_twins
from modeling_atri.cli.main import main
from modeling_atri.corpora.rows.load import load_rows
from modeling_atri.corpora.soundscapes.scenes import write_soundscapes
from modeling_atri.encode.encoding import encode_audio, encode_text
from modeling_atri.languages_atri import ATRI_LANGUAGES
from modeling_atri.trainer.data.draws import LanguageDraws
from modeling_atri.trainer.diagnostics.alignment_error import summarize_alignment
from modeling_atri.trainer.diagnostics.distribution_error import DistributionErrors, Sampling
from tests.helpers.tiny import tiny_model, tiny_processor


pytestmark = pytest.mark.heavy


PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Nine scenes with captions in eight languages, and a saved tiny model."""
    folder = tmp_path_factory.mktemp("diagnose")
    write_soundscapes(folder / "clips", 9, seed=0, split="train", duration_s=3.0)
    tiny_model().save_pretrained(folder / "model")
    tiny_processor().save_pretrained(folder / "model")
    return folder


def test_draws(data, tmp_path, capsys):
    argv = ["diagnose", "draws", "--train_data", str(data / "clips"), "--output_dir", str(tmp_path / "out")]
    assert main([*argv, "--epochs", "3", "--per_device_train_batch_size", "3"]) == 0
    results = json.loads((tmp_path / "out" / "draws.json").read_text())
    errors = results["distribution_error"]
    assert [epoch["epoch"] for epoch in errors["mlclap"]] == [1, 2, 3]
    for objective, expected in {"mlclap": 1.75, "cacl": 1.5, "kcl": 0.0}.items():
        assert [epoch["languages"] for epoch in errors[objective]] == pytest.approx([expected] * 3, abs=1e-12)
    assert errors["mlclap"][2]["languages_so_far"] < 1.5
    assert results["data"]["train"] == "clips"
    assert results["data"]["num_clips"] == 9
    assert (tmp_path / "out" / "draws.png").read_bytes().startswith(PNG)
    shown = capsys.readouterr().out
    assert "9 clips" in shown and "8 languages" in shown
    assert next(line.split()[:2] for line in shown.splitlines() if line.startswith("  mlclap")) == ["mlclap", "1.750"]
    assert "leaves out" not in shown


@pytest.mark.parametrize(
    ("given", "languages"),
    [([], ATRI_LANGUAGES), (["--languages", "ja", "en", "fr"], ["jpn_Jpan", "eng_Latn", "fra_Latn"])],
)
def test_draws_depend_on_the_order_of_languages(data, tmp_path, given, languages):
    argv = ["diagnose", "draws", "--train_data", str(data / "clips"), "--output_dir", str(tmp_path), *given]
    assert main([*argv, "--objective", "mlclap", "--epochs", "2", "--seed", "5"]) == 0
    results = json.loads((tmp_path / "draws.json").read_text())
    assert results["data"]["languages"] == list(languages)
    captions = [row["captions"] for row in load_rows(data / "clips")]
    counts = np.array([[len(of_clip[language]) for language in languages] for of_clip in captions])
    expected = DistributionErrors(Sampling(LanguageDraws("mlclap", languages, seed=5)), counts).of_epoch(1)
    assert results["distribution_error"]["mlclap"][1].items() >= expected.items()


def test_draws_with_the_options_of_a_training_run(data, tmp_path, capsys):
    """With those that change them: languages of a step, a clip left out, processes."""
    argv = ["diagnose", "draws", "--train_data", str(data / "clips"), "--output_dir", str(tmp_path)]
    argv += ["--objective", "akcl", "--languages", "en", "fr", "ja", "--languages_per_step", "2"]
    argv += ["--per_device_train_batch_size", "2", "--num_processes", "2", "--epochs", "2", "--seed", "3"]
    assert main([*argv, "--anchor_language", "fr"]) == 0
    results = json.loads((tmp_path / "draws.json").read_text())
    assert results["data"]["languages"] == ["eng_Latn", "fra_Latn", "jpn_Jpan"]
    assert results["sampling"]["anchor_language"] == "fra_Latn"
    assert [epoch["left_out"] for epoch in results["distribution_error"]["akcl"]] == [1, 1]
    assert results["distribution_error"]["akcl"][0]["languages"] == pytest.approx(2 * (1 - 8 / 9 * 2 / 3))
    assert "An epoch leaves out up to 1 clip," in capsys.readouterr().out


def test_model(data, tmp_path, capsys):
    argv = ["diagnose", "model", "--model", str(data / "model"), "--data", str(data / "clips")]
    assert main([*argv, "--languages", "en", "fr", "ja", "--output_dir", str(tmp_path)]) == 0
    results = json.loads((tmp_path / "alignment.json").read_text())
    rows = [json.loads(line) for line in (data / "clips" / "metadata.jsonl").read_text().splitlines()]
    model, processor = tiny_model(), tiny_processor()
    audio = encode_audio(model, processor, [data / "clips" / row["file_name"] for row in rows])
    text = {
        code: encode_text(model, processor, [caption for row in rows for caption in row["captions"][code]], code)
        for code in ("eng_Latn", "fra_Latn", "jpn_Jpan")
    }
    owners = [number for number, row in enumerate(rows) for _ in row["captions"]["eng_Latn"]]
    expected = summarize_alignment(audio, text, owners, "eng_Latn")
    assert results["alignment"]["audio"] == pytest.approx(expected["audio"], abs=1e-3)
    assert results["alignment"]["pulls"] == pytest.approx(expected["pulls"], abs=1e-3)
    assert results["environment"]["versions"]["torch"]
    assert (tmp_path / "alignment.png").read_bytes().startswith(PNG)
    shown = capsys.readouterr().out
    assert f"{expected['text']['jpn_Jpan']['mean']:.2f}" in next(
        line for line in shown.splitlines() if "Japanese" in line
    )
    assert str(data) not in (tmp_path / "alignment.json").read_text()


def test_model_on_data_with_a_clip_that_cannot_be_read(data, tmp_path, capsys):
    rows = [json.loads(line) for line in (data / "clips" / "metadata.jsonl").read_text().splitlines()]
    for row in rows:
        row["file_name"] = str(data / "clips" / row["file_name"])
    rows[2]["file_name"] = "gone.flac"
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    argv = ["diagnose", "model", "--model", str(data / "model"), "--data", str(tmp_path / "rows.jsonl")]
    assert main([*argv, "--output_dir", str(tmp_path)]) == 2
    assert "gone.flac" in capsys.readouterr().err
    assert main([*argv, "--output_dir", str(tmp_path), "--on_bad_row", "skip"]) == 0
    evaluated = json.loads((tmp_path / "alignment.json").read_text())["evaluated_on"]
    assert evaluated["num_clips"] == 8
    assert evaluated["left_out"] == {"missing recording": 1}
    assert "gone.flac" in (tmp_path / "alignment_left_out.jsonl").read_text()
    assert "missing recording" in capsys.readouterr().out


def test_twins(data, tmp_path, capsys):
    argv = ["diagnose", "twins", "--model", str(data / "model"), "--train_data", str(data / "clips")]
    argv += ["--languages", "en", "fr", "--per_device_train_batch_size", "3", "--num_train_epochs", "2", "--use_cpu"]
    assert main([*argv, "--num_probes", "2", "--num_pairs", "1", "--output_dir", str(tmp_path / "out")]) == 0
    results = json.loads((tmp_path / "out" / "twins.json").read_text())
    figures = results["weight_error"]
    assert figures["objectives"] == {"full": "kcl", "sampled": "mlclap"}
    assert figures["optimizer"] == "sgd"
    assert figures["distribution_error"] == pytest.approx([1.0, 1.0])
    assert [step["learning_rate"] for step in figures["steps"]] == [0.01] * 6
    assert figures["steps"][-1]["total"] > 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["twins.json", "twins.png"]
    assert (tmp_path / "out" / "twins.png").read_bytes().startswith(PNG)
    shown = capsys.readouterr().out
    assert "Weights w of kcl in all languages, w' of mlclap, both by sgd" in shown
    assert f"10^{figures['steps'][-1]['log10_bound']:.1f}" in shown
    assert "above it after 0 of 6 steps" in shown


def test_twins_that_stay_the_same_are_plotted_too(data, tmp_path):
    """From scratch, and with no error there is no logarithm."""
    argv = [
        "diagnose",
        "twins",
        "--train_data",
        str(data / "clips"),
        "--learning_rate",
        "0",
        "--languages",
        "en",
        "fr",
    ]
    argv += ["--max_steps", "1", "--per_device_train_batch_size", "3", "--use_cpu", "--output_dir", str(tmp_path)]
    argv += ["--audio_hidden_size", "16", "--audio_heads", "2", "--text_hidden_size", "16", "--text_heads", "2"]
    assert main(argv) == 0
    (step,) = json.loads((tmp_path / "twins.json").read_text())["weight_error"]["steps"]
    assert (step["total"], step["log10_bound"]) == (0, None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--objective", "kcl"], "`objective` 'kcl' takes all 2 languages in every step"),
        (["--objective", "kcl", "--languages_per_step", "2"], "or a `languages_per_step` below 2"),
        (["--objective", "akcl"], "`objective` 'akcl' takes all 2 languages in every step"),
        (["--languages", "en"], "With one language there is nothing to draw"),
    ],
)
def test_a_run_is_not_compared_with_itself(options, message, tmp_path, capsys):
    argv = ["diagnose", "twins", "--train_data", str(tmp_path), "--languages", "en", "fr", "--use_cpu"]
    assert main([*argv, "--output_dir", str(tmp_path / "out"), *options]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "objective",
    [["kcl", "--languages_per_step", "1"], ["cacl"]],  # CACL also compares texts, so it differs with two languages too
)
def test_twins_differ_by_the_languages_of_a_step_or_by_their_objectives(objective, data, tmp_path):
    argv = ["diagnose", "twins", "--model", str(data / "model"), "--train_data", str(data / "clips"), "--use_cpu"]
    argv += ["--languages", "en", "fr", "--objective", *objective, "--max_steps", "1"]
    argv += ["--num_probes", "1", "--num_pairs", "1", "--per_device_train_batch_size", "3"]
    assert main([*argv, "--output_dir", str(tmp_path)]) == 0
    assert json.loads((tmp_path / "twins.json").read_text())["weight_error"]["steps"][0]["total"] > 0


@pytest.fixture
def figures(monkeypatch):
    """Plots that are saved, as matplotlib has them."""
    saved = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **options: saved.append(figure))
    return saved


def test_bars_have_their_values(figures, tmp_path):
    """Also one of 0, which cannot be seen."""
    angles = {"mean": 40.04, "q05": 30.0, "q50": 40.0, "q95": 50.0}
    pulls = {"mlclap": 20.0, "cacl": 10.06, "kcl": 0.0}
    plot_alignment({"alignment": {"audio": angles, "text": {"eng_Latn": angles}, "pulls": pulls}}, tmp_path / "a.png")
    values = [[text.get_text() for text in panel.texts] for panel in figures[0].axes]
    assert values == [["40.0", "40.0"], ["20.0", "10.1", "0.0"]]


def test_the_plot_of_twins_says_whose_weights(figures, tmp_path):
    step = dict.fromkeys(("total", "audio", "text", "heads", "travelled"), 1.0) | {"step": 1, "log10_bound": 2.0}
    error = {"objectives": {"full": "kcl", "sampled": "mlclap"}, "steps": [step]}
    plot_twins({"weight_error": error}, tmp_path / "twins.png")
    title = "Distance between the weights of KCL in all languages and ML-CLAP in drawn ones"
    assert figures[0].axes[0].get_title().replace("\n", " ") == title


def test_help_explains_every_mode(capsys):
    assert main(["diagnose", "--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {mode}  " in shown for mode in ("draws", "model", "twins"))
    assert main(["diagnose", "--help_all"]) == 0
    shown = capsys.readouterr().out
    assert all(f"usage: atri diagnose {mode}" in shown for mode in ("draws", "model", "twins"))
    assert all(option in shown for option in ("--epochs", "--batch_size", "--num_probes", "--lr_scheduler_type"))
    with pytest.raises(SystemExit):
        main(["diagnose", "twins", "--help"])
    shown = capsys.readouterr().out
    assert "--num_probes" in shown and "--audio_hidden_size" not in shown


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["twin"], "There is no mode 'twin'. Did you mean 'twins'?"),
        (["--train_data", "x"], "There is no mode '--train_data'. The modes are draws, model, twins."),
        (["draws"], "required: --train_data"),
        (["draws", "--train_data", "x", "--epochs", "0"], "`epochs` must be a whole number >= 1; got 0"),
        (["draws", "--train_data", "x", "--objective", "klc"], "invalid choice: 'klc'"),
        (["model", "--model", "x", "--data", "y", "--device", "nonsense"], "The device 'nonsense' cannot be used"),
        (["twins", "--train_data", "x", "--objective", "klc"], "invalid choice: 'klc'"),
    ],
)
def test_a_mistake_is_one_line(argv, message, capsys):
    assert main(["diagnose", *argv]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 2
