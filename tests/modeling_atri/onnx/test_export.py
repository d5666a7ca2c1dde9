"""Exported graphs, and the model that runs them, against the model that was exported."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.export import Dim

from modeling_atri import AtriConfig, AtriModel
from modeling_atri.encode.encoding import encode_audio, encode_text
from modeling_atri.onnx import OnnxAtriModel, export, export_onnx, verify
from tests.helpers.onnx_inputs import captions, clips, embeddings
from tests.helpers.tiny import CAPTIONS, tiny_config, tiny_model, tiny_processor


pytestmark = pytest.mark.heavy


# One chunk is 1012 frames. Alone and in a batch: one patch, just below, at and above a chunk, several chunks.
LENGTHS = [[16], [31], [1011], [1012], [1013], [2024], [3000], [1500, 1500], [16, 40, 1012], [16, 3000, 1012, 2025]]


# torch.export


@pytest.mark.parametrize("patch_size", [(16, 16), pytest.param((64, 16), marks=pytest.mark.slow)], ids=str)
def test_the_audio_tower_exports_with_free_batch_and_length(patch_size):
    tower = tiny_model(patch_size=patch_size).audio_model
    sizes = {0: Dim.DYNAMIC, 1: Dim("num_frames", min=16)}
    shapes = {"input_features": sizes, "input_features_mask": sizes}
    program = torch.export.export(tower, (), kwargs=clips([300, 200]), dynamic_shapes=shapes).module()
    for lengths in LENGTHS:
        inputs = clips(lengths)
        with torch.no_grad():
            ours, traced = tower(**inputs), program(**inputs)
        torch.testing.assert_close(traced.pooler_output, ours.pooler_output, atol=1e-6, rtol=0)
        if patch_size[0] == 16:  # with one row a clip of one patch gets a second, masked one
            torch.testing.assert_close(traced.last_hidden_state, ours.last_hidden_state, atol=1e-5, rtol=0)


def test_the_text_tower_exports_with_free_batch_and_length(model, processor):
    sizes = {0: Dim.DYNAMIC, 1: Dim.DYNAMIC}
    example = captions(processor, ["a dog barks", "rain"])
    shapes = {"input_ids": sizes, "attention_mask": sizes}
    program = torch.export.export(model.text_model, (), kwargs=example, dynamic_shapes=shapes).module()
    for inputs in (captions(processor), captions(processor, ["a"]), captions(processor, ["a dog " * 100, "rain"])):
        with torch.no_grad():
            ours, traced = (tower(**inputs).last_hidden_state for tower in (model.text_model, program))
        used = inputs["attention_mask"].bool()  # what stands for padding is nobody's
        torch.testing.assert_close(traced[used], ours[used], atol=1e-5, rtol=0)


@pytest.mark.slow
def test_lengths_that_are_fixed_export_too(model):
    inputs = clips([1500, 16])
    program = torch.export.export(model.audio_model, (), kwargs=inputs).module()
    with torch.no_grad():
        torch.testing.assert_close(program(**inputs).pooler_output, model.audio_model(**inputs).pooler_output)


# ONNX


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_clips_of_any_length(model, onnx_model, lengths):
    inputs = clips(lengths)
    np.testing.assert_allclose(embeddings(onnx_model, inputs), embeddings(model, inputs), atol=1e-5, rtol=0)


def test_captions_of_any_length(model, onnx_model, processor):
    longest = {"input_ids": torch.randint(4, 500, (1, 514)), "attention_mask": torch.ones(1, 514, dtype=torch.long)}
    for inputs in (
        captions(processor),
        captions(processor, ["a"]),
        captions(processor, ["rain", "a dog " * 90]),
        longest,
    ):
        np.testing.assert_allclose(embeddings(onnx_model, inputs), embeddings(model, inputs), atol=1e-5, rtol=0)


def test_captions_are_cut_to_the_limit_of_the_text_tower(model, onnx_model):
    ids, mask = torch.randint(4, 500, (2, 600)), torch.ones(2, 600, dtype=torch.long)
    mask[1, 520:] = 0
    first, end = torch.cat([ids[:, :513], ids[:, [599]]], dim=1), torch.cat([ids[:, :513], ids[:, [519]]], dim=1)
    expected = torch.stack([first[0], end[1]])
    cut = {"input_ids": expected, "attention_mask": torch.ones_like(expected)}
    found = embeddings(onnx_model, {"input_ids": ids, "attention_mask": mask})
    np.testing.assert_allclose(found, embeddings(model, cut), atol=1e-5, rtol=0)


def test_masks_may_be_left_out(model, onnx_model):
    for inputs in ({"input_features": clips([100])["input_features"]}, {"input_ids": torch.tensor([[5, 9, 2]])}):
        np.testing.assert_allclose(embeddings(onnx_model, inputs), embeddings(model, inputs), atol=1e-5, rtol=0)


def test_bulk_encoding_takes_it_for_a_model(model, onnx_model, exported):
    from modeling_atri import AtriProcessor

    processor = AtriProcessor.from_pretrained(exported)
    sounds = [(0.1 * np.random.randn(samples)).astype(np.float32) for samples in (16000, 2400, 170000, 5000)]
    ours, theirs = (encode_audio(item, processor, sounds, sampling_rate=16000) for item in (model, onnx_model))
    np.testing.assert_allclose(theirs, ours, atol=1e-5, rtol=0)
    arguments = (processor, list(CAPTIONS.values()), list(CAPTIONS))
    ours, theirs = (encode_text(item, *arguments) for item in (model, onnx_model))
    np.testing.assert_allclose(theirs, ours, atol=1e-5, rtol=0)


def test_the_folder_is_all_that_is_needed(model, exported, processor):
    """The graphs in a process without torch, and names, types and free dimensions as told."""
    inputs = clips([1500, 400]) | captions(processor)
    expected = {"audio": embeddings(model, clips_of(inputs)), "text": embeddings(model, captions_of(inputs))}
    np.savez(exported.parent / "inputs.npz", **{name: value.numpy() for name, value in inputs.items()})
    program = (
        "import sys, json, numpy, onnxruntime\n"
        "inputs, results = numpy.load(sys.argv[2]), {}\n"
        "for name in ('audio', 'text'):\n"
        "    session = onnxruntime.InferenceSession(f'{sys.argv[1]}/{name}.onnx')\n"
        "    results[name] = session.run(None, {i.name: inputs[i.name] for i in session.get_inputs()})[0].tolist()\n"
        "    ends = [*session.get_inputs(), *session.get_outputs()]\n"
        "    results[f'{name}_ends'] = [[end.name, end.type, end.shape] for end in ends]\n"
        "results['torch'] = 'torch' in sys.modules\n"
        "print(json.dumps(results))\n"
    )
    command = [sys.executable, "-c", program, str(exported), str(exported.parent / "inputs.npz")]
    results = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert not results["torch"]
    for name in ("audio", "text"):
        np.testing.assert_allclose(np.array(results[name]), expected[name], atol=1e-5, rtol=0)
    assert results["audio_ends"] == [
        ["input_features", "tensor(float)", ["num_audios", "num_frames", 64]],
        ["input_features_mask", "tensor(int64)", ["num_audios", "num_frames"]],
        ["audio_embeds", "tensor(float)", ["num_audios", 12]],
    ]
    assert results["text_ends"] == [
        ["input_ids", "tensor(int64)", ["num_texts", "num_tokens"]],
        ["attention_mask", "tensor(int64)", ["num_texts", "num_tokens"]],
        ["text_embeds", "tensor(float)", ["num_texts", 12]],
    ]
    traced = (exported / "audio.onnx").read_bytes()
    assert str(Path(__file__).parents[2]).encode() not in traced  # nothing of the machine it was made on


def clips_of(inputs: dict) -> dict:
    return {name: inputs[name] for name in ("input_features", "input_features_mask")}


def captions_of(inputs: dict) -> dict:
    return {name: inputs[name] for name in ("input_ids", "attention_mask")}


@pytest.mark.slow
def test_another_text_tower_large_weights_and_training_mode(processor, tmp_path, monkeypatch, capfd):
    """A BERT, a file of weights beside the graph, a model that trains on: in one export, which takes seconds."""
    pytest.importorskip("onnxscript", reason="needs the extra `onnx`")
    monkeypatch.setattr(export, "_FILE_SIZE_LIMIT", 30_000)
    text_config = {
        "model_type": "bert",
        "vocab_size": 600,
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    }
    audio_config = tiny_config(patch_size=(64, 16), patch_dropout=0.5, num_hidden_layers=1).audio_config
    model = AtriModel(AtriConfig(audio_config=audio_config, text_config=text_config, projection_dim=12)).train()
    model.text_model.eval()
    modes = [module.training for module in model.modules()]
    folder = tmp_path / "new" / "exported"
    export_onnx(model, processor, folder)
    assert capfd.readouterr() == ("", "")
    assert [module.training for module in model.modules()] == modes
    assert (folder / "audio.onnx.data").is_file()
    assert os.listdir(folder.parent) == ["exported"]
    onnx_model = OnnxAtriModel.from_pretrained(folder, num_threads=1)
    model.eval()
    for inputs in (clips([16]), clips([16, 1500]), captions(processor)):
        np.testing.assert_allclose(embeddings(onnx_model, inputs), embeddings(model, inputs), atol=1e-5, rtol=0)


def test_an_export_that_fails_leaves_nothing(model, processor, tmp_path, monkeypatch):
    pytest.importorskip("onnxscript", reason="needs the extra `onnx`")

    def full(*args, **kwargs):
        raise OSError("No space left on device")

    monkeypatch.setattr(torch.onnx, "export", full)
    with pytest.raises(OSError, match="No space"):
        export_onnx(model, processor, tmp_path / "out")
    assert os.listdir(tmp_path) == []


# Rotary positions


def rotary_model(**text_config) -> AtriModel:
    audio_config = tiny_config(patch_size=(64, 16), num_hidden_layers=1).audio_config
    sizes = {"vocab_size": 600, "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 48}
    text_config = sizes | {"num_attention_heads": 2} | text_config
    return AtriModel(AtriConfig(audio_config=audio_config, text_config=text_config, projection_dim=12)).eval()


MODERNBERT = {
    **{"model_type": "modernbert", "global_attn_every_n_layers": 2, "local_attention": 8, "pad_token_id": 1},
    **{"bos_token_id": 0, "eos_token_id": 2, "cls_token_id": 0, "sep_token_id": 2},
}
GEMMA = {  # EmbeddingGemma's encoder
    **{"model_type": "gemma3_text", "use_bidirectional_attention": True, "sliding_window": 8, "head_dim": 16},
    **{"num_key_value_heads": 1, "layer_types": ["sliding_attention", "full_attention"]},
}
XLM_R = {"model_type": "xlm-roberta", "max_position_embeddings": 66, "pad_token_id": 1}


@pytest.mark.slow
def test_rotary_positions_at_any_batch_size_and_length(model, processor, exported, tmp_path, monkeypatch):
    """In the operator set that such towers end in; the audio tower is one that was exported before."""
    rotary = rotary_model(**MODERNBERT)
    rotary.config.audio_config, rotary.audio_model = model.config.audio_config, model.audio_model
    rotary.audio_projection = model.audio_projection
    export_tower = export._export_tower

    def export_text_only(tower, path, opset, int8):
        if path.name == "text.onnx":
            export_tower(tower, path, opset, int8)
        else:
            shutil.copyfile(exported / path.name, path)

    monkeypatch.setattr(export, "_export_tower", export_text_only)
    monkeypatch.setattr(export, "_OPSETS", export._OPSETS[-1:])
    export_onnx(rotary, processor, tmp_path / "out")
    check_batches(rotary, tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text_config", "int8"),
    [
        pytest.param(MODERNBERT, False, id="ModernBERT"),
        pytest.param(GEMMA, False, id="Gemma"),
        pytest.param(GEMMA, True, id="Gemma in int8"),
        pytest.param(MODERNBERT, True, id="ModernBERT in int8"),
        pytest.param(XLM_R, False, id="a position limit"),
    ],
)
def test_other_text_towers_at_any_batch_size_and_length(processor, tmp_path, text_config, int8):
    pytest.importorskip("onnxscript", reason="needs the extra `onnx`")
    model = rotary_model(**text_config)
    export_onnx(model, processor, tmp_path / "out", int8=int8)
    check_batches(model, tmp_path / "out", int8)


def check_batches(model: AtriModel, folder: Path, int8: bool = False) -> None:
    """Compare the text graph with the model for several numbers and lengths of captions, one of them padded."""
    onnx_model = OnnxAtriModel.from_pretrained(folder, num_threads=1)
    for size in (1, 2, 5):
        for length in (1, 2, 9, 64):
            mask = torch.ones(size, length, dtype=torch.long)
            mask[1:2, 1 + length // 2 :] = 0
            inputs = {"input_ids": torch.randint(3, 600, (size, length)), "attention_mask": mask}
            ours, theirs = embeddings(model, inputs), embeddings(onnx_model, inputs)
            if int8:
                assert (ours * theirs).sum(axis=1).min() > verify.INT8_COSINE
            else:
                np.testing.assert_allclose(theirs, ours, atol=1e-5, rtol=0)


# Every graph is run before anybody can use it


def write_instead(monkeypatch, graphs: Callable[[str, int], Path]) -> None:
    """Let exports write the files that `graphs` names for a file's name and an operator set."""

    def export_tower(tower, path, opset, int8):
        shutil.copyfile(graphs(path.name, opset), path)

    monkeypatch.setattr(export, "_export_tower", export_tower)


