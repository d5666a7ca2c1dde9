"""Attention kernels of a GPU give the embeddings of explicit attention."""

from importlib.util import find_spec

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from modeling_atri import AtriConfig, AtriModel
from tests.helpers.tiny import tiny_config, tiny_processor
from tests.helpers.training import make_rows


pytestmark = [pytest.mark.gpu, pytest.mark.heavy]
LANGUAGES = ["eng_Latn", "fra_Latn", "jpn_Jpan"]


def model_of(implementation: str, device: torch.device) -> AtriModel:
    """A model whose heads have a width that all kernels take."""
    config = tiny_config().to_dict()
    config["audio_config"] |= {"hidden_size": 64, "num_attention_heads": 2, "initializer_range": 0.02}
    config["text_config"] |= {"d_model": 64, "encoder_attention_heads": 2, "init_std": 0.02}
    torch.manual_seed(0)
    model = AtriModel(AtriConfig.from_dict(config))
    model.audio_model.mel_norm.set_statistics(torch.zeros(64), torch.full((64,), 300.0))
    model.set_attn_implementation(implementation)
    return model.to(device, torch.bfloat16).eval()


def embeddings(model: AtriModel, device: torch.device) -> dict[str, torch.Tensor]:
    """Embeddings of clips of one length, which need no mask, and of captions of several."""
    rows, processor = make_rows(4, LANGUAGES), tiny_processor()
    sounds = [row["audio"]["array"][:3200] for row in rows]
    texts = [row["captions"]["eng_Latn"][0] for row in rows]
    inputs = processor(text=texts, language=["eng_Latn"] * 4, audio=sounds, sampling_rate=16000, return_tensors="pt")
    inputs = {name: value.to(device) for name, value in inputs.items()}
    with torch.no_grad():
        found = model(**inputs)
    return {"audio": found.audio_embeds.float().cpu(), "text": found.text_embeds.float().cpu()}


def assert_alike(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """Up to the rounding of bfloat16."""
    for name, vectors in expected.items():
        assert torch.cosine_similarity(found[name], vectors).min() > 0.999, name


def test_fused_attention(device):
    assert_alike(embeddings(model_of("sdpa", device), device), embeddings(model_of("eager", device), device))


@pytest.mark.parametrize("kernel", [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION], ids=lambda k: k.name)
def test_a_kernel_of_torch(device, kernel):
    """The audio tower, whose clips have no mask, on one kernel only; torch raises an error if it cannot be used."""
    if device.type == "cpu" and kernel != SDPBackend.FLASH_ATTENTION:
        pytest.skip("this kernel needs a GPU")
    expected = embeddings(model_of("eager", device), device)["audio"]
    model = model_of("sdpa", device)
    features = tiny_processor().feature_extractor(
        [row["audio"]["array"][:3200] for row in make_rows(4, LANGUAGES)], sampling_rate=16000, return_tensors="pt"
    )
    with sdpa_kernel([kernel]), torch.no_grad():
        found = model.get_audio_features(**{name: value.to(device) for name, value in features.items()}).pooler_output
    assert_alike({"audio": found.float().cpu()}, {"audio": expected})


def test_flash_attention_2(device):
    if find_spec("flash_attn") is None:
        pytest.skip("the package flash_attn is not installed")
    expected = embeddings(model_of("sdpa", device), device)
    assert_alike(embeddings(model_of("flash_attention_2", device), device), expected)
