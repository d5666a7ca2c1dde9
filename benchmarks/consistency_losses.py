"""Losses that `consistency.py` tries beside the objectives of the package: functions of embeddings.

None of them helped, so none is in the package; they stay here to make their rows of the table again.

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


def anchored_thirds(audio: Tensor, text: Tensor, scale: Tensor, ids: Tensor, step: int) -> Tensor:
    """What CACL is on average over its draws, of all languages of the step: English, as in CACL, weighs a third.

    Thirds of A(audio, English), and of the means over the other languages of A(audio, text_k) and A(English, text_k).
    """
    anchor, others = text[0], text[1:]
    with_audio = torch.stack([info_nce_loss(audio, other, scale, ids) for other in others]).mean()
    with_anchor = torch.stack([info_nce_loss(anchor, other, scale, ids) for other in others]).mean()
    return (info_nce_loss(audio, anchor, scale, ids) + with_audio + with_anchor) / 3


def akcl_of_drawn_clips(audio: Tensor, text: Tensor, scale: Tensor, ids: Tensor, step: int) -> Tensor:
    """AKCL as two of eight languages estimate it, on CACL's batches: the other language is drawn for each clip."""
    return akcl_loss(audio, text, scale, ids, num_languages=len(ATRI_LANGUAGES))


def weighted_languages(audio: Tensor, text: Tensor, scale: Tensor, ids: Tensor, step: int) -> Tensor:
    """KCL in which Japanese and Chinese, last in the paper's tables, weigh twice as much as the others."""
    weights = torch.tensor([2.0 if language in _DOUBLED else 1.0 for language in ATRI_LANGUAGES])
    losses = torch.stack([info_nce_loss(audio, captions, scale, ids) for captions in text])
    return (weights / weights.sum() * losses).sum()


LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor, int], Tensor]] = {
    loss.__name__: loss
    for loss in (
        rotating_anchor,
        all_pairs,
        weighted_languages,
        anchored_thirds,
        akcl_of_drawn_clips,
    )
}
