"""KCL with another weight for one language."""

from functools import partial

import torch
from torch import Tensor

from modeling_atri.languages_atri import ATRI_LANGUAGES
from modeling_atri.loss_atri import info_nce_loss

from .own import OwnLoss


class WeightedKcl(OwnLoss):
    """The weighted mean over the languages of the InfoNCE loss between the audio and a language.

    Args:
        batch_size: clips of a batch, which the loss does not depend on.
        language: the language with another weight, on batches with all of `ATRI_LANGUAGES`.
        weight: its weight; the others have weight 1.
    """

    def __init__(self, batch_size: int, language: str, weight: float):
        super().__init__()
        weights = torch.tensor([weight if code == language else 1.0 for code in ATRI_LANGUAGES])
        self.register_buffer("weights", weights / weights.sum())

    def forward(
        self, audio_embeds: Tensor, text_embeds: Tensor, scale: Tensor, group_ids: Tensor | None, step: int
    ) -> Tensor:
        """See [`OwnLoss`]."""
        terms = [info_nce_loss(audio_embeds, captions, scale, group_ids) for captions in text_embeds]
        return (self.weights * torch.stack(terms)).sum()


# KCL with half the weight, and without one language: `kcl-weight0.5-cat_Latn`.
WEIGHTED_LOSSES = {
    f"kcl-weight{weight:g}-{language}": partial(WeightedKcl, language=language, weight=weight)
    for language in ATRI_LANGUAGES
    for weight in (0.0, 0.5)
}
