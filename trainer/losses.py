"""The training objectives, as functions of embeddings: no model, no state.

The objectives are means of `info_nce_loss` terms between the audio embeddings and the caption embeddings of K
languages; `ranking_divergence` may be added to those that have all languages of a step at hand.
"""

import math

import torch
from torch import Tensor

from modeling_atri.loss_atri import Shard, at_least_float32, check_same_shape, info_nce_loss


def kcl_loss(
    audio_embeds: Tensor,
    text_embeds: Tensor,
    scale: Tensor | float,
    ids: Tensor | None = None,
    shard: Shard | None = None,
) -> Tensor:
    """1-to-k contrastive learning: every clip with its captions in all K languages.

    `1/K sum_k A(audio, text_k)`, with A the symmetric InfoNCE of `info_nce_loss`, each language with a softmax of its
    own. Source: ATRI (Yin et al., ACL 2025). With K = 1 it is `mlclap_loss`.

    Args:
        audio_embeds (`torch.Tensor` of shape `(N, D)`): L2-normalised.
        text_embeds (`torch.Tensor` of shape `(K, N, D)`): L2-normalised; row k holds the N captions in language k.
        scale (`torch.Tensor` or `float`): inverse temperature, 1 / tau.
        ids (`torch.Tensor` of shape `(N,)`, *optional*): items with equal id are positives of one another.
        shard (`Shard`, *optional*): this process's place in a batch spread over several.

    Returns:
        `torch.Tensor` of shape `()`.

    Raises:
        ValueError: shapes that do not fit together.
    """
    _check_languages(text_embeds, minimum=1)
    return torch.stack([info_nce_loss(audio_embeds, text, scale, ids, shard) for text in text_embeds]).mean()


def cacl_loss(
    audio_embeds: Tensor,
    anchor_embeds: Tensor,
    other_embeds: Tensor,
    scale: Tensor | float,
    ids: Tensor | None = None,
    shard: Shard | None = None,
) -> Tensor:
    """Audio-English co-anchor contrastive learning: clip, anchor caption and one other caption, pair by pair.

    `1/3 (A(audio, anchor) + A(audio, other) + A(anchor, other))`. Source: ATRI (Yin et al., ACL 2025).

    Args:
        audio_embeds (`torch.Tensor` of shape `(N, D)`): L2-normalised.
        anchor_embeds (`torch.Tensor` of shape `(N, D)`): captions in the anchor language (English in the paper).
        other_embeds (`torch.Tensor` of shape `(N, D)`): the same captions, each in another language of its own.
        scale, ids, shard: see [`kcl_loss`].

    Returns:
        `torch.Tensor` of shape `()`.

    Raises:
        ValueError: shapes that do not fit together.
    """
    pairs = ((audio_embeds, anchor_embeds), (audio_embeds, other_embeds), (anchor_embeds, other_embeds))
    return torch.stack([info_nce_loss(x, y, scale, ids, shard) for x, y in pairs]).mean()


def mlclap_loss(
    audio_embeds: Tensor,
    text_embeds: Tensor,
    scale: Tensor | float,
    ids: Tensor | None = None,
    embed_regularization: bool = False,
    shard: Shard | None = None,
) -> Tensor:
    """The baseline, ML-CLAP: every clip with one caption in one language.

    Source: Yan et al., Interspeech 2024; https://github.com/zyyan4/ml-clap/blob/154393e/models/mlclap_model.py.

    Args:
        audio_embeds (`torch.Tensor` of shape `(N, D)`): L2-normalised.
        text_embeds (`torch.Tensor` of shape `(N, D)`): L2-normalised.
        embed_regularization (`bool`, *optional*, defaults to `False`): add ml-clap's `mean|A| / ||A||` of both
            matrices (Frobenius norm), which rewards sparse embeddings and depends on N.
        scale, ids, shard: see [`kcl_loss`].

    Returns:
        `torch.Tensor` of shape `()`.

    Raises:
        ValueError: shapes that do not fit together.
    """
    loss = info_nce_loss(audio_embeds, text_embeds, scale, ids, shard)
    if embed_regularization:
        for embeds in (audio_embeds, text_embeds):
            every_row = embeds if shard is None else shard.gather(embeds)
            loss = loss + every_row.abs().mean() / every_row.norm()
    return loss


