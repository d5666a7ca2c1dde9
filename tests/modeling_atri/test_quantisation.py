"""Weights of 8 and 4 bits: the dtype of the computation, embeddings within the quantiser's error, save and reload."""

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import BitsAndBytesConfig, TorchAoConfig

from modeling_atri import AtriConfig, AtriModel, encode_audio, encode_text
from modeling_atri.onnx import export_onnx
from modeling_atri.trainer.model.adapters import add_text_lora
from tests.helpers.tiny import tiny_config, tiny_processor


pytestmark = [pytest.mark.heavy, pytest.mark.filterwarnings("ignore:MatMul8bitLt.*")]


def bits_and_bytes(**options) -> BitsAndBytesConfig:
    pytest.importorskip("bitsandbytes", reason="quantises")
    return BitsAndBytesConfig(**options)


def torchao(name: str, **options) -> TorchAoConfig:
    quantization = pytest.importorskip("torchao.quantization", reason="quantises")
    return TorchAoConfig(getattr(quantization, name)(**options))


# What makes the configuration, and the least cosine to the embeddings of the model in float32.
QUANTISERS: dict[str, tuple[Callable, float]] = {
    "bitsandbytes, 8 bits": (lambda: bits_and_bytes(load_in_8bit=True), 0.99),
    "bitsandbytes, 4 bits": (lambda: bits_and_bytes(load_in_4bit=True, bnb_4bit_quant_type="nf4"), 0.95),
    "torchao, int8": (lambda: torchao("Int8WeightOnlyConfig"), 0.99),
    "torchao, int8 activations": (lambda: torchao("Int8DynamicActivationInt8WeightConfig"), 0.99),
    "torchao, float8": (lambda: torchao("Float8WeightOnlyConfig"), 0.99),
    "torchao, 4 bits": (lambda: torchao("IntxWeightOnlyConfig", weight_dtype=torch.int4), 0.95),
}


def wide_model() -> AtriModel:
    """Of widths that quantisers take: multiples of 64."""
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 2}
    config = tiny_config(**sizes).to_dict()
    config["text_config"] |= {"d_model": 64, "encoder_ffn_dim": 128}
    torch.manual_seed(0)
    model = AtriModel(AtriConfig(**config | {"projection_dim": 64}))
    model.audio_model.mel_norm.set_statistics(torch.linspace(-10.0, -30.0, 64), torch.full((64,), 300.0))
    return model.eval()


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("base")
    wide_model().save_pretrained(folder)
    return str(folder)


def inputs() -> dict[str, Tensor]:
    mask = (torch.arange(140) < torch.tensor([40, 100, 140])[:, None]).long()
    features = -20 + 15 * torch.randn(3, 140, 64, generator=torch.Generator().manual_seed(0))
    text = ["a dog barks while rain falls", "un chien", "Regen"]
    return {
        "input_features": features,
        "input_features_mask": mask,
        **tiny_processor()(text=text, language=["en", "fr", "de"]),
    }


def assert_close_to(model: AtriModel, expected: AtriModel, least_cosine: float, dtype: torch.dtype) -> None:
    with torch.no_grad():
        ours, theirs = model(**inputs()), expected(**inputs())
    for name in ("audio_embeds", "text_embeds"):
        assert ours[name].dtype == dtype
        assert F.cosine_similarity(ours[name].float(), theirs[name]).min() > least_cosine, name
        assert not torch.equal(ours[name].float(), theirs[name]), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", QUANTISERS)
def test_loaded_quantised(base, tmp_path, name, dtype):
    make_config, least_cosine = QUANTISERS[name]
    model, info = AtriModel.from_pretrained(
        base, quantization_config=make_config(), dtype=dtype, output_loading_info=True
    )
    assert not any(info.values())
    assert model.dtype == dtype
    assert model.logit_scale.dtype == torch.float32
    assert_close_to(model, AtriModel.from_pretrained(base), least_cosine, dtype)
    model.save_pretrained(tmp_path)
    again, info = AtriModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    assert again.dtype == dtype
    with torch.no_grad():
        assert torch.equal(again(**inputs()).logits_per_audio, model(**inputs()).logits_per_audio)


def test_clips_and_captions_are_encoded(base):
    model = AtriModel.from_pretrained(base, quantization_config=bits_and_bytes(load_in_4bit=True))
    plain = AtriModel.from_pretrained(base)
    wave = {"array": np.random.default_rng(0).normal(scale=0.1, size=16000).astype(np.float32), "sampling_rate": 16000}
    for encode, *item in ((encode_text, ["a dog"], "en"), (encode_audio, [wave])):
        ours, theirs = (encode(each, tiny_processor(), *item) for each in (model, plain))
        assert ours.dtype == np.float32
        assert (ours * theirs).sum() > 0.95


def test_quantised_in_place(base):
    """By torch and torchao themselves, without transformers."""
    quantization = pytest.importorskip("torchao.quantization", reason="quantises")
    plain = AtriModel.from_pretrained(base)
    model = copy.deepcopy(plain)
    quantization.quantize_(model, quantization.Int8WeightOnlyConfig())
    assert model.dtype == torch.float32
    assert_close_to(model, plain, 0.99, torch.float32)


@pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated")
def test_dynamic_quantisation_of_torch(base):
    plain = AtriModel.from_pretrained(base)
    model = torch.ao.quantization.quantize_dynamic(copy.deepcopy(plain), {nn.Linear}, dtype=torch.qint8)
    assert model.dtype == torch.float32
    assert_close_to(model, plain, 0.99, torch.float32)


def test_an_adapter_on_a_quantised_text_tower(base):
    pytest.importorskip("peft", reason="adapters need the extra `peft`")
    model = AtriModel.from_pretrained(base, quantization_config=bits_and_bytes(load_in_8bit=True))
    with pytest.raises(ValueError, match="audio_model, audio_projection.* are quantised.*llm_int8_skip_modules"):
        add_text_lora(model, rank=4)
    parts = ["learned_logit_scale", "audio_model", "audio_projection", "text_projection"]
    config = bits_and_bytes(load_in_8bit=True, llm_int8_skip_modules=parts)
    model = AtriModel.from_pretrained(base, quantization_config=config)
    add_text_lora(model, rank=4)
    model.train()(**inputs(), return_loss=True).loss.backward()
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {name.split(".")[0] for name in trained} == {*parts, "text_model"}
    assert {name for name, parameter in model.named_parameters() if parameter.grad is not None} == trained


def test_quantised_weights_are_not_exported(base, tmp_path):
    pytest.importorskip("onnxscript", reason="exports")
    model = AtriModel.from_pretrained(base, quantization_config=bits_and_bytes(load_in_8bit=True))
    with pytest.raises(ValueError, match="weights are quantised; load it without a quantization_config"):
        export_onnx(model, tiny_processor(), tmp_path / "onnx")
