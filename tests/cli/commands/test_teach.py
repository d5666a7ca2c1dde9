"""`atri teach`: what it makes of each teacher and text side, what stays as it is, and what it says and refuses."""

import contextlib
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file
from transformers.dynamic_module_utils import get_class_from_dynamic_module

from modeling_atri import AtriModel, AtriProcessor, encode_audio, encode_text
from modeling_atri.cli.main import main
from modeling_atri.pretrained import from_clap_pretrained, make_processor
from modeling_atri.trainer.metrics import retrieval_metrics
from modeling_atri.trainer.teach.teachers import load_teacher
from tests.helpers.local_hub import LocalHub
from tests.helpers.taught import parallel_captions, write_captions, write_clap, write_text_encoder
from tests.helpers.tiny import tiny_model, tiny_processor


pytestmark = pytest.mark.heavy

SHORT = ["--max_steps", "3", "--use_cpu", "true", "--disable_tqdm", "true", "--per_device_train_batch_size", "8"]
SMALL = ["--text_hidden_size", "16", "--text_layers", "1", "--text_heads", "2", "--vocab_size", "400"]
ITSELF = ["--teacher", "english", "--languages", "fr"]
AUDIO_SIDE = ("audio_model.", "audio_projection.", "learned_logit_scale")


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """An English ATRI model, a CLAP, a text encoder, captions, and sounds with captions."""
    folder = tmp_path_factory.mktemp("teach")
    tiny_model().save_pretrained(folder / "english")
    tiny_processor().save_pretrained(folder / "english")
    write_clap(folder / "clap")
    write_text_encoder(folder / "encoder")
    write_captions(folder / "captions.jsonl")
    (folder / "dev").mkdir()
    rng = np.random.default_rng(0)
    lines = []
    for number, captions in enumerate(parallel_captions()[:4]):
        soundfile.write(folder / "dev" / f"{number}.flac", rng.normal(scale=0.1, size=16000 + 9000 * number), 16000)
        lines.append(json.dumps({"file_name": f"{number}.flac", "captions": captions}))
    (folder / "dev" / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


def teach(work: Path, output: str, *options: object, data: str = "captions.jsonl") -> Path:
    options = [work / "english" if option == "english" else option for option in options]
    words = ["--train_data", work / data, "--output_dir", work / output, *options, *SHORT]
    assert main(["teach", *map(str, words)]) == 0
    return work / output


def load(folder: Path) -> tuple[AtriModel, AtriProcessor]:
    return AtriModel.from_pretrained(folder), AtriProcessor.from_pretrained(folder)


def sounds_of(work: Path) -> list[Path]:
    return sorted((work / "dev").glob("*.flac"))


def weights_of(folder: Path, names: tuple[str, ...]) -> dict[str, torch.Tensor]:
    return {name: value for name, value in load_file(folder / "model.safetensors").items() if name.startswith(names)}


def results_of(folder: Path) -> dict:
    return json.loads((folder / "atri_results.json").read_text(encoding="utf-8"))


def last_sentence(printed: str) -> str:
    return printed.strip().split("\n\n")[-2]


@pytest.fixture(scope="module")
def taught_clap(work) -> Path:
    """A CLAP with a frozen text encoder under a new head, evaluated on sounds."""
    return teach(
        work,
        "clap8",
        *("--teacher", work / "clap", "--text_model", work / "encoder", "--freeze_text"),
        *("--languages", "fr", "de", "--eval_data", work / "dev"),
    )


def test_audio_embeddings_are_equal_bit_for_bit_after_teaching_push_pull_and_as_remote_code(
    work, taught_clap, monkeypatch, tmp_path
):
    start = from_clap_pretrained(work / "clap", work / "encoder")
    before = encode_audio(start, make_processor(work / "encoder", audio=work / "clap"), sounds_of(work))
    assert np.array_equal(encode_audio(*load(taught_clap), sounds_of(work)), before)
    with LocalHub() as hub:
        hub.connect(monkeypatch)
        assert main(["push", str(taught_clap), "tester/clap8"]) == 0
        pulled = encode_audio(
            AtriModel.from_pretrained("tester/clap8"), AtriProcessor.from_pretrained("tester/clap8"), sounds_of(work)
        )
        card = hub.repos["models/tester/clap8"].files()["README.md"].decode()
        files = ("modeling_atri.AtriModel", "processing_atri.AtriProcessor")
        remote = [
            get_class_from_dynamic_module(name, "tester/clap8").from_pretrained("tester/clap8") for name in files
        ]
    assert np.array_equal(pulled, before)
    assert not isinstance(remote[0], AtriModel)
    assert np.array_equal(encode_audio(*remote, sounds_of(work)), before)
    assert "The embeddings are in the space of `clap` (12 numbers, L2-normalised)." in card
    assert 'AtriModel.from_pretrained("tester/clap8")' in card


def test_the_sentence_at_the_end_says_recall_before_and_after(work, taught_clap, capsys):
    results = results_of(taught_clap)
    audio = encode_audio(*load(taught_clap), sounds_of(work))
    captions = [captions["eng_Latn"][0] for captions in parallel_captions()[:4]]
    before = retrieval_metrics(audio, load_teacher(work / "clap").encode(captions), [[n] for n in range(4)])
    assert results["teaching"] == {"teacher_recall": before["text_to_audio_R@1"]}
    from modeling_atri.cli.teaching.wording import outcome

    figures = results["metrics"]
    after = [100 * figures[f"{code}_text_to_audio_R@1"] for code in ("eng_Latn", "fra_Latn", "deu_Latn")]
    assert outcome(results) == (
        f"Text-to-audio R@1 on 4 clips was {100 * before['text_to_audio_R@1']:.1f} % in English with the teacher, "
        f"and is now English {after[0]:.1f} %, French {after[1]:.1f} % and German {after[2]:.1f} %."
    )
    assert results["training"]["teacher"] | {"fingerprint": ""} == {
        **{"name": "clap", "kind": "clap", "license": None, "width": 12, "num_captions": 24, "fingerprint": ""}
    }
    assert results["training"]["frozen"] == ["audio", "text"]
    assert results["model"]["initialized_from"] == "clap and encoder"
    assert (taught_clap / "text_states").is_dir(), "the states of a frozen encoder are kept"


@pytest.fixture(scope="module")
def itself(work) -> tuple[Path, str]:
    """An English ATRI model that was taught French, with a checkpoint after two of three steps; what was printed."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        output = teach(work, "itself", *ITSELF, *("--save_steps", "2", "--save_total_limit", "2"))
    return output, printed.getvalue()


def test_an_atri_model_teaches_itself_and_says_so(work, itself):
    output, printed = itself
    summary = dict(re.findall(r"^ *([a-z ]+): (.*)$", printed, re.MULTILINE))
    assert summary["teaches"] == "French"
    assert summary["teacher"] == "english (atri, 12 numbers a caption, license not known)"
    assert summary["text side"].startswith("that of english; 0.0")
    assert summary["captions"] == "23 English, 23 French"
    assert summary["audio term"] == "none"
    assert summary["measured"] == "cosine to the teacher on 1 row held back"
    assert summary["learning rates"] == "0.001 for the head, 0.001 for the text encoder"
    before, after = (weights_of(folder, AUDIO_SIDE) for folder in (work / "english", output))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    cosines = results_of(output)["teaching"]["held_back_cosine"]
    assert last_sentence(printed) == (
        f"The mean cosine to the teacher's English embedding, on 1 caption held back from training, is English "
        f"{cosines['eng_Latn']:.3f} and French {cosines['fra_Latn']:.3f}; to measure recall, pass sounds or stored "
        "embeddings with captions as --eval_data."
    )
    assert results_of(output)["model"]["initialized_from"] == "english"


def test_the_held_back_cosine_is_that_of_captions_that_were_not_trained_on(work, itself):
    folder, _ = itself
    model, processor = load(folder)
    keys = np.load(folder / "teaching" / "teacher.keys.npy")
    from modeling_atri.trainer.teach.tables import digests

    sentences = parallel_captions()
    unseen = [captions for captions in sentences if digests(captions["eng_Latn"])[0] not in keys]
    assert len(unseen) == 1
    target = encode_text(*load(work / "english"), unseen[0]["eng_Latn"], "en")
    found = (encode_text(model, processor, unseen[0]["fra_Latn"], "fr") * target).sum()
    assert results_of(folder)["teaching"]["held_back_cosine"]["fra_Latn"] == pytest.approx(float(found), abs=1e-6)


def test_a_run_goes_on_where_it_was_stopped(work, itself):
    whole, _ = itself
    stopped = work / "stopped"
    for name in ("checkpoint-2", "teaching"):
        shutil.copytree(whole / name, stopped / name)
    resumed = teach(work, "stopped", *ITSELF, "--resume_from_checkpoint", "true")
    first, second = (load_file(folder / "model.safetensors") for folder in (whole, resumed))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert results_of(resumed)["model"]["initialized_from"] == "english"


def test_an_adapter_is_merged_into_a_whole_model(work):
    pytest.importorskip("peft", reason="adapters need PEFT: pip install 'modeling_atri[peft]'")
    options = ["--teacher", work / "clap", "--text_model", work / "encoder", "--lora_rank", "2", "--languages", "fr"]
    output = teach(work, "lora", *options, "--text_learning_rate", "0.1")
    assert not (output / "adapter_config.json").exists()
    start, end = (weights_of(folder, ("text_model.",)) for folder in (output / "start", output))
    assert start.keys() == end.keys()
    moved = [name for name in start if not torch.equal(start[name], end[name])]
    assert moved
    assert all(re.search(r"\.(fc\d|\w+_proj)\.weight$", name) for name in moved)
    before, after = (weights_of(folder, AUDIO_SIDE) for folder in (output / "start", output))
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert "adapter" not in results_of(output)["model"]
    assert results_of(output)["model"]["initialized_from"] == "clap and encoder"


def test_the_text_side_alone_embeds_captions_as_the_whole_model_does(work, itself):
    whole, _ = itself
    alone = teach(work, "without_tower", *ITSELF, "--without_audio_tower")
    texts = ["dog barks", "cloche sonne"]
    embeddings = [encode_text(*load(folder), texts, ["en", "fr"]) for folder in (whole, alone)]
    assert np.array_equal(*embeddings)
    assert not weights_of(alone, ("audio_model.", "audio_projection."))
    audio = json.loads((alone / "config.json").read_text())["audio_config"]
    assert (audio["model_type"], audio["source"]) == ("atri_embedded_audio", "english")
    assert results_of(alone)["model"]["audio_embedded_by"] == "english"
    assert "which `english` has made" in (alone / "README.md").read_text(encoding="utf-8")


def test_stored_embeddings_of_the_teacher_are_searched_by_the_text_side_alone(work):
    assert main(["encode", str(work / "dev"), str(work / "archive"), "--model", str(work / "english")]) == 0
    alone = teach(
        work,
        "archive_text",
        *("--teacher", work / "english", "--languages", "fr", "--without_audio_tower"),
        *("--eval_data", work / "dev", "--audio_embeddings", work / "archive"),
        data="dev",
    )
    argv = ["evaluate", "--model", alone, "--data", work / "dev", "--audio_embeddings", work / "archive"]
    assert main([*map(str, argv), "--languages", "en", "fr", "--output", str(work / "archive.json")]) == 0
    figures = results_of(alone)["metrics"]
    again = json.loads((work / "archive.json").read_text(encoding="utf-8"))["metrics"]
    assert again == pytest.approx({name: figures[name] for name in again}, abs=1e-6)
    assert results_of(alone)["training"]["teach_audio"] == "akcl"


def test_a_column_of_vectors_and_a_text_side_from_scratch(work):
    vectors = np.random.default_rng(0).normal(size=(24, 7))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    with open(work / "column.jsonl", "w", encoding="utf-8") as file:
        for captions, vector in zip(parallel_captions(), vectors, strict=True):
            print(json.dumps({"captions": captions, "teacher_embedding": vector.tolist()}), file=file)
    output = teach(work, "column", "--languages", "de", *SMALL, data="column.jsonl")
    model, processor = load(output)
    assert (model.config.projection_dim, model.text_model.config.hidden_size) == (7, 16)
    assert len(processor.tokenizer) <= 400
    assert results_of(output)["model"]["initialized_from"] == "scratch"
    card = (output / "README.md").read_text(encoding="utf-8")
    assert "the space of the vectors in the column `teacher_embedding` of the training data (7 numbers" in card


def test_a_language_is_added_while_others_are_held(work):
    options = ["--teacher", work / "english", "--languages", "fr", "es", "--hold_languages", "fr"]
    output = teach(work, "held", *options)
    assert results_of(output)["training"]["hold_languages"] == ["fra_Latn"]
    assert "The embeddings of these languages were kept: French." in (output / "README.md").read_text(encoding="utf-8")


def copied(work: Path, name: str, without: str) -> Path:
    """A copy of a folder without some of its files."""
    folder = work / f"{name} without {without}"
    shutil.copytree(work / name, folder, ignore=shutil.ignore_patterns(f"{without}*"), dirs_exist_ok=True)
    return folder


def without_english(work: Path) -> list[object]:
    path = work / "no_english.jsonl"
    path.write_text(json.dumps({"captions": {"fra_Latn": ["un chien"]}}), encoding="utf-8")
    return ["--teacher", work / "english", "--languages", "fr", "--train_data", path]


@pytest.mark.parametrize(
    "options, message",
    [
        (
            lambda work: ["--languages", "fr"],
            r"There is no teacher\. Name a model with --teacher, or add a column",
        ),
        (lambda work: ["--teacher", work / "none", "--languages", "fr"], "There is no folder"),
        (lambda work: ["--teacher", work / "encoder", "--languages", "fr"], "has no text side that gives embeddings"),
        (
            lambda work: ["--teacher", work / "clap", "--languages", "fr", "--freeze_text"],
            "--freeze_text keeps the weights of a text encoder, but those of a new encoder are random",
        ),
        (
            lambda work: ["--teacher", work / "clap", "--languages", "fr", "es", "--hold_languages", "fr"],
            "--hold_languages keeps languages that the teacher's own text side knows",
        ),
        (lambda work: ["--teacher", work / "english", "--objective", "kcl"], "teach"),
        (lambda work: ["--teacher", work / "english", "--languages", "tlh"], "tlh"),
        (without_english, "eng_Latn"),
        (
            lambda work: [
                "--languages",
                "fr",
                "--teacher",
                copied(work, "clap", "tokenizer"),
                "--text_model",
                work / "encoder",
            ],
            r"The teacher '.*' has no tokenizer: there is no vocab.json or",
        ),
        (
            lambda work: [
                "--languages",
                "fr",
                "--teacher",
                work / "clap",
                "--text_model",
                copied(work, "encoder", "tokenizer"),
            ],
            "has no tokenizer that can be loaded",
        ),
        (
            lambda work: [
                "--languages",
                "fr",
                "--teacher",
                copied(work, "clap", "model"),
                "--text_model",
                work / "encoder",
            ],
            r"The teacher '.*' cannot be loaded: ",
        ),
        (
            lambda work: ["--teacher", work / "english", "--languages", "fr", "--text_model", work / "clap"],
            "clap",
        ),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_a_mistake_is_told_in_a_sentence(work, capsys, options, message):
    words = ["--train_data", work / "captions.jsonl", *options(work), "--output_dir", work / "wrong", *SHORT]
    assert main(["teach", *map(str, words)]) == 2
    said = capsys.readouterr().err
    assert re.search(message, said), said
    assert "Traceback" not in said
    assert "fault of the program" not in said
