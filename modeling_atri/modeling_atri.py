"""PyTorch ATRI model: a CED audio tower and any text tower, in one multilingual embedding space."""

import logging
import math
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from importlib import import_module
from inspect import signature
from os import PathLike
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModel
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.core_model_loading import ConversionOps, WeightConverter
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, PreTrainedModel
from transformers.models.m2m_100.modeling_m2m_100 import eager_attention_forward
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput, TransformersKwargs, auto_docstring, can_return_tuple
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .configuration_atri import IS_REMOTE_CODE, LOGIT_SCALE, AtriAudioConfig, AtriConfig
from .loss_atri import info_nce_loss
from .pipelines_atri import register_pipelines
from .text_model_atri import build_text_model, cut_captions, max_text_tokens


logger = logging.getLogger(__name__)

# Feed-forward blocks run on this many tokens at a time on a CPU (four clips of ten seconds), so that their wide states
# stay in the cache. For the states of a whole batch, every block would allocate memory anew.
_TOKENS_AT_ONCE = 1024

_OPTIONS = frozenset(TransformersKwargs.__annotations__) | {"return_dict"}  # that every model of transformers takes


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
        Output of the audio tower. Its `pooler_output` is the mean over the patches, before the projection.
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


class AtriMelNorm(nn.Module):
    """BatchNorm over mel bins with fixed statistics.

    The statistics are a part of the checkpoint: they are loaded with it, or set once from training clips. If they
    followed the batch, as those of `nn.BatchNorm` do in training, embeddings would depend on padding, on the other
    clips of the batch, and on the number of processes.
    """

    def __init__(self, num_mel_bins: int, eps: float = 1e-5):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(num_mel_bins))
        self.bias = nn.Parameter(torch.zeros(num_mel_bins))
        self.register_buffer("running_mean", torch.zeros(num_mel_bins))
        self.register_buffer("running_var", torch.ones(num_mel_bins))

    def forward(self, input_features: Tensor) -> Tensor:
        """Normalise `(..., mel bins)` in decibels to about zero mean and unit variance in each bin."""
        scale = self.weight * torch.rsqrt(self.running_var + self.eps)
        return (input_features.to(scale.dtype) - self.running_mean) * scale + self.bias

    @property
    def is_set(self) -> bool:
        """Whether statistics were loaded or set. With the initial ones, the encoder would get raw decibels."""
        return not bool(self.running_mean.eq(0).all() and self.running_var.eq(1).all())

    @torch.no_grad()
    def set_statistics(self, mean: Tensor, var: Tensor) -> None:
        """Set mean (dB) and variance (dB²) over the frames of training clips, each of shape `(mel bins,)`."""
        self.running_mean.copy_(mean)
        self.running_var.copy_(var)


class AtriAudioEmbeddings(nn.Module):
    """Patch tokens of log-mel chunks, frequency-major: token `f * columns + t` is at frequency f and time t."""

    def __init__(self, config: AtriAudioConfig):
        super().__init__()
        rows, columns = config.patch_grid
        height, width = config.patch_size
        self.patch_projection = nn.Conv2d(1, config.hidden_size, (height, width), stride=(height, width))
        self.frequency_positions = nn.Parameter(torch.zeros(1, config.hidden_size, rows, 1))
        self.time_positions = nn.Parameter(torch.zeros(1, config.hidden_size, 1, columns))
        self.dropout = nn.Dropout(config.hidden_dropout)

    def forward(self, features: Tensor) -> Tensor:
        """Normalised `(chunks, frames, mel bins)` to `(chunks, rows * columns, hidden_size)`."""
        tokens = project_patches(self.patch_projection, features)
        columns = tokens.shape[1] // self.frequency_positions.shape[2]
        positions = self.frequency_positions + self.time_positions[..., :columns]  # (1, hidden_size, rows, columns)
        return self.dropout(tokens + positions.flatten(2).transpose(1, 2))


