"""Models from pretrained towers: the numbers of the public code, and nothing missing, extra or mis-shaped unseen."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import (
    BertConfig,
    GPT2Config,
    M2M100Config,
    M2M100ForConditionalGeneration,
    T5Config,
    T5ForConditionalGeneration,
    XLMRobertaConfig,
    XLMRobertaForMaskedLM,
    XLMRobertaModel,
)
from transformers.models.m2m_100.modeling_m2m_100 import M2M100Encoder

from modeling_atri import AtriConfig, AtriModel
from modeling_atri.pretrained import load_audio_tower, load_text_tower
from modeling_atri.pretrained.joining import join_towers
from modeling_atri.pretrained.state_dicts import convert_sonar_state_dict
from tests.helpers.published import ced_state_dict, save_folder, sonar_state_dict
from tests.helpers.tiny import tiny_model


FRESH = {f"{name}_projection.{part}" for name in ("audio", "text") for part in ("fc1", "fc2")}
CED_CONFIG = {"model_type": "ced", "architectures": ["CedForAudioClassification"], "embed_dim": 12, "num_heads": 3}
M2M100_SIZES = {
    "vocab_size": 20,
    "d_model": 8,
    "encoder_layers": 2,
    "encoder_ffn_dim": 16,
    "encoder_attention_heads": 2,
    "decoder_layers": 1,
    "decoder_ffn_dim": 16,
    "decoder_attention_heads": 2,
    "encoder_layerdrop": 0.0,
}
SMALL = {
    "vocab_size": 30,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 40,
}


def ced_folder(folder: Path, naming: str = "classifier", weights: str = "model.safetensors", **config) -> Path:
    return save_folder(folder, CED_CONFIG | config, ced_state_dict(naming=naming), weights)


def sonar_folder(folder: Path, seed: int = 1) -> Path:
    """As SONAR's port to transformers was saved: `M2M100Encoder`, without a prefix."""
    torch.manual_seed(seed)
    M2M100Encoder(M2M100Config(**M2M100_SIZES)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def towers(tmp_path_factory) -> tuple[Path, Path]:
    """Folders of a small CED and a small SONAR."""
    folder = tmp_path_factory.mktemp("towers")
    torch.manual_seed(0)
    return ced_folder(folder / "ced"), sonar_folder(folder / "sonar")


def edit(folder: Path, copy: Path, **changes: Tensor | None) -> Path:
    """A copy of a folder with weights replaced, added, or (None) left out; `__` stands for a dot."""
    state_dict = load_file(folder / "model.safetensors")
    for key, value in changes.items():
        state_dict.pop(key.replace("__", "."), None)
        if value is not None:
            state_dict[key.replace("__", ".")] = value
    return save_folder(copy, json.loads((folder / "config.json").read_text()), state_dict, "model.safetensors")


def text_states(model: AtriModel, **inputs: Tensor) -> Tensor:
    with torch.no_grad():
        return model.eval().get_text_features(**inputs).last_hidden_state


IDS = {
    "input_ids": torch.tensor([[5, 6, 7, 2], [8, 9, 2, 1]]),
    "attention_mask": torch.tensor([[1] * 4, [1, 1, 1, 0]]),
}


# The numbers of the public code


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_towers_from_folders_equal_the_public_ones(shared_dir, tmp_path, weights):
    reference = shared_dir / "reference"
    published = json.loads((reference / "ced_hf_config.json").read_text())
    ced = save_folder(tmp_path / "ced", published, load_file(reference / "ced_hf_naming.safetensors"), weights)
    config, sonar = convert_sonar_state_dict(load_file(reference / "sonar_fairseq2_naming.safetensors"), heads=4)
    sonar = save_folder(tmp_path / "sonar", config.to_dict(), sonar, weights)
    model = AtriModel.from_audio_text_pretrained(ced, sonar, projection_dim=24)
    assert (model.config.audio_config.num_attention_heads, model.config.audio_config.max_frames) == (3, 1012)
    assert not model.training

    ced_numbers, sonar_numbers = (np.load(reference / f"{name}_io.npz") for name in ("ced", "sonar"))
    for frames in (31, 1013):
        features = torch.from_numpy(ced_numbers[f"mel_{frames}"].astype(np.float32)).T[None]
        with torch.no_grad():
            pooled = model.audio_model(features).pooler_output[0]
        np.testing.assert_allclose(pooled, ced_numbers[f"chunks_{frames}"].mean(0), atol=1e-5, rtol=0)
    ids, lengths = torch.from_numpy(sonar_numbers["ids_0"]), torch.from_numpy(sonar_numbers["lens_0"])
    ids = torch.where(ids < 4, torch.tensor([1, 3, 0, 2])[ids.clamp(max=3)], ids)  # pad, unk, bos, eos
    mask = (torch.arange(ids.shape[1])[None] < lengths[:, None]).long()
    with torch.no_grad():
        pooled = model(input_ids=ids, attention_mask=mask).text_model_output.pooler_output
    np.testing.assert_allclose(pooled, sonar_numbers["emb_0"], atol=1e-5, rtol=0)


# Where towers come from


@pytest.mark.parametrize("naming", ["classifier", "hub", "original"])
def test_ced_is_the_same_from_folder_and_file(tmp_path, naming):
    torch.manual_seed(0)
    folder = ced_folder(tmp_path / "ced", naming)
    tower, from_file = load_audio_tower(folder), load_audio_tower(folder / "model.safetensors", heads=3)
    assert tower.config.num_attention_heads == 3
    assert tower.state_dict.keys() == from_file.state_dict.keys()
    assert all(torch.equal(value, from_file.state_dict[key]) for key, value in tower.state_dict.items())
    assert torch.equal(tower.state_dict["layers.1.mlp.fc1.weight"], ced_weights(folder)["blocks.1.mlp.fc1.weight"])


def ced_weights(folder: Path) -> dict[str, Tensor]:
    return {key.removeprefix("encoder."): value for key, value in load_file(folder / "model.safetensors").items()}


@pytest.mark.parametrize("width, heads", [(192, 3), (256, 4), (384, 6), (768, 12)])
def test_the_published_sizes_need_no_word_about_heads(tmp_path, width, heads):
    """CedConfig writes what differs from its defaults: that of the base model has no `num_heads`."""
    config = {"model_type": "ced", "name": "some-ced"}
    folder = save_folder(tmp_path, config, ced_state_dict(width, depth=1, naming="classifier"), "model.safetensors")
    assert load_audio_tower(folder).config.num_attention_heads == heads


def test_the_frames_of_a_chunk_come_from_the_configuration(tmp_path):
    state_dict = ced_state_dict(naming="hub") | {"time_pos_embed": torch.randn(1, 12, 1, 20)}
    folder = save_folder(tmp_path, CED_CONFIG | {"target_length": 330}, state_dict, "model.safetensors")
    assert load_audio_tower(folder).config.max_frames == 330  # 320 from the patches alone
    save_folder(tmp_path, CED_CONFIG | {"target_length": 340}, state_dict, "model.safetensors")
    with pytest.raises(ValueError, match="has target_length 340, but the weights are for 20 patches of 16 frames"):
        load_audio_tower(folder)


def test_a_saved_audio_tower_or_whole_model_gives_its_audio_tower(tmp_path, towers):
    model = tiny_model()
    model.save_pretrained(tmp_path / "model")
    model.audio_model.save_pretrained(tmp_path / "tower")
    expected = model.audio_model.state_dict()
    for folder in ("model", "tower"):
        built = AtriModel.from_audio_text_pretrained(tmp_path / folder, towers[1], projection_dim=4)
        assert built.config.audio_config.num_attention_heads == model.config.audio_config.num_attention_heads
        assert all(torch.equal(value, expected[key]) for key, value in built.audio_model.state_dict().items())


@pytest.mark.parametrize("kind", ["encoder", "wrapped encoder", "translation model"])
def test_m2m100_encoders_are_taken_out_of_what_is_around_them(tmp_path, towers, kind):
    whole = M2M100ForConditionalGeneration(M2M100Config(**M2M100_SIZES)).eval()
    encoder = whole.get_encoder()
    config = whole.config.to_dict()
    if kind == "translation model":
        whole.save_pretrained(tmp_path)
        assert "model.encoder.layer_norm.weight" in load_file(tmp_path / "model.safetensors")
    else:
        prefix = "" if kind == "encoder" else "encoder."
        state_dict = {f"{prefix}{key}": value for key, value in encoder.state_dict().items()}
        if kind == "wrapped encoder":  # the table that encoder and decoder would share
            state_dict["shared.weight"] = state_dict.pop("encoder.embed_tokens.weight")
        save_folder(tmp_path, config, state_dict, "model.safetensors")
    model = AtriModel.from_audio_text_pretrained(towers[0], tmp_path, projection_dim=4)
    with torch.no_grad():
        expected = encoder(**IDS).last_hidden_state
    is_token = IDS["attention_mask"].bool()  # the model computes nothing for padding
    torch.testing.assert_close(text_states(model, **IDS)[is_token], expected[is_token], atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", ["with pooler", "from a masked language model", "t5"])
def test_other_encoders_load_as_transformers_loads_them(tmp_path, towers, kind, caplog):
    if kind == "t5":
        sizes = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2, "vocab_size": 30}
        whole = T5ForConditionalGeneration(T5Config(**sizes, pad_token_id=1))
        encoder = whole.get_encoder()
    else:
        whole = (XLMRobertaModel if kind == "with pooler" else XLMRobertaForMaskedLM)(XLMRobertaConfig(**SMALL))
        encoder = whole.base_model
    whole.eval().save_pretrained(tmp_path)
    model = AtriModel.from_audio_text_pretrained(towers[0], tmp_path, projection_dim=4)
    with torch.no_grad():
        expected = encoder(**IDS).last_hidden_state
    torch.testing.assert_close(text_states(model, **IDS), expected, atol=1e-6, rtol=0)
    assert not any("pooler" in name for name, _ in model.named_parameters())
    unused = [record.getMessage() for record in caplog.records if "are not of the encoder" in record.getMessage()]
    assert len(unused) == (kind == "from a masked language model")
    assert all("lm_head.dense.weight" in message for message in unused)
    model.save_pretrained(tmp_path / "saved")
    reloaded = AtriModel.from_pretrained(tmp_path / "saved")
    torch.testing.assert_close(text_states(reloaded, **IDS), expected, atol=1e-6, rtol=0)


def test_hub_repositories_are_read_from_the_cache_at_the_revision_asked_for(tmp_path):
    """The cache is laid out as huggingface_hub leaves it; the tests run offline."""
    snapshots = {}
    for repository, make in (("mispeech/ced-toy", ced_folder), ("someone/SONAR_toy", sonar_folder)):
        root = tmp_path / f"models--{repository.replace('/', '--')}"
        (root / "refs").mkdir(parents=True)
        for number, revision in enumerate(("main", "v2")):
            commit = str(number) * 40
            torch.manual_seed(number)
            snapshots[repository, revision] = make(root / "snapshots" / commit)
            (root / "refs" / revision).write_text(commit)
    sonar_folder(snapshots["someone/SONAR_toy", "v2"], seed=5)
    names = ("mispeech/ced-toy", "someone/SONAR_toy")
    model = AtriModel.from_audio_text_pretrained(
        *names, projection_dim=4, text_revision="v2", cache_dir=tmp_path, local_files_only=True
    )
    assert (model.config.audio_config.name_or_path, model.config.text_config.name_or_path) == names
    audio = ced_weights(snapshots[names[0], "main"])["norm.bias"]
    assert torch.equal(model.audio_model.layer_norm.bias, audio)
    text = load_file(snapshots[names[1], "v2"] / "model.safetensors")["embed_tokens.weight"]
    assert torch.equal(model.text_model.embed_tokens.weight, text)
    with pytest.raises(OSError, match="mispeech/ced-none"):
        AtriModel.from_audio_text_pretrained("mispeech/ced-none", names[1], cache_dir=tmp_path, local_files_only=True)


def test_no_local_path_is_left_in_the_configuration(towers, tmp_path):
    AtriModel.from_audio_text_pretrained(*towers, projection_dim=4).save_pretrained(tmp_path)
    assert str(towers[0].parent) not in (tmp_path / "config.json").read_text()


def test_towers_from_files_keep_the_name_of_their_project(tmp_path):
    """It decides about their license; `from_pretrained` gives it back."""
    torch.save(ced_state_dict(), tmp_path / "ced.pt")
    torch.save(sonar_state_dict(), tmp_path / "sonar.pt")
    towers = load_audio_tower(tmp_path / "ced.pt", 2), load_text_tower(tmp_path / "sonar.pt", 2)
    join_towers(AtriModel, *towers, projection_dim=4).save_pretrained(tmp_path / "model")
    config = AtriModel.from_pretrained(tmp_path / "model").config
    assert (config.audio_config.name_or_path, config.text_config.name_or_path) == ("CED", "SONAR")


# What is fresh


def test_heads_are_fresh_seeded_and_said(towers, caplog):
    models = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        models.append(AtriModel.from_audio_text_pretrained(*towers, projection_dim=500))
    first, same, other = (model.state_dict() for model in models)
    differing = {key for key in first if not torch.equal(first[key], other[key])}
    assert all(torch.equal(first[key], same[key]) for key in first)
    assert differing == {f"{name}.weight" for name in FRESH}
    for name in FRESH:  # as `_init_weights` draws and sets them
        assert first[f"{name}.weight"].std().item() == pytest.approx(0.02, rel=0.05)
        assert not first[f"{name}.bias"].any()
    assert first["learned_logit_scale.weight"].exp().item() == pytest.approx(1 / 0.07)
    messages = [record.getMessage() for record in caplog.records if record.name == "modeling_atri.pretrained.joining"]
    assert "(audio_projection, text_projection) and logit_scale are newly initialized" in messages[0]


def test_weights_are_float32_unless_another_dtype_is_asked_for(tmp_path, towers):
    state_dict = {key: value.half() for key, value in load_file(towers[1] / "model.safetensors").items()}
    config = json.loads((towers[1] / "config.json").read_text()) | {"dtype": "float16"}
    save_folder(tmp_path, config, state_dict, "model.safetensors")
    for dtype, expected in ((None, torch.float32), (torch.bfloat16, torch.bfloat16), ("bfloat16", torch.bfloat16)):
        model = AtriModel.from_audio_text_pretrained(towers[0], tmp_path, projection_dim=4, dtype=dtype)
        model.save_pretrained(tmp_path / "saved")
        for made in (model, AtriModel.from_pretrained(tmp_path / "saved")):
            dtypes = {name: parameter.dtype for name, parameter in made.named_parameters()}
            assert dtypes.pop("learned_logit_scale.weight") == torch.float32  # always
            assert set(dtypes.values()) == {expected}


def test_a_subclass_gets_its_own_kind(towers):
    class MyModel(AtriModel):
        pass

    assert type(MyModel.from_audio_text_pretrained(*towers, projection_dim=4)) is MyModel


def test_the_model_learns_in_every_part(towers):
    """Weights that are mapped from a file can be written to, and the file stays as it was."""
    before = (towers[1] / "model.safetensors").read_bytes()
    model = AtriModel.from_audio_text_pretrained(*towers, projection_dim=4).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    old = {name: value.clone() for name, value in model.named_parameters()}
    model(input_features=torch.randn(2, 64, 64), **IDS, return_loss=True).loss.backward()
    optimizer.step()
    assert {name for name, value in model.named_parameters() if torch.equal(value, old[name])} <= {
        name
        for name in old
        if name.endswith("k_proj.bias")  # softmax does not feel it
    }
    assert (towers[1] / "model.safetensors").read_bytes() == before


# What does not fit


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"encoder__norm__bias": None}, "missing layer_norm.bias"),
        ({"encoder__extra": torch.ones(1)}, "1 keys are not CED's: extra"),
        ({"encoder__norm__bias": torch.ones(3)}, r"layer_norm.bias is \(3,\), not \(12,\)"),
    ],
)
def test_keys_of_ced_that_do_not_fit_are_named(tmp_path, towers, changes, message):
    with pytest.raises(ValueError, match=message):
        AtriModel.from_audio_text_pretrained(edit(towers[0], tmp_path, **changes), towers[1])


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"layer_norm__bias": None, "embed_tokens__weight": None},
            "missing embed_tokens.weight, missing layer_norm.b",
        ),
        ({"layers__0__encoder_attn__q_proj__bias": torch.ones(8)}, "unexpected layers.0.encoder_attn.q_proj.bias"),
        ({"layers__2__fc1__bias": torch.ones(16)}, "unexpected layers.2.fc1.bias"),
        ({"embed_tokens__weight": torch.ones(19, 8)}, r"embed_tokens.weight is \(19, 8\), not \(20, 8\)"),
    ],
)
def test_keys_of_sonar_that_do_not_fit_are_named(tmp_path, towers, changes, message):
    """`from_pretrained` would warn and make them up."""
    with pytest.raises(ValueError, match=message):
        AtriModel.from_audio_text_pretrained(towers[0], edit(towers[1], tmp_path, **changes))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"embeddings__word_embeddings__weight": None}, "missing embeddings.word_embeddings.weight"),
        ({"embeddings__word_embeddings__weight": torch.ones(3, 16)}, r"weight is \(3, 16\), not \(30, 16\)"),
    ],
)
def test_keys_of_other_encoders_that_do_not_fit_are_named(tmp_path, towers, changes, message):
    XLMRobertaModel(XLMRobertaConfig(**SMALL)).save_pretrained(tmp_path / "whole")
    folder = edit(tmp_path / "whole", tmp_path / "edited", **changes)
    with pytest.raises(ValueError, match=message) as error:
        AtriModel.from_audio_text_pretrained(towers[0], folder)
    assert "1 keys" in str(error.value)


