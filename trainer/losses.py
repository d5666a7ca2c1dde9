"""The losses of the training objectives, as functions of embeddings.

Each loss is a mean of `info_nce_loss` terms between the audio embeddings and the caption embeddings of K languages.
`ranking_divergence` is an additional term that compares the languages of a step.
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

    The loss is `1/K sum_k A(audio, text_k)`, where A is the symmetric InfoNCE of `info_nce_loss`. Each language has
    its own softmax. Source: ATRI (Yin et al., ACL 2025). With K = 1 the loss equals `mlclap_loss`.

    Args:
        audio_embeds (`torch.Tensor` of shape `(N, D)`): L2-normalised.
        text_embeds (`torch.Tensor` of shape `(K, N, D)`): L2-normalised; row k holds the N captions in language k.
        scale (`torch.Tensor` or `float`): Inverse temperature, 1 / tau.
        ids (`torch.Tensor` of shape `(N,)`, *optional*): Items with equal id are positives of one another.
        shard (`Shard`, *optional*): This process's place in a batch that is spread over several processes.

    Returns:
        `torch.Tensor` of shape `()`.

    Raises:
        ValueError: The shapes do not fit together.
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
    """Audio-English co-anchor contrastive learning: each pair of a clip, its anchor caption and one other caption.

    The loss is `1/3 (A(audio, anchor) + A(audio, other) + A(anchor, other))`, where A is the symmetric InfoNCE of
    `info_nce_loss`. Source: ATRI (Yin et al., ACL 2025).

    Args:
        anchor_embeds (`torch.Tensor` of shape `(N, D)`): Captions in the anchor language (English in the paper).
        other_embeds (`torch.Tensor` of shape `(N, D)`): The same captions, each in one of the other languages.
        audio_embeds, scale, ids, shard: See [`kcl_loss`], as for the result and errors.
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
        text_embeds (`torch.Tensor` of shape `(N, D)`): L2-normalised.
        embed_regularization (`bool`, *optional*, defaults to `False`): Whether to add ml-clap's `mean|A| / ||A||` of
            both embedding matrices (Frobenius norm). It rewards sparse embeddings and depends on N.
        audio_embeds, scale, ids, shard: See [`kcl_loss`], as for the result and errors.
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
    """Anchored KCL: KCL for the audio, and in addition every language is pulled to the anchor language.

    The loss is `weight / K sum_k A(audio, text_k) + (1 - weight) / (K-1) sum_{k != anchor} A(text_anchor, text_k)`,
    where A is the symmetric InfoNCE of `info_nce_loss`. It combines KCL with the text-text term of CACL. This
    objective is this project's own.

    Args:
        text_embeds (`torch.Tensor` of shape `(K, N, D)`): L2-normalised; the anchor is one of the K languages.
        anchor (`int`, *optional*, defaults to 0): Row of `text_embeds` that holds the anchor language.
        weight (`float`, *optional*, defaults to 0.5): Weight of the audio-text terms, in [0, 1].
        num_languages (`int`, *optional*): Number of all languages, if `text_embeds` holds only the anchor and a random
            draw of the others. The result is then an unbiased estimate of the loss over all. Default: K.
        audio_embeds, scale, ids, shard: See [`kcl_loss`], as for the result.

    Raises:
        ValueError: There are fewer than two languages, the anchor or the weight is out of range, or the shapes do not
            fit together.
    """
    _check_languages(text_embeds, minimum=2)
    weights = akcl_weights(len(text_embeds), anchor, weight, num_languages)
    loss = text_embeds.new_zeros(())
    languages = text_embeds.unbind()  # the same tensors each time, so that a shard gathers each of them once
    for k, text in enumerate(languages):
        audio_weight, anchor_weight = weights[k]
        loss = loss + audio_weight * info_nce_loss(audio_embeds, text, scale, ids, shard)
        if k != anchor:
            loss = loss + anchor_weight * info_nce_loss(languages[anchor], text, scale, ids, shard)
    return loss


