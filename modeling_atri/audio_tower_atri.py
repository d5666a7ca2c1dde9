"""The audio tower: CED, stored embeddings, or any audio encoder of transformers."""

from collections.abc import Sequence
from importlib import import_module
from inspect import Parameter, signature
from os import PathLike
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.auto.modeling_auto import MODEL_MAPPING
from transformers.utils import can_return_tuple

from .audio_encoders_atri import AUDIO_ENCODER_TYPES, encoder_windows
from .base_model_atri import MODEL_OPTIONS, AtriPreTrainedModel, check_inputs
from .ced_model_atri import AtriAudioModel
from .embedded_audio_atri import AtriEmbeddedAudioModel
from .remote_towers_atri import HUB_ARGUMENTS, UnloadedAudioConfig


# Encoders that `AutoModel` does not build from their configuration, with their modules in transformers.
_ENCODER_CLASSES = {
    "clap_audio_model": ("clap.modeling_clap", "ClapAudioModel"),
    "whisper": ("whisper.modeling_whisper", "WhisperEncoder"),
}

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class AtriAudioTower(AtriPreTrainedModel):
    """An audio encoder of transformers, `encoder`, that takes clips of any length window by window.

    The embedding of a clip does not depend on the other clips of its batch. Windows of one length are encoded together
    and without padding. Batch normalisation always uses the statistics of the checkpoint, also in training, and a
    tower without trainable parameters stays in evaluation mode. The masking of features that wav2vec2 and its
    relatives do in training (`apply_spec_augment`) is switched off: it draws from NumPy's global generator, which
    steps in chunks and resumed runs cannot repeat, and it fails for clips shorter than 0.2 s.
    """

    config: PreTrainedConfig  # type: ignore[assignment]
    base_model_prefix = "audio_model"
    main_input_name = "input_features"
    input_modalities = ["audio"]

    def __init__(self, config: PreTrainedConfig):
        if hasattr(config, "mask_time_prob"):
            config.apply_spec_augment = False
        encoder = _build_encoder(
            config
        )  # before `super`, because it sets the attention implementation in the configuration
        super().__init__(config)
        self.windows = encoder_windows(config)
        self.encoder = encoder
        self._options = _options_of(self.encoder)
        self.post_init()

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        pretrained_model_name_or_path: str | PathLike,
        *args: Any,
        config: PreTrainedConfig | None = None,
        **kwargs,
    ) -> "AtriAudioTower":
        """Load a tower that was saved, or any checkpoint of an audio encoder's own class.

        Raises:
            ValueError: weights of the encoder are missing, for example because the checkpoint is of a larger model.
        """
        trust = kwargs.pop("trust_remote_code", None)
        if config is None:
            hub_arguments = {name: kwargs[name] for name in HUB_ARGUMENTS if name in kwargs}
            config = AutoConfig.from_pretrained(
                pretrained_model_name_or_path, trust_remote_code=trust, **hub_arguments
            )
        with torch.device("meta"):
            tower = cls(config)
        encoder_class: Any = type(tower.encoder)
        tower.encoder, report = encoder_class.from_pretrained(
            pretrained_model_name_or_path, *args, config=config, output_loading_info=True, **kwargs
        )
        weights = tower.encoder.state_dict()  # buffers of integers, such as indices, are computed
        if missing := sorted(name for name in report["missing_keys"] if weights[name].is_floating_point()):
            raise ValueError(
                f"{pretrained_model_name_or_path} lacks {len(missing)} weights of {encoder_class.__name__}, such as "
                f"{missing[0]}. Name a checkpoint of the encoder alone here. `AtriModel.from_audio_text_pretrained` "
                "takes the encoder of a larger model."
            )
        return tower.eval()

    def save_pretrained(  # type: ignore[override]
        self, save_directory: str | PathLike, **kwargs: Any
    ) -> None:
        """Save the encoder as its own class does, so that this class can load it too."""
        self.encoder.save_pretrained(save_directory, **kwargs)

    def get_correct_attn_implementation(self, requested_attention: str | None, is_init_check: bool = False) -> str:
        owner: Any = self.encoder if "encoder" in self._modules else super()
        return owner.get_correct_attn_implementation(requested_attention, is_init_check)

    def train(self, mode: bool = True) -> "AtriAudioTower":
        super().train(mode and any(parameter.requires_grad for parameter in self.parameters()))
        for module in self.encoder.modules():
            if isinstance(module, _BATCH_NORMS):
                module.eval()
        return self

    @can_return_tuple
    def forward(
        self, input_features: Tensor, input_features_mask: Tensor | None = None, **kwargs: Any
    ) -> BaseModelOutputWithPooling:
        r"""
        Args:
            input_features (`torch.Tensor` of shape `(batch_size, num_frames, width)`):
                The windows of each clip one after the other, from [`AtriWindowFeatureExtractor`]: frames of
                spectrograms, or samples of waveforms (with a width of 1). Each window but the last one has
                `windows.frames` rows.
            input_features_mask (`torch.Tensor` of shape `(batch_size, num_frames)`, *optional*):
                1 on the rows that a clip's sound covers, 0 on the filling of its last window and on padding. Default:
                the sound covers all rows.

        Returns:
            `BaseModelOutputWithPooling`: `pooler_output`, of shape `(batch_size, hidden_size)`, is the mean over the
            windows of a clip, weighted by the rows that its sound covers in each. For a window, it is the
            `pooler_output` of the encoder, or where that has none the mean of its last hidden states.
            `last_hidden_state`, of shape `(batch_size, windows * tokens, hidden_size)`, is zero where a clip has no
            token. `hidden_states` and `attentions` are the encoder's, with one entry for each window of each clip in
            order, zero-padded where windows differ in length.

        Raises:
            ValueError: the inputs have another shape, or the encoder does not have an option.
        """
        check_inputs(kwargs, MODEL_OPTIONS, "`input_features` and `input_features_mask`")
        options = {name: value for name, value in kwargs.items() if value is not None}
        check_inputs((name for name, value in options.items() if value), self._options, "those of its encoder")
        windows, covered = self._cut(input_features, input_features_mask)
        is_used = covered.flatten() > 0
        all_used = torch.compiler.is_exporting() or bool(is_used.all())
        groups = self._groups(covered.flatten(), is_used)
        encode = {name: value for name, value in options.items() if name in self._options}
        outputs = [self._encode(windows[rows, :length], encode) for rows, length in groups]
        order: Any = (
            torch.cat([cast(Tensor, rows) for rows, _ in groups]).argsort() if len(groups) > 1 else slice(None)
        )

        def join(parts: Sequence[Any]) -> Tensor:
            return _stack(parts)[order]

        pooled = join([output.pooler_output for output in outputs])
        states = join([output.last_hidden_state for output in outputs])
        if not all_used:
            pooled, states = (_scatter(values, is_used) for values in (pooled, states))
        shares = covered / covered.sum(dim=1, keepdim=True)
        pooled = pooled.unflatten(0, covered.shape)
        return BaseModelOutputWithPooling(
            last_hidden_state=states.unflatten(0, covered.shape).flatten(1, 2),
            pooler_output=(pooled * shares[..., None]).sum(dim=1).to(pooled.dtype),
            hidden_states=_join_layers(outputs, "hidden_states", join),
            attentions=_join_layers(outputs, "attentions", join),
        )

    def _cut(self, input_features: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Windows `(batch_size * windows, frames, width)`, and the number of covered rows, `(batch_size, windows)`."""
        if input_features.ndim != 3:
            raise ValueError(
                f"`input_features` must have shape (batch_size, num_frames, width); got {tuple(input_features.shape)}."
            )
        if mask is None:
            mask = torch.ones(input_features.shape[:2], device=input_features.device, dtype=torch.long)
        if mask.shape != input_features.shape[:2]:
            raise ValueError(
                f"`input_features_mask` must have the shape {tuple(input_features.shape[:2])} of the rows of the "
                f"clips; got {tuple(mask.shape)}."
            )
        frames = self.windows.frames
        missing = -input_features.shape[1] % frames
        if missing and self.windows.is_fixed:
            raise ValueError(
                f"The clips have {input_features.shape[1]} rows, but all windows of {type(self.encoder).__name__} "
                f"have {frames} rows. Use the model's own processor; `describe_windows` sets the number of rows in "
                "`audio_config`."
            )
        if missing and input_features.shape[1] > frames:
            input_features, mask = F.pad(input_features, (0, 0, 0, missing)), F.pad(mask, (0, missing))
        frames = min(frames, input_features.shape[1])
        mask = mask.unflatten(1, (-1, frames))
        if not torch.compiler.is_exporting():
            self._check_mask(mask)
        return input_features.unflatten(1, (-1, frames)).flatten(0, 1), mask.sum(dim=2)

    def _check_mask(self, mask: Tensor) -> None:
        starts_with_ones = bool((mask[..., 1:] <= mask[..., :-1]).all() and (mask[:, 1:, 0] <= mask[:, :-1, 0]).all())
        if not starts_with_ones or not mask[:, 0, 0].all():
            raise ValueError(
                "`input_features_mask` must be 1 on the first rows of each window and 0 after them, with no window "
                "left out, and every clip needs at least one row."
            )

    def _groups(self, covered: Tensor, is_used: Tensor) -> list[tuple[Tensor | slice, int]]:
        """The groups of windows that are encoded together: their indices, and the number of rows of each window."""
        if torch.compiler.is_exporting():
            if not self.windows.is_fixed:
                raise ValueError(
                    f"{type(self.encoder).__name__} cannot be exported as an audio tower: windows of each length "
                    "are encoded separately, and the lengths are not known when the graph is traced."
                )
            return [(slice(None), self.windows.frames)]
        lengths = torch.tensor([self.windows.rows(count) if count else 0 for count in covered.tolist()])
        distinct = lengths[lengths > 0].unique().tolist()
        if len(distinct) == 1 and bool(is_used.all()):
            return [(slice(None), distinct[0])]
        return [((lengths == length).nonzero()[:, 0].to(covered.device), length) for length in distinct]

    def _encode(self, windows: Tensor, options: dict[str, Any]) -> BaseModelOutputWithPooling:
        """Encode windows of one length, `(windows, rows, width)`."""
        inputs = _arrange(windows.to(self.encoder.dtype), self.windows.layout)
        if self.config.model_type == "clap_audio_model":  # fusion is only for randomly cut clips
            options = options | {"is_longer": torch.zeros(len(windows), 1, dtype=torch.bool, device=windows.device)}
        outputs = self.encoder(inputs, **options)
        states = getattr(outputs, "last_hidden_state", None)
        if states is None:  # Dasheng's output has its last hidden states under this name
            states = outputs.hidden_states
        if not torch.is_tensor(states):
            raise ValueError(
                f"{type(self.encoder).__name__} cannot be an audio tower: it returns no `last_hidden_state`, but "
                f"{sorted(outputs)}."
            )
        if states.ndim == 4:  # axes of frequency and time
            states = states.flatten(2).transpose(1, 2)
        pooled = getattr(outputs, "pooler_output", None)
        layers = getattr(outputs, "hidden_states", None)
        return BaseModelOutputWithPooling(
            last_hidden_state=states,
            pooler_output=states.mean(dim=1) if pooled is None else pooled,
            hidden_states=None if torch.is_tensor(layers) else layers,
            attentions=getattr(outputs, "attentions", None),
        )


def _build_encoder(config: PreTrainedConfig) -> PreTrainedModel:
    """Build the encoder of an audio configuration with random weights."""
    if config.model_type == UnloadedAudioConfig.model_type:
        raise ValueError(
            f"The audio encoder is of type {config.values['model_type']!r}, whose code is a part of the repository. "
            "Read that code. If you trust it, load the model with `trust_remote_code=True`."
        )
    if config.model_type in _ENCODER_CLASSES:
        module, name = _ENCODER_CLASSES[config.model_type]
        return getattr(import_module(f"transformers.models.{module}"), name)._from_config(config)
    is_ours = type(config).__module__.startswith("transformers.")
    if is_ours and config.model_type not in AUDIO_ENCODER_TYPES:
        raise ValueError(
            f"`audio_config` is of type {config.model_type!r}, which {_reason(config)}. Use an audio encoder: "
            f"{', '.join(sorted(AUDIO_ENCODER_TYPES))}, or atri_audio_model (CED)."
        )
    # A configuration from a repository has been loaded by running its code, so its model code is trusted too.
    encoder = AutoModel.from_config(config, trust_remote_code=not is_ours)
    if encoder.main_input_name not in ("input_features", "input_values"):
        raise ValueError(
            f"`audio_config` is of type {config.model_type!r}, which reads {encoder.main_input_name}, not sound."
        )
    return encoder


def _reason(config: PreTrainedConfig) -> str:
    """Why a model of transformers cannot be used as an audio encoder, for an error message."""
    model_class = MODEL_MAPPING.get(type(config), None)
    name = model_class.main_input_name if isinstance(model_class, type) else "input_ids"
    if name not in ("input_features", "input_values"):
        return f"reads {name}, not sound"
    if config.is_encoder_decoder:
        return "has an encoder and a decoder, which are not separated here"
    return "is not a supported audio encoder"


def _options_of(encoder: PreTrainedModel) -> frozenset[str]:
    parameters = signature(encoder.forward).parameters
    takes_all = any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters.values())
    return MODEL_OPTIONS if takes_all else MODEL_OPTIONS & parameters.keys()


def _arrange(windows: Tensor, layout: str) -> Tensor:
    """Windows `(windows, rows, width)` with the axes that an encoder takes, see `INPUT_LAYOUTS`."""
    inputs = windows.transpose(1, 2) if layout.endswith("ft") else windows
    inputs = inputs if "f" in layout else inputs[..., 0]
    return inputs[:, None] if "1" in layout else inputs


def _stack(parts: Sequence[Tensor]) -> Tensor:
    """Join tensors along their first axis, zero-padded at the end of the others."""
    if len(parts) == 1:
        return parts[0]
    sizes = [max(part.shape[axis] for part in parts) for axis in range(1, parts[0].ndim)]
    padded = []
    for part in parts:
        missing = [size - own for size, own in zip(sizes, part.shape[1:], strict=True)]
        padded.append(F.pad(part, [width for size in reversed(missing) for width in (0, size)]))
    return torch.cat(padded)


def _scatter(values: Tensor, is_used: Tensor) -> Tensor:
    """Place values at the windows that are used, with zeros for the others."""
    scattered = values.new_zeros(len(is_used), *values.shape[1:])
    scattered[is_used] = values
    return scattered


def _join_layers(outputs: Sequence[BaseModelOutputWithPooling], name: str, join: Any) -> tuple[Tensor, ...] | None:
    if any(not output[name] if name in output else True for output in outputs):
        return None
    return tuple(join(layer) for layer in zip(*(output[name] for output in outputs), strict=True))


def build_audio_model(config: PreTrainedConfig) -> AtriAudioModel | AtriEmbeddedAudioModel | AtriAudioTower:
    """Build the audio tower that a configuration describes, with random weights.

    Raises:
        ValueError: it is not the configuration of an audio encoder.
    """
    # By type name, because transformers may import the configuration's file twice if it comes from the Hub.
    towers: tuple[Any, ...] = (AtriAudioModel, AtriEmbeddedAudioModel)
    own = {tower.config_class.model_type: tower for tower in towers}
    return own.get(config.model_type, AtriAudioTower)._from_config(config)


__all__ = ["AtriAudioTower", "build_audio_model"]
