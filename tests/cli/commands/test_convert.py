"""`atri convert`, from the files that other projects publish to a folder that gives their numbers."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from modeling_atri import AtriFeatureExtractor, AtriModel, AtriProcessor
from modeling_atri.cli.main import main
from modeling_atri.encode import audio_fingerprint
from modeling_atri.hub_cards import make_model_card
from modeling_atri.pretrained.state_dicts import convert_sonar_state_dict
from tests.helpers import SCRIPTS
from tests.helpers.published import ced_state_dict, mlclap_state_dict, save_folder, sonar_state_dict
from tests.helpers.tiny import tiny_model, tiny_tokenizer
from tests.helpers.towers import TOWERS, randomise, whole_clap


pytestmark = pytest.mark.heavy

HEADS = ["--audio_heads", "2", "--text_heads", "2"]


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> Path:
    """A folder of small checkpoints and a tokenizer: `pretrain.pt`, `ced.pt`, `sonar.pt`, `tokenizer/`."""
    folder = tmp_path_factory.mktemp("sources")
    torch.manual_seed(0)
    ced, sonar = ced_state_dict(), sonar_state_dict(vocab_size=700)
    torch.save(mlclap_state_dict(ced, sonar), folder / "pretrain.pt")
    torch.save({"model": ced, "epoch": 3}, folder / "ced.pt")  # as training scripts leave it
    torch.save({"model": sonar}, folder / "sonar.pt")  # as fairseq2 does
    tiny_tokenizer().save_pretrained(folder / "tokenizer")
    return folder


@pytest.fixture
def mlclap(sources) -> list[str]:
    """The words of a conversion of ML-CLAP, without the output."""
    return ["convert", "--mlclap", str(sources / "pretrain.pt"), "--tokenizer", str(sources / "tokenizer"), *HEADS]


@pytest.fixture
def towers(sources) -> list[str]:
    """The words of a conversion of two towers, without tokenizer and output."""
    return ["convert", "--ced", str(sources / "ced.pt"), "--sonar", str(sources / "sonar.pt"), *HEADS]


def everything_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# The numbers of the public code


def reference_inputs(
    folder: Path, name: str, batch: str = ""
) -> tuple[dict[str, torch.Tensor], dict[str, np.ndarray]]:
    """Captions in NLLB's token numbers, and the arrays they belong to."""
    arrays = dict(np.load(folder / f"{name}_io.npz"))
    ids, lengths = (torch.from_numpy(arrays[f"{key}{batch}"]) for key in ("ids", "lens"))
    ids = torch.where(ids < 4, torch.tensor([1, 3, 0, 2])[ids.clamp(max=3)], ids)  # pad, unk, bos, eos
    return {"input_ids": ids, "attention_mask": (torch.arange(ids.shape[1])[None] < lengths[:, None]).long()}, arrays


@pytest.fixture(scope="module")
def small_tokenizer(tmp_path_factory) -> str:
    """One that fits into the 506 rows of the reference's text tower."""
    from modeling_atri.trainer.scratch.tokenizer import train_tokenizer

    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(["a dog barks", "un chien aboie"], ["en", "fr"], vocab_size=500).save_pretrained(folder)
    return str(folder)


def test_mlclap_gives_the_public_numbers(shared_dir, small_tokenizer, tmp_path):
    reference = shared_dir / "reference"
    argv = ["convert", "--mlclap", str(reference / "mlclap_pretrain_tiny.pt"), "--tokenizer", small_tokenizer]
    assert main([*argv, "--audio_heads", "3", "--text_heads", "4", str(tmp_path / "out")]) == 0
    model, processor = (cls.from_pretrained(tmp_path / "out") for cls in (AtriModel, AtriProcessor))
    assert processor.normalize_text
    captions, arrays = reference_inputs(reference, "mlclap")
    waves = np.load(reference / "mel_waves.npz")
    clips = [waves[name] for name in json.loads((reference / "mlclap_meta.json").read_text())["clips"]]
    with torch.no_grad():
        outputs = model(**processor(audio=clips, sampling_rate=16000), **captions)
    for name in ("audio_embeds", "text_embeds"):
        np.testing.assert_allclose(outputs[name], arrays[name], atol=1e-5, rtol=0)
    temperature = json.loads((reference / "mlclap_meta.json").read_text())["temperature"]
    assert 1 / model.logit_scale.exp().item() == pytest.approx(temperature, rel=1e-6)