def test_keys_of_a_saved_audio_tower_that_do_not_fit_are_named(tmp_path, towers):
    tiny_model().audio_model.save_pretrained(tmp_path / "whole")
    folder = edit(tmp_path / "whole", tmp_path / "edited", mel_norm__running_var=None, layer_norm__bias=torch.ones(3))
    with pytest.raises(ValueError, match=r"\(2 keys\): missing mel_norm.running_var, layer_norm.bias is \(3,\), not"):
        AtriModel.from_audio_text_pretrained(folder, towers[1])


def test_other_models_are_refused_by_name(tmp_path, towers):
    BertConfig(**SMALL).save_pretrained(tmp_path / "bert")
    with pytest.raises(ValueError, match="bert cannot be the audio tower: .* 'bert', which reads input_ids, not"):
        load_audio_tower(tmp_path / "bert")
    GPT2Config(n_layer=1).save_pretrained(tmp_path / "gpt2")
    with pytest.raises(ValueError, match="`text_config` is of type 'gpt2', a decoder"):
        load_text_tower(tmp_path / "gpt2")
    AtriConfig().save_pretrained(tmp_path / "atri")
    with pytest.raises(ValueError, match="is of type 'atri', a model of sounds and texts. Name a text"):
        load_text_tower(tmp_path / "atri")
    with pytest.raises(ValueError, match="keys are not CED's: embed_tokens.weight"):
        load_audio_tower(towers[1] / "model.safetensors")
    with pytest.raises(ValueError, match="keys are not SONAR's: encoder"):
        load_text_tower(towers[0] / "model.safetensors")


