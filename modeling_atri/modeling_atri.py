"""PyTorch ATRI model: any audio tower and any text tower, in one multilingual embedding space."""

from dataclasses import dataclass, replace
from importlib import import_module
from inspect import signature
from os import PathLike
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedConfig
from transformers.core_model_loading import ConversionOps, WeightConverter
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.modeling_utils import PreTrainedModel
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput, TransformersKwargs, auto_docstring, can_return_tuple

from .audio_encoders_atri import audio_width
from .audio_tower_atri import AtriAudioTower, build_audio_model
from .base_model_atri import MODEL_OPTIONS, AtriLogitScale, AtriPreTrainedModel, check_inputs, masked_mean
from .ced_model_atri import AtriAudioModel
from .configuration_atri import IS_REMOTE_CODE, LOGIT_SCALE, AtriConfig
from .embedded_audio_atri import AtriEmbeddedAudioModel
from .loss_atri import info_nce_loss
from .pipelines_atri import register_pipelines
from .remote_towers_atri import HUB_ARGUMENTS, UnloadedAudioConfig, load_audio_config, trusting
from .text_model_atri import build_text_model, cut_captions, max_text_tokens


@auto_docstring
@dataclass
class AtriOutput(ModelOutput):
    r"""
    loss (`torch.Tensor` of shape `()`, *optional*, returned when `return_loss=True`):
        Symmetric InfoNCE loss, with caption i as the positive of clip i.
    logits_per_audio (`torch.Tensor` of shape `(num_audios, num_texts)`, *optional*):
        Cosine similarities times `logit_scale.exp()`.
    logits_per_text (`torch.Tensor` of shape `(num_texts, num_audios)`, *optional*):
        Transpose of `logits_per_audio`.
    audio_embeds (`torch.Tensor` of shape `(num_audios, projection_dim)`, *optional*):
        Projected and L2-normalised audio embeddings.
    text_embeds (`torch.Tensor` of shape `(num_texts, projection_dim)`, *optional*):
        Projected and L2-normalised caption embeddings.
    audio_model_output (`BaseModelOutputWithPooling`, *optional*):
        Output of the audio tower. Its `pooler_output` is the embedding of the clip before the projection.
    text_model_output (`BaseModelOutputWithPooling`, *optional*):
        Output of the text tower. Its `pooler_output` is the mean over the tokens, before the projection.
    """

    loss: Tensor | None = None
    logits_per_audio: Tensor | None = None
    logits_per_text: Tensor | None = None
    audio_embeds: Tensor | None = None
    text_embeds: Tensor | None = None
    audio_model_output: BaseModelOutputWithPooling | None = None
    text_model_output: BaseModelOutputWithPooling | None = None

    def to_tuple(self) -> tuple:
        return tuple(value.to_tuple() if isinstance(value, ModelOutput) else value for value in self.values())


class AtriProjectionHead(nn.Module):
    """Two-layer ReLU MLP from the width of a tower to the shared embedding space."""

    def __init__(self, input_dim: int, projection_dim: int):
        super().__init__()
        self.fc1 = nn.Linear(input_dim, projection_dim)
        self.fc2 = nn.Linear(projection_dim, projection_dim)

    def forward(self, pooled: Tensor) -> Tensor:
        return self.fc2(F.relu(self.fc1(pooled)))


