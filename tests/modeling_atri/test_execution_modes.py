"""The same numbers in every mode that transformers offers: compiled, half precision, spread over devices, sharded."""

import copy
import io
import json
import math
import pickle
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import XLMRobertaConfig

from modeling_atri import AtriConfig, AtriModel
from tests.helpers.tiny import tiny_config, tiny_model, tiny_processor


pytestmark = pytest.mark.heavy


def clips(*lengths: int) -> dict[str, Tensor]:
    """Log-mel spectrograms of these lengths, in frames, padded."""
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    return {"input_features": -20 + 15 * torch.randn(*mask.shape, 64), "input_features_mask": mask}


def captions() -> dict[str, Tensor]:
    text = ["a dog barks while rain falls", "un chien", "Regen"]
    return dict(tiny_processor()(text=text, language=["en", "fr", "de"]))


def model_with_xlm_roberta() -> AtriModel:
    config = tiny_config()
    config.text_config = XLMRobertaConfig(
        vocab_size=600,
        hidden_size=16,
        num_attention_heads=2,
        num_hidden_layers=2,
        intermediate_size=32,
        initializer_range=0.2,
        pad_token_id=1,
    )
    model = AtriModel(config).eval()
    norm = tiny_model().audio_model.mel_norm
    model.audio_model.mel_norm.set_statistics(norm.running_mean, norm.running_var)
    return model


def assert_same(actual: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=0)


# torch.compile. The graph is captured whole or not at all; the backend that makes code of it is slow to start.

BATCHES = [(101,), (40, 100, 20), (203, 150), (40, 1013, 2050)]  # frames; a full chunk has 1012


@pytest.fixture(autouse=True)
def fresh_compiler() -> None:
    torch.compiler.reset()


def check_compiled(batches: list[tuple[int, ...]], **options) -> None:
    """Both towers and the whole model in one graph each: short, padded and long clips, batches of several shapes."""
    model, other = tiny_model(num_hidden_layers=1), model_with_xlm_roberta()
    audio = torch.compile(model.get_audio_features, fullgraph=True, **options)
    whole = torch.compile(model, fullgraph=True, **options)
    with torch.no_grad():
        for lengths in batches:
            inputs = clips(*lengths)
            actual, expected = audio(**inputs), model.get_audio_features(**inputs)
            assert_same(actual.pooler_output, expected.pooler_output)
            assert_same(actual.last_hidden_state, expected.last_hidden_state)
        inputs = {**clips(40, 100, 140), **captions()}
        actual, expected = whole(**inputs, return_loss=True), model(**inputs, return_loss=True)
        assert_same(actual.logits_per_audio, expected.logits_per_audio, 1e-4)
        assert_same(actual.loss, expected.loss, 1e-4)
        text = torch.compile(other.get_text_features, fullgraph=True, **options)
        assert_same(text(**captions()).pooler_output, other.get_text_features(**captions()).pooler_output)


@pytest.mark.parametrize(
    "lengths, dropout",
    [((40, 100, 1100), {}), ((40, 100, 140), {"patch_dropout": 0.5, "drop_path_rate": 0.3})],
)
def test_compiled_training_equals_eager(lengths, dropout):
    model = tiny_model(**dropout).train()
    inputs = {**clips(*lengths), **captions(), "return_loss": True}
    gradients = []
    for step in (model, torch.compile(model, fullgraph=True, backend="eager")):
        torch.manual_seed(0)
        model.zero_grad()
        step(**inputs).loss.backward()
        gradients.append({name: parameter.grad.clone() for name, parameter in model.named_parameters()})
    for name, gradient in gradients[0].items():
        assert_same(gradients[1][name], gradient, 1e-5 * max(1.0, gradient.abs().max().item()))


@pytest.mark.slow
def test_compiled_graphs_equal_eager():
    check_compiled(BATCHES, backend="eager")


@pytest.mark.slow
def test_compiled_code_equals_eager():
    check_compiled([(40, 100, 20), (40, 1013, 2050)], dynamic=False)


