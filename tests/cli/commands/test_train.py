"""`atri train` and `atri evaluate` on a folder of sound files, from the command line to the results."""

import json

import pytest

from modeling_atri import AtriModel, AtriProcessor
from modeling_atri.cli.main import main
from modeling_atri.corpora.rows.load import load_rows
from modeling_atri.corpora.soundscapes.scenes import write_soundscapes
from modeling_atri.encode.encoding import encode_audio, encode_text
from modeling_atri.trainer.metrics import retrieval_metrics
from tests.helpers.sources import write_tar, write_zip


pytestmark = pytest.mark.heavy


SIZES = """
audio_hidden_size: 16
audio_layers: 1
audio_heads: 2
text_hidden_size: 16
text_layers: 1
text_heads: 2
projection_dim: 8
vocab_size: 900
patch_size: [64, 16]
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder with data, and a model trained for two steps from a YAML file."""
    folder = tmp_path_factory.mktemp("train")
    write_soundscapes(folder / "data" / "train", 12, seed=0, split="train", duration_s=3.0)
    write_soundscapes(folder / "data" / "heldout", 6, seed=0, split="heldout", duration_s=3.0)
    settings = f"max_steps: 2\nlearning_rate: 1.0e-3\nper_device_train_batch_size: 4\nuse_cpu: true\n{SIZES}"
    (folder / "run.yaml").write_text(settings + "languages: [en, fr, ja]\nsave_strategy: 'no'\n")
    argv = ["train", "--config", str(folder / "run.yaml"), "--train_data", str(folder / "data")]
    argv += ["--train_split", "train", "--eval_data", str(folder / "data"), "--eval_split", "heldout"]
    argv += ["--output_dir", str(folder / "out"), "--objective", "kcl", "--disable_tqdm", "true"]
    assert main(argv) == 0
    return folder


def test_what_training_leaves_behind(run):
    results = json.loads((run / "out" / "atri_results.json").read_text())
    assert results["training"]["objective"] == "kcl"
    assert results["training"]["steps"] == 2
    assert results["evaluated_on"]["languages"] == ["eng_Latn", "fra_Latn", "jpn_Jpan"]
    assert results["evaluated_on"]["num_clips"] == 6
    assert results["data"] == {"train": "data/train", "eval": "data/heldout"}
    assert "# ATRI model" in (run / "out" / "README.md").read_text()
    assert results["model"]["initialized_from"] == "scratch"


def test_evaluating_the_saved_model_gives_the_same_figures(run, capsys):
    output = run / "evaluated.json"
    argv = ["evaluate", "--model", str(run / "out"), "--data", str(run / "data"), "--split", "heldout"]
    assert main([*argv, "--languages", "en", "fr", "ja", "--output", str(output)]) == 0
    trained = json.loads((run / "out" / "atri_results.json").read_text())["metrics"]
    assert json.loads(output.read_text())["metrics"] == pytest.approx(trained, abs=1e-6)
    assert "Japanese" in capsys.readouterr().out


def test_archives_and_tables_give_the_same_figures(run):
    """The training data as a shard of a WebDataset, and the test data as a zip, as parquet and as a saved data set."""
    shard, folder = {}, run / "data" / "train"
    for line in (folder / "metadata.jsonl").read_text().splitlines():
        row = json.loads(line)
        name, suffix = row["file_name"].rsplit(".", 1)
        captions = {"captions": row["captions"], "group_id": row.get("group_id")}
        shard |= {f"{name}.{suffix}": (folder / row["file_name"]).read_bytes()}
        shard |= {f"{name}.json": json.dumps(captions).encode()}
    write_tar(run / "shards" / "000.tar", shard)
    files = [path for path in (run / "data" / "heldout").rglob("*") if path.is_file()]
    content = {path.relative_to(run / "data" / "heldout").as_posix(): path.read_bytes() for path in files}
    packed = write_zip(run / "heldout.zip", content)
    argv = ["train", "--config", str(run / "run.yaml"), "--train_data", str(run / "shards" / "*.tar")]
    argv += ["--eval_data", str(packed), "--output_dir", str(run / "packed"), "--objective", "kcl"]
    assert main([*argv, "--disable_tqdm", "true"]) == 0
    trained = json.loads((run / "out" / "atri_results.json").read_text())["metrics"]
    assert json.loads((run / "packed" / "atri_results.json").read_text())["metrics"] == pytest.approx(
        trained, abs=1e-6
    )
    rows = load_rows(packed)
    rows.to_parquet(run / "heldout.parquet")
    rows.save_to_disk(run / "saved")
    for data in ("heldout.parquet", "saved"):
        argv = ["evaluate", "--model", str(run / "out"), "--data", str(run / data), "--languages", "en", "fr", "ja"]
        assert main([*argv, "--output", str(run / f"{data}.json")]) == 0
        assert json.loads((run / f"{data}.json").read_text())["metrics"] == pytest.approx(trained, abs=1e-6)