@pytest.mark.parametrize("load", [load_audio_tower, load_text_tower])
@pytest.mark.parametrize("name", ["/no/such/folder", "./nothing", "gone.pt", "a/b/c"])
def test_a_path_that_is_not_there_is_not_looked_for_on_the_hub(load, name):
    with pytest.raises(ValueError, match=f"There is no file or folder '{name}'"):
        load(name)


def test_features_of_another_make_are_refused(tmp_path):
    folder = ced_folder(tmp_path, hop_size=320, f_min=0, center=False)
    with pytest.raises(ValueError, match=r"other log-mel .*: hop_size 320 \(not 160\), center False \(not True\)"):
        load_audio_tower(folder)


def test_heads_of_a_folder_are_not_passed(towers):
    with pytest.raises(ValueError, match="is in its config.json, so leave out 4"):
        load_text_tower(towers[1], heads=4)
    assert load_audio_tower(towers[0], heads=4).config.num_attention_heads == 4  # CED's may lack them


def test_files_of_the_hub_say_what_they_cannot_do(monkeypatch, towers):
    monkeypatch.setitem(sys.modules, "modeling_atri.pretrained.joining", None)
    with pytest.raises(ImportError, match="needs the installed package: `pip install modeling_atri`"):
        AtriModel.from_audio_text_pretrained(*towers)
