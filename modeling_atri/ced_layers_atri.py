"""Layers of CED, the audio tower of the paper: a vision transformer over log-mel patches."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.m2m_100.modeling_m2m_100 import eager_attention_forward
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs

from .configuration_atri import AtriAudioConfig


# Feed-forward blocks run on this many tokens at a time on a CPU (four clips of ten seconds), so that their wide states
# stay in the cache. For the states of a whole batch, every block would allocate memory anew.
_TOKENS_AT_ONCE = 1024


class AtriMelNorm(nn.Module):
    """BatchNorm over mel bins with fixed statistics.

    The statistics are a part of the checkpoint: they are loaded with it, or set once from training clips. If they
    followed the batch, as those of `nn.BatchNorm` do in training, embeddings would depend on padding, on the other
    clips of the batch, and on the number of processes.
    """

    running_mean: Tensor
    running_var: Tensor

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
