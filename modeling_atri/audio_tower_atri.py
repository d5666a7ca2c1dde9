"""The audio tower: CED, stored embeddings, or any audio encoder of transformers."""

from typing import Any

from torch import Tensor
from transformers import AutoModel, PreTrainedConfig
from transformers.modeling_outputs import BaseModelOutputWithPooling

from .base_model_atri import AtriPreTrainedModel
from .ced_model_atri import AtriAudioModel
from .embedded_audio_atri import AtriEmbeddedAudioModel


class AtriAudioTower(AtriPreTrainedModel):
    """An audio encoder of transformers that takes clips of any length, window by window."""

    config: PreTrainedConfig
    base_model_prefix = "audio_model"
    main_input_name = "input_features"
    input_modalities = ("audio",)

    def __init__(self, config: PreTrainedConfig):
        super().__init__(config)
        self.encoder = AutoModel.from_config(config)
        self.post_init()

    def forward(
        self, input_features: Tensor, input_features_mask: Tensor | None = None, **kwargs: Any
    ) -> BaseModelOutputWithPooling:
        """Not written yet."""
        raise NotImplementedError


def build_audio_model(config: PreTrainedConfig) -> AtriAudioModel | AtriEmbeddedAudioModel | AtriAudioTower:
    """Build the audio tower that a configuration describes, with random weights."""
    # By name, because transformers may import the configuration's file twice where it comes from the Hub.
    own = {tower.config_class.model_type: tower for tower in (AtriAudioModel, AtriEmbeddedAudioModel)}
    return own.get(config.model_type, AtriAudioTower)._from_config(config)
