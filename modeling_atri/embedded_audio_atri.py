"""Stored embeddings instead of sounds: the tower and the feature extractor for clips that are already embedded."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoFeatureExtractor, AutoModel
from transformers.feature_extraction_utils import BatchFeature, FeatureExtractionMixin
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import TensorType, auto_docstring, can_return_tuple

from .audio_inputs_atri import is_recording, name_of_sound
from .base_model_atri import MODEL_OPTIONS, AtriPreTrainedModel, check_inputs
from .clip_features_atri import as_columns
from .configuration_atri import IS_REMOTE_CODE, AtriEmbeddedAudioConfig


@auto_docstring(custom_intro="Takes stored embeddings of sounds instead of an audio tower, and returns them.")
class AtriEmbeddedAudioModel(AtriPreTrainedModel):
    config: AtriEmbeddedAudioConfig  # type: ignore[assignment]
    base_model_prefix = "audio_model"
    main_input_name = "input_features"
    input_modalities = ["audio"]

    def __init__(self, config: AtriEmbeddedAudioConfig):
        super().__init__(config)
        self.post_init()

    @can_return_tuple
    @auto_docstring
    def forward(
        self, input_features: Tensor, input_features_mask: Tensor | None = None, **kwargs: Any
    ) -> BaseModelOutputWithPooling:
        r"""
        input_features (`torch.Tensor` of shape `(batch_size, 1, hidden_size)`):
            The stored embedding of each clip, as its only frame.
        input_features_mask (`torch.Tensor` of shape `(batch_size, 1)`, *optional*):
            Ignored, since an embedding needs no padding.

        Returns:
            `BaseModelOutputWithPooling`: the embeddings as `pooler_output`, of shape `(batch_size, hidden_size)`.
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
    Takes vectors instead of sounds, for models with an [`AtriEmbeddedAudioModel`].

    Args:
        feature_size (`int`, *optional*, defaults to 512):
            Width of an embedding.
        source (`str`, *optional*):
            Name of the model that makes the embeddings, for error messages.
    """

    model_input_names = ["input_features", "input_features_mask"]
    sampling_rate = None  # it reads no sound

    def __init__(self, feature_size: int = 512, source: str | None = None, **kwargs):
        super().__init__(**kwargs)
        self.feature_size = feature_size
        self.source = source

    @property
    def takes(self) -> str:
        """A sentence for error messages that says what the model takes instead of sounds."""
        of_model = f" that {self.source} makes" if self.source else ""
        return (
            f"This model has no audio tower. Pass the embedding{of_model} of the sound instead, a vector of "
            f"{self.feature_size} numbers."
        )

    def extract_clip(
        self, clip: Any, pad_short: bool = False, name: str = "the clip", source_rate: int | None = None
    ) -> Tensor:
        """One embedding, checked, as `(1, feature_size)`, float32.

        Raises:
            ValueError: the clip is a sound, or not `feature_size` finite numbers.
        """
        if is_recording(clip) or source_rate is not None:
            raise ValueError(f"Cannot use {name_of_sound(clip, name)}. {self.takes}")
        vector = clip.detach().float().cpu() if isinstance(clip, Tensor) else np.asarray(clip)
        if np.shape(vector) != (self.feature_size,):
            raise ValueError(f"Cannot use {name} of shape {tuple(np.shape(vector))}. {self.takes}")
        vector = torch.as_tensor(np.array(vector, dtype=np.float32))
        if not torch.isfinite(vector).all():
            raise ValueError(f"Cannot use {name}: the embedding has NaN or infinity.")
        return vector[None]

    def num_frames(self, num_samples: int) -> int:
        """Number of frames of a clip, which is always 1."""
        return 1

    def pad_features(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Stack embeddings to `input_features` `(clips, 1, feature_size)` and `input_features_mask` `(clips, 1)`."""
        stacked = torch.stack(list(features))
        return stacked, torch.ones(stacked.shape[:2], dtype=torch.long)

    def is_silent(self, features: Tensor) -> bool:
        """Whether all numbers of an embedding are zero."""
        return not bool(features.any())

    def __call__(
        self,
        raw_speech: Any,
        sampling_rate: int | None = None,
        padding: bool | str = True,
        pad_short: bool = False,
        return_tensors: str | TensorType | None = None,
        **kwargs,
    ) -> BatchFeature:
        """Stack embeddings: one vector, a list of vectors, or an array of shape `(clips, feature_size)`.

        Arguments for sounds (`sampling_rate`) are refused; `padding` and `pad_short` have no effect.

        Raises:
            ValueError: an input is a sound, or it is not `feature_size` finite numbers.
        """
        if not is_recording(raw_speech) and len(raw_speech) == 0:
            raise ValueError(f"No embedding was given: the list is empty. {self.takes}")
        is_one = is_recording(raw_speech) or (np.ndim(raw_speech[0]) == 0 and not is_recording(raw_speech[0]))
        vectors = [raw_speech] if is_one else raw_speech
        features = [
            self.extract_clip(vector, name=f"Clip {index}", source_rate=sampling_rate)
            for index, vector in enumerate(vectors)
        ]
        batch = dict(zip(self.model_input_names, self.pad_features(features), strict=True))
        return BatchFeature(batch, tensor_type=return_tensors or TensorType.NUMPY)

    def pad(
        self,
        processed_features: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        padding: bool | str = True,
        return_tensors: str | TensorType | None = None,
        **kwargs,
    ) -> BatchFeature:
        """Stack the outputs of calls for single embeddings, as collators of transformers do.

        Raises:
            ValueError: there are no `input_features`, or one is not `feature_size` finite numbers.
        """
        clips = as_columns(processed_features).get("input_features", ())
        if len(clips) == 0:
            raise ValueError("There are no `input_features` to pad.")
        features = [
            self.extract_clip(np.asarray(clip).reshape(-1), name=f"the `input_features` of clip {index}")
            for index, clip in enumerate(clips)
        ]
        batch = dict(zip(self.model_input_names, self.pad_features(features), strict=True))
        return BatchFeature(batch, tensor_type=return_tensors or TensorType.NUMPY)


AtriEmbeddedAudioModel.register_for_auto_class("AutoModel")
AtriEmbeddingExtractor.register_for_auto_class()
if not IS_REMOTE_CODE:
    AutoModel.register(AtriEmbeddedAudioConfig, AtriEmbeddedAudioModel, exist_ok=True)
    AutoFeatureExtractor.register(AtriEmbeddedAudioConfig, AtriEmbeddingExtractor, exist_ok=True)

__all__ = ["AtriEmbeddedAudioModel", "AtriEmbeddingExtractor"]