# Half precision


def centred_cosines(actual: Tensor, expected: Tensor) -> Tensor:
    """Cosines about the mean embedding: what tells clips apart, and what rounding could hide."""
    centre = expected.mean(dim=0)
    return F.cosine_similarity(actual.float() - centre, expected - centre)


@pytest.mark.parametrize("dtype, least_cosine", [(torch.bfloat16, 0.999), (torch.float16, 0.99999)])
def test_half_precision_loads_close_to_float32(dtype, least_cosine, tmp_path):
    model, inputs = tiny_model(), {**clips(40, 300, 1100), **captions()}
    model.save_pretrained(tmp_path)
    half = AtriModel.from_pretrained(tmp_path, dtype=dtype)
    assert half.dtype == dtype
    assert {name for name, value in half.state_dict().items() if value.dtype != dtype} == {
        "learned_logit_scale.weight"
    }
    with torch.no_grad():
        actual, expected = half(**inputs), model(**inputs)
    for name in ("audio_embeds", "text_embeds"):
        assert actual[name].dtype == dtype
        assert centred_cosines(actual[name], expected[name]).min() > least_cosine, name


def test_temperature_stays_exact_in_half_precision(tmp_path):
    model = tiny_model()
    with torch.no_grad():
        model.logit_scale.fill_(math.log(100))
    model.save_pretrained(tmp_path / "single")
    half = AtriModel.from_pretrained(tmp_path / "single", dtype=torch.bfloat16)
    assert half.logit_scale.exp().item() == pytest.approx(100, rel=1e-6)
    assert torch.tensor(math.log(100)).bfloat16().exp().item() != pytest.approx(100, rel=5e-3)
    half.save_pretrained(tmp_path / "half")
    again = AtriModel.from_pretrained(tmp_path / "half", dtype="auto")
    assert again.dtype == torch.bfloat16
    assert torch.equal(again.logit_scale, model.logit_scale)


# Devices and files


@pytest.mark.parametrize("device_map", ["cpu", "auto", {"": "cpu"}])
def test_device_maps_of_one_device(device_map, tmp_path):
    model, inputs = tiny_model(), {**clips(40, 1100), **captions()}
    model.save_pretrained(tmp_path)
    placed = AtriModel.from_pretrained(tmp_path, device_map=device_map)
    with torch.no_grad():
        assert torch.equal(placed(**inputs).logits_per_audio, model(**inputs).logits_per_audio)


PARTS = dict.fromkeys(
    ["learned_logit_scale", "audio_model", "text_model", "audio_projection", "text_projection"], "cpu"
)


@pytest.mark.parametrize(
    "device_map, max_memory",
    [
        (PARTS | {"text_model": "disk"}, None),
        (PARTS | {"audio_model": "disk"}, None),
        ("auto", {"cpu": 100_000}),  # bytes: the audio tower's first layer and what precedes it
    ],
)
def test_weights_left_on_disk(device_map, max_memory, tmp_path):
    """Weights that are read when a layer needs them, as `device_map="auto"` has it where memory is short."""
    model, inputs = tiny_model(), {**clips(40, 1100), **captions()}
    model.save_pretrained(tmp_path / "model")
    placed = AtriModel.from_pretrained(
        tmp_path / "model", device_map=device_map, max_memory=max_memory, offload_folder=tmp_path / "offloaded"
    )
    assert {parameter.device.type for parameter in placed.parameters()} == {"cpu", "meta"}
    with torch.no_grad():
        expected = model(**inputs)
        assert torch.equal(placed(**inputs).logits_per_audio, expected.logits_per_audio)
        audio = {name: value for name, value in inputs.items() if name.startswith("input_features")}
        assert torch.equal(placed.get_audio_features(**audio).pooler_output, expected.audio_embeds)