def test_streams_are_trained_on_and_evaluated(run):
    """The test data in two parquet files: an evaluation reads both once, and a run takes turns by weights."""
    rows = load_rows(run / "data", "heldout")
    (run / "parts").mkdir()
    paths = [run / "parts" / f"{number}.parquet" for number in range(2)]
    rows.select(range(4)).to_parquet(paths[0])
    rows.select(range(4, 6)).to_parquet(paths[1])
    output, sizes = run / "streamed.json", ["--languages", "en", "fr", "ja"]
    argv = ["evaluate", "--model", str(run / "out"), "--data", str(run / "parts"), "--streaming", *sizes]
    assert main([*argv, "--output", str(output)]) == 0
    trained = json.loads((run / "out" / "atri_results.json").read_text())["metrics"]
    assert json.loads(output.read_text())["metrics"] == pytest.approx(trained, abs=1e-6)
    argv = ["train", "--config", str(run / "run.yaml"), "--train_data", *map(str, paths), "--streaming"]
    argv += ["--data_weights", "2", "1", "--eval_data", str(paths[1]), "--output_dir", str(run / "streamed")]
    assert main([*argv, "--disable_tqdm", "true"]) == 0
    results = json.loads((run / "streamed" / "atri_results.json").read_text())
    assert results["training"]["steps"] == 2
    assert results["data"] == {"train": "0.parquet + 1.parquet", "eval": "1.parquet"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["a", "b"], "Several are read as a stream: add --streaming"),
        (["a", "--num_rows", "5"], "--num_rows is an option of --streaming"),
        (["a", "--data_weights", "5"], "--data_weights is an option of --streaming"),
        (["a", "b", "--streaming", "--data_weights", "5"], "takes a number for each of --train_data; got 1 for 2"),
        (["{run}/data/train", "--streaming", "--max_steps", "-1"], "Add --max_steps, or --num_rows"),
    ],
)
def test_options_of_streams_that_do_not_fit(run, options, message, capsys):
    options = [word.format(run=run) for word in options]
    argv = ["train", "--config", str(run / "run.yaml"), "--output_dir", str(run / "refused"), "--train_data", *options]
    assert main(argv) == 2
    assert message in capsys.readouterr().err


def test_what_an_evaluation_says_of_itself(run):
    output = run / "french.json"
    argv = ["evaluate", "--model", str(run / "out"), "--data", str(run / "data"), "--split", "heldout"]
    assert main([*argv, "--languages", "fr", "ja", "--output", str(output)]) == 0
    results = json.loads(output.read_text())
    assert results["evaluated_on"]["anchor_language"] == "fra_Latn", "English, the default, is not among them"
    assert results["model"].keys() == {"name", "num_parameters", "projection_dim"}
    assert (results["model"]["name"], results["data"]["eval"]) == ("out", "data/heldout")
    assert str(run) not in output.read_text()


def test_the_figures_are_those_of_encoding_by_hand(run):
    model, processor = (cls.from_pretrained(run / "out") for cls in (AtriModel, AtriProcessor))
    rows = [json.loads(line) for line in (run / "data" / "heldout" / "metadata.jsonl").read_text().splitlines()]
    audio = encode_audio(model, processor, [run / "data" / "heldout" / row["file_name"] for row in rows])
    captions = [caption for row in rows for caption in row["captions"]["fra_Latn"]]
    positives = [number for number, row in enumerate(rows) for _ in row["captions"]["fra_Latn"]]
    by_hand = retrieval_metrics(audio, encode_text(model, processor, captions, "fr"), positives)
    metrics = json.loads((run / "out" / "atri_results.json").read_text())["metrics"]
    assert {name: metrics[f"fra_Latn_{name}"] for name in by_hand} == pytest.approx(by_hand, abs=1e-6)


