"""The text tower: the encoder that a text configuration describes, and how many tokens it takes."""

import torch
from torch import Tensor, nn
from transformers import AutoModel, M2M100Config, PreTrainedConfig
from transformers.modeling_utils import PreTrainedModel
from transformers.models.auto.modeling_auto import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForTextEncoding

from .configuration_atri import IS_REMOTE_CODE
from .text_packing_atri import PackedM2M100Encoder


# Tables of learned positions, which cannot be continued. Others, such as `relative_attention_bias`, have no limit.
_POSITION_TABLES = ("position_embeddings", "position_embedding", "embed_positions", "wpe")


def build_text_model(config: PreTrainedConfig) -> PreTrainedModel:
    """Build the encoder of a text configuration with random weights, without a decoder and a pooler.

    Raises:
        ValueError: transformers has no encoder for this model type.
    """
    if config.model_type == "m2m_100":
        return PackedM2M100Encoder._from_config(config)
    if "text_config" in config.sub_configs:
        raise ValueError(
            f"`text_config` is of type {config.model_type!r}, a model of texts and other inputs, whose text encoder "
            "cannot be loaded alone. Use an encoder such as bert, xlm-roberta, modernbert, or m2m_100 (SONAR, NLLB)."
        )
    auto_class = AutoModelForTextEncoding if type(config) in AutoModelForTextEncoding._model_mapping else AutoModel
    if (auto_class is AutoModel and config.is_encoder_decoder) or _is_decoder(config):
        raise ValueError(
            f"`text_config` is of type {config.model_type!r}, a decoder or an encoder-decoder whose encoder cannot be "
            "loaded alone. Use an encoder such as bert, xlm-roberta, modernbert, t5, or m2m_100 (SONAR, NLLB)."
        )
    if type(config) not in auto_class._model_mapping and not getattr(config, "auto_map", None):
        raise ValueError(
            f"`text_config` is of type {config.model_type!r}, of which transformers has no encoder of text. Use one "
            "such as bert, xlm-roberta, modernbert, t5, or m2m_100 (SONAR, NLLB)."
        )
    text_model = auto_class.from_config(config)
    if text_model.main_input_name != "input_ids":
        raise ValueError(
            f"`text_config` is of type {config.model_type!r}, which reads {text_model.main_input_name}, not text."
        )
    if getattr(text_model, "pooler", None) is not None:
        text_model.pooler = None  # token states are averaged, so its weights would get no gradient
    return text_model


def _is_decoder(config: PreTrainedConfig) -> bool:
    """Whether each token attends only to the tokens before it: the mean over such states is a poor embedding."""
    if getattr(config, "is_decoder", False):
        return True
    only_generates = type(config) in AutoModelForCausalLM._model_mapping and not (
        type(config) in AutoModelForMaskedLM._model_mapping or type(config) in AutoModelForTextEncoding._model_mapping
    )
    return only_generates and not getattr(config, "use_bidirectional_attention", False)


def max_text_tokens(text_model: nn.Module) -> int | None:
    """Number of tokens that a text tower takes or was made for; None if it is not limited.

    It is the number of usable rows of the table of positions (512 of the 514 of XLM-R, whose first two rows are
    for padding), or for towers without such a table `max_position_embeddings` of the configuration.
    """
    limits = []
    for name, module in text_model.named_modules():
        weight, padding_idx = getattr(module, "weight", None), getattr(module, "padding_idx", None)
        if weight is not None and name.rpartition(".")[2] in _POSITION_TABLES:
            unused = getattr(module, "offset", 0) if padding_idx is None else padding_idx + 1
            limits.append(len(weight) - unused)
    if limits:
        ids = (buffer for name, buffer in text_model.named_buffers() if name.rpartition(".")[2] == "position_ids")
        return min([*limits, *(buffer.shape[-1] for buffer in ids)])
    limit = getattr(text_model.config, "max_position_embeddings", None)
    return limit if isinstance(limit, int) and limit > 0 else None


def cut_captions(input_ids: Tensor, attention_mask: Tensor, max_tokens: int) -> tuple[Tensor, Tensor]:
    """Cut captions to their first `max_tokens - 1` tokens and the last one, which is the end token.

    Args:
        input_ids, attention_mask: tokens of the captions, `(captions, tokens)`, padded on either side.
        max_tokens (`int`): number of tokens to keep.

    Returns:
        Both, of shape `(captions, max_tokens)` and padded on the right side.
    """
    lengths = attention_mask.long().sum(dim=1, keepdim=True)
    first = attention_mask.long().argmax(dim=1, keepdim=True)
    columns = torch.arange(max_tokens, device=input_ids.device)[None, :]
    is_end = (columns == max_tokens - 1) & (lengths > max_tokens)
    source = first + torch.where(is_end, lengths - 1, columns)
    source = source.clamp(max=input_ids.shape[1] - 1)
    is_padding = columns >= lengths
    padding = input_ids.gather(1, attention_mask.long().argmin(dim=1, keepdim=True))
    return torch.where(is_padding, padding, input_ids.gather(1, source)), (~is_padding).to(attention_mask.dtype)


if not IS_REMOTE_CODE:
    # `AutoModel` makes a translation model of M2M100's configuration; this is the auto class of encoders.
    AutoModelForTextEncoding.register(M2M100Config, PackedM2M100Encoder, exist_ok=True)

__all__ = ["build_text_model", "cut_captions", "max_text_tokens"]