def test_shards(tmp_path):
    model, inputs = tiny_model(), {**clips(40, 1100), **captions()}
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    files = {path.name for path in tmp_path.glob("*.safetensors")}
    assert len(files) > 2
    assert files == set(index["weight_map"].values())
    loaded = AtriModel.from_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.equal(loaded(**inputs).logits_per_audio, model(**inputs).logits_per_audio)


def copied(model: AtriModel) -> AtriModel:
    return copy.deepcopy(model)


def pickled(model: AtriModel) -> AtriModel:
    return pickle.loads(pickle.dumps(model))


def saved_by_torch(model: AtriModel) -> AtriModel:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("duplicate", [copied, pickled, saved_by_torch])
def test_copies(duplicate):
    model, inputs = tiny_model(), {**clips(40, 1100), **captions()}
    with torch.no_grad():
        expected = model(**inputs).logits_per_audio
        other = duplicate(model)
        assert torch.equal(other(**inputs).logits_per_audio, expected)
        other.logit_scale.zero_()
        assert torch.equal(model(**inputs).logits_per_audio, expected)


# Checkpointing, token embeddings


def config_with_dropout() -> AtriConfig:
    config = tiny_config(hidden_dropout=0.2, attention_dropout=0.2, drop_path_rate=0.3, patch_dropout=0.3)
    config.text_config.dropout = config.text_config.attention_dropout = 0.2
    config.text_config.activation_dropout = 0.2
    return config


def test_gradient_checkpointing_draws_the_same_dropout():
    model = AtriModel(config_with_dropout()).train()
    inputs = {**clips(40, 100, 140), **captions(), "return_loss": True}
    calls = []
    for tower in (model.audio_model, model.text_model):
        tower.layers[0].register_forward_pre_hook(lambda *arguments: calls.append(1))

    def step(seed: int) -> tuple[float, dict[str, Tensor], int]:
        calls.clear()
        torch.manual_seed(seed)
        model.zero_grad()
        loss = model(**inputs).loss
        loss.backward()
        return loss.item(), {name: parameter.grad for name, parameter in model.named_parameters()}, len(calls)

    loss, gradients, num_calls = step(0)
    other_loss = step(1)[0]
    model.activation_checkpointing_enable()
    for tower in (model.audio_model, model.text_model):
        assert all(layer.gradient_checkpointing for layer in tower.layers)
    loss_again, gradients_again, _ = step(0)
    assert num_calls == 2
    assert loss_again == loss != other_loss
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradients_again[name], gradient, atol=1e-7, rtol=1e-6)


def test_token_embeddings_grow_and_shrink(tmp_path):
    model, tokens = tiny_model(), captions()
    with torch.no_grad():
        expected = model.get_text_features(**tokens).pooler_output
        model.resize_token_embeddings(640)
        assert model.config.text_config.vocab_size == model.text_model.config.vocab_size == 640
        assert isinstance(model.get_input_embeddings(), nn.Embedding)
        assert_same(model.get_text_features(**tokens).pooler_output, expected, 1e-6)
        new = model.get_text_features(torch.tensor([[5, 639, 2]])).pooler_output
        model.save_pretrained(tmp_path)
        loaded = AtriModel.from_pretrained(tmp_path)
        assert loaded.config.text_config.vocab_size == 640
        assert_same(loaded.get_text_features(torch.tensor([[5, 639, 2]])).pooler_output, new, 1e-6)
        model.resize_token_embeddings(600)
        assert model.config.text_config.vocab_size == 600
        assert_same(model.get_text_features(**tokens).pooler_output, expected, 1e-6)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux")
def test_weights_are_mapped_from_their_file(tmp_path):
    """So processes that use the same model on one machine have them in memory once."""
    tiny_model().save_pretrained(tmp_path)
    model = AtriModel.from_pretrained(tmp_path)
    lines = [line for line in Path("/proc/self/maps").read_text().splitlines() if str(tmp_path) in line]
    ranges = [[int(place, 16) for place in line.split()[0].split("-")] for line in lines]
    for name, weight in model.named_parameters():
        assert any(start <= weight.data_ptr() < stop for start, stop in ranges), name
