"""Models built from pretrained towers or converted weights.

The model class is an argument: `AtriModel.from_audio_text_pretrained` calls this file, which therefore cannot import
`AtriModel`.
"""

import logging
import os
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..configuration_atri import LOGIT_SCALE, AtriConfig
from .audio_sides import AudioSide
from .checkpoints import quiet_transformers
from .towers import Tower, load_audio_tower, load_text_tower


logger = logging.getLogger(__name__)

Model = TypeVar("Model", bound=PreTrainedModel)


def load_and_join_towers(
    model_class: type[Model],
    audio_name_or_path: str | os.PathLike,
    text_name_or_path: str | os.PathLike,
    *,
    projection_dim: int = 1024,
    dtype: torch.dtype | str | None = None,
    audio_revision: str = "main",
    text_revision: str = "main",
    token: str | bool | None = None,
    cache_dir: str | os.PathLike | None = None,
    local_files_only: bool = False,
    trust_remote_code: bool = False,
) -> Model:
    """Load both towers and join them, as documented in `AtriModel.from_audio_text_pretrained`."""
    hub_kwargs: dict[str, Any] = {"token": token, "cache_dir": cache_dir, "local_files_only": local_files_only}
    audio = load_audio_tower(
        audio_name_or_path, trust_remote_code=trust_remote_code, revision=audio_revision, **hub_kwargs
    )
    text = load_text_tower(text_name_or_path, revision=text_revision, **hub_kwargs)
    return join_towers(model_class, audio, text, projection_dim, dtype)


def join_towers(
    model_class: type[Model],
    audio: Tower,
    text: Tower,
    projection_dim: int = 1024,
    dtype: torch.dtype | str | None = None,
) -> Model:
    """Join two towers to a model in eval mode; torch's global generator draws the projection heads."""
    state_dict = {f"audio_model.{key}": value for key, value in audio.state_dict.items()}
    model = join_sides(model_class, AudioSide(audio.config, projection_dim, state_dict), text, dtype)
    logger.warning(
        "The towers are pretrained, but the projection heads (audio_projection, text_projection) and logit_scale are "
        "newly initialized. Train the model before you use its embeddings."
    )
    return model


def join_sides(
    model_class: type[Model],
    audio: AudioSide,
    text: Tower,
    dtype: torch.dtype | str | None = None,
    text_head: Mapping[str, Tensor] | None = None,
) -> Model:
    """Join an audio side and a text tower to a model in eval mode.

    Args:
        model_class: `AtriModel`, or a class derived from it.
        audio, text: The parts. Weights of heads that they lack are drawn with torch's global generator.
        dtype (*optional*, defaults to float32): Dtype of the weights.
        text_head (*optional*): Weights of the text's projection head, as `AtriModel` names them.
    """
    config = AtriConfig(
        audio_config=audio.config,
        text_config=text.config,
        projection_dim=audio.projection_dim,
        has_audio_head=audio.has_head,
        logit_scale_init_value=audio.logit_scale,
    )
    # Given here, the logit scale keeps float32 in a model of any dtype, like a weight that is loaded from a file.
    state_dict = {LOGIT_SCALE: torch.tensor([audio.logit_scale])} | audio.state_dict | dict(text_head or {})
    state_dict |= {f"text_model.{key}": value for key, value in text.state_dict.items()}
    return build_model(model_class, config, state_dict, dtype)


def build_model(
    model_class: type[Model], config: AtriConfig, state_dict: dict[str, Tensor], dtype: torch.dtype | str | None
) -> Model:
    """Build a model from a state dict, without copies of tensors that have the right dtype; draw missing weights."""
    with quiet_transformers():
        model = model_class.from_pretrained(
            None, config=config, state_dict=state_dict, dtype=torch.float32 if dtype is None else dtype
        )
    model.config.name_or_path = ""  # transformers has made the text "None" of it
    return model
