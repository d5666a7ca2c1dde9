import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers.models.m2m_100.modeling_m2m_100 import M2M100Encoder

from modeling_atri import AtriAudioModel, AtriFeatureExtractor, AtriModel
from modeling_atri.pretrained.state_dicts import (
    convert_ced_state_dict,
    convert_mlclap_state_dict,
    convert_sonar_state_dict,
)
from tests.helpers.published import ced_state_dict, mlclap_state_dict, sonar_state_dict


NLLB_OF_SONAR = torch.tensor([1, 3, 0, 2])  # pad, unk, bos, eos
FRAMES = (31, 101, 301, 1001, 1012, 1013, 1501, 2023, 2024, 2025, 2324, 3036)
FULL_LAST_CHUNK = (2024, 3036)  # the public code drops it
CED_NAMINGS = ("ced_original_naming", "ced_hf_naming")


def nllb_ids(ids: Tensor, lengths: Tensor) -> dict[str, Tensor]:
    """SONAR's token numbers, padded with 0, as an NLLB tokenizer numbers them; all tokens within the length count."""
    mask = (torch.arange(ids.shape[1])[None, :] < lengths[:, None]).long()
    special = ids < len(NLLB_OF_SONAR)
    return {
        "input_ids": torch.where(special, NLLB_OF_SONAR[ids.clamp(max=3)], ids),
        "attention_mask": mask,
    }


def load_strictly(model: torch.nn.Module, state_dict: dict[str, Tensor]) -> torch.nn.Module:
    model.load_state_dict(state_dict, strict=True)
    return model.eval()


# CED


@pytest.fixture(scope="module", params=CED_NAMINGS)
def ced(request, shared_dir) -> AtriAudioModel:
    config, state_dict = convert_ced_state_dict(
        load_file(shared_dir / "reference" / f"{request.param}.safetensors"), 3
    )
    return load_strictly(AtriAudioModel(config), state_dict)


@pytest.fixture(scope="module")
def ced_arrays(shared_dir) -> dict[str, np.ndarray]:
    return dict(np.load(shared_dir / "reference" / "ced_io.npz"))


@pytest.mark.parametrize("frames", FRAMES)
def test_ced_embeddings_equal_the_public_ones(ced, ced_arrays, frames):
    features = torch.from_numpy(ced_arrays[f"mel_{frames}"].astype(np.float32)).T[None]
    with torch.no_grad():
        pooled = ced(features).pooler_output[0].numpy()
    np.testing.assert_allclose(pooled, ced_arrays[f"chunks_{frames}"].mean(0), atol=1e-5, rtol=0)
    difference = np.abs(pooled - ced_arrays[f"pooled_{frames}"]).max()
    if frames in FULL_LAST_CHUNK:
        assert difference > 0.1
    else:
        assert difference < 1e-5


def test_ced_token_states_equal_the_public_ones(ced, ced_arrays):
    for frames in (31, 101, 301):
        features = torch.from_numpy(ced_arrays[f"mel_{frames}"].astype(np.float32)).T[None]
        with torch.no_grad():
            states = ced(features).last_hidden_state[0].numpy()
        np.testing.assert_allclose(states, ced_arrays[f"tokens_{frames}"], atol=1e-5, rtol=0)


def test_ced_embeddings_of_a_mixed_batch_equal_the_public_ones(ced, ced_arrays):
    """The Hub port mixes up clips of several chunks in one batch."""
    features = [torch.from_numpy(ced_arrays[f"mel_{frames}"].astype(np.float32)).T for frames in FRAMES]
    input_features, mask = AtriFeatureExtractor().pad_features(features)
    with torch.no_grad():
        pooled = ced(input_features, mask).pooler_output.numpy()
    expected = np.stack([ced_arrays[f"chunks_{frames}"].mean(0) for frames in FRAMES])
    np.testing.assert_allclose(pooled, expected, atol=1e-5, rtol=0)


