"""Losses that `consistency.py` compares with the objectives of the package.

None of them was better, so none is in the package. They are kept so that their rows of the tables can be made again.

Each takes audio embeddings `(N, D)`, caption embeddings `(K, N, D)` with the languages in the order of
`ATRI_LANGUAGES`, the inverse temperature, group ids `(N,)` and the number of the step, and returns a scalar.
"""

from collections.abc import Callable
from itertools import combinations

import torch
from torch import Tensor

from modeling_atri.languages_atri import ATRI_LANGUAGES
from modeling_atri.loss_atri import info_nce_loss
from modeling_atri.trainer.losses import akcl_loss, kcl_loss


_DOUBLED = ("jpn_Jpan", "zho_Hans")


def rotating_anchor(audio: Tensor, text: Tensor, scale: Tensor, ids: Tensor, step: int) -> Tensor:
    """AKCL with another language as the anchor in every step, in turn."""
    return akcl_loss(audio, text, scale, ids, anchor=step % len(text))


def all_pairs(audio: Tensor, text: Tensor, scale: Tensor, ids: Tensor, step: int) -> Tensor:
    """Half KCL and half the mean of A(text_k, text_l) over all pairs of languages: AKCL with all anchors at once."""
    pairs = [info_nce_loss(text[k], text[other], scale, ids) for k, other in combinations(range(len(text)), 2)]
    return (kcl_loss(audio, text, scale, ids) + torch.stack(pairs).mean()) / 2


def anchored_thirds(audio: Tensor, text: Tensor, scale: Tensor, ids: Tensor, step: int) -> Tensor:
    """The expected value of CACL over its draws of languages: the mean of three terms.

    They are A(audio, English) and the means over the other languages of A(audio, text_k) and A(English, text_k).
    """
    anchor, others = text[0], text[1:]
    with_audio = torch.stack([info_nce_loss(audio, other, scale, ids) for other in others]).mean()
    with_anchor = torch.stack([info_nce_loss(anchor, other, scale, ids) for other in others]).mean()
    return (info_nce_loss(audio, anchor, scale, ids) + with_audio + with_anchor) / 3


def akcl_of_drawn_clips(audio: Tensor, text: Tensor, scale: Tensor, ids: Tensor, step: int) -> Tensor:
    """AKCL estimated from two of eight languages on CACL's batches, where each clip draws the second language."""
    return akcl_loss(audio, text, scale, ids, num_languages=len(ATRI_LANGUAGES))


def weighted_languages(audio: Tensor, text: Tensor, scale: Tensor, ids: Tensor, step: int) -> Tensor:
    """KCL with twice the weight for Japanese and Chinese, which come last in the paper's tables."""
    weights = torch.tensor([2.0 if language in _DOUBLED else 1.0 for language in ATRI_LANGUAGES])
    losses = torch.stack([info_nce_loss(audio, captions, scale, ids) for captions in text])
    return (weights / weights.sum() * losses).sum()


LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor, int], Tensor]] = {
    loss.__name__: loss
    for loss in (rotating_anchor, all_pairs, weighted_languages, anchored_thirds, akcl_of_drawn_clips)
}
