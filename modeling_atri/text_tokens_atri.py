"""Captions to token ids, without the state of the tokenizer that truncation, padding and special tokens are.

A tokenizer of the `tokenizers` library keeps the settings of its last call, so that two threads with different
settings would get each other's. Here the tokens are made without these settings, and cut and padded afterwards. They
equal those of `tokenizer(captions, padding=..., truncation=True, max_length=..., split_special_tokens=True)`.
"""

import copy
from collections.abc import Sequence
from itertools import chain
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase
from transformers.utils import PaddingStrategy


_PARTS = ("normalizer", "pre_tokenizer", "post_processor")
# Copies of tokenizers with added tokens that are not special, each with the state of the original. To make one takes
# 0.1 s for the thousands of tokens that Gemma's tokenizer adds.
_copies: WeakKeyDictionary[Any, tuple[list, Any]] = WeakKeyDictionary()


def tokenize(tokenizer: Any, captions: Sequence[str], max_length: int) -> list[list[int]]:
    """Token ids of captions, with the special tokens of the tokenizer.

    `tokenizer` is any of transformers. Names of special tokens in a caption are read as text. Of a longer caption, the
    tokens at the tokenizer's `truncation_side` are left out, but no special token.
    """
    side = tokenizer.truncation_side
    if not tokenizer.is_fast:
        num_words = max_length - tokenizer.num_special_tokens_to_add()
        words = [tokenizer.tokenize(caption, split_special_tokens=True) for caption in captions]
        cut = [_cut(tokenizer.convert_tokens_to_ids(row), num_words, side) for row in words]
        return [tokenizer.build_inputs_with_special_tokens(row) for row in cut]
    encodings = _without_settings(tokenizer).encode_batch(captions)
    return [_cut_words(encoding.ids, encoding.special_tokens_mask, max_length, side) for encoding in encodings]


def pad(
    rows: Sequence[Sequence[int]],
    tokenizer: PreTrainedTokenizerBase,
    padding: bool | str,
    max_length: int,
    padding_side: str | None = None,
    pad_to_multiple_of: int | None = None,
) -> dict[str, Tensor]:
    """Stack token ids of several lengths.

    Args:
        rows: token ids of each caption.
        padding: `True` or `"longest"`, `"max_length"`, or `False` or `"do_not_pad"` for rows of one length.
        max_length: number of tokens for `"max_length"`.
        padding_side (*optional*): `"right"` or `"left"`. Default: that of the tokenizer.
        pad_to_multiple_of (*optional*): round the number of tokens up to a multiple of this number, of which
            `max_length` must be one.

    Returns:
        `input_ids` and `attention_mask`, int64 of shape `(captions, tokens)`.

    Raises:
        ValueError: a setting is unknown or does not fit, the tokenizer has no padding token, or rows without padding
            differ in length.
    """
    strategy = PaddingStrategy(("longest" if padding else "do_not_pad") if isinstance(padding, bool) else padding)
    side = tokenizer.padding_side if padding_side is None else padding_side
    if side not in ("right", "left"):
        raise ValueError(f"`padding_side` must be 'right' or 'left', got {side!r}.")
    lengths = torch.tensor([len(row) for row in rows])
    width = max_length if strategy is PaddingStrategy.MAX_LENGTH else int(lengths.max())
    if strategy is PaddingStrategy.DO_NOT_PAD:
        if int(lengths.min()) < width:
            raise ValueError(
                f"The captions have from {int(lengths.min())} to {width} tokens, which cannot be stacked without "
                "padding. Pass padding=True."
            )
    elif tokenizer.pad_token_id is None:
        raise ValueError(
            "The tokenizer has no padding token. Set one, for example `tokenizer.pad_token = tokenizer.eos_token`."
        )
    elif pad_to_multiple_of:
        if max_length % pad_to_multiple_of:
            raise ValueError(
                f"`max_length` ({max_length}) must be a multiple of `pad_to_multiple_of` ({pad_to_multiple_of})."
            )
        width = -(-width // pad_to_multiple_of) * pad_to_multiple_of
    columns = torch.arange(width)
    mask = columns < lengths[:, None] if side == "right" else columns >= width - lengths[:, None]
    input_ids = torch.full(mask.shape, 0 if tokenizer.pad_token_id is None else tokenizer.pad_token_id)
    input_ids[mask] = torch.from_numpy(np.fromiter(chain.from_iterable(rows), np.int64, int(lengths.sum())))
    return {"input_ids": input_ids, "attention_mask": mask.long()}


def _cut_words(ids: list[int], is_special: list[int], max_length: int, side: str) -> list[int]:
    """Cut the tokens of a caption between the special tokens at its start and end."""
    if len(ids) <= max_length:
        return ids
    first, last = is_special.index(0), len(ids) - is_special[::-1].index(0)
    return [*ids[:first], *_cut(ids[first:last], max_length - len(ids) + last - first, side), *ids[last:]]


def _cut(ids: list[int], length: int, side: str) -> list[int]:
    return ids[:length] if side == "right" else ids[max(0, len(ids) - length) :]


def _without_settings(original: Any) -> Any:
    """A tokenizer that shares the parts of another one, but has no truncation, no padding and no special tokens."""
    backend, known = original.backend_tokenizer, _copies.get(original)
    if known is not None and known[0] == _state(backend):
        return known[1]
    tokenizer = type(backend)(backend.model)
    for part in _PARTS:
        if getattr(backend, part) is not None:
            setattr(tokenizer, part, getattr(backend, part))
    added = backend.get_added_tokens_decoder()
    if all(token.special for token in added.values()):
        return tokenizer  # special tokens in a caption are read as text
    tokenizer.add_tokens([added[index] for index in sorted(added)])
    if tokenizer.get_added_tokens_decoder().keys() != added.keys():  # the ids have gaps
        tokenizer = copy.deepcopy(backend)
        tokenizer.no_truncation()
        tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    _copies[original] = _state(backend), tokenizer
    return tokenizer


def _state(backend: Any) -> list:
    """What decides about a copy of a tokenizer, and can change: the object itself, its parts and its tokens."""
    return [backend, backend.get_vocab_size(), *(_state_of_part(getattr(backend, part)) for part in _PARTS)]


def _state_of_part(part: Any) -> Any:
    try:
        return None if part is None else part.__getstate__()
    except Exception:  # noqa: BLE001 - what the library raises for a part that is written in Python
        return object()  # equals nothing, so that no copy is used again


__all__ = ["pad", "tokenize"]
