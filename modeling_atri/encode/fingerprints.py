"""Fingerprints of models: where two are equal, stored embeddings and results can be used again."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig

from ..configuration_atri import AtriAudioConfig, AtriEmbeddedAudioConfig
from ..modeling_atri import AtriModel
from ..processing_atri import AtriProcessor


# Settings of CED that change audio embeddings without changing the shape of a weight.
_CED_SETTINGS = ("max_frames", "patch_size", "num_attention_heads", "hidden_act", "layer_norm_eps")
# Settings of other models that do not change what they compute: names, and settings of initialisation and training.
_OF_NO_ACCOUNT = re.compile(
    r"_|transformers_version|architectures|auto_map|processor_class|d?type$|torch_dtype|id2label|label2id|problem_type|source$"
    r"|output_attentions|output_hidden_states|return_dict|init|.*drop|mask_(time|feature)_|.*_token_id$"
)


def audio_fingerprint(model: AtriModel, processor: AtriProcessor) -> str:
    """32 hexadecimal digits: a digest of the weights and settings that determine audio embeddings, but not of names.

    A model without an audio tower has the fingerprint of the model that made its embeddings, if that is known.
    """
    config: Any = model.config.audio_config
    if config.model_type == AtriEmbeddedAudioConfig.model_type and not model.config.has_audio_head:
        if config.fingerprint is not None:
            return config.fingerprint
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


def feature_settings(feature_extractor: Any) -> dict[str, Any]:
    """The settings that affect the features. Names are left out, because saving an extractor changes them."""
    settings = feature_extractor.to_dict()
    wrapped = settings.get("feature_extractor")
    numbers = {name: value for name, value in settings.items() if isinstance(value, (int, float))}
    return numbers if wrapped is None else numbers | {"feature_extractor": _of_account(wrapped)}


def _audio_settings(model: AtriModel, processor: AtriProcessor) -> dict[str, Any]:
    config: Any = model.config.audio_config
    if config.model_type == AtriAudioConfig.model_type:
        settings = {name: getattr(config, name) for name in _CED_SETTINGS}
    else:
        settings = _changed_settings(config)
    return settings | feature_settings(processor.feature_extractor)


def _changed_settings(config: PreTrainedConfig) -> dict[str, Any]:
    """The settings that differ from the defaults of their type, because new versions may add settings."""
    defaults = _of_account(type(config)().to_dict())
    settings = _of_account(config.to_dict())
    changed = {name: value for name, value in settings.items() if name not in defaults or value != defaults[name]}
    return {"model_type": config.model_type} | changed


def _of_account(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that affect what is computed, as JSON values."""
    return {
        name: _of_account(value) if isinstance(value, Mapping) else value
        for name, value in json.loads(json.dumps(settings, default=_as_json)).items()
        if not _OF_NO_ACCOUNT.match(name)
    }


def _as_json(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _digest(settings: Mapping[str, Any], weights: Iterable[Mapping[str, Any]]) -> str:
    digest = hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=16)
    for of_module in weights:
        for name, tensor in of_module.items():
            digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