def other_text_head() -> AtriModel:
    model = tiny_model(num_hidden_layers=1)
    with torch.no_grad():
        model.text_projection.fc2.bias[0] += 0.01
    return model


def test_a_graph_that_differs_from_the_model_is_not_written(model, exported, exported_int8, tmp_path, monkeypatch):
    processor, out = tiny_processor(), tmp_path / "out"
    (tmp_path / "audio.onnx").write_bytes(b"no graph")
    for folder, other, int8, message in (
        (
            exported,
            tiny_model(seed=1, num_hidden_layers=1),
            False,
            "audio.onnx for a batch of 1 with length 16 differ from the model's by",
        ),
        (
            exported,
            other_text_head(),
            False,
            r"text.onnx for a batch of 1 .* and at most 1e-04 is allowed\. Try other",
        ),
        (
            exported_int8,
            tiny_model(seed=1, num_hidden_layers=1),
            True,
            r"have a cosine of .* with the model's, and at least 0.95 is needed",
        ),
        (tmp_path, model, False, "its graph is wrong: audio.onnx cannot be loaded"),
    ):
        write_instead(monkeypatch, lambda name, opset, folder=folder: folder / name)
        with pytest.raises(ValueError, match=message):
            export_onnx(other, processor, out, int8=int8)
        assert [path.name for path in tmp_path.iterdir()] == ["audio.onnx"], "nothing is left"