@auto_docstring(
    custom_intro="An audio tower and a text tower, each with a two-layer projection into one embedding space."
)
class AtriModel(AtriPreTrainedModel):
    config: AtriConfig
    main_input_name = "input_features"
    # In bfloat16, the temperature would be off by up to 1 %, and small optimizer steps would be rounded away.
    _keep_in_fp32_modules_strict = ["learned_logit_scale"]

    def __init__(self, config: AtriConfig):
        super().__init__(config)
        self.learned_logit_scale = AtriLogitScale(config.logit_scale_init_value)
        audio_config: Any = config.audio_config
        self.audio_model = build_audio_model(audio_config)
        self.text_model = build_text_model(config.text_config)
        self.max_text_tokens = max_text_tokens(self.text_model)  # longer captions are cut
        self._text_options = MODEL_OPTIONS | signature(self.text_model.forward).parameters.keys()
        self.audio_projection: nn.Module = nn.Identity()
        if config.has_audio_head:
            self.audio_projection = AtriProjectionHead(audio_width(audio_config), config.projection_dim)
        self.text_projection = AtriProjectionHead(config.text_config.hidden_size, config.projection_dim)
        self.register_load_state_dict_pre_hook(_convert_before_loading)
        self.post_init()
        # Accelerate refuses names of layers that a model does not have, such as CED's if it has another audio tower.
        own = {type(module).__name__ for module in self.modules()}
        self._no_split_modules = own & set(self._no_split_modules or ())

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the computation, also if weights are quantised. (`logit_scale` is always float32.)"""
        has_weights = any(True for _ in self.audio_model.parameters())  # the tower of stored embeddings has none
        return (self.audio_model if has_weights else self.text_model).dtype

    @property
    def logit_scale(self) -> nn.Parameter:
        """The learned logarithm of the inverse temperature, of shape (1,). With an adapter of PEFT, the active one.

        `model.logit_scale = value` writes a number or a tensor into the parameter. A value that is a parameter itself
        also says whether it is trained.
        """
        return self.learned_logit_scale.weight

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "logit_scale":
            return super().__setattr__(name, value)
        with torch.no_grad():  # `nn.Module` would register a second parameter
            self.logit_scale.copy_(torch.as_tensor(value))
        if isinstance(value, nn.Parameter):
            self.logit_scale.requires_grad_(value.requires_grad)

    @classmethod
    def from_audio_text_pretrained(
        cls,
        audio_name_or_path: str | PathLike,
        text_name_or_path: str | PathLike,
        *,
        projection_dim: int = 1024,
        dtype: torch.dtype | str | None = None,
        audio_revision: str = "main",
        text_revision: str = "main",
        **hub_kwargs,
    ) -> "AtriModel":
        """
        Build a model from two pretrained towers, in eval mode. The projection heads and `logit_scale` are newly
        initialized (the heads with torch's global generator, see `torch.manual_seed`), so the model must be trained.

        Args:
            audio_name_or_path (`str` or `os.PathLike`): CED, as Hub id (`mispeech/ced-base`, `-small`, `-mini`,
                `-tiny`), folder or file; another audio model of transformers, of which the encoder is taken (CLAP,
                AST, Whisper, wav2vec2, ...), as Hub id or folder; or an [`AtriModel`] or its audio tower.
            text_name_or_path (`str` or `os.PathLike`): SONAR, as Hub id (`cointegrated/SONAR_200_text_encoder`),
                folder, or file in fairseq2's naming; or any encoder that `AutoModel` knows, as Hub id or folder.
            projection_dim (`int`, *optional*, defaults to 1024): width of the shared embedding space.
            dtype (`torch.dtype` or `str`, *optional*, defaults to float32): dtype of all weights of the model.
            audio_revision, text_revision (`str`, *optional*, defaults to `"main"`): branch, tag or commit on the Hub.
            hub_kwargs: `token`, `cache_dir`, `local_files_only` for both towers, as in `from_pretrained`, and
                `trust_remote_code` for an audio model whose code is a part of its repository.

        Raises:
            ValueError: there is no such file or folder, it is another kind of model, or weights are missing, unknown
                or of the wrong shape. The error names them.
            OSError: the Hub repository does not exist or cannot be reached.
            ImportError: the model was loaded with `trust_remote_code=True` where this package is not installed.
        """
        try:
            joining = import_module("modeling_atri.pretrained.joining")
        except ImportError as error:
            raise ImportError(
                "`from_audio_text_pretrained` needs the installed package: `pip install modeling_atri`. The files of "
                "a Hub repository do not contain it."
            ) from error
        return joining.load_and_join_towers(
            cls,
            audio_name_or_path,
            text_name_or_path,
            projection_dim=projection_dim,
            dtype=dtype,
            audio_revision=audio_revision,
            text_revision=text_revision,
            **hub_kwargs,
        )

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        pretrained_model_name_or_path: str | PathLike,
        *model_args: Any,
        config: PreTrainedConfig | str | PathLike | None = None,
        trust_remote_code: bool | None = None,
        **kwargs: Any,
    ) -> "AtriModel":
        """Same as in transformers. `trust_remote_code=True` allows an audio encoder with code in the repository."""
        if trust_remote_code:
            hub_arguments = {name: kwargs[name] for name in HUB_ARGUMENTS if name in kwargs}
            found = cast(Any, config)
            if not isinstance(config, PreTrainedConfig):
                found = AtriConfig.from_pretrained(config or pretrained_model_name_or_path, **hub_arguments)
            if found.audio_config.model_type == UnloadedAudioConfig.model_type:
                with trusting(pretrained_model_name_or_path, hub_arguments):
                    found.audio_config = load_audio_config(found.audio_config.values)
                config = found
        return super().from_pretrained(pretrained_model_name_or_path, *model_args, config=config, **kwargs)

    @staticmethod
    def _load_pretrained_model(model, state_dict, checkpoint_files, load_config, *args, **kwargs):
        """Load a model or an adapter, also of version 0.1."""
        converter = WeightConverter(r"^logit_scale$", LOGIT_SCALE, operations=[_ScalarLogitScale()])
        load_config = replace(load_config, weight_mapping=[*(load_config.weight_mapping or ()), converter])
        return PreTrainedModel._load_pretrained_model(  # noqa: SLF001
            model, state_dict, checkpoint_files, load_config, *args, **kwargs
        )

    def get_input_embeddings(self) -> nn.Module:
        return self.text_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.text_model.set_input_embeddings(value)

    def get_adapter_state_dict(self, adapter_name: str | None = None, state_dict: dict | None = None) -> dict:
        """Add the logit scale to the state dict of an adapter that does not name it in its `modules_to_save`.

        Adapters of version 0.1 are of this kind.
        """
        adapter = super().get_adapter_state_dict(adapter_name, state_dict)
        if not isinstance(self.learned_logit_scale, AtriLogitScale):
            return adapter
        scale = self.logit_scale.detach() if state_dict is None else state_dict[LOGIT_SCALE]
        return adapter | {LOGIT_SCALE: scale}

    @can_return_tuple
    @auto_docstring
    def get_audio_features(
        self,
        input_features: Tensor,
        input_features_mask: Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPooling:
        r"""
        input_features (`torch.Tensor` of shape `(batch_size, num_frames, width)`):
            Clips as the model's feature extractor makes them; for CED, log-mel spectrograms in decibels.
        input_features_mask (`torch.Tensor` of shape `(batch_size, num_frames)`, *optional*):
            1 on the frames that a clip's sound covers, 0 on padding.

        Returns:
            `BaseModelOutputWithPooling`: the output of the audio tower, with the projected and L2-normalised
            embeddings, of shape `(batch_size, projection_dim)`, as `pooler_output`.
        """
        outputs = self.audio_model(input_features, input_features_mask, return_dict=True, **kwargs)
        outputs.pooler_output = self._project_clips(outputs.pooler_output)
        return outputs

    @can_return_tuple
    @auto_docstring
    def get_text_features(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPooling:
        r"""
        Captions that are longer than the text tower takes (`max_text_tokens`) are cut before the end token.

        Returns:
            `BaseModelOutputWithPooling`: the output of the text tower, with the projected and L2-normalised
            embeddings, of shape `(batch_size, projection_dim)`, as `pooler_output`.
        """
        outputs = self._encode_text(input_ids, attention_mask, **kwargs)
        outputs.pooler_output = F.normalize(self.text_projection(outputs.pooler_output), dim=-1)
        return outputs

    def _project_clips(self, pooled: Tensor) -> Tensor:
        """L2-normalised embeddings of the tower's output, `(batch_size, projection_dim)`."""
        if isinstance(self.audio_model, AtriEmbeddedAudioModel) and self.config.has_audio_head:
            pooled = pooled.to(self.dtype)
        return F.normalize(self.audio_projection(pooled), dim=-1)

    def _check_embeddings(self, audio_embeds: Tensor | None) -> None:
        width = self.config.projection_dim
        if audio_embeds is not None and audio_embeds.shape[1:] != (width,):
            raise ValueError(
                f"`audio_embeds` must have the shape (num_audios, {width}), the width of the model's embedding space; "
                f"got {tuple(audio_embeds.shape)}."
            )

    def _encode_text(self, input_ids: Tensor, attention_mask: Tensor | None, **kwargs) -> BaseModelOutputWithPooling:
        """Run the text tower; the `pooler_output` is the mean of the token states."""
        check_inputs(kwargs, self._text_options, "`input_ids` and `attention_mask`")
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        if self.max_text_tokens is not None and not torch.compiler.is_exporting():
            if input_ids.shape[1] > self.max_text_tokens:
                input_ids, attention_mask = cut_captions(input_ids, attention_mask, self.max_text_tokens)
        outputs = self.text_model(input_ids=input_ids, attention_mask=attention_mask, return_dict=True, **kwargs)
        return BaseModelOutputWithPooling(
            last_hidden_state=outputs.last_hidden_state,
            pooler_output=masked_mean(outputs.last_hidden_state, attention_mask),
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    @can_return_tuple
    @auto_docstring
    def forward(
        self,
        input_features: Tensor | None = None,
        input_features_mask: Tensor | None = None,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        return_loss: bool | None = None,
        text_pooler_output: Tensor | None = None,
        audio_embeds: Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> AtriOutput:
        r"""
        input_features (`torch.Tensor` of shape `(num_audios, num_frames, width)`, *optional*):
            Clips as the model's feature extractor makes them; for CED, log-mel spectrograms in decibels. Without them,
            only the captions are encoded.
        input_features_mask (`torch.Tensor` of shape `(num_audios, num_frames)`, *optional*):
            1 on the frames that a clip's sound covers, 0 on padding.
        text_pooler_output (`torch.Tensor` of shape `(num_texts, hidden_size)`, *optional*):
            The `pooler_output` of the text tower for the captions, if it is already known; replaces `input_ids`.
        audio_embeds (`torch.Tensor` of shape `(num_audios, projection_dim)`, *optional*):
            Projected and L2-normalised embeddings of the clips, if they are already known. They are used unchanged,
            instead of `input_features`.
        return_loss (`bool`, *optional*):
            Whether to return the InfoNCE loss with caption i as the positive of clip i, which needs as many captions
            as clips. The objectives over several languages are in `modeling_atri.trainer.losses`.

        Example:

        ```python
        >>> from modeling_atri import AtriModel, AtriProcessor

        >>> model = AtriModel.from_pretrained("path/to/model")
        >>> processor = AtriProcessor.from_pretrained("path/to/model")
        >>> inputs = processor(
        ...     text=["a dog barks", "un chien aboie"], language=["en", "fr"], audio=[waveform], sampling_rate=16000
        ... )
        >>> model(**inputs).logits_per_audio.shape
        torch.Size([1, 2])
        ```"""
        clips = one_of("clips", input_features=input_features, audio_embeds=audio_embeds)
        texts = one_of("captions", input_ids=input_ids, text_pooler_output=text_pooler_output)
        check_inputs(kwargs, self._text_options, "`input_features_mask` for clips and `attention_mask` for captions")
        self._check_embeddings(audio_embeds)
        check_clips_and_captions(clips, texts, attention_mask, bool(return_loss))
        options = {name: value for name, value in kwargs.items() if name in MODEL_OPTIONS}
        audio_outputs = text_outputs = text_embeds = None
        if input_features is not None:
            audio_outputs = self.audio_model(input_features, input_features_mask, return_dict=True, **options)
            audio_embeds = self._project_clips(audio_outputs.pooler_output)
        if input_ids is not None:
            text_outputs = self._encode_text(input_ids, attention_mask, **kwargs)
            text_pooler_output = text_outputs.pooler_output
        if text_pooler_output is not None:
            text_embeds = F.normalize(self.text_projection(text_pooler_output), dim=-1)
        loss = logits_per_audio = logits_per_text = None
        if audio_embeds is not None and text_embeds is not None:
            dtype = torch.promote_types(audio_embeds.dtype, text_embeds.dtype)  # stored embeddings have their own
            clips, captions = audio_embeds.to(dtype), text_embeds.to(audio_embeds.device, dtype)
            scale = self.learned_logit_scale().to(clips.device)
            logits_per_audio = scale * (clips @ captions.T)
            logits_per_text = logits_per_audio.T
            if return_loss:
                loss = info_nce_loss(clips, captions, scale)
        # All values are passed at once, because their order decides about the order of `to_tuple`.
        return AtriOutput(
            loss=loss,
            logits_per_audio=logits_per_audio,
            logits_per_text=logits_per_text,
            audio_embeds=audio_embeds,
            text_embeds=text_embeds,
            audio_model_output=audio_outputs,
            text_model_output=text_outputs,
        )


def one_of(what: str, **given: Tensor | None) -> Tensor | None:
    """Whichever of two inputs that stand for the same is given, or None.

    Raises:
        ValueError: both are given.
    """
    found = [value for value in given.values() if value is not None]
    if len(found) > 1:
        raise ValueError(f"Pass {what} as {' or as '.join(f'`{name}`' for name in given)}, not both.")
    return found[0] if found else None


def check_clips_and_captions(
    clips: Tensor | None, texts: Tensor | None, attention_mask: Tensor | None, return_loss: bool
) -> None:
    """Raise a ValueError if there is nothing to encode, or the loss has no caption for each clip."""
    if attention_mask is not None and texts is None:
        raise ValueError(
            "`attention_mask` is the mask of captions, but there are no `input_ids`. The mask of clips is "
            "`input_features_mask`."
        )
    if clips is None and texts is None:
        raise ValueError("Neither `input_features` nor `input_ids` was given. Pass clips, captions, or both.")
    if not return_loss:
        return
    if clips is None or texts is None:
        raise ValueError("`return_loss=True` needs clips and captions: pass both `input_features` and `input_ids`.")
    if len(clips) != len(texts):
        raise ValueError(
            f"`return_loss=True` pairs clip i with caption i, but there are {len(clips)} clips and {len(texts)} "
            "captions."
        )


def convert_scalar_logit_scale(state_dict: dict[str, Any], prefix: str = "") -> None:
    """Give the logit scale of a state dict of version 0.1 its name and shape of today, in place."""
    if f"{prefix}logit_scale" in state_dict:
        state_dict[f"{prefix}{LOGIT_SCALE}"] = state_dict.pop(f"{prefix}logit_scale").reshape(1)


def _convert_before_loading(model: AtriModel, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    convert_scalar_logit_scale(state_dict, prefix)


class _ScalarLogitScale(ConversionOps):
    """`convert_scalar_logit_scale` for `from_pretrained`, which converts one tensor after another."""

    def convert(
        self, input_dict: dict[str, Any], source_patterns: list[str], target_patterns: list[str], **kwargs: Any
    ) -> dict[str, Any]:
        (tensors,) = input_dict.values()
        scale = tensors[0] if isinstance(tensors, list) else tensors
        return {LOGIT_SCALE: scale.reshape(1)}

    @property
    def reverse_op(self) -> "ConversionOps":
        return self  # `save_pretrained` reverses conversions; this one is to stay


AtriModel.register_for_auto_class("AutoModel")
if not IS_REMOTE_CODE:
    AutoModel.register(AtriConfig, AtriModel, exist_ok=True)
    register_pipelines()  # the import also makes `save_pretrained` copy the pipelines beside the model

__all__ = [
    "AtriAudioModel",
    "AtriAudioTower",
    "AtriEmbeddedAudioModel",
    "AtriModel",
    "AtriOutput",
    "AtriPreTrainedModel",
]