def test_ced_embeddings_of_waveforms_equal_the_public_ones(ced, ced_arrays, shared_dir):
    waves = np.load(shared_dir / "reference" / "mel_waves.npz")
    inputs = AtriFeatureExtractor()([waves[name] for name in waves.files], sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        pooled = ced(**inputs).pooler_output.numpy()
    expected = np.stack([ced_arrays[f"wave_pooled_{name}"] for name in waves.files])
    np.testing.assert_allclose(pooled, expected, atol=1e-5, rtol=0)


def test_ced_embeddings_take_the_floor_per_clip(ced, ced_arrays, shared_dir):
    waves = np.load(shared_dir / "reference" / "mel_topdb_batch.npz")["waves"]
    inputs = AtriFeatureExtractor()(list(waves), sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        pooled = ced(**inputs).pooler_output.numpy()
    np.testing.assert_allclose(pooled, ced_arrays["topdb_single_pooled"], atol=1e-5, rtol=0)
    assert np.abs(pooled - ced_arrays["topdb_batch_pooled"]).max() > 0.1


@pytest.mark.parametrize("naming", ["original", "port", "classifier"])
def test_ced_namings(naming):
    torch.manual_seed(0)
    expected_config, expected = convert_ced_state_dict(ced_state_dict(), heads=2)
    torch.manual_seed(0)
    config, state_dict = convert_ced_state_dict(ced_state_dict(naming=naming), heads=2)
    assert config.to_dict() == expected_config.to_dict()
    assert state_dict.keys() == expected.keys()
    for name, value in state_dict.items():
        assert value.shape == expected[name].shape
    load_strictly(AtriAudioModel(config), state_dict)


def test_ced_weights_go_where_they_belong():
    source = ced_state_dict()
    _, converted = convert_ced_state_dict(source, heads=2)
    for i in range(2):
        parts = [converted[f"layers.{i}.attention.{name}_proj.weight"] for name in "qkv"]
        assert torch.equal(torch.cat(parts), source[f"blocks.{i}.attn.qkv.weight"])
        assert torch.equal(converted[f"layers.{i}.mlp.fc2.bias"], source[f"blocks.{i}.mlp.fc2.bias"])
        assert torch.equal(converted[f"layers.{i}.mlp_norm.weight"], source[f"blocks.{i}.norm2.weight"])
    assert torch.equal(converted["mel_norm.running_var"], source["init_bn.1.running_var"])
    assert torch.equal(converted["layer_norm.bias"], source["norm.bias"])


@pytest.mark.parametrize("width, heads", [(192, 3), (256, 4), (384, 6), (768, 12)])
def test_ced_sizes_from_the_shapes(width, heads):
    with torch.device("meta"):
        config, _ = convert_ced_state_dict(ced_state_dict(width, depth=3))
    assert (config.hidden_size, config.num_attention_heads, config.intermediate_size) == (width, heads, 4 * width)
    assert (config.num_hidden_layers, config.num_mel_bins, config.max_frames) == (3, 64, 1012)
    assert config.patch_size == [16, 16]


def test_ced_of_another_length():
    source = ced_state_dict()
    source["time_pos_embed"] = torch.randn(1, 12, 1, 20)
    config, _ = convert_ced_state_dict(source, heads=2)
    assert (config.max_frames, config.patch_grid) == (320, (4, 20))


# SONAR


@pytest.mark.parametrize("batch", [0, 1, 2])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_sonar_embeddings_equal_the_public_ones(shared_dir, batch, attention):
    folder = shared_dir / "reference"
    config, state_dict = convert_sonar_state_dict(load_file(folder / "sonar_fairseq2_naming.safetensors"), heads=4)
    config._attn_implementation = attention
    encoder = load_strictly(M2M100Encoder(config), state_dict)
    arrays = {name: torch.from_numpy(value) for name, value in np.load(folder / "sonar_io.npz").items()}
    inputs = nllb_ids(arrays[f"ids_{batch}"], arrays[f"lens_{batch}"])
    with torch.no_grad():
        states = encoder(**inputs).last_hidden_state
    mask = inputs["attention_mask"][..., None]
    pooled = (states * mask).sum(1) / mask.sum(1)
    for name in ("emb", "emb_real_fairseq2"):
        torch.testing.assert_close(pooled, arrays[f"{name}_{batch}"], atol=1e-5, rtol=0)
    torch.testing.assert_close(states * mask, arrays[f"tokens_{batch}"] * mask, atol=1e-5, rtol=0)


def test_sonar_rows_are_renumbered():
    source = sonar_state_dict()
    config, converted = convert_sonar_state_dict(source, heads=2)
    table, renumbered = source["encoder_frontend.embed.weight"], converted["embed_tokens.weight"]
    # NLLB numbers bos, pad, eos, unk from 0; SONAR pad, unk, bos, eos
    assert torch.equal(renumbered[:4], table[[2, 0, 3, 1]])
    assert torch.equal(renumbered[4:], table[4:])
    assert (config.bos_token_id, config.pad_token_id, config.eos_token_id) == (0, 1, 2)
    assert (config.vocab_size, config.d_model, config.encoder_layers, config.encoder_ffn_dim) == (20, 8, 2, 16)
    assert (config.encoder_attention_heads, config.max_position_embeddings) == (2, 514)
    load_strictly(M2M100Encoder(config), converted)


# ML-CLAP


@pytest.fixture(scope="module")
def mlclap(shared_dir) -> AtriModel:
    checkpoint = torch.load(shared_dir / "reference" / "mlclap_pretrain_tiny.pt", weights_only=True)
    config, state_dict = convert_mlclap_state_dict(checkpoint, audio_heads=3, text_heads=4)
    return load_strictly(AtriModel(config), state_dict)


def mlclap_reference(shared_dir: Path) -> tuple[dict[str, Tensor], dict]:
    folder = shared_dir / "reference"
    arrays = {name: torch.from_numpy(np.asarray(value)) for name, value in np.load(folder / "mlclap_io.npz").items()}
    return arrays, json.loads((folder / "mlclap_meta.json").read_text(encoding="utf-8"))


def test_mlclap_embeddings_equal_the_public_ones(mlclap, shared_dir):
    arrays, meta = mlclap_reference(shared_dir)
    waves = np.load(shared_dir / "reference" / "mel_waves.npz")
    audio = AtriFeatureExtractor()([waves[name] for name in meta["clips"]], sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        outputs = mlclap(**audio, **nllb_ids(arrays["ids"], arrays["lens"]))
    found = {
        "audio_encoder": outputs.audio_model_output.pooler_output,
        "text_encoder": outputs.text_model_output.pooler_output,
        "audio_embeds": outputs.audio_embeds,
        "text_embeds": outputs.text_embeds,
    }
    for name, value in found.items():
        torch.testing.assert_close(value, arrays[name], atol=1e-5, rtol=0)
    expected = arrays["audio_embeds"] @ arrays["text_embeds"].T / meta["temperature"]
    torch.testing.assert_close(outputs.logits_per_audio, expected, atol=1e-4, rtol=0)
    assert np.abs(outputs.audio_embeds.numpy() - arrays["audio_embeds_zero_padded_batch"].numpy()).max() > 0.1


def test_mlclap_temperature(mlclap, shared_dir):
    temperature = mlclap_reference(shared_dir)[1]["temperature"]
    assert 1 / mlclap.logit_scale.exp().item() == pytest.approx(temperature, rel=1e-6)
    assert mlclap.config.logit_scale_init_value == pytest.approx(-math.log(temperature))


def test_mlclap_without_reference_numbers(tmp_path):
    source = mlclap_state_dict()
    before = {name: value.clone() for name, value in source.items()}
    config, converted = convert_mlclap_state_dict(source, audio_heads=2, text_heads=2)
    assert source.keys() == before.keys()
    assert all(torch.equal(source[name], value) for name, value in before.items())
    assert config.projection_dim == 6
    model = load_strictly(AtriModel(config), converted)
    assert model.logit_scale.exp().item() == pytest.approx(20.0)
    assert torch.equal(model.audio_projection.fc2.weight, source["audio_proj.2.weight"])
    assert torch.equal(model.text_projection.fc1.bias, source["text_proj.0.bias"])
    model.save_pretrained(tmp_path)
    loaded = AtriModel.from_pretrained(tmp_path)
    assert all(torch.equal(value, converted[name]) for name, value in loaded.state_dict().items())


@pytest.mark.parametrize("temperature", [0.0, -0.1, math.nan, math.inf])
def test_mlclap_of_no_temperature(temperature):
    source = mlclap_state_dict() | {"temperature": torch.tensor(temperature)}
    with pytest.raises(ValueError, match="temperature of .*; it must be positive"):
        convert_mlclap_state_dict(source, 2, 2)


# All of them


CONVERSIONS = {
    "CED": lambda state_dict: convert_ced_state_dict(state_dict, 2),
    "SONAR": lambda state_dict: convert_sonar_state_dict(state_dict, 2),
    "ML-CLAP": lambda state_dict: convert_mlclap_state_dict(state_dict, 2, 2),
}
SOURCES = {"CED": ced_state_dict, "SONAR": sonar_state_dict, "ML-CLAP": mlclap_state_dict}


@pytest.mark.parametrize("source", SOURCES)
def test_no_tensor_holds_more_than_it_shows(source):
    _, converted = CONVERSIONS[source](SOURCES[source]())
    storages = [value.untyped_storage() for value in converted.values()]
    assert len({storage.data_ptr() for storage in storages}) == len(storages)
    for value, storage in zip(converted.values(), storages, strict=True):
        assert value.is_contiguous()
        assert storage.nbytes() == value.numel() * value.element_size()


@pytest.mark.parametrize("source", SOURCES)
def test_unknown_keys_are_named(source):
    state_dict = SOURCES[source]() | {"optimizer.step": torch.tensor(1), "module.x": torch.ones(2)}
    with pytest.raises(ValueError, match=f"2 keys are not {source}'s: optimizer.step, module.x"):
        CONVERSIONS[source](state_dict)


@pytest.mark.parametrize(
    "source, key, message",
    [
        ("CED", "blocks.1.mlp.fc2.bias", "missing layers.1.mlp.fc2.bias"),
        ("CED", "blocks.0.attn.qkv.weight", "missing layers.0.attention.q_proj.weight"),
        ("CED", "init_bn.1.running_var", "missing mel_norm.running_var"),
        ("CED", "time_pos_embed", "lacks keys that give its sizes: embeddings.time_positions"),
        ("SONAR", "encoder.layers.0.self_attn.output_proj.bias", "missing layers.0.self_attn.out_proj.bias"),
        ("SONAR", "layer_norm.weight", "missing layer_norm.weight"),
        ("SONAR", "encoder_frontend.embed.weight", "lacks keys that give its sizes: embed_tokens.weight"),
        ("ML-CLAP", "audio_proj.0.bias", "missing audio_projection.fc1.bias"),
        ("ML-CLAP", "temperature", "lacks keys that give its sizes: temperature"),
        ("ML-CLAP", "text_encoder.model.layer_norm.bias", "SONAR state dict .* missing layer_norm.bias"),
    ],
)
def test_missing_keys_are_named(source, key, message):
    state_dict = SOURCES[source]()
    del state_dict[key]
    with pytest.raises(ValueError, match=message):
        CONVERSIONS[source](state_dict)


def test_a_gap_in_the_layers_is_named():
    state_dict = {name.replace("blocks.1.", "blocks.2."): value for name, value in ced_state_dict().items()}
    with pytest.raises(ValueError, match=r"\(16 keys\): missing layers.1.attention_norm.weight, .* and 4 more"):
        convert_ced_state_dict(state_dict, heads=2)


@pytest.mark.parametrize(
    "source, key, shape, message",
    [
        ("CED", "blocks.0.mlp.fc2.weight", (12, 40), r"layers.0.mlp.fc2.weight is \(12, 40\), not \(12, 48\)"),
        ("CED", "init_bn.1.weight", (32,), r"mel_norm.weight is \(32,\), not \(64,\)"),
        (
            "CED",
            "blocks.0.attn.qkv.weight",
            (48, 12),
            r"layers.0.attention.q_proj.weight is \(16, 12\), not \(12, 12\)",
        ),
        ("CED", "freq_pos_embed", (1, 12, 4), r"number of dimensions: embeddings.frequency_positions is \(1, 12, 4\)"),
        ("SONAR", "encoder.layers.1.ffn.inner_proj.bias", (15,), r"layers.1.fc1.bias is \(15,\), not \(16,\)"),
        ("SONAR", "encoder_frontend.embed.weight", (20,), r"number of dimensions: embed_tokens.weight is \(20,\)"),
        ("ML-CLAP", "text_proj.0.weight", (6, 9), r"text_projection.fc1.weight is \(6, 9\), not \(6, 8\)"),
        ("ML-CLAP", "temperature", (2,), r"number of dimensions: temperature is \(2,\)"),
    ],
)
def test_wrong_shapes_are_named(source, key, shape, message):
    with pytest.raises(ValueError, match=message):
        CONVERSIONS[source](SOURCES[source]() | {key: torch.ones(shape)})


@pytest.mark.parametrize("source, width", [("CED", 12), ("SONAR", 8)])
def test_unpublished_widths_need_their_heads(source, width):
    convert = {"CED": convert_ced_state_dict, "SONAR": convert_sonar_state_dict}[source]
    with pytest.raises(
        ValueError, match=rf"No published {source} model is {width} wide \(known: .* Pass them as `heads`"
    ):
        convert(SOURCES[source]())
    with pytest.raises(ValueError, match=r"`hidden_size` \(12\) must be a multiple of `num_attention_heads` \(5\)"):
        convert_ced_state_dict(ced_state_dict(), heads=5)
