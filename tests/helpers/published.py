"""State dicts and folders as CED, SONAR and ML-CLAP are published, with random weights of any size."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor


def linear(name: str, outputs: int, inputs: int) -> dict[str, Tensor]:
    return {f"{name}.weight": torch.randn(outputs, inputs), f"{name}.bias": torch.randn(outputs)}


def norm(name: str, width: int) -> dict[str, Tensor]:
    return {f"{name}.weight": torch.randn(width), f"{name}.bias": torch.randn(width)}


def ced_state_dict(width: int = 12, depth: int = 2, naming: str = "original") -> dict[str, Tensor]:
    """`AudioTransformer` of CED ("original"), or `CedModel` ("hub") or `CedForAudioClassification` ("classifier")."""
    batch_norm = "init_bn.1" if naming == "original" else "init_bn"
    state_dict = norm(batch_norm, 64) | norm("norm", width) | norm("outputlayer.0", width)
    state_dict |= linear("outputlayer.1", 527, width)
    state_dict |= {f"{batch_norm}.running_mean": torch.randn(64), f"{batch_norm}.running_var": torch.rand(64) + 1}
    state_dict[f"{batch_norm}.num_batches_tracked"] = torch.tensor(7)
    state_dict |= {"time_pos_embed": torch.randn(1, width, 1, 63), "freq_pos_embed": torch.randn(1, width, 4, 1)}
    state_dict |= {
        "patch_embed.proj.weight": torch.randn(width, 1, 16, 16),
        "patch_embed.proj.bias": torch.randn(width),
    }
    for i in range(depth):
        state_dict |= norm(f"blocks.{i}.norm1", width) | norm(f"blocks.{i}.norm2", width)
        state_dict |= linear(f"blocks.{i}.attn.qkv", 3 * width, width) | linear(f"blocks.{i}.attn.proj", width, width)
        state_dict |= linear(f"blocks.{i}.mlp.fc1", 4 * width, width) | linear(f"blocks.{i}.mlp.fc2", width, 4 * width)
    if naming == "original":
        tables = {"spectrogram.window": torch.ones(512), "mel_scale.fb": torch.ones(257, 64)}
        return state_dict | {f"front_end.0.{name}": table for name, table in tables.items()}
    if naming == "classifier":
        return {name if name.startswith("outputlayer") else f"encoder.{name}": v for name, v in state_dict.items()}
    return {name: value for name, value in state_dict.items() if not name.startswith("outputlayer")}


def sonar_state_dict(width: int = 8, depth: int = 2, inner: int = 16, vocab_size: int = 20) -> dict[str, Tensor]:
    """SONAR's text encoder in fairseq2's naming."""
    state_dict = {"encoder_frontend.embed.weight": torch.randn(vocab_size, width)} | norm("layer_norm", width)
    for i in range(depth):
        layer = f"encoder.layers.{i}"
        state_dict |= norm(f"{layer}.self_attn_layer_norm", width) | norm(f"{layer}.ffn_layer_norm", width)
        for name in ("q_proj", "k_proj", "v_proj", "output_proj"):
            state_dict |= linear(f"{layer}.self_attn.{name}", width, width)
        state_dict |= linear(f"{layer}.ffn.inner_proj", inner, width)
        state_dict |= linear(f"{layer}.ffn.output_proj", width, inner)
    return state_dict


def mlclap_state_dict(
    ced: dict[str, Tensor] | None = None, sonar: dict[str, Tensor] | None = None, projection_dim: int = 6
) -> dict[str, Tensor]:
    """`MLCLAP`; by default of the towers of this module's defaults."""
    ced, sonar = ced or ced_state_dict(), sonar or sonar_state_dict()
    state_dict = {f"audio_encoder.model.{name}": value for name, value in ced.items()}
    state_dict |= {f"text_encoder.model.{name}": value for name, value in sonar.items()}
    for name, width in (("audio", len(ced["norm.weight"])), ("text", len(sonar["layer_norm.weight"]))):
        state_dict |= linear(f"{name}_proj.0", projection_dim, width)
        state_dict |= linear(f"{name}_proj.2", projection_dim, projection_dim)
    return state_dict | {"temperature": torch.tensor(0.05)}


def save_folder(folder: Path, config: dict[str, Any], state_dict: dict[str, Tensor], weights: str) -> Path:
    """A folder in transformers' layout: `config.json` and `weights`, a file of safetensors or torch."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    if weights.endswith(".safetensors"):
        save_file(state_dict, folder / weights, metadata={"format": "pt"})
    else:
        torch.save(state_dict, folder / weights)
    return folder
