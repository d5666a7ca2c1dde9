"""The M2M100 encoder (SONAR, NLLB) without computation for padding: the captions of a batch form one sequence."""

import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.m2m_100.modeling_m2m_100 import M2M100Encoder
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, can_return_tuple


# Number of tokens that go through the layers together. At SONAR's width on one core of an AMD EPYC, 256 to 768 tokens
# were equally fast, and 1024 or more 10 % slower: their feed-forward states (32 kB per token) do not fit the cache.
_TOKENS_AT_ONCE = 512


class PackedM2M100Encoder(M2M100Encoder):
    """`M2M100Encoder` that computes nothing for padding. Weights, arguments and the states of tokens are the same.

    The tokens of a batch run through the layers as one sequence, in groups of whole captions that fit the cache, and
    each caption attends only to itself ([`CaptionBlocks`]). `last_hidden_state` is padded again, with zeros. This is
    done on a CPU with sdpa attention if a batch has padding, in training and in evaluation, with and without
    gradients. The encoder runs unchanged in all other cases: if hidden states or attentions are requested, if the
    model is compiled or exported, if NEFTune adds noise, or if embeddings are given instead of tokens.
    """

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutput:
        is_plain = inputs_embeds is None and all(value is None or value is False for value in kwargs.values())
        if is_plain and self._packs(input_ids, attention_mask):
            return self._forward_packed(input_ids, attention_mask.bool())
        return super().forward(input_ids, attention_mask, inputs_embeds, return_dict=True, **kwargs)

    def _packs(self, input_ids: Tensor | None, attention_mask: Tensor | None) -> bool:
        if torch.compiler.is_compiling() or torch.jit.is_tracing():
            return False
        if self.training and hasattr(self.embed_tokens, "neftune_noise_alpha"):
            return False  # the noise of NEFTune depends on the padded length
        fsdp = sys.modules.get("torch.distributed.fsdp")
        if fsdp is not None and isinstance(self.layers[0], fsdp.FSDPModule):
            return False  # all processes must call a sharded layer equally often, but their captions form other groups
        return (
            input_ids is not None
            and attention_mask is not None
            and attention_mask.shape == input_ids.shape
            and input_ids.device.type == "cpu"
            and self.config._attn_implementation == "sdpa"
            and not (self.config.output_hidden_states or self.config.output_attentions)
            and 0 < int(attention_mask.bool().sum()) < attention_mask.numel()
        )

    def _forward_packed(self, input_ids: Tensor, mask: Tensor) -> BaseModelOutput:
        lengths, order = mask.sum(dim=1).sort(stable=True)
        row, column = mask[order].nonzero(as_tuple=True)
        places = (order[row], column)  # of the tokens, caption by caption, short captions first
        hidden_states = self.embed_tokens(input_ids[places]) + self.embed_positions(input_ids)[places]
        hidden_states = F.dropout(hidden_states, p=self.dropout, training=self.training)
        layers = [
            layer
            for layer in self.layers
            if not (self.training and self.layerdrop > 0.0 and torch.rand([]) < self.layerdrop)
        ]
        groups = _groups_of_captions(lengths.tolist())
        outputs = []
        for group, states in zip(groups, hidden_states.split([sum(group) for group in groups]), strict=True):
            states, blocks = states[None], CaptionBlocks(group)
            for layer in layers:
                states = layer(states, blocks)
            outputs.append(self.layer_norm(states)[0])
        hidden_states = torch.cat(outputs)
        padded = hidden_states.new_zeros(*mask.shape, hidden_states.shape[-1])
        return BaseModelOutput(last_hidden_state=padded.index_put(places, hidden_states))


# `save_pretrained` writes this name into config.json, and transformers knows the class by it.
PackedM2M100Encoder.__name__ = M2M100Encoder.__name__


class CaptionBlocks:
    """An `attn_mask` for `F.scaled_dot_product_attention` with which every caption attends only to itself.

    It represents a block-diagonal mask over the tokens of all captions without storing it: captions of equal length
    are computed as one batch, without a mask. torch calls the `__torch_function__` of an argument instead of the
    function itself, so the layers of the encoder do not need to be changed.

    Args:
        lengths (`list[int]`): number of tokens of each caption, in the order of the sequence. Captions of equal length
            must be neighbours.
    """

    def __init__(self, lengths: list[int]):
        self.groups = [(count, length) for length, count in Counter(lengths).items()]

    @classmethod
    def __torch_function__(
        cls, function: Callable, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Tensor:
        if function is not F.scaled_dot_product_attention:
            return NotImplemented
        return _attend(*args, **(kwargs or {}))


def _attend(query: Tensor, key: Tensor, value: Tensor, attn_mask: CaptionBlocks, **options: Any) -> Tensor:
    """Attention within each caption over `(1, heads, tokens, head_dim)`."""
    sizes = [count * length for count, length in attn_mask.groups]
    # The gradient of a split is one concatenation. Slices would each have a gradient of the full size.
    parts = zip(*(states[0].split(sizes, dim=1) for states in (query, key, value)), strict=True)
    outputs = []
    for group, part in zip(attn_mask.groups, parts, strict=True):
        captions = (states.unflatten(1, group).transpose(0, 1) for states in part)  # (count, heads, length, head_dim)
        outputs.append(F.scaled_dot_product_attention(*captions, **options).transpose(1, 2).flatten(0, 1))
    return torch.cat(outputs).transpose(0, 1)[None]


def _groups_of_captions(lengths: list[int]) -> list[list[int]]:
    """Split captions, given by their numbers of tokens, into groups of neighbours with about equal sums.

    At least one number is above 0. Empty captions come first and are left out.
    """
    total = sum(lengths)
    groups: list[list[int]] = [[] for _ in range(-(-total // _TOKENS_AT_ONCE))]
    start = 0
    for length in filter(None, lengths):
        groups[start * len(groups) // total].append(length)
        start += length
    return [group for group in groups if group]  # a caption that fills several groups leaves the next ones empty


__all__ = ["PackedM2M100Encoder"]