@pytest.mark.parametrize("naming", ["ced_original_naming", "ced_hf_naming"])
def test_towers_give_the_public_numbers(shared_dir, small_tokenizer, tmp_path, naming):
    reference = shared_dir / "reference"
    argv = ["convert", "--ced", str(reference / f"{naming}.safetensors"), "--tokenizer", small_tokenizer]
    argv += ["--sonar", str(reference / "sonar_fairseq2_naming.safetensors"), "--projection_dim", "8"]
    assert main([*argv, "--audio_heads", "3", "--text_heads", "4", str(tmp_path / "out")]) == 0
    model, processor = (cls.from_pretrained(tmp_path / "out") for cls in (AtriModel, AtriProcessor))
    assert not processor.normalize_text
    captions, arrays = reference_inputs(reference, "sonar", "_1")
    waves, expected = np.load(reference / "mel_waves.npz"), np.load(reference / "ced_io.npz")
    inputs = AtriFeatureExtractor()([waves[name] for name in waves.files], sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        outputs = model(**inputs, **captions)
    np.testing.assert_allclose(outputs.text_model_output.pooler_output, arrays["emb_1"], atol=1e-5, rtol=0)
    pooled = np.stack([expected[f"wave_pooled_{name}"] for name in waves.files])
    np.testing.assert_allclose(outputs.audio_model_output.pooler_output, pooled, atol=1e-5, rtol=0)


# What it leaves and says


def test_it_says_what_it_did_and_writes_it_down(sources, mlclap, towers, tmp_path, capsys):
    assert main([*mlclap, str(tmp_path / "mlclap")]) == 0
    said = capsys.readouterr().out
    model = AtriModel.from_pretrained(tmp_path / "mlclap")
    for part in (
        f"{sources / 'pretrain.pt'}: {len(mlclap_state_dict())} tensors",
        f"audio tower: atri_audio_model, 12 wide, {len(model.audio_model.state_dict())} tensors",
        f"text tower: m2m_100, 8 wide, {len(model.text_model.state_dict())} tensors",
        f"model: {len(model.state_dict())} tensors, {model.num_parameters():,} parameters",
        f"Wrote model and processor to {tmp_path / 'mlclap'}",
    ):
        assert part in said
    assert "newly initialized" not in said
    facts = json.loads((tmp_path / "mlclap" / "atri_results.json").read_text())
    assert facts["model"]["weights_from"] == ["ML-CLAP"]
    assert facts["model"]["num_parameters"] == model.num_parameters()
    assert facts["conversion"]["mlclap"] == "pretrain.pt"
    assert str(sources) not in (tmp_path / "mlclap" / "atri_results.json").read_text()

    assert main([*towers, "--tokenizer", str(sources / "tokenizer"), "--seed", "3", str(tmp_path / "towers")]) == 0
    assert "(audio_projection, text_projection) and logit_scale are newly initialized" in capsys.readouterr().out
    facts = json.loads((tmp_path / "towers" / "atri_results.json").read_text())
    assert facts["model"]["weights_from"] == ["CED", "SONAR"]
    assert facts["model"]["projection_dim"] == 1024
    assert facts["conversion"]["seed"] == 3


def test_the_weights_are_those_of_the_file(mlclap, tmp_path):
    assert main([*mlclap, str(tmp_path)]) == 0
    source = torch.load(mlclap[2], weights_only=True)
    written = load_file(tmp_path / "model.safetensors")
    assert torch.equal(
        written["text_model.embed_tokens.weight"][4:], source["text_encoder.model.encoder_frontend.embed.weight"][4:]
    )
    assert torch.equal(written["audio_projection.fc1.weight"], source["audio_proj.0.weight"])
    qkv = source["audio_encoder.model.blocks.1.attn.qkv.weight"]
    assert torch.equal(written["audio_model.layers.1.attention.k_proj.weight"], qkv[12:24])


def test_the_temperature_to_go_on_from(mlclap, tmp_path, capsys):
    assert main([*mlclap, str(tmp_path / "own")]) == 0
    assert main([*mlclap, "--temperature", "0.07", str(tmp_path / "given")]) == 0
    own, given = (AtriModel.from_pretrained(tmp_path / name) for name in ("own", "given"))
    assert own.logit_scale.exp().item() == pytest.approx(1 / 0.05)
    assert given.logit_scale.exp().item() == pytest.approx(1 / 0.07)
    assert given.config.logit_scale_init_value == pytest.approx(given.logit_scale.item())
    assert json.loads((tmp_path / "given" / "atri_results.json").read_text())["conversion"]["temperature"] == 0.07
    assert main([*mlclap, "--temperature", "0", str(tmp_path / "none")]) == 2
    assert "`temperature` must be a finite number > 0, or None; got 0.0" in capsys.readouterr().err


def test_towers_may_be_folders_and_bring_their_tokenizer(sources, tmp_path):
    config, sonar = convert_sonar_state_dict(torch.load(sources / "sonar.pt", weights_only=True)["model"], heads=2)
    folder = save_folder(tmp_path / "my-sonar", config.to_dict(), sonar, "model.safetensors")
    shutil.copytree(sources / "tokenizer", folder, dirs_exist_ok=True, ignore=lambda *_: {"config.json"})
    ced = save_folder(
        tmp_path / "my-ced", {"model_type": "ced", "num_heads": 3}, ced_state_dict(naming="hub"), "x.bin"
    )
    (ced / "x.bin").rename(ced / "pytorch_model.bin")
    argv = ["convert", "--ced", str(ced), "--sonar", str(folder), "--projection_dim", "4"]
    for seed in ("0", "0", "1"):
        assert main([*argv, "--seed", seed, str(tmp_path / f"out{seed}")]) == 0
    first, other = (load_file(tmp_path / f"out{seed}" / "model.safetensors") for seed in "01")
    assert {key.split(".")[0] for key in first if not torch.equal(first[key], other[key])} == {
        "audio_projection",
        "text_projection",
    }
    assert AtriProcessor.from_pretrained(tmp_path / "out0").language_id("fr") is not None
    facts = json.loads((tmp_path / "out0" / "atri_results.json").read_text())
    assert facts["model"]["weights_from"] == ["my-ced", "my-sonar"]


def test_the_output_is_named_where_one_likes(mlclap, tmp_path):
    out = str(tmp_path / "out")
    for argv in (
        [mlclap[0], out, *mlclap[1:]],
        [*mlclap, out],
        [*mlclap, "--output_dir", out],
        [*mlclap, "--overwrite", out],
        [*mlclap, "--overwrite", "false", out],
    ):
        assert main(argv) == 0
        assert (tmp_path / "out" / "model.safetensors").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


# CLAP, other audio models and archives


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    """Folders of a small CLAP and of a small text tower with its tokenizer: `clap/`, `text/`."""
    folder = tmp_path_factory.mktemp("published")
    torch.manual_seed(0)
    randomise(whole_clap(TOWERS["clap"].config())).save_pretrained(folder / "clap")
    TOWERS["clap"].extractor().save_pretrained(folder / "clap")
    (folder / "clap" / "README.md").write_text("---\nlicense: cc0-1.0\n---\n# CLAP\n")
    tiny_model().text_model.save_pretrained(folder / "text")
    tiny_tokenizer().save_pretrained(folder / "text")
    return folder


def test_clap_keeps_its_audio_side(published, tmp_path, capsys):
    words = ["--clap", str(published / "clap"), "--text", str(published / "text")]
    assert main(["convert", *words, str(tmp_path / "whole")]) == 0
    assert "audio tower: clap_audio_model, 16 wide" in capsys.readouterr().out
    assert main(["convert", *words, "--without_audio_tower", str(tmp_path / "light")]) == 0
    assert "audio tower: none; the model takes embeddings of 12 numbers by clap" in capsys.readouterr().out
    whole, light = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "light"))
    theirs = load_file(published / "clap" / "model.safetensors")
    assert torch.equal(whole["audio_projection.fc1.weight"], theirs["audio_projection.linear1.weight"])
    assert torch.equal(whole["learned_logit_scale.weight"], theirs["logit_scale_a"].reshape(1))
    assert light.keys() == {name for name in whole if not name.startswith("audio")}
    assert all(torch.equal(value, whole[name]) for name, value in light.items())
    facts = json.loads((tmp_path / "light" / "atri_results.json").read_text())
    assert facts["model"]["weights_from"] == ["clap", "text"]
    assert facts["model"]["source_licenses"] == {"clap": "cc0-1.0", "text": None}
    assert facts["model"]["audio_embedded_by"] == "clap"
    assert facts["conversion"]["fresh"] == ["text_projection"]
    processors = [AtriProcessor.from_pretrained(tmp_path / name) for name in ("whole", "light")]
    fingerprint = audio_fingerprint(AtriModel.from_pretrained(tmp_path / "whole"), processors[0])
    assert AtriModel.from_pretrained(tmp_path / "light").config.audio_config.fingerprint == fingerprint
    assert [processor.feature_extractor.feature_size for processor in processors] == [16, 12]
    card = str(make_model_card(facts, "someone/light"))
    assert "whose licenses apply: `clap`: `cc0-1.0`; `text`: not known." in card