def akcl_loss(
    audio_embeds: Tensor,
    text_embeds: Tensor,
    scale: Tensor | float,
    ids: Tensor | None = None,
    anchor: int = 0,
    weight: float = 0.5,
    num_languages: int | None = None,
    shard: Shard | None = None,
) -> Tensor:
    """Anchored KCL: KCL for the audio, and every language pulled to the anchor language directly.

    `weight * 1/K sum_k A(audio, text_k) + (1 - weight) * 1/(K-1) sum_{k != anchor} A(text_anchor, text_k)`: the union
    of KCL and of CACL's text-text term. This project's own objective.

    Args:
        audio_embeds (`torch.Tensor` of shape `(N, D)`): L2-normalised.
        text_embeds (`torch.Tensor` of shape `(K, N, D)`): L2-normalised; the anchor among them.
        anchor (`int`, *optional*, defaults to 0): row of `text_embeds` that holds the anchor language.
        weight (`float`, *optional*, defaults to 0.5): of the audio term, in [0, 1].
        num_languages (`int`, *optional*): size of the full set of languages when `text_embeds` holds only the anchor
            and a random draw of the others; the result is then an unbiased estimate of the loss over all. Default: K.
        scale, ids, shard: see [`kcl_loss`].

    Returns:
        `torch.Tensor` of shape `()`.

    Raises:
        ValueError: fewer than two languages; an anchor or weight out of range; shapes that do not fit together.
    """
    _check_languages(text_embeds, minimum=2)
    weights = akcl_weights(len(text_embeds), anchor, weight, num_languages)
    loss = text_embeds.new_zeros(())
    for k, text in enumerate(text_embeds):
        audio_weight, anchor_weight = weights[k]
        loss = loss + audio_weight * info_nce_loss(audio_embeds, text, scale, ids, shard)
        if k != anchor:
            loss = loss + anchor_weight * info_nce_loss(text_embeds[anchor], text, scale, ids, shard)
    return loss


def akcl_weights(
    num_drawn: int, anchor: int, weight: float = 0.5, num_languages: int | None = None
) -> list[tuple[float, float]]:
    """Weights of A(audio, text_k) and A(text_anchor, text_k) in `akcl_loss`, for each of `num_drawn` languages.

    The anchor stands in every draw and the others in a share of them, so over draws of `num_drawn` of `num_languages`
    the others must weigh more for the mean to be the loss over all languages.

    Raises:
        ValueError: fewer than two languages; an anchor or weight out of range.
    """
    total = num_drawn if num_languages is None else num_languages
    if num_drawn < 2 or total < num_drawn:
        raise ValueError(f"Anchored KCL needs 2 <= drawn languages <= all languages; got {num_drawn} of {total}.")
    if not 0 <= anchor < num_drawn:
        raise ValueError(f"`anchor` must be a row of the {num_drawn} languages, 0 to {num_drawn - 1}; got {anchor}.")
    if not 0 <= weight <= 1:
        raise ValueError(f"`weight` must be in [0, 1]; got {weight}.")
    other = (weight * (total - 1) / (total * (num_drawn - 1)), (1 - weight) / (num_drawn - 1))
    return [(weight / total, 0.0) if k == anchor else other for k in range(num_drawn)]


def ranking_divergence(
    audio_embeds: Tensor, text_embeds: Tensor, scale: Tensor | float, shard: Shard | None = None
) -> Tensor:
    """How much the languages differ in what they find: the Jensen-Shannon divergence of their rankings of the clips.

    A caption in language k ranks the N clips by its similarities; their softmax is a distribution over the clips,
    p_k. The divergence of a caption's K distributions is `H(mean_k p_k) - mean_k H(p_k)`, H the entropy: 0 where all
    languages say the same, and then their ranks are equal, too; at most log K. It asks for no ground truth. Of fewer
    languages it is smaller: of a draw of them it is no unbiased estimate. It holds K matrices of N x N. This project's
    own term.

    Args:
        audio_embeds (`torch.Tensor` of shape `(N, D)`): L2-normalised.
        text_embeds (`torch.Tensor` of shape `(K, N, D)`): L2-normalised; row k holds the N captions in language k.
        scale (`torch.Tensor` or `float`): inverse temperature, 1 / tau.
        shard (`Shard`, *optional*): this process's place in a batch spread over several.

    Returns:
        `torch.Tensor` of shape `()`, in nats: mean over the captions, in the dtype of the embeddings, float32 at
        least.

    Raises:
        ValueError: fewer than two languages; shapes that do not fit together.
    """
    _check_languages(text_embeds, minimum=2)
    check_same_shape(audio_embeds=audio_embeds, text_embeds=text_embeds[0])
    every_clip = audio_embeds if shard is None else shard.gather(audio_embeds)
    with torch.autocast(text_embeds.device.type, enabled=False):  # as in `info_nce_loss`
        log_p = (scale * (at_least_float32(text_embeds) @ at_least_float32(every_clip).T)).log_softmax(dim=-1)
        log_mean = log_p.logsumexp(dim=0) - math.log(len(text_embeds))
        divergence = (log_p.exp() * (log_p - log_mean)).sum(dim=(1, 2)).mean()  # summed over the captions
    # This process's share of the mean over all captions, as in `info_nce_loss`.
    return divergence * ((1 if shard is None else shard.world_size) / len(every_clip))


def _check_languages(text_embeds: Tensor, minimum: int) -> None:
    if not isinstance(text_embeds, Tensor):
        raise ValueError(
            "`text_embeds` must be one torch tensor of shape (K, N, D), K languages; got a "
            f"{type(text_embeds).__name__}."
        )
    if text_embeds.ndim != 3 or len(text_embeds) < minimum:
        raise ValueError(
            f"`text_embeds` must have shape (K, N, D) with K >= {minimum} languages; got {tuple(text_embeds.shape)}."
        )
