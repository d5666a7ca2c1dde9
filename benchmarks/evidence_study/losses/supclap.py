"""SupCLAP's support vector regularisation (SVR), added to the objectives.

The pair of a caption t and its clip a has the direction u = (a - t) / |a - t|. The support vector of the caption is
t_sup = t + R u, with the semantic radius R. The gradient flows through u, so d t_sup / d t is
(1 - R / |a - t|) (I - uu') + uu'. The part of the negatives' push that is perpendicular to u is thus scaled by
1 - R / |a - t|, and the part along u stays as it is. The SVR term S(a, t) is the InfoNCE loss of the captions' support
vectors against the clips, and of the clips' support vectors a - R u against the captions. The loss is that of the
objective plus the SVR terms. With a dynamic radius, 0.01 (relu(R - |a - t|) + relu(-R)) is added.

Source: Luo et al., SupCLAP, ICLR 2026, https://arxiv.org/abs/2509.21033, as far as summaries of it say what the loss
is. The open points are read as follows:

- As in the objectives, the positive is part of the denominator, clips of equal ids share the target, and the two
  directions are averaged.
- Pairs of audio and text have an SVR term, with the weight that the objective gives to the pair. Pairs of two texts
  have none.
- R is 0 at the beginning, where S(a, t) is the objective's own term. In the readings `radius0.5` and `radius1` it
  is 0.5 and 1.
- Support vectors are compared as they are. In the reading `renormalised` they get length 1 again.
- The MLP of the dynamic radius has two hidden layers of 64 units with ReLU. It takes the cosine similarities of an
  item to the batch, in the order of the batch; in the reading `sorted`, the item's own pair comes first and the others
  follow in falling order. Captions and clips share the MLP, and no gradient flows from R to the similarities, so that
  the derivative above holds.
"""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modeling_atri.trainer.losses import akcl_loss, akcl_weights, cacl_loss, kcl_loss

from .own import OwnLoss


OBJECTIVES = ("cacl", "kcl", "akcl")
CONSTRAINT_WEIGHT = 0.01
HIDDEN_SIZE = 64
OTHER_INITIAL_RADII = (0.5, 1.0)


class StaticRadius(nn.Module):
    """One learnable radius for all pairs."""

    constraint_weight = 0.0

    def __init__(self, initial_radius: float = 0.0):
        super().__init__()
        self.radius = nn.Parameter(torch.tensor(initial_radius))

    def forward(self, similarities: Tensor) -> Tensor:
        """The radius of each item, from its similarities `(..., items, batch)`: `(..., items)`."""
        return self.radius.expand(similarities.shape[:-1])


class DynamicRadius(nn.Module):
    """A radius for each item, predicted by an MLP of three layers from the item's similarities to the batch."""

    constraint_weight = CONSTRAINT_WEIGHT

    def __init__(self, batch_size: int, initial_radius: float = 0.0, is_sorted: bool = False):
        super().__init__()
        self.is_sorted = is_sorted
        self.layers = nn.Sequential(
            nn.Linear(batch_size, HIDDEN_SIZE),
            nn.ReLU(),
            nn.Linear(HIDDEN_SIZE, HIDDEN_SIZE),
            nn.ReLU(),
            nn.Linear(HIDDEN_SIZE, 1),
        )
        nn.init.zeros_(self.layers[-1].weight)
        nn.init.constant_(self.layers[-1].bias, initial_radius)

    def forward(self, similarities: Tensor) -> Tensor:
        """The radius of each item, from its similarities `(..., items, batch)`: `(..., items)`."""
        if self.is_sorted:
            is_own = torch.eye(similarities.shape[-1], dtype=torch.bool, device=similarities.device)
            own = similarities.diagonal(dim1=-2, dim2=-1)[..., None]
            others = similarities.masked_fill(is_own, -torch.inf).sort(dim=-1, descending=True).values[..., :-1]
            similarities = torch.cat([own, others], dim=-1)
        return self.layers(similarities).squeeze(-1)


def support_vectors(x: Tensor, y: Tensor, radius: Tensor) -> Tensor:
    """x + R u with u = (y - x) / |y - x|, for x and y `(..., width)` and R `(...)`."""
    return x + radius[..., None] * F.normalize(y - x, dim=-1)


