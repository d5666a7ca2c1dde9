"""What tells models apart that embed differently: where it is equal, embeddings and results can be used again."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from ..modeling_atri import AtriModel
from ..processing_atri import AtriProcessor


# What makes an embedding of the weights, beside their shapes.
_AUDIO_SETTINGS = ("max_frames", "patch_size", "num_attention_heads", "hidden_act", "layer_norm_eps")


def audio_fingerprint(model: AtriModel, processor: AtriProcessor) -> str:
    """32 hexadecimal digits that are the same for all that embed audio alike: weights and settings, not names."""
    return _digest(_audio_settings(model, processor), (model.audio_model, model.audio_projection))


def model_fingerprint(model: AtriModel, processor: AtriProcessor) -> str:
    """32 hexadecimal digits that are the same for all that embed audio and captions alike."""
    settings = _audio_settings(model, processor)
    settings |= {name: getattr(processor, name) for name in ("normalize_text", "max_text_length")}
    return _digest(settings, (model,))


def weights_fingerprint(module: nn.Module, settings: Mapping[str, Any]) -> str:
    """32 hexadecimal digits of any module's weights and buffers, with the settings that count beside them."""
    return _digest(settings, (module,))


def _audio_settings(model: AtriModel, processor: AtriProcessor) -> dict[str, Any]:
    settings = {name: getattr(model.config.audio_config, name) for name in _AUDIO_SETTINGS}
    numbers = processor.feature_extractor.to_dict().items()
    return settings | {name: value for name, value in numbers if isinstance(value, (int, float))}


def _digest(settings: Mapping[str, Any], modules: Iterable[nn.Module]) -> str:
    digest = hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=16)
    for module in modules:
        for name, tensor in module.state_dict().items():
            digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


__all__ = ["audio_fingerprint", "model_fingerprint", "weights_fingerprint"]