def project_patches(convolution: nn.Module, features: Tensor) -> Tensor:
    """Apply a convolution over patches that do not overlap.

    A plain `nn.Conv2d` is computed as a matrix product, which is 1.4 to 6 times faster on a CPU. A module of another
    class (quantised, with an adapter) or with hooks (offloaded, pruned) does more than that, so it is called.

    Args:
        convolution (`nn.Module`): `nn.Conv2d` whose stride is its kernel size, or what a library put in its place.
        features (`torch.Tensor` of shape `(chunks, frames, mel bins)`): normalised features.

    Returns:
        `torch.Tensor` of shape `(chunks, rows * columns, out_channels)`: tokens, frequency-major.
    """
    hooks = (convolution._forward_pre_hooks, convolution._forward_hooks, convolution._backward_hooks)  # noqa: SLF001
    if type(convolution) is not nn.Conv2d or any(hooks) or "forward" in vars(convolution):
        return convolution(features.transpose(1, 2)[:, None]).flatten(2).transpose(1, 2)
    height, width = convolution.kernel_size
    chunks, frames, mel_bins = features.shape
    rows, columns = mel_bins // height, frames // width
    patches = features[:, : columns * width].reshape(chunks, columns, width, rows, height).permute(0, 3, 1, 4, 2)
    patches = patches.reshape(chunks, rows * columns, height * width)
    return F.linear(patches, convolution.weight.flatten(1), convolution.bias)


class AtriAudioAttention(nn.Module):
    """Multi-head self-attention over patches."""

    def __init__(self, config: AtriAudioConfig):
        super().__init__()
        self.config = config
        self.head_dim = config.hidden_size // config.num_attention_heads
        self.scaling = self.head_dim**-0.5
        self.attention_dropout = config.attention_dropout
        self.is_causal = False
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.k_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.v_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.out_proj = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, **kwargs: Unpack[TransformersKwargs]
    ) -> tuple[Tensor, Tensor | None]:
        split = (*hidden_states.shape[:-1], -1, self.head_dim)
        query, key, value = (
            projection(hidden_states).view(split).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        attend: Callable = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        output, weights = attend(
            self,
            query,
            key,
            value,
            attention_mask,
            dropout=self.attention_dropout if self.training else 0.0,
            scaling=self.scaling,
            **kwargs,
        )
        return self.out_proj(output.reshape(hidden_states.shape)), weights


class AtriAudioMLP(nn.Module):
    """Two-layer feed-forward block."""

    def __init__(self, config: AtriAudioConfig):
        super().__init__()
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.activation = ACT2FN[config.hidden_act]
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)
        self.dropout = nn.Dropout(config.hidden_dropout)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """`(batch, tokens, hidden_size)` to the same shape."""
        in_pieces = hidden_states.device.type == "cpu" and not (
            # Pieces draw dropout in another order. The first pass of a cached step trains without gradients, and must
            # draw the same dropout as the second.
            self.training or torch.is_grad_enabled() or torch.compiler.is_compiling()
        )
        if not in_pieces:
            return self._feed_forward(hidden_states)
        pieces = hidden_states.flatten(0, -2).split(_TOKENS_AT_ONCE)
        return torch.cat([self._feed_forward(piece) for piece in pieces]).view_as(hidden_states)

    def _feed_forward(self, hidden_states: Tensor) -> Tensor:
        return self.dropout(self.fc2(self.dropout(self.activation(self.fc1(hidden_states)))))


class AtriAudioLayer(GradientCheckpointingLayer):
    """Pre-norm transformer block, with stochastic depth in training."""

    def __init__(self, config: AtriAudioConfig, drop_path_rate: float = 0.0):
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.attention = AtriAudioAttention(config)
        self.mlp_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = AtriAudioMLP(config)
        self.dropout = nn.Dropout(config.hidden_dropout)
        self.drop_path_rate = drop_path_rate

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, **kwargs: Unpack[TransformersKwargs]
    ) -> Tensor:
        attended, _ = self.attention(self.attention_norm(hidden_states), attention_mask, **kwargs)
        hidden_states = hidden_states + self._drop_path(self.dropout(attended))
        return hidden_states + self._drop_path(self.mlp(self.mlp_norm(hidden_states)))

    def _drop_path(self, residual: Tensor) -> Tensor:
        if not self.training or self.drop_path_rate == 0.0:
            return residual
        keep = 1.0 - self.drop_path_rate
        kept = torch.rand(len(residual), 1, 1, device=residual.device) < keep
        return residual * kept / keep