def akcl_weights(
    num_drawn: int, anchor: int, weight: float = 0.5, num_languages: int | None = None
) -> list[tuple[float, float]]:
    """Weights of A(audio, text_k) and A(text_anchor, text_k) in `akcl_loss`, for each of `num_drawn` languages.

    The anchor is part of every draw, but another language only of some. So that the mean over draws is the loss over
    all `num_languages` languages, the others weigh more.

    Raises:
        ValueError: There are fewer than two languages, or the anchor or the weight is out of range.
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


def teach_loss(
    audio_embeds: Tensor | None,
    text_embeds: Tensor,
    teacher_embeds: Tensor,
    scale: Tensor | float,
    ids: Tensor | None = None,
    distill_weight: float = 1.0,
    audio_term: str = "akcl",
    shard: Shard | None = None,
) -> Tensor:
    """Teaching: train captions in all languages towards a frozen teacher's embeddings of the anchor's captions.

    Let e be the teacher's embeddings of the N captions in the anchor language, a those of the clips by the frozen
    audio side, and t_k those of the captions in language k, of K languages including the anchor. The loss is
    `distill_weight / K sum_k 1/N sum_n |t_kn - e_n|^2 + audio term`, where the audio term is

    - `"kcl"`: `1/K sum_k A(a, t_k)`,
    - `"akcl"`: `1/(2K) sum_k A(a, t_k) + 1/(2K) sum_k A(e, t_k)`,
    - `"none"`: 0,

    and A is the symmetric InfoNCE of `info_nce_loss`. With languages that are drawn uniformly and without replacement,
    the loss is an unbiased estimate of that over all languages. This objective is this project's own. Its first term
    is that of sentence distillation (Reimers and Gurevych 2020, https://arxiv.org/abs/2004.09813).

    Args:
        audio_embeds (`torch.Tensor` of shape `(N, D)`, *optional*): L2-normalised. None if the rows have no sounds,
            which the audio term `"none"` allows.
        text_embeds (`torch.Tensor` of shape `(K, N, D)`): L2-normalised; row k holds the N captions in language k.
        teacher_embeds (`torch.Tensor` of shape `(N, D)` or `(K, N, D)`): L2-normalised e, the same for all languages
            or one for each language.
        scale (`torch.Tensor` or `float`): Inverse temperature, 1 / tau.
        ids (`torch.Tensor` of shape `(N,)`, *optional*): Items with equal id are positives of one another, in A only.
        distill_weight (`float`, *optional*, defaults to 1.0): Weight of the squared distances, at least 0.
        audio_term (`str`, *optional*, defaults to `"akcl"`): `"akcl"`, `"kcl"` or `"none"`.
        shard (`Shard`, *optional*): This process's place in a batch that is spread over several processes. Distances
            are computed for its own rows only.

    Returns:
        `torch.Tensor` of shape `()`.

    Raises:
        ValueError: The audio term is unknown or has no `audio_embeds`, or the shapes do not fit together.
    """
    _check_languages(text_embeds, minimum=1)
    targets = teacher_targets(teacher_embeds, text_embeds)
    weights = teach_weights(len(text_embeds), audio_term)
    if audio_embeds is None and audio_term != "none":
        raise ValueError(
            f"The audio term {audio_term!r} compares captions with sounds, but the batch has none. Give "
            "`audio_embeds`, or the audio term 'none'."
        )
    loss = text_embeds.new_zeros(())
    for text, target, (audio_weight, teacher_weight) in zip(text_embeds, targets, weights, strict=True):
        loss = loss + distill_weight / len(text_embeds) * squared_distance(text, target, shard)
        if audio_embeds is not None and audio_weight > 0:
            loss = loss + audio_weight * info_nce_loss(audio_embeds, text, scale, ids, shard)
        if teacher_weight > 0:
            loss = loss + teacher_weight * info_nce_loss(target, text, scale, ids, shard)
    return loss


def teach_weights(num_drawn: int, audio_term: str) -> list[tuple[float, float]]:
    """Weights of A(audio, text_k) and A(teacher, text_k) in `teach_loss`, for each of `num_drawn` languages.

    Raises:
        ValueError: The audio term is unknown.
    """
    shares = {"akcl": (0.5, 0.5), "kcl": (1.0, 0.0), "none": (0.0, 0.0)}
    if audio_term not in shares:
        raise ValueError(f"The audio term must be 'akcl', 'kcl' or 'none'; got {audio_term!r}.")
    of_audio, of_teacher = shares[audio_term]
    return [(of_audio / num_drawn, of_teacher / num_drawn)] * num_drawn


def teacher_targets(teacher_embeds: Tensor, text_embeds: Tensor) -> Tensor:
    """The teacher's embeddings for each language, in the shape `(K, N, D)` of the captions' `text_embeds`.

    Raises:
        ValueError: The shapes do not fit together.
    """
    targets = teacher_embeds if teacher_embeds.ndim == 3 else teacher_embeds.expand(len(text_embeds), -1, -1)
    if targets.shape != text_embeds.shape:
        raise ValueError(
            f"The teacher's embeddings must have the shape {tuple(text_embeds.shape[1:])}, or with one set for each "
            f"language {tuple(text_embeds.shape)}; got {tuple(teacher_embeds.shape)}."
        )
    return targets


def squared_distance(text_embeds: Tensor, targets: Tensor, shard: Shard | None = None) -> Tensor:
    """The mean over the rows of `|text - target|^2`, both `(N, D)`, in at least float32.

    With several processes, the mean of their results is the mean over all rows.
    """
    check_same_shape(text_embeds=text_embeds, targets=targets)
    with torch.autocast(text_embeds.device.type, enabled=False):
        total = (at_least_float32(text_embeds) - at_least_float32(targets)).square().sum()
    if shard is None:
        return total / len(text_embeds)
    num_rows = shard.num_rows or len(shard.gather(targets.detach()[:, :1]))
    return total * shard.world_size / num_rows


def ranking_divergence(
    audio_embeds: Tensor, text_embeds: Tensor, scale: Tensor | float, shard: Shard | None = None
) -> Tensor:
    """Disagreement between languages: the Jensen-Shannon divergence of their rankings of the clips.

    A caption in language k ranks the N clips by similarity. The softmax of the similarities is a distribution p_k over
    the clips. The divergence of a caption's K distributions is `H(mean_k p_k) - mean_k H(p_k)`, where H is the
    entropy. It is 0 if all languages agree, in which case their ranks are equal too, and at most log K. It needs no
    ground truth. It grows with the number of languages, so a random draw of languages gives a biased estimate. K
    matrices of N x N are in memory. This term is this project's own.

    Args:
        audio_embeds, text_embeds, scale, shard: See [`kcl_loss`].

    Returns:
        `torch.Tensor` of shape `()`: mean over the captions, in nats, in the dtype of the embeddings, but at least
        float32.

    Raises:
        ValueError: There are fewer than two languages, or the shapes do not fit together.
    """
    _check_languages(text_embeds, minimum=2)
    check_same_shape(audio_embeds=audio_embeds, text_embeds=text_embeds[0])
    every_clip = audio_embeds if shard is None else shard.gather(audio_embeds)
    with torch.autocast(text_embeds.device.type, enabled=False):  # as in `info_nce_loss`
        log_p = (scale * (at_least_float32(text_embeds) @ at_least_float32(every_clip).T)).log_softmax(dim=-1)
        log_mean = log_p.logsumexp(dim=0) - math.log(len(text_embeds))
        divergence = (log_p.exp() * (log_p - log_mean)).sum(dim=(1, 2)).mean()  # sum over the captions
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
