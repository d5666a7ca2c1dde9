"""The text tower: the encoder that a text configuration describes."""

from transformers import AutoModel, PreTrainedConfig
from transformers.modeling_utils import PreTrainedModel
from transformers.models.auto.modeling_auto import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForTextEncoding

from .text_packing_atri import PackedM2M100Encoder


def build_text_model(config: PreTrainedConfig) -> PreTrainedModel:
    """Build the encoder of a text configuration with random weights, without a decoder and a pooler.

    Raises:
        ValueError: transformers has no encoder for this model type.
    """
    if config.model_type == "m2m_100":
        return PackedM2M100Encoder._from_config(config)
    auto_class = AutoModelForTextEncoding if type(config) in AutoModelForTextEncoding._model_mapping else AutoModel
    if (auto_class is AutoModel and config.is_encoder_decoder) or _is_decoder(config):
        raise ValueError(
            f"`text_config` is of type {config.model_type!r}, a decoder or an encoder-decoder whose encoder cannot be "
            "loaded alone. Use an encoder such as bert, xlm-roberta, modernbert, t5, or m2m_100 (SONAR, NLLB)."
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


__all__ = ["build_text_model"]