def test_another_operator_set_is_used_if_the_first_is_wrong(model, exported, tmp_path, monkeypatch):
    (tmp_path / "audio.onnx").write_bytes(b"no graph")
    opsets = []

    def graphs(name: str, opset: int) -> Path:
        opsets.append((name, opset))
        return (tmp_path if opset == 23 and name == "audio.onnx" else exported) / name

    write_instead(monkeypatch, graphs)
    export_onnx(model, tiny_processor(), tmp_path / "out")
    assert opsets == [("audio.onnx", 23), ("audio.onnx", 22), ("text.onnx", 23)]
    assert (tmp_path / "out" / "audio.onnx").read_bytes() == (exported / "audio.onnx").read_bytes()


def test_a_quantised_graph_whose_rows_depend_on_the_batch_is_refused(exported_int8, model, tmp_path, monkeypatch):
    run = verify.run_graph

    def run_by_batch(graph, inputs):
        embeddings = run(graph, inputs)
        return embeddings + 0.01 * (len(embeddings) > 1)

    monkeypatch.setattr(verify, "run_graph", run_by_batch)
    write_instead(monkeypatch, lambda name, opset: exported_int8 / name)
    with pytest.raises(ValueError, match="depend on the batch, and differ by up to 1.0e-02, and at most 1e-03"):
        export_onnx(model, tiny_processor(), tmp_path / "out", int8=True)
    assert os.listdir(tmp_path) == []


