"""Models without an audio tower, for sounds that were embedded elsewhere."""

import copy
import logging
import os
from dataclasses import replace
from typing import Any

import torch

from ..configuration_atri import LOGIT_SCALE, AtriEmbeddedAudioConfig
from ..embedded_audio_atri import AtriEmbeddingExtractor
from ..encode.fingerprints import audio_fingerprint
from ..modeling_atri import AtriModel
from ..processing_atri import AtriProcessor
from ..sources import public_name
from .audio_sides import embedded_audio_side
from .joining import join_sides
from .towers import Tower, load_text_tower


logger = logging.getLogger(__name__)


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
    weights = model.state_dict()
    tower = {name: value.clone() for name, value in weights.items() if name.startswith("text_model.")}
    head = {name: value.clone() for name, value in weights.items() if name.startswith("text_projection.")}
    scale = {LOGIT_SCALE: weights[LOGIT_SCALE].clone()}
    side = embedded_audio_side(config.projection_dim, source, audio_fingerprint(model, processor), True, scale)
    side = replace(side, logit_scale=float(config.logit_scale_init_value))
    text = Tower(copy.deepcopy(config.text_config), {name.removeprefix("text_model."): tower[name] for name in tower})
    text_only = join_sides(AtriModel, side, text, model.dtype, head)
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
    model = join_sides(AtriModel, embedded_audio_side(width, source, fingerprint), text, dtype)
    logger.warning(
        "The text tower is pretrained, but its projection head (text_projection) and logit_scale are newly "
        "initialized. Train the model before you embed texts, for example with `atri teach`."
    )
    return model