def test_fine_tuning_starts_from_the_saved_model(run):
    argv = ["train", "--model", str(run / "out"), "--train_data", str(run / "data"), "--train_split", "train"]
    argv += [
        "--output_dir",
        str(run / "second"),
        "--objective",
        "mlclap",
        "--languages",
        "en",
        "fr",
        "--max_steps",
        "1",
    ]
    argv += [
        "--learning_rate",
        "0",
        "--per_device_train_batch_size",
        "4",
        "--use_cpu",
        "true",
        "--disable_tqdm",
        "true",
    ]
    argv += ["--group_column", "group_id", "--eval_data", str(run / "data"), "--eval_split", "heldout"]
    assert main(argv) == 0
    assert json.loads((run / "second" / "atri_results.json").read_text())["data"]["group_column"] == "group_id"
    first, second = (AtriModel.from_pretrained(run / name).state_dict() for name in ("out", "second"))
    assert all((first[name] == second[name]).all() for name in first)  # a learning rate of zero


def test_faulty_rows_are_reported_before_training(run, tmp_path, capsys):
    rows = [json.loads(line) for line in (run / "data" / "heldout" / "metadata.jsonl").read_text().splitlines()]
    rows[1]["file_name"] = "gone.flac"
    del rows[3]["captions"]["fra_Latn"]
    for row in rows:
        row["file_name"] = str(run / "data" / "heldout" / row["file_name"])
    (tmp_path / "metadata.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    argv = ["train", "--train_data", str(tmp_path), "--languages", "en", "fr", "--output_dir", str(tmp_path / "out")]
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert "line 2" in error
    assert "gone.flac" in error
    assert "line 4" in error
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_faulty_rows_are_skipped_and_counted(run, tmp_path, capsys):
    source = run / "data" / "heldout"
    rows = [json.loads(line) for line in (source / "metadata.jsonl").read_text().splitlines()]
    for row in rows:
        row["file_name"] = str(source / row["file_name"])
    rows[1]["file_name"] = "gone.flac"
    whole, rows[4]["file_name"] = rows[4]["file_name"], "cut.flac"
    (tmp_path / "cut.flac").write_bytes((source / whole).read_bytes()[:4000])
    (tmp_path / "metadata.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    argv = ["train", "--config", str(run / "run.yaml"), "--train_data", str(tmp_path), "--eval_data", str(tmp_path)]
    assert main([*argv, "--output_dir", str(tmp_path / "out"), "--on_bad_row", "skip", "--disable_tqdm", "true"]) == 0
    printed = capsys.readouterr().out
    results = json.loads((tmp_path / "out" / "atri_results.json").read_text())
    counts = {"missing recording": 1, "unreadable recording": 1}
    assert results["training"]["left_out"] == results["evaluated_on"]["left_out"] == counts
    assert results["evaluated_on"]["num_clips"] == 4
    for name in ("train", "eval"):
        path = tmp_path / "out" / f"{name}_left_out.jsonl"
        assert f"Left out of the {name} data ({path} lists all)" in printed
        assert [json.loads(line)["kind"] for line in path.read_text().splitlines()] == list(counts)
    assert f"missing recording        1  line 2, {rows[1]['audio_id']}" in printed
    card = (tmp_path / "out" / "README.md").read_text()
    assert "- rows left out: 1 missing recording, 1 unreadable recording" in card
    assert "Left out of that set: 1 missing recording, 1 unreadable recording." in card

    argv = ["evaluate", "--model", str(tmp_path / "out"), "--data", str(tmp_path), "--languages", "en", "fr", "ja"]
    assert main(argv) == 2
    assert "there is no file" in capsys.readouterr().err
    output = tmp_path / "figures.json"
    assert main([*argv, "--on_bad_row", "skip", "--output", str(output)]) == 0
    assert f"{tmp_path / 'figures_left_out.jsonl'} lists all" in capsys.readouterr().out
    evaluated = json.loads(output.read_text())
    assert evaluated["evaluated_on"]["left_out"] == counts
    assert evaluated["metrics"] == pytest.approx(results["metrics"], abs=1e-6)
