"""Embeddings in the place of sounds: the tower and the feature extractor of clips that were embedded before."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoFeatureExtractor, AutoModel
from transformers.feature_extraction_utils import BatchFeature, FeatureExtractionMixin
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import TensorType, auto_docstring

from .base_model_atri import MODEL_OPTIONS, AtriPreTrainedModel, check_inputs
from .configuration_atri import IS_REMOTE_CODE, AtriEmbeddedAudioConfig


@auto_docstring(custom_intro="Stands for an audio tower where the embeddings of the sounds were computed before.")
class AtriEmbeddedAudioModel(AtriPreTrainedModel):
    config: AtriEmbeddedAudioConfig
    base_model_prefix = "audio_model"
    main_input_name = "input_features"
    input_modalities = ("audio",)

    def __init__(self, config: AtriEmbeddedAudioConfig):
        super().__init__(config)
        self.post_init()

    def forward(
        self, input_features: Tensor, input_features_mask: Tensor | None = None, **kwargs: Any
    ) -> BaseModelOutputWithPooling:
        r"""
        input_features (`torch.Tensor` of shape `(batch_size, 1, hidden_size)`):
            The stored embedding of each clip, as its only frame.
        input_features_mask (`torch.Tensor` of shape `(batch_size, 1)`, *optional*):
            Ignored, since an embedding needs no padding.

        Returns:
            `BaseModelOutputWithPooling`, whose `pooler_output` are the embeddings, of shape
            `(batch_size, hidden_size)`.
        """
        check_inputs(kwargs, MODEL_OPTIONS, "`input_features`")
        if input_features.shape[1:] != (1, self.config.hidden_size):
            raise ValueError(
                f"Stored embeddings must have the shape (batch_size, 1, {self.config.hidden_size}); got "
                f"{tuple(input_features.shape)}."
            )
        return BaseModelOutputWithPooling(last_hidden_state=input_features, pooler_output=input_features[:, 0])


class AtriEmbeddingExtractor(FeatureExtractionMixin):
    r"""
    Takes vectors in the place of sounds, for models with an [`AtriEmbeddedAudioModel`].

    Args:
        feature_size (`int`, *optional*, defaults to 512):
            Width of an embedding.
        source (`str`, *optional*):
            Name of the model that makes the embeddings, for error messages.
    """

    model_input_names = ["input_features", "input_features_mask"]

    def __init__(self, feature_size: int = 512, source: str | None = None, **kwargs):
        super().__init__(**kwargs)
        self.feature_size = feature_size
        self.source = source

    def extract_clip(
        self, clip: Any, pad_short: bool = False, name: str = "the clip", source_rate: int | None = None
    ) -> Tensor:
        """One embedding, checked, as `(1, feature_size)`, float32."""
        if isinstance(clip, (str, bytes, Mapping)):
            of_model = f" of {self.source}" if self.source else ""
            raise ValueError(
                f"Cannot use {name}: this model has no audio tower. Pass the embedding{of_model} of the sound, a "
                f"vector of {self.feature_size} numbers."
            )
        vector = torch.as_tensor(np.asarray(clip, dtype=np.float32))
        if vector.shape != (self.feature_size,) or not torch.isfinite(vector).all():
            raise ValueError(
                f"Cannot use {name}: an embedding must be {self.feature_size} finite numbers; got the shape "
                f"{tuple(vector.shape)}."
            )
        return vector[None]

    def pad_features(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Stack embeddings to `input_features` `(clips, 1, feature_size)` and `input_features_mask` `(clips, 1)`."""
        stacked = torch.stack(list(features))
        return stacked, torch.ones(stacked.shape[:2], dtype=torch.long)

    def is_silent(self, features: Tensor) -> bool:
        """Whether an embedding says nothing, because all of its numbers are zero."""
        return not bool(features.any())

    def __call__(self, raw_speech: Any, return_tensors: str | TensorType | None = None, **kwargs) -> BatchFeature:
        """Stack embeddings: one vector, a list of vectors, or an array of shape `(clips, feature_size)`."""
        vectors = raw_speech if np.ndim(raw_speech[0]) else [raw_speech]
        features = [self.extract_clip(vector, name=f"Clip {index}") for index, vector in enumerate(vectors)]
        batch = dict(zip(self.model_input_names, self.pad_features(features), strict=True))
        return BatchFeature(batch, tensor_type=return_tensors or TensorType.NUMPY)


AtriEmbeddedAudioModel.register_for_auto_class("AutoModel")
AtriEmbeddingExtractor.register_for_auto_class()
if not IS_REMOTE_CODE:
    AutoModel.register(AtriEmbeddedAudioConfig, AtriEmbeddedAudioModel, exist_ok=True)
    AutoFeatureExtractor.register(AtriEmbeddedAudioConfig, AtriEmbeddingExtractor, exist_ok=True)

__all__ = ["AtriEmbeddedAudioModel", "AtriEmbeddingExtractor"]