def test_an_audio_model_under_new_heads(published, tmp_path, capsys):
    words = ["--audio", str(published / "clap"), "--text", str(published / "text"), "--projection_dim", "4"]
    assert main(["convert", *words, str(tmp_path / "out")]) == 0
    model = AtriModel.from_pretrained(tmp_path / "out")
    assert (model.config.projection_dim, model.config.audio_config.model_type) == (4, "clap_audio_model")
    assert main(["convert", *words, "--audio", str(published / "text"), str(tmp_path / "none")]) == 2
    assert "text has no preprocessor_config.json" in capsys.readouterr().err


def test_a_text_option_that_names_another_kind_of_model(published, tmp_path, capsys):
    """Its type is looked at before its tokenizer, which `clap/` does not have."""
    words = ["convert", "--clap", str(published / "clap"), "--text", str(published / "clap"), str(tmp_path / "out")]
    assert main(words) == 2
    assert "is of type 'clap', a model of sounds and texts. Name a text encoder alone." in capsys.readouterr().err
    TOWERS["ast"].config().save_pretrained(tmp_path / "ast")
    assert (
        main(["convert", "--clap", str(published / "clap"), "--text", str(tmp_path / "ast"), str(tmp_path / "out")])
        == 2
    )
    said = capsys.readouterr().err
    assert "which reads input_values, not text" in said
    assert "tokenizer" not in said


