"""The audio side of a model: its audio tower, audio head and temperature.

`AtriModel.from_audio_text_pretrained` uses this file, so it cannot import `AtriModel`.
"""

import copy
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from ..configuration_atri import LOGIT_SCALE, AtriConfig, AtriEmbeddedAudioConfig
from ..sources import public_name


_PARTS = ("audio_model.", "audio_projection.", LOGIT_SCALE)  # prefixes of the names of its weights


@dataclass(frozen=True)
class AudioSide:
    """An audio tower, its head and its temperature, in the names of `AtriModel`.

    Args:
        config: Configuration of the audio tower.
        projection_dim (`int`): Width of the embedding space.
        state_dict: Weights of tower, head and logit scale. Missing ones get their initial values.
        has_head (`bool`, *optional*, defaults to `True`): Whether a projection follows the tower.
        logit_scale (`float`, *optional*, defaults to 2.6593): Initial value of the logit scale.
    """

    config: PreTrainedConfig
    projection_dim: int
    state_dict: dict[str, Tensor]
    has_head: bool = True
    logit_scale: float = float(AtriConfig.logit_scale_init_value)


def audio_side_of(model: PreTrainedModel) -> AudioSide:
    """The audio side of an `AtriModel`, whose weights are shared, not copied."""
    config: Any = copy.deepcopy(model.config)
    config.audio_config.name_or_path = public_name(config.name_or_path) if config.name_or_path else ""
    return AudioSide(
        config.audio_config,
        config.projection_dim,
        {name: value for name, value in model.state_dict().items() if name.startswith(_PARTS)},
        config.has_audio_head,
        float(config.logit_scale_init_value),
    )


def embedded_audio_side(
    width: int,
    source: str | None = None,
    fingerprint: str | None = None,
    normalized: bool | None = None,
    state_dict: dict[str, Tensor] | None = None,
) -> AudioSide:
    """The audio side of a model without an audio tower, see [`AtriEmbeddedAudioConfig`]."""
    config = AtriEmbeddedAudioConfig(hidden_size=width, source=source, fingerprint=fingerprint, normalized=normalized)
    return AudioSide(config, width, state_dict or {}, has_head=False)