def test_a_tower_that_torch_cannot_trace_is_one_sentence(model, tmp_path, monkeypatch):
    pytest.importorskip("onnxscript", reason="needs the extra `onnx`")

    def refuse(*args, **kwargs):
        raise torch.onnx.errors.OnnxExporterError("no way\nand a long explanation")

    monkeypatch.setattr(torch.onnx, "export", refuse)
    with pytest.raises(ValueError, match=r"torch cannot write audio.onnx: no way Nothing was written\."):
        export_onnx(model, tiny_processor(), tmp_path / "out")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("text_config", [MODERNBERT, XLM_R | {"max_position_embeddings": 12}], ids=["free", "limit"])
def test_what_graphs_are_checked_with(text_config):
    """Several sizes, lengths and masks, within the tower's limits."""
    model = rotary_model(**text_config)
    batches = list(verify.example_captions(model))
    assert {len(batch["input_ids"]) for batch in batches} == {1, 2, 3}
    longest = 200 if text_config is MODERNBERT else 10
    assert max(batch["input_ids"].shape[1] for batch in batches) == longest
    for batch in batches:
        words = batch["input_ids"][batch["attention_mask"].bool()]
        assert (words != 1).all()
        assert (batch["input_ids"][~batch["attention_mask"].bool()] == 1).all()
        assert np.isfinite(embeddings(model, batch)).all()
    assert any((batch["attention_mask"] == 0).any() for batch in batches)
    lengths = [batch["input_features_mask"].sum(1).tolist() for batch in verify.example_clips(model, tiny_processor())]
    chunk = model.config.audio_config.max_frames
    assert lengths == [[16], [chunk - 1, chunk + 16], [16, 2 * chunk + 5, 49]]