def test_a_model_for_an_archive(published, tmp_path, capsys):
    np.save(tmp_path / "a.npy", np.eye(3, 9, dtype=np.float32))
    (tmp_path / "a.ids.json").write_text('["x", "y", "z"]')
    words = ["--archive", str(tmp_path / "a.npy"), "--text", str(published / "text")]
    assert main(["convert", *words, str(tmp_path / "out")]) == 0
    model, processor = (cls.from_pretrained(tmp_path / "out") for cls in (AtriModel, AtriProcessor))
    assert (model.config.projection_dim, model.config.has_audio_head) == (9, False)
    assert processor.feature_extractor.feature_size == 9
    assert "embeddings of 9 numbers by a.npy" in capsys.readouterr().out


# Whole or not at all


def test_only_new_empty_and_converted_folders_are_written_to(mlclap, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    assert main([*mlclap, str(out)]) == 0  # it was empty
    (out / "model.safetensors").write_bytes(b"old")
    assert main([*mlclap, str(out)]) == 0  # it was an earlier conversion
    assert AtriModel.from_pretrained(out).config.projection_dim == 6
    (out / "training_args.bin").write_bytes(b"mine")
    before = everything_in(tmp_path)
    assert main([*mlclap, str(out)]) == 2
    assert "is not empty and not an earlier conversion: it holds training_args.bin. Name" in capsys.readouterr().err
    assert everything_in(tmp_path) == before
    (out / "config.json").write_text("{}")
    assert main([*mlclap, str(out), "--overwrite"]) == 0
    assert (out / "training_args.bin").read_bytes() == b"mine"
    assert AtriModel.from_pretrained(out).config.projection_dim == 6
    (out / "atri_results.json").write_text('{"metrics": {}}')
    assert main([*mlclap, str(out)]) == 2
    (tmp_path / "file").write_text("")
    assert main([*mlclap, str(tmp_path / "file")]) == 2
    assert "is a file. Name a folder" in capsys.readouterr().err


@pytest.mark.parametrize("exists", [False, True])
def test_a_failure_while_writing_leaves_everything_as_it_was(mlclap, tmp_path, monkeypatch, exists):
    out = tmp_path / "deep" / "out"
    if exists:
        assert main([*mlclap, str(out)]) == 0
    before = everything_in(tmp_path)

    def full(*args, **kwargs):
        raise OSError("No space left on device")

    monkeypatch.setattr(AtriProcessor, "save_pretrained", full)
    assert main([*mlclap, str(out)]) == 2
    assert everything_in(tmp_path) == before
    assert not list(tmp_path.rglob(".*"))


# Mistakes


def test_too_little_room_is_found_before_writing(mlclap, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))
    assert main([*mlclap, str(tmp_path / "out")]) == 2
    assert "There are 0 MB free" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_weights_that_do_not_fit_are_named_and_nothing_is_written(sources, mlclap, tmp_path, capsys):
    state_dict = mlclap_state_dict() | {"module.extra": torch.ones(1)}
    del state_dict["audio_encoder.model.norm.bias"]
    torch.save(state_dict, tmp_path / "wrong.pt")
    argv = [*mlclap, str(tmp_path / "out"), "--mlclap", str(tmp_path / "wrong.pt")]
    assert main(argv) == 2
    assert "missing layer_norm.bias" in capsys.readouterr().err
    state_dict["audio_encoder.model.norm.bias"] = torch.ones(12)
    torch.save(state_dict, tmp_path / "wrong.pt")
    assert main(argv) == 2
    assert "1 keys are not ML-CLAP's: module.extra" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["wrong.pt"]