class SupClapLoss(OwnLoss):
    """The loss of an objective plus its SVR terms.

    Args:
        objective: `cacl`, `kcl` or `akcl`, on whose batches the loss is used, with the anchor first.
        radius: the module that gives the radii.
        is_renormalised: whether support vectors get length 1 again.
    """

    def __init__(self, objective: str, radius: StaticRadius | DynamicRadius, is_renormalised: bool = False):
        super().__init__()
        self.objective = objective
        self.radius = radius
        self.is_renormalised = is_renormalised
        self._last: dict[str, float] = {}

    def forward(
        self, audio_embeds: Tensor, text_embeds: Tensor, scale: Tensor, group_ids: Tensor | None, step: int
    ) -> Tensor:
        """See [`OwnLoss`]."""
        loss = objective_loss(self.objective, audio_embeds, text_embeds, scale, group_ids)
        weights = text_embeds.new_tensor(audio_weights(self.objective, len(text_embeds)))
        return loss + (weights * self.terms(audio_embeds, text_embeds, scale, group_ids)).sum()

    def terms(self, audio: Tensor, text: Tensor, scale: Tensor, group_ids: Tensor | None) -> Tensor:
        """S(a, t_k) of each language, and the constraints on its radii: `(languages,)`."""
        audio = audio.expand_as(text)
        targets = shared_targets(text, group_ids)
        of_captions = self._one_direction(text, audio, scale, targets)
        return (of_captions + self._one_direction(audio, text, scale, targets)) / 2

    def _one_direction(self, x: Tensor, y: Tensor, scale: Tensor, targets: Tensor) -> Tensor:
        """InfoNCE of the support vectors of x against all y, both `(languages, clips, width)`."""
        radius = self.radius((x @ y.mT).detach())
        support = support_vectors(x, y, radius)
        if self.is_renormalised:
            support = F.normalize(support, dim=-1)
        log_shares = (scale * support @ y.mT).log_softmax(dim=-1)
        distance = (y - x).detach().norm(dim=-1)
        excess = F.relu(radius - distance) + F.relu(-radius)
        self._last = {"radius": radius.mean().item(), "pair_distance": distance.mean().item()}
        return -(targets * log_shares).sum(dim=-1).mean(dim=-1) + self.radius.constraint_weight * excess.mean(dim=-1)

    def figures(self) -> dict[str, float]:
        """The mean radius, and the mean distance |a - t| of a pair, in the last batch."""
        return self._last


def objective_loss(objective: str, audio: Tensor, text: Tensor, scale: Tensor, group_ids: Tensor | None) -> Tensor:
    """The loss of an objective, with the anchor as the first language."""
    if objective == "cacl":
        return cacl_loss(audio, *text, scale, group_ids)
    return (kcl_loss if objective == "kcl" else akcl_loss)(audio, text, scale, group_ids)


def audio_weights(objective: str, num_languages: int) -> list[float]:
    """The weight that an objective gives to the pair of the audio and each language."""
    if objective == "cacl":
        return [1 / 3] * num_languages
    if objective == "kcl":
        return [1 / num_languages] * num_languages
    return [of_audio for of_audio, _ in akcl_weights(num_languages, anchor=0)]


def shared_targets(text: Tensor, group_ids: Tensor | None) -> Tensor:
    """The share of each clip in the target of a caption, `(clips, clips)`."""
    if group_ids is None:
        return torch.eye(text.shape[1], dtype=text.dtype, device=text.device)
    positives = group_ids[:, None].eq(group_ids).to(text.dtype)
    return positives / positives.sum(dim=1, keepdim=True)


def make_loss(
    objective: str,
    radius: str,
    batch_size: int,
    initial_radius: float = 0.0,
    is_renormalised: bool = False,
    is_sorted: bool = False,
) -> SupClapLoss:
    """The loss of an objective with a `static` or `dynamic` radius, in one reading of the open points."""
    if radius == "static":
        return SupClapLoss(objective, StaticRadius(initial_radius), is_renormalised)
    return SupClapLoss(objective, DynamicRadius(batch_size, initial_radius, is_sorted), is_renormalised)


# Options of each reading. "sorted" is for the dynamic radius.
READINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    **{f"radius{radius:g}": {"initial_radius": radius} for radius in OTHER_INITIAL_RADII},
    "renormalised": {"is_renormalised": True},
    "sorted": {"is_sorted": True},
}
SUPCLAP_LOSSES = {
    f"{objective}-{radius}-{reading}": partial(make_loss, objective, radius, **options)
    for objective in OBJECTIVES
    for radius in ("static", "dynamic")
    for reading, options in READINGS.items()
    if radius == "dynamic" or reading != "sorted"
}
