"""Models without an audio tower, for sounds that were embedded elsewhere."""

import copy
import logging
import os
from typing import Any

import torch

from ..configuration_atri import LOGIT_SCALE, AtriConfig, AtriEmbeddedAudioConfig
from ..embedded_audio_atri import AtriEmbeddingExtractor
from ..encode.fingerprints import audio_fingerprint
from ..modeling_atri import AtriModel
from ..processing_atri import AtriProcessor
from ..sources import public_name
from .joining import build_model
from .towers import Tower, load_text_tower


logger = logging.getLogger(__name__)

_AUDIO_PARTS = ("audio_model.", "audio_projection.")


def without_audio_tower(
    model: AtriModel, processor: AtriProcessor, source: str | None = None
) -> tuple[AtriModel, AtriProcessor]:
    """The text side of a model, for sounds that it, or a model with the same audio side, has embedded.

    Text embeddings are equal bit for bit. The weights of the text side are copied.

    Args:
        model, processor: the whole model, which stays as it is.
        source (`str`, *optional*): name of the model that embeds the sounds, for people. Default: that of the model,
            or of its audio tower.

    Returns:
        Model and processor without an audio tower. They take embeddings of `projection_dim` numbers as clips. The
        configuration has the fingerprint of the audio side, so that embeddings of another model are refused.
    """
    config: Any = model.config
    if config.audio_config.model_type == AtriEmbeddedAudioConfig.model_type and not config.has_audio_head:
        return model, processor
    if source is None and (name := config.name_or_path or config.audio_config.name_or_path):
        source = public_name(name)
    audio_config = AtriEmbeddedAudioConfig(
        hidden_size=config.projection_dim,
        source=source,
        fingerprint=audio_fingerprint(model, processor),
        normalized=True,
    )
    state_dict = {
        name: value.clone() for name, value in model.state_dict().items() if not name.startswith(_AUDIO_PARTS)
    }
    text_config = copy.deepcopy(config.text_config)
    text_only = _build(audio_config, text_config, state_dict, model.dtype, config.logit_scale_init_value)
    text_only.train(model.training)
    settings: dict[str, Any] = {
        "normalize_text": processor.normalize_text,
        "max_text_length": processor.max_text_length,
    }
    extractor = AtriEmbeddingExtractor(config.projection_dim, source)
    return text_only, AtriProcessor(extractor, copy.deepcopy(processor.tokenizer), **settings)


def from_text_pretrained(
    text: str | os.PathLike | Tower,
    width: int,
    *,
    source: str | None = None,
    fingerprint: str | None = None,
    dtype: torch.dtype | str | None = None,
    **hub_kwargs: Any,
) -> AtriModel:
    """Build a model without an audio tower, in eval mode, for an archive that another model has embedded.

    The head of the text tower is newly initialized (with torch's global generator), so the model must be trained.

    Args:
        text (`str`, `os.PathLike` or `Tower`): the text tower, as in [`AtriModel.from_audio_text_pretrained`].
        width (`int`): width of the archive's embeddings.
        source (`str`, *optional*): name of the model that made them, for people.
        fingerprint (`str`, *optional*): fingerprint of that model, as `atri encode` stores it.
        dtype (`torch.dtype` or `str`, *optional*, defaults to float32): dtype of the weights.
        hub_kwargs: `revision`, `token`, `cache_dir`, `local_files_only` for the text tower, as in `from_pretrained`.

    Raises:
        ValueError: the text tower cannot be loaded.
        OSError: the Hub repository does not exist or cannot be reached.
    """
    if not isinstance(text, Tower):
        text = load_text_tower(text, **hub_kwargs)
    audio_config = AtriEmbeddedAudioConfig(hidden_size=width, source=source, fingerprint=fingerprint)
    state_dict = {f"text_model.{key}": value for key, value in text.state_dict.items()}
    model = _build(audio_config, text.config, state_dict, dtype)
    logger.warning(
        "The text tower is pretrained, but its projection head (text_projection) and logit_scale are newly "
        "initialized. Train the model before you embed texts, for example with `atri teach`."
    )
    return model


def _build(
    audio_config: AtriEmbeddedAudioConfig,
    text_config: Any,
    state_dict: dict[str, torch.Tensor],
    dtype: torch.dtype | str | None,
    logit_scale: float = AtriConfig.logit_scale_init_value,
) -> AtriModel:
    config = AtriConfig(
        audio_config=audio_config,
        text_config=text_config,
        projection_dim=audio_config.hidden_size,
        has_audio_head=False,
        logit_scale_init_value=logit_scale,
    )
    state_dict.setdefault(LOGIT_SCALE, torch.tensor([float(config.logit_scale_init_value)]))
    return build_model(AtriModel, config, state_dict, dtype)
