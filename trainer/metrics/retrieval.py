"""Recall, mean average precision and ranks in both directions, for the captions of one language."""

import math
from importlib.resources import files

import numpy as np

from modeling_atri.hub_cards.figures import PRECISION_CUTOFF, RECALL_CUTOFFS

from .inputs import Array, Device, Embeddings, Pairs, Positives, Rows
from .ranking import Ahead, negatives_ahead


def retrieval_metrics(
    audio_embeds: Embeddings, text_embeds: Embeddings, positives: Positives, device: Device = "cpu"
) -> dict[str, float]:
    """Compute recall, mean average precision and ranks in both directions, for the captions of one language.

    Every score is computed once, in tiles. Beside the embeddings, memory for the tiles is needed (about 30 MB on a
    CPU, 1 GB on a GPU), and for a float32 copy of clips that are not L2-normalised float32 already.

    Args:
        audio_embeds (`np.ndarray` or `torch.Tensor` of shape `(A, D)`): One row for each clip, on any device. The
            function L2-normalises the rows.
        text_embeds (`np.ndarray` or `torch.Tensor` of shape `(M, D)`): One row for each caption, treated alike.
        positives: For each caption the row of its clip in `audio_embeds`: `(M,)` integers, or M lists of integers
            where a caption fits several clips. Every clip needs at least one caption.
        device (`str` or `torch.device`, *optional*, defaults to `"cpu"`): Where scores are computed, `"cuda"` for
            example. It needs float64. The figures do not depend on it.

    Returns:
        `dict[str, float]`: Twelve figures: `text_to_audio_` and `audio_to_text_`, each with `R@1`, `R@5`, `R@10`,
        `mAP@10` (fractions from 0 to 1), `median_rank` and `mean_rank` (1-based). The package's docstring defines
        them.

    Raises:
        ValueError: An embedding is zero or not finite, shapes do not fit together, a caption has no clip, a clip has
            no caption, or a positive is not a row of `audio_embeds`.

    Example:
        >>> audio, text = np.eye(2), np.array([[1.0, 0.1], [1.0, 0.2], [0.1, 1.0]])
        >>> retrieval_metrics(audio, text, [0, 0, 1])["text_to_audio_R@1"]
        1.0
    """
    audio, text, pairs = _checked(audio_embeds, text_embeds, positives, device)
    pairs.check_clips(len(audio))
    captions, clips = negatives_ahead(audio, text, pairs)
    return both_directions(captions, clips)


def text_to_audio_ranks(
    audio_embeds: Embeddings, text_embeds: Embeddings, positives: Positives, device: Device = "cpu"
) -> Array:
    """Compute the rank of each caption's clip among all clips; of the best clip where a caption fits several.

    Arguments and errors are those of [`retrieval_metrics`], but clips without a caption are allowed: they are
    negatives of every caption.

    Returns:
        `np.ndarray` of shape `(M,)`, float64: Ranks, 1-based, in steps of 0.5.
    """
    (captions,) = negatives_ahead(*_checked(audio_embeds, text_embeds, positives, device), ["captions"])
    return captions.ranks


def audio_to_text_ranks(
    audio_embeds: Embeddings, text_embeds: Embeddings, positives: Positives, device: Device = "cpu"
) -> Array:
    """Compute the rank of each clip's best caption among all captions.

    Arguments and errors are those of [`retrieval_metrics`].

    Returns:
        `np.ndarray` of shape `(A,)`, float64: Ranks, 1-based, in steps of 0.5.
    """
    audio, text, pairs = _checked(audio_embeds, text_embeds, positives, device)
    pairs.check_clips(len(audio))
    (clips,) = negatives_ahead(audio, text, pairs, ["clips"])
    return clips.ranks


def both_directions(captions: Ahead, clips: Ahead) -> dict[str, float]:
    """The figures of [`retrieval_metrics`], from what is ahead of the captions' clips and of the clips' captions."""
    ranks = captions.ranks
    precisions = np.where(ranks <= PRECISION_CUTOFF, 1 / ranks, 0.0)
    return _summary("text_to_audio_", ranks, precisions) | _summary(
        "audio_to_text_", clips.ranks, clips.average_precisions
    )


def retrieval_metric_path() -> str:
    """Folder of the `evaluate.Metric`, for `evaluate.load(retrieval_metric_path())`. Nothing is downloaded."""
    return str(files("modeling_atri.trainer") / "evaluation" / "retrieval_metric")


def _checked(
    audio_embeds: Embeddings, text_embeds: Embeddings, positives: Positives, device: Device
) -> tuple[Rows, Rows, Pairs]:
    audio, text = Rows(audio_embeds, "audio_embeds", device), Rows(text_embeds, "text_embeds", device)
    return audio, text, Pairs.of(positives, len(text), len(audio))


def _summary(prefix: str, ranks: Array, precisions: Array) -> dict[str, float]:
    metrics = {f"R@{k}": np.mean(ranks <= k) for k in RECALL_CUTOFFS}
    metrics[f"mAP@{PRECISION_CUTOFF}"] = precisions.mean()
    metrics["median_rank"] = math.floor(np.median(ranks))
    metrics["mean_rank"] = ranks.mean()
    return {prefix + name: float(value) for name, value in metrics.items()}