def test_a_tokenizer_of_more_tokens_than_the_text_tower_knows(mlclap, tmp_path, capsys):
    torch.save(mlclap_state_dict(), tmp_path / "small.pt")
    assert main([*mlclap, str(tmp_path / "out"), "--mlclap", str(tmp_path / "small.pt")]) == 2
    assert "tokens, but the text tower knows 20. Name the tokenizer" in capsys.readouterr().err


@pytest.mark.parametrize(
    "argv, message",
    [
        (["out"], "Pass either --mlclap, or --text and one of --audio, --clap and --archive; got none."),
        (["--ced", "a.pt", "out"], "got --ced."),
        (["--mlclap", "a.pt", "--sonar", "b.pt", "out"], "got --mlclap --sonar."),
        (["--mlclap", "a.pt", "out"], "Name the text tower's tokenizer with --tokenizer"),
        (
            ["--mlclap", "a.pt", "--projection_dim", "8", "--tokenizer", "t", "out"],
            "--projection_dim is only for --audio; the width",
        ),
        (["--audio", "a", "--ced", "a", "--text", "b", "out"], "--audio and --ced are two names of one option"),
        (
            ["--clap", "a/b", "out"],
            "own text tower cannot be kept, because it embeds a text by its first token",
        ),
        (["--clap", "a/b", "--audio", "c/d", "--text", "e/f", "out"], "got --clap --audio --text."),
        (
            ["--clap", "a/b", "--text", "e/f", "--projection_dim", "4", "out"],
            "the width of the embedding space of --clap is fixed",
        ),
        (
            ["--clap", "a/b", "--text", "e/f", "--audio_heads", "4", "out"],
            "only for CED (--audio or --mlclap), not for --clap",
        ),
        (["--archive", "a", "--text", "e/f", "--without_audio_tower", "out"], "never has an audio tower"),
        (["--mlclap", "a.pt", "--tokenizer", "t"], "required: output_dir"),
        (["--mlclap", "a.pt", "--tokenizer", "t", "out", "more"], "Unknown options: 'more'"),
        (["--mlclap", "a.pt", "--tokenizer", "owner/tokenizer", "out"], "There is no file 'a.pt'"),
        (["--mlclap", __file__, "--tokenizer", "/no/tokenizer", "out"], "no file or folder '/no/tokenizer'"),
        (["--mlclap", "a.pt", "--audio_heads", "many", "out"], "invalid int value"),
    ],
)
def test_a_mistake_is_one_line(argv, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["convert", *argv]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 2  # the mistake, and how to see more
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_that_is_not_there(mlclap, tmp_path, capsys):
    assert main([*mlclap, "--mlclap", str(tmp_path / "gone.pt"), str(tmp_path / "out")]) == 2
    assert "gone.pt" in capsys.readouterr().err


# The published size


@pytest.fixture
def roomy_folder(tmp_path):
    """A folder that does not stay: pytest would keep the last three."""
    yield tmp_path
    shutil.rmtree(tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind, files", [("mlclap", ["pretrain"]), ("towers", ["ced", "sonar"])])
def test_memory_at_the_published_size(sources, roomy_folder, repository_root, kind, files):
    """766 M + 85 M parameters in float32: the peak of a process of its own stays below 2.2 times the checkpoint.

    Needs 7 GB of disk.
    """
    script, environment = SCRIPTS / "full_size.py", os.environ | {"PYTHONPATH": str(repository_root)}
    subprocess.run([sys.executable, str(script), str(roomy_folder), kind], env=environment, check=True)
    paths = [roomy_folder / f"{name}.pt" for name in files]
    size = sum(path.stat().st_size for path in paths)
    assert size > 3.4e9
    words = ["--mlclap", str(paths[0])] if kind == "mlclap" else ["--ced", str(paths[0]), "--sonar", str(paths[1])]
    words += ["--tokenizer", str(sources / "tokenizer"), str(roomy_folder / "out")]
    process = subprocess.Popen([sys.executable, "-m", "modeling_atri.cli.main", "convert", *words])
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0
    peak = 1024 * usage.ru_maxrss
    print(f"{kind}: {peak / 1e9:.2f} GB at most, {peak / size:.2f} times the checkpoint")
    assert peak < 1.6 * size  # 1.45 measured: the mapped file, a copy of the embeddings, and 0.4 GB of libraries

    source = torch.load(paths[-1], weights_only=True, mmap=True)
    prefix, source = ("text_encoder.model.", source) if kind == "mlclap" else ("", source["model"])
    written = load_file(roomy_folder / "out" / "model.safetensors")
    assert sum(value.numel() for key, value in written.items() if key.startswith("text_model.")) == 766_091_264
    table = source[f"{prefix}encoder_frontend.embed.weight"]
    assert torch.equal(written["text_model.embed_tokens.weight"][4:], table[4:])
    assert torch.equal(written["text_model.embed_tokens.weight"][:4], table[[2, 0, 3, 1]])
    for i in range(24):
        inner = source[f"{prefix}encoder.layers.{i}.ffn.inner_proj.weight"]
        assert torch.equal(written[f"text_model.layers.{i}.fc1.weight"], inner)