class AtriProjectionHead(nn.Module):
    """Two-layer ReLU MLP from the width of a tower to the shared embedding space."""

    def __init__(self, input_dim: int, projection_dim: int):
        super().__init__()
        self.fc1 = nn.Linear(input_dim, projection_dim)
        self.fc2 = nn.Linear(projection_dim, projection_dim)

    def forward(self, pooled: Tensor) -> Tensor:
        return self.fc2(F.relu(self.fc1(pooled)))


class AtriLogitScale(nn.Module):
    """The learned logarithm of the inverse temperature, as a parameter of shape (1,) in a module of its own.

    PEFT, torchao and FSDP handle the parameters of modules, but no scalars of the model itself.
    """

    def __init__(self, initial_value: float):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([float(initial_value)]))

    def forward(self) -> Tensor:
        """The factor of the similarities, of shape `()`."""
        return self.weight.exp().squeeze(0)


@auto_docstring
class AtriPreTrainedModel(PreTrainedModel):
    config: AtriConfig
    base_model_prefix = "atri"
    input_modalities = ("audio", "text")
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False  # InfoNCE is a mean over the batch, so Trainer has to scale it for accumulation
    _no_split_modules = ["AtriAudioLayer", "AtriAudioEmbeddings"]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_record_outputs = {"hidden_states": AtriAudioLayer, "attentions": AtriAudioAttention}
    _trained_with_adapters: set[int] | None = None  # ids of the parameters that were trained before `disable_adapters`

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, AtriMelNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
            init.zeros_(module.running_mean)
            init.ones_(module.running_var)
        elif isinstance(module, AtriAudioEmbeddings):
            init.trunc_normal_(module.frequency_positions, std=0.02)
            init.trunc_normal_(module.time_positions, std=0.02)
        elif isinstance(module, AtriLogitScale):
            init.constant_(module.weight, self.config.logit_scale_init_value)

    def set_adapter(self, adapter_name: list[str] | str) -> None:
        """Activate an adapter of PEFT, as in transformers. Adapters may also differ in their `modules_to_save`."""
        names = [adapter_name] if isinstance(adapter_name, str) else adapter_name
        if not self._hf_peft_config_loaded or not set(names) <= self.peft_config.keys():
            return super().set_adapter(adapter_name)  # raises
        # transformers demands of everybody the packages that a copy of this file on the Hub names in an import.
        peft = import_module("peft.functional")
        peft.set_adapter(self, adapter_name)
        # `add_adapter` leaves the parts of the adapter that was active before trainable.
        peft.set_requires_grad(self, [name for name in self.peft_config if name not in names], requires_grad=False)
        self._trained_with_adapters = None

    def disable_adapters(self) -> None:
        """Compute as the base model, as in transformers."""
        trained = {id(parameter) for parameter in self.parameters() if parameter.requires_grad}
        super().disable_adapters()
        if self._trained_with_adapters is None:
            self._trained_with_adapters = trained

    def enable_adapters(self) -> None:
        """Undo `disable_adapters`, also for the parts in `modules_to_save`, which transformers leaves disabled.

        PEFT makes whole parts trainable. What was frozen before `disable_adapters` is frozen again.
        """
        super().enable_adapters()
        wrapper = import_module("peft.utils").ModulesToSaveWrapper
        for module in self.modules():
            if isinstance(module, wrapper):
                module.enable_adapters(True)
        if self._trained_with_adapters is not None:
            for parameter in self.parameters():
                parameter.requires_grad_(parameter.requires_grad and id(parameter) in self._trained_with_adapters)
        self._trained_with_adapters = None