def test_mistakes(model, processor, onnx_model, exported, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="exists and is not an empty folder"):
        export_onnx(model, processor, tmp_path)
    with pytest.raises(ValueError, match="exists and is not"):
        export_onnx(model, processor, tmp_path / "mine.txt")
    with pytest.raises(ValueError, match=r"torch.bfloat16; load it with dtype=torch.float32"):
        export_onnx(tiny_model().to(torch.bfloat16), processor, tmp_path / "out")
    with pytest.raises(ValueError, match="not a folder of an exported model: it has no audio.onnx, text.onnx, config"):
        OnnxAtriModel.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="`num_threads` must be at least 1, got 0"):
        OnnxAtriModel.from_pretrained(exported, num_threads=0)
    with pytest.raises(ValueError, match="The shortest clip has 15 frames, fewer than one patch"):
        onnx_model.get_audio_features(**clips([100, 15]))


def test_without_the_extra_the_error_says_what_to_install(model, processor, tmp_path, monkeypatch):
    for name, attempt in (
        ("onnxscript", lambda: export_onnx(model, processor, tmp_path / "out")),
        ("onnxruntime", lambda: OnnxAtriModel.from_pretrained(tmp_path)),
    ):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(ImportError, match=rf"\({name} is missing\): pip install 'modeling_atri\[onnx\]'"):
            attempt()
