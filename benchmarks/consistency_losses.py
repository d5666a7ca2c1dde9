"""Losses that `consistency.py` tries beside the objectives of the package: functions of embeddings.

All take audio embeddings `(N, D)`, caption embeddings `(K, N, D)` of the languages in the order of `ATRI_LANGUAGES`,
the inverse temperature, group ids `(N,)`, and the number of the step, and return a scalar.
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
    """AKCL with the languages as anchors in turn, another one every step."""
    return akcl_loss(audio, text, scale, ids, anchor=step % len(text))


def all_pairs(audio: Tensor, text: Tensor, scale: Tensor, ids: Tensor, step: int) -> Tensor:
    """Half KCL, half the mean of A(text_k, text_l) over all pairs of languages: AKCL with every anchor at once."""
    pairs = [info_nce_loss(text[k], text[other], scale, ids) for k, other in combinations(range(len(text)), 2)]
    return (kcl_loss(audio, text, scale, ids) + torch.stack(pairs).mean()) / 2


def equal_rankings(audio: Tensor, text: Tensor, scale: Tensor, ids: Tensor, step: int) -> Tensor:
    """KCL, and what its languages' rankings of the clips differ by."""
    return kcl_loss(audio, text, scale, ids) + ranking_divergence(audio, text, scale)


def anchored_equal_rankings(audio: Tensor, text: Tensor, scale: Tensor, ids: Tensor, step: int) -> Tensor:
    """AKCL, and what its languages' rankings of the clips differ by."""
    return akcl_loss(audio, text, scale, ids) + ranking_divergence(audio, text, scale)


def ranking_divergence(audio: Tensor, text: Tensor, scale: Tensor) -> Tensor:
    """Jensen-Shannon divergence of the K languages' distributions over the clips, mean over the captions, in nats.

    The distribution of a caption is the softmax of its scaled similarities, whose order is its ranking; the
    divergence, `entropy(mean_k p_k) - mean_k entropy(p_k)`, is 0 where all languages say the same.
    """
    log_p = (scale * text @ audio.T).log_softmax(dim=-1)  # (K, N, N)
    log_mean = log_p.logsumexp(dim=0) - torch.log(torch.tensor(float(len(text))))
    return (log_p.exp() * (log_p - log_mean)).sum(dim=-1).mean()


def weighted_languages(audio: Tensor, text: Tensor, scale: Tensor, ids: Tensor, step: int) -> Tensor:
    """KCL in which Japanese and Chinese, last in the paper's tables, weigh twice as much as the others."""
    weights = torch.tensor([2.0 if language in _DOUBLED else 1.0 for language in ATRI_LANGUAGES])
    losses = torch.stack([info_nce_loss(audio, captions, scale, ids) for captions in text])
    return (weights / weights.sum() * losses).sum()


LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor, int], Tensor]] = {
    loss.__name__: loss
    for loss in (rotating_anchor, all_pairs, equal_rankings, anchored_equal_rankings, weighted_languages)
}