@auto_docstring(custom_intro="CED: a vision transformer over log-mel patches with mean pooling and no projection.")
class AtriAudioModel(AtriPreTrainedModel):
    config: AtriAudioConfig
    base_model_prefix = "audio_model"  # its name in AtriModel, so that it also loads from such a checkpoint
    main_input_name = "input_features"
    input_modalities = ("audio",)
    _input_embed_layer = "patch_projection"

    def __init__(self, config: AtriAudioConfig):
        super().__init__(config)
        self.mel_norm = AtriMelNorm(config.num_mel_bins)
        self.embeddings = AtriAudioEmbeddings(config)
        rates = torch.linspace(0, float(config.drop_path_rate), config.num_hidden_layers, device="cpu").tolist()
        self.layers = nn.ModuleList([AtriAudioLayer(config, rate) for rate in rates])
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.gradient_checkpointing = False
        self._checks_to_do = ["mel statistics"]  # a list, because replicas of `nn.DataParallel` share its content
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    @auto_docstring
    def forward(
        self,
        input_features: Tensor,
        input_features_mask: Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPooling:
        r"""
        input_features (`torch.Tensor` of shape `(batch_size, num_frames, num_mel_bins)`):
            Log-mel spectrograms in decibels, from [`AtriFeatureExtractor`].
        input_features_mask (`torch.Tensor` of shape `(batch_size, num_frames)`, *optional*):
            1 on a clip's own frames, 0 on padding, which must come last. Default: no padding.

        Returns:
            `BaseModelOutputWithPooling`: `last_hidden_state`, of shape
            `(batch_size, chunks * patches, hidden_size)` and zero where a clip has no patch, and `pooler_output`, of
            shape `(batch_size, hidden_size)`. A clip of up to `config.max_frames` frames is one chunk, and its padding
            is masked. A longer clip is cut into chunks of `max_frames` frames. The last chunk is filled with zeros
            after the normalisation; this filling is attended to and counts in the mean. The means of the chunks are
            averaged with equal weights. CED was defined and trained in this way.
        """
        check_inputs(kwargs, _OPTIONS, "`input_features` and `input_features_mask`")
        num_frames = self._num_frames(input_features, input_features_mask)
        if self.training and not torch.compiler.is_exporting():
            self._check_mel_statistics()
        features = self.mel_norm(input_features)
        chunks, chunk_frames, is_used = self._cut(features, num_frames)
        hidden_states, patch_mask = self._embed(chunks, chunk_frames)
        attention_mask = create_bidirectional_mask(
            config=self.config, inputs_embeds=hidden_states, attention_mask=patch_mask
        )
        for layer in self.layers:
            hidden_states = layer(hidden_states, attention_mask, **kwargs)
        hidden_states = self.layer_norm(hidden_states)
        return self._pool(hidden_states, patch_mask, is_used)

    @torch.compiler.assume_constant_result  # calls the method while a compiled model is traced, outside of its graph
    def _check_mel_statistics(self) -> None:
        """Warn once of a tower that is trained without statistics."""
        is_checked = not self._checks_to_do
        self._checks_to_do.clear()
        if not is_checked and not self.mel_norm.running_mean.is_meta and not self.mel_norm.is_set:
            logger.warning(
                "The mel statistics of this audio tower were never set, so it is trained on raw decibels, far from "
                "zero mean and unit variance. Before training, call "
                "`model.audio_model.mel_norm.set_statistics(mean, variance)` with the mean (dB) and variance (dB²) of "
                "each mel bin over training clips. `AtriTrainer` does so, and pretrained towers "
                "(`from_audio_text_pretrained`) have their statistics."
            )

    def _num_frames(self, input_features: Tensor, mask: Tensor | None) -> Tensor:
        """Number of frames of each clip, `(batch_size,)`, after a check of the inputs."""
        if input_features.ndim != 3 or input_features.shape[-1] != self.config.num_mel_bins:
            raise ValueError(
                f"`input_features` must have shape (batch_size, num_frames, {self.config.num_mel_bins}); got "
                f"{tuple(input_features.shape)}."
            )
        batch_size, longest, _ = input_features.shape
        if longest < self.config.patch_size[1]:
            raise ValueError(
                f"The clips have {longest} frames, fewer than one patch ({self.config.patch_size[1]} frames, "
                f"{self.config.patch_size[1] * 10} ms). Use longer clips, or pad_short=True in the processor."
            )
        if mask is None:
            return torch.full((batch_size,), longest, device=input_features.device)
        if mask.shape != input_features.shape[:2]:
            raise ValueError(
                f"`input_features_mask` must have shape {tuple(input_features.shape[:2])} like the clips' frames; got "
                f"{tuple(mask.shape)}."
            )
        num_frames = mask.sum(dim=1)
        too_short, has_gap = num_frames < self.config.patch_size[1], (mask[:, 1:] > mask[:, :-1]).any(dim=1)
        if torch.compiler.is_compiling() or not bool((too_short | has_gap).any()):
            return num_frames
        if bool(has_gap.any()):
            raise ValueError(
                "`input_features_mask` must be 1 on a clip's frames and 0 after them. Pad clips on the right."
            )
        raise ValueError(
            f"`input_features_mask` leaves clips of {num_frames.tolist()} frames; each needs at least one patch "
            f"({self.config.patch_size[1]} frames)."
        )

    def _cut(self, features: Tensor, num_frames: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Cut normalised clips, `(batch_size, frames, mel bins)`, into chunks of `max_frames`.

        Returns the chunks, `(chunks, chunk length, mel bins)`; the number of frames of each chunk that count,
        `(chunks,)`; and the places of the chunks, a bool mask of `(batch_size, chunks per clip)`, or None if every
        clip is one chunk.
        """
        size = self.config.max_frames
        if torch.compiler.is_exporting():
            return self._cut_any_length(features, num_frames)
        if features.shape[1] <= size:
            return features, num_frames, None
        chunks_per_clip = -(-features.shape[1] // size)
        inside = torch.arange(features.shape[1], device=features.device)[None, :, None] < num_frames[:, None, None]
        features = torch.where(inside, features, 0.0)
        features = F.pad(features, (0, 0, 0, chunks_per_clip * size - features.shape[1]))
        starts = torch.arange(chunks_per_clip, device=features.device) * size
        is_used = starts[None, :] < num_frames[:, None]
        # Padding of short clips is masked; in the chunks of long clips, the zeros count.
        frames = torch.where(num_frames[:, None] <= size, num_frames[:, None], size).expand_as(is_used)
        chunks = features.unflatten(1, (chunks_per_clip, size))
        if torch.compiler.is_compiling():  # shapes must be static, so unused chunks are computed too
            return chunks.flatten(0, 1), frames.flatten(), is_used
        return chunks[is_used], frames[is_used], is_used

    def _cut_any_length(self, features: Tensor, num_frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`_cut` for `torch.export`: sizes are values in the graph, not branches, so one graph serves all lengths.

        Clips, chunks and frames are selected by index. Frames after the last whole patch are left out.
        """
        size, width = self.config.max_frames, self.config.patch_size[1]
        rows, most = self.config.patch_grid
        fewest = min(most, 2) if rows == 1 else 1  # attention in transformers branches on a single token
        longest = torch.scalar_tensor(features.shape[1], dtype=torch.long)
        columns = (longest // width).clamp(fewest, most).item()
        chunks_per_clip = (-(-longest // size)).item()
        torch._check(columns >= fewest)  # noqa: SLF001
        torch._check(columns <= most)  # noqa: SLF001
        torch._check(chunks_per_clip >= 1)  # noqa: SLF001
        starts = torch.arange(chunks_per_clip, device=features.device) * size
        is_used = starts[None, :] < num_frames[:, None]
        clip, chunk = is_used.nonzero(as_tuple=True)
        frame = starts[chunk][:, None] + torch.arange(columns * width, device=features.device)
        inside = frame < num_frames[clip][:, None]
        chunks = features[clip[:, None], torch.where(inside, frame, 0)]
        return torch.where(inside[..., None], chunks, 0.0), num_frames[clip].clamp(max=size), is_used

    def _embed(self, chunks: Tensor, chunk_frames: Tensor) -> tuple[Tensor, Tensor]:
        """Patch tokens, `(chunks, tokens, hidden_size)`, and a bool mask of those that count, `(chunks, tokens)`."""
        hidden_states = self.embeddings(chunks)
        rows, _ = self.config.patch_grid
        columns = hidden_states.shape[1] // rows
        used_columns = chunk_frames // self.config.patch_size[1]
        patch_mask = torch.arange(columns, device=chunks.device)[None, :] < used_columns[:, None]
        patch_mask = patch_mask.repeat(1, rows)  # frequency-major, like the tokens
        if self.training and self.config.patch_dropout > 0:
            return self._drop_patches(hidden_states, patch_mask)
        return hidden_states, patch_mask

    def _drop_patches(self, hidden_states: Tensor, patch_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Keep a random share `1 - patch_dropout` of the patches of each clip."""
        kept = ((1 - self.config.patch_dropout) * patch_mask.sum(dim=1)).ceil().long()  # (chunks,)
        draw = torch.rand(patch_mask.shape, device=patch_mask.device).masked_fill(~patch_mask, 2.0)
        if torch.compiler.is_compiling():  # sizes must not depend on values, so the largest possible one is used
            longest = math.ceil((1 - self.config.patch_dropout) * patch_mask.shape[1])
        else:
            longest = int(kept.max())
        order = draw.argsort(dim=1)[:, :longest]
        hidden_states = hidden_states.gather(1, order[..., None].expand(-1, -1, hidden_states.shape[-1]))
        return hidden_states, torch.arange(order.shape[1], device=order.device)[None, :] < kept[:, None]

    def _pool(self, hidden_states: Tensor, patch_mask: Tensor, is_used: Tensor | None) -> BaseModelOutputWithPooling:
        """Mean over the patches of each chunk, then over the chunks of each clip."""
        pooled = masked_mean(hidden_states, patch_mask)
        hidden_states = hidden_states * patch_mask[..., None]
        if is_used is not None:
            shape = (*is_used.shape, *hidden_states.shape[1:])
            if torch.compiler.is_exporting() or not torch.compiler.is_compiling():
                pooled = pooled.new_zeros(*is_used.shape, pooled.shape[-1]).index_put((is_used,), pooled)
                hidden_states = hidden_states.new_zeros(shape).index_put((is_used,), hidden_states)
            else:  # unused chunks were computed too
                hidden_states = hidden_states.view(shape) * is_used[..., None, None]
            pooled = masked_mean(pooled.view(*is_used.shape, -1), is_used)
            hidden_states = hidden_states.flatten(1, 2)
        return BaseModelOutputWithPooling(last_hidden_state=hidden_states, pooler_output=pooled)


def check_inputs(given: Iterable[str], known: Collection[str], inputs: str) -> None:
    """Raise a ValueError if a model gets inputs that it does not have and would ignore, such as another mask."""
    if unknown := [name for name in given if name not in known]:
        raise ValueError(f"The model has no inputs {unknown}. Its inputs here are {inputs}; leave out the others.")


def masked_mean(hidden_states: Tensor, mask: Tensor) -> Tensor:
    """Mean of `(batch, items, dim)` over the items where `mask` is set, computed in at least float32."""
    weights = mask[..., None].to(torch.promote_types(hidden_states.dtype, torch.float32))
    total = (hidden_states.to(weights.dtype) * weights).sum(dim=1)
    return (total / weights.sum(dim=1).clamp(min=1.0)).to(hidden_states.dtype)


@auto_docstring(
    custom_intro="CED for audio and SONAR's encoder for text, each with a linear projection into one embedding space."
)
class AtriModel(AtriPreTrainedModel):
    config: AtriConfig
    main_input_name = "input_features"
    # In bfloat16, the temperature would be off by up to 1 %, and small optimizer steps would be rounded away.
    _keep_in_fp32_modules_strict = ["learned_logit_scale"]

    def __init__(self, config: AtriConfig):
        super().__init__(config)
        self.learned_logit_scale = AtriLogitScale(config.logit_scale_init_value)
        self.audio_model = AtriAudioModel._from_config(config.audio_config)
        self.text_model = build_text_model(config.text_config)
        self.max_text_tokens = max_text_tokens(self.text_model)  # longer captions are cut
        self._text_options = _OPTIONS | signature(self.text_model.forward).parameters.keys()
        self.audio_projection = AtriProjectionHead(config.audio_config.hidden_size, config.projection_dim)
        self.text_projection = AtriProjectionHead(config.text_config.hidden_size, config.projection_dim)
        self.register_load_state_dict_pre_hook(_convert_before_loading)
        self.post_init()

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the computation, also if weights are quantised. (`logit_scale` is always float32.)"""
        return self.audio_model.dtype

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
                `-tiny`), folder or file; or a folder that holds an [`AtriAudioModel`] or [`AtriModel`].
            text_name_or_path (`str` or `os.PathLike`): SONAR, as Hub id (`cointegrated/SONAR_200_text_encoder`),
                folder, or file in fairseq2's naming; or any encoder that `AutoModel` knows, as Hub id or folder.
            projection_dim (`int`, *optional*, defaults to 1024): width of the shared embedding space.
            dtype (`torch.dtype` or `str`, *optional*, defaults to float32): dtype of all weights of the model.
            audio_revision, text_revision (`str`, *optional*, defaults to `"main"`): branch, tag or commit on the Hub.
            hub_kwargs: `token`, `cache_dir`, `local_files_only` for both towers, as in `from_pretrained`.

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
        input_features (`torch.Tensor` of shape `(batch_size, num_frames, num_mel_bins)`):
            Log-mel spectrograms in decibels.
        input_features_mask (`torch.Tensor` of shape `(batch_size, num_frames)`, *optional*):
            1 on a clip's own frames, 0 on padding.

        Returns:
            `BaseModelOutputWithPooling`: the output of the audio tower, with the projected and L2-normalised
            embeddings, of shape `(batch_size, projection_dim)`, as `pooler_output`.
        """
        outputs = self.audio_model(input_features, input_features_mask, return_dict=True, **kwargs)
        outputs.pooler_output = F.normalize(self.audio_projection(outputs.pooler_output), dim=-1)
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
        **kwargs: Unpack[TransformersKwargs],
    ) -> AtriOutput:
        r"""
        input_features (`torch.Tensor` of shape `(num_audios, num_frames, num_mel_bins)`, *optional*):
            Log-mel spectrograms in decibels. Without them, only the captions are encoded.
        input_features_mask (`torch.Tensor` of shape `(num_audios, num_frames)`, *optional*):
            1 on a clip's own frames, 0 on padding.
        text_pooler_output (`torch.Tensor` of shape `(num_texts, hidden_size)`, *optional*):
            The `pooler_output` of the text tower for the captions, if it is already known; replaces `input_ids`.
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
        if input_ids is not None and text_pooler_output is not None:
            raise ValueError("Pass captions as `input_ids` or as `text_pooler_output`, not both.")
        texts = input_ids if text_pooler_output is None else text_pooler_output
        if attention_mask is not None and texts is None:
            raise ValueError(
                "`attention_mask` is the mask of captions, but there are no `input_ids`. The mask of clips is "
                "`input_features_mask`."
            )
        check_inputs(kwargs, self._text_options, "`input_features_mask` for clips and `attention_mask` for captions")
        options = {name: value for name, value in kwargs.items() if name in _OPTIONS}
        if input_features is None and texts is None:
            raise ValueError("Neither `input_features` nor `input_ids` was given. Pass clips, captions, or both.")
        if return_loss and (input_features is None or texts is None):
            raise ValueError(
                "`return_loss=True` needs clips and captions: pass both `input_features` and `input_ids`."
            )
        if return_loss and len(input_features) != len(texts):
            raise ValueError(
                f"`return_loss=True` pairs clip i with caption i, but there are {len(input_features)} clips and "
                f"{len(texts)} captions."
            )
        audio_outputs = audio_embeds = text_outputs = text_embeds = None
        if input_features is not None:
            audio_outputs = self.audio_model(input_features, input_features_mask, return_dict=True, **options)
            audio_embeds = F.normalize(self.audio_projection(audio_outputs.pooler_output), dim=-1)
        if input_ids is not None:
            text_outputs = self._encode_text(input_ids, attention_mask, **kwargs)
            text_pooler_output = text_outputs.pooler_output
        if text_pooler_output is not None:
            text_embeds = F.normalize(self.text_projection(text_pooler_output), dim=-1)
        loss = logits_per_audio = logits_per_text = None
        if audio_embeds is not None and text_embeds is not None:
            scale, captions = self.learned_logit_scale().to(audio_embeds.device), text_embeds.to(audio_embeds.device)
            logits_per_audio = scale * (audio_embeds @ captions.T)
            logits_per_text = logits_per_audio.T
            if return_loss:
                loss = info_nce_loss(audio_embeds, captions, scale)
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


AtriAudioModel.register_for_auto_class("AutoModel")
AtriModel.register_for_auto_class("AutoModel")
if not IS_REMOTE_CODE:
    AutoModel.register(AtriAudioConfig, AtriAudioModel, exist_ok=True)
    AutoModel.register(AtriConfig, AtriModel, exist_ok=True)
    register_pipelines()  # the import also makes `save_pretrained` copy the pipelines beside the model

__all__ = ["AtriAudioModel", "AtriModel", "AtriOutput", "AtriPreTrainedModel"]
