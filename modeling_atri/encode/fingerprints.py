"""Fingerprints of models: where two are equal, stored embeddings and results can be used again."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from ..feature_extraction_atri import AtriFeatureExtractor
from ..modeling_atri import AtriModel
from ..processing_atri import AtriProcessor


# Settings that change audio embeddings without changing the shape of a weight.
_AUDIO_SETTINGS = ("max_frames", "patch_size", "num_attention_heads", "hidden_act", "layer_norm_eps")


def audio_fingerprint(model: AtriModel, processor: AtriProcessor) -> str:
    """32 hexadecimal digits of all that decides about audio embeddings: weights and settings, not names."""
    parts = (model.audio_model, model.audio_projection)
    return _digest(_audio_settings(model, processor), [part.state_dict() for part in parts])


def model_fingerprint(model: AtriModel, processor: AtriProcessor) -> str:
    """32 hexadecimal digits of all that decides about the embeddings of audio and captions."""
    settings = _audio_settings(model, processor)
    settings |= {name: getattr(processor, name) for name in ("normalize_text", "max_text_length")}
    weights = model.state_dict()
    scale = weights.pop("learned_logit_scale.weight", None)
    if scale is not None:  # where it was, and as it was called, in version 0.1, whose fingerprints stay valid
        weights = {"logit_scale": scale.reshape(()), **weights}
    return _digest(settings, [weights])


def weights_fingerprint(module: nn.Module, settings: Mapping[str, Any]) -> str:
    """32 hexadecimal digits of a module's weights and buffers, and of other settings (JSON values) that matter."""
    return _digest(settings, [module.state_dict()])


def feature_settings(feature_extractor: AtriFeatureExtractor) -> dict[str, int | float]:
    """The settings that change the features: all numbers of the extractor. Names change when it is saved."""
    return {name: value for name, value in feature_extractor.to_dict().items() if isinstance(value, (int, float))}


def _audio_settings(model: AtriModel, processor: AtriProcessor) -> dict[str, Any]:
    settings = {name: getattr(model.config.audio_config, name) for name in _AUDIO_SETTINGS}
    return settings | feature_settings(processor.feature_extractor)


def _digest(settings: Mapping[str, Any], weights: Iterable[Mapping[str, Any]]) -> str:
    digest = hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=16)
    for of_module in weights:
        for name, tensor in of_module.items():
            digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
