"""Retrieval and consistency metrics: pure functions of embeddings and an explicit ground truth.

Definitions, the same in both directions. Similarity is the cosine; a query's *positives* are the items that belong to
it, all other items are *negatives*.

- The negatives ahead of a positive: those that score above it, plus half of those that tie with it. So a model that
  gives every item the same embedding ranks in the middle, not first, and positives never stand in each other's way.
- Rank (1-based): 1 + the negatives ahead of the best positive; it ends in a half where the ties are odd in number.
  R@k is the share of queries with rank <= k; `median_rank` is rounded down.
- AP@10, audio to text: the i-th best positive stands at position p_i = i + its negatives ahead. AP is the sum of
  i / p_i over the positives with p_i <= 10, divided by the number of the clip's captions (also those beyond ten).
- AP@10, text to audio: 1 / rank if rank <= 10, else 0, also where a caption fits several clips.

Without ties these are the figures of the public ML-CLAP code (https://github.com/zyyan4/ml-clap/tree/154393e, `t2a`
and `a2t`), as fractions instead of percent; there, the order of ties is left to an unstable sort.
"""

import math
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import TypeAlias

import numpy as np
import torch

from modeling_atri.hub_cards.figures import PRECISION_CUTOFF, RECALL_CUTOFFS


__all__ = [
    "audio_to_text_ranks",
    "consistency_metrics",
    "retrieval_metric_path",
    "retrieval_metrics",
    "text_to_audio_ranks",
]

Embeddings: TypeAlias = np.ndarray | torch.Tensor
Positives: TypeAlias = np.ndarray | torch.Tensor | Sequence[int] | Sequence[Sequence[int]]

# Scores held at once: 4 MB in float32. A product this large runs at the speed of the whole one.
SCORES_PER_BLOCK = 2**20

# Two cosines nearer than this are counted as tied. In float64 it is far above the rounding of a dot product (about
# 1e-15) and far below any difference a model can mean; in float32, where the rounding reaches 2.4e-6, it only marks
# what float64 decides.
TIE_TOLERANCE = {np.float32: 1e-5, np.float64: 1e-12}


def retrieval_metrics(audio_embeds: Embeddings, text_embeds: Embeddings, positives: Positives) -> dict[str, float]:
    """Recall, mean average precision and ranks of retrieval in both directions, for the captions of one language.

    Args:
        audio_embeds: (A, D) floats, one row a clip; L2-normalised here. Numpy array or torch tensor on any device.
        text_embeds: (M, D) floats, one row a caption; L2-normalised here.
        positives: for each caption the row of its clip in `audio_embeds`: (M,) integers, or M lists of integers where
            a caption fits several clips. Every clip needs at least one caption.

    Returns:
        Twelve floats: `text_to_audio_` and `audio_to_text_` before each of `R@1`, `R@5`, `R@10`, `mAP@10` (fractions,
        0 to 1), `median_rank` and `mean_rank` (1-based). The module's docstring defines them.

    Raises:
        ValueError: an embedding that is zero or not finite, shapes that do not fit together, a caption without a
            clip, a clip without a caption, or a positive that is no row of `audio_embeds`.

    Example:
        >>> audio, text = np.eye(2), np.array([[1.0, 0.1], [1.0, 0.2], [0.1, 1.0]])
        >>> retrieval_metrics(audio, text, [0, 0, 1])["text_to_audio_R@1"]
        1.0
    """
    audio, text = _Rows(audio_embeds, "audio_embeds"), _Rows(text_embeds, "text_embeds")
    captions, clips = _positive_pairs(positives, len(text), len(audio))

    ranks = _ranks(captions, _negatives_ahead(text, audio, captions, clips))
    precisions = np.where(ranks <= PRECISION_CUTOFF, 1 / ranks, 0.0)
    metrics = _summary("text_to_audio_", ranks, precisions)

    clips, captions = _pairs_by_clip(captions, clips, len(audio))
    ahead = _negatives_ahead(audio, text, clips, captions)
    return metrics | _summary("audio_to_text_", _ranks(clips, ahead), _average_precisions(clips, ahead))


def text_to_audio_ranks(audio_embeds: Embeddings, text_embeds: Embeddings, positives: Positives) -> np.ndarray:
    """The rank of each caption's clip (the best one where it fits several) among all clips.

    Takes what `retrieval_metrics` takes and raises what it raises, but for clips without a caption: they may stand in
    the way.

    Returns:
        (M,) float64 ranks, 1-based, in steps of a half (a half where the number of ties is odd).
    """
    audio, text = _Rows(audio_embeds, "audio_embeds"), _Rows(text_embeds, "text_embeds")
    captions, clips = _positive_pairs(positives, len(text), len(audio))
    return _ranks(captions, _negatives_ahead(text, audio, captions, clips))


def audio_to_text_ranks(audio_embeds: Embeddings, text_embeds: Embeddings, positives: Positives) -> np.ndarray:
    """The rank of each clip's best caption among all captions.

    Takes what `retrieval_metrics` takes and raises what it raises.

    Returns:
        (A,) float64 ranks, 1-based, in steps of a half (a half where the number of ties is odd).
    """
    audio, text = _Rows(audio_embeds, "audio_embeds"), _Rows(text_embeds, "text_embeds")
    captions, clips = _positive_pairs(positives, len(text), len(audio))
    clips, captions = _pairs_by_clip(captions, clips, len(audio))
    return _ranks(clips, _negatives_ahead(audio, text, clips, captions))


def consistency_metrics(
    audio_embeds: Embeddings,
    text_embeds: Mapping[str, Embeddings],
    positives: Positives,
    anchor: str = "eng_Latn",
) -> dict[str, float]:
    """How differently the same captions retrieve, and lie in the embedding space, in different languages.

    Args:
        audio_embeds: (A, D) floats, one row a clip; L2-normalised here.
        text_embeds: for each of at least two languages (M, D) floats; row m says the same in every language.
            L2-normalised here.
        positives: as in `retrieval_metrics`, the same for every language.
        anchor: the language, a key of `text_embeds`, that the others are compared with.

    Returns:
        `mrv`, the mean rank variance: variance over languages (population form) of a caption's text-to-audio rank,
        mean over captions; `mean_rank_std`: the standard deviation in place of the variance; `embedding_gap`: the
        Euclidean distance between the mean caption embedding of the anchor and of another language, mean over the
        other languages; `embedding_distance`: the distance between a caption's embeddings in the anchor and in another
        language, mean over captions and other languages.

    Raises:
        ValueError: as `retrieval_metrics`, and for fewer than two languages, a missing anchor, or languages with
            different numbers of captions.

    References:
        MRV: Nie et al., KDD 2024 (arXiv 2406.18254), whose code reports `mean_rank_std`; all four: ATRI, ACL 2025
        (arXiv 2502.14627).
    """
    if len(text_embeds) < 2 or anchor not in text_embeds:
        raise ValueError(
            f"`text_embeds` holds the languages {sorted(text_embeds)}; consistency compares at least two, and the "
            f"anchor {anchor!r} must be one of them. Add captions or pass another `anchor`."
        )
    audio = _Rows(audio_embeds, "audio_embeds")
    texts = {language: _Rows(embeds, f"text_embeds[{language!r}]") for language, embeds in text_embeds.items()}
    sizes = {language: len(text) for language, text in texts.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(
            f"The languages must have the same captions in the same order, but their numbers are {sizes}."
        )
    captions, clips = _positive_pairs(positives, sizes[anchor], len(audio))

    ranks = np.stack([_ranks(captions, _negatives_ahead(text, audio, captions, clips)) for text in texts.values()])
    anchor_rows = texts.pop(anchor).unit(np.float64)
    gaps, distances = [], []
    for text in texts.values():
        differences = anchor_rows - text.unit(np.float64)
        gaps.append(np.linalg.norm(differences.mean(axis=0)))
        distances.append(np.linalg.norm(differences, axis=1).mean())
    return {
        "mrv": float(ranks.var(axis=0).mean()),
        "mean_rank_std": float(ranks.std(axis=0).mean()),
        "embedding_gap": float(np.mean(gaps)),
        "embedding_distance": float(np.mean(distances)),
    }


def retrieval_metric_path() -> str:
    """The folder of the `evaluate.Metric`, for `evaluate.load(retrieval_metric_path())`; nothing is downloaded."""
    return str(files(__package__) / "evaluation" / "retrieval_metric")


class _Rows:
    """Checked embeddings (n, D) that give their rows, L2-normalised, in the precision asked for."""

    def __init__(self, embeds: Embeddings, name: str):
        if isinstance(embeds, torch.Tensor):
            embeds = embeds.detach().cpu()
            embeds = (embeds.float() if embeds.dtype == torch.bfloat16 else embeds).numpy()  # numpy has no bfloat16
        values = np.asarray(embeds)
        if values.ndim != 2 or 0 in values.shape or values.dtype.kind not in "fiu":
            raise ValueError(
                f"`{name}` must be a non-empty matrix of real numbers, one row an embedding; "
                f"got shape {values.shape}, dtype {values.dtype}."
            )
        self.values = values if values.dtype in (np.float32, np.float64) else values.astype(np.float64)
        self.name = name
        with np.errstate(invalid="ignore", over="ignore"):
            self.norms = np.sqrt(np.einsum("ij,ij->i", self.values, self.values, dtype=np.float64))
        bad = ~(np.isfinite(self.norms) & (self.norms > 0))
        if bad.any():
            raise ValueError(
                f"`{name}` cannot be L2-normalised in {_some(bad, 'row')}: length {self.norms[bad][0]}. "
                "Embeddings must be finite and not zero: look for NaN, Inf or an empty input."
            )

    def __len__(self) -> int:
        return len(self.values)

    def unit(self, dtype: type[np.floating], rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        # Divided in float64 and rounded once, so that rows of one direction but different length become equal.
        units = np.empty((len(self.norms[rows]), self.values.shape[1]), dtype)
        return np.divide(self.values[rows], self.norms[rows, None], out=units, casting="same_kind")


def _positive_pairs(positives: Positives, num_texts: int, num_audios: int) -> tuple[np.ndarray, np.ndarray]:
    """The ground truth as two (P,) int64 arrays, caption and clip of each positive pair, ordered by caption."""
    if isinstance(positives, torch.Tensor):
        positives = positives.cpu().numpy()
    if len(positives) != num_texts:
        raise ValueError(f"`positives` needs one entry a caption: got {len(positives)} for {num_texts} captions.")
    if isinstance(positives, np.ndarray) and positives.ndim == 1 and positives.dtype.kind in "iu":
        sizes, clips = np.ones(num_texts, np.int64), positives
    else:
        entries = [np.atleast_1d(np.asarray(entry)) for entry in positives]
        sizes = np.array([entry.size for entry in entries])
        if not sizes.all():
            raise ValueError(f"`positives` names no clip for {_some(sizes == 0, 'caption')}; every caption needs one.")
        clips = np.concatenate(entries)
    captions = np.repeat(np.arange(num_texts), sizes)
    if clips.ndim != 1 or clips.dtype.kind not in "iu":
        raise ValueError(f"`positives` must be row numbers of `audio_embeds` (integers), not {clips.dtype}.")
    outside = (clips < 0) | (clips >= num_audios)
    if outside.any():
        raise ValueError(
            f"`positives` names clip {clips[outside][0]} for caption {captions[outside][0]}, "
            f"but `audio_embeds` has the rows 0 to {num_audios - 1}."
        )
    clips = clips.astype(np.int64)
    pairs, counts = np.unique(captions * num_audios + clips, return_counts=True)
    if len(pairs) < len(clips):
        caption, clip = divmod(int(pairs[counts > 1][0]), num_audios)
        raise ValueError(f"`positives` names clip {clip} twice for caption {caption}; name it once.")
    return captions, clips


def _pairs_by_clip(captions: np.ndarray, clips: np.ndarray, num_audios: int) -> tuple[np.ndarray, np.ndarray]:
    """The same pairs as (clips, captions), ordered by clip."""
    missing = np.bincount(clips, minlength=num_audios) == 0
    if missing.any():
        raise ValueError(
            f"`positives` has no caption for {_some(missing, 'clip')}: audio-to-text retrieval is undefined for it. "
            "Leave such clips out, or use `text_to_audio_ranks`, where they may stand in the way."
        )
    order = np.argsort(clips, kind="stable")
    return clips[order], captions[order]


def _negatives_ahead(queries: _Rows, gallery: _Rows, pair_query: np.ndarray, pair_item: np.ndarray) -> np.ndarray:
    """For each positive pair the negatives above it plus half of those tied with it, (P,) float64.

    A float32 product gives a cosine to about 1e-6 and not always the same one for the same two vectors: that depends
    on where they stand in the block and on the machine's BLAS. Ranks must not. So float32 counts what is clear, and
    the few queries where an item comes too near to a positive are counted again in float64.

    Pairs are ordered by query and every query has one. Ties that can change no rank and no AP@10 are left undecided.
    """
    if queries.values.shape[1] != gallery.values.shape[1]:
        raise ValueError(
            f"Embeddings must be equally wide, but `{queries.name}` has {queries.values.shape[1]} "
            f"and `{gallery.name}` has {gallery.values.shape[1]}."
        )
    above, tied = _count_negatives(queries, gallery, pair_query, pair_item, np.float32)
    # Ties matter for the best positive of a query and for those that may stand among the first ten.
    matters = above < np.maximum(_ranks(pair_query, above), PRECISION_CUTOFF)[pair_query]
    doubtful = np.zeros(len(queries), bool)
    doubtful[pair_query[matters & (tied > 0)]] = True
    again = doubtful[pair_query]
    if again.any():
        exact = _count_negatives(queries, gallery, pair_query[again], pair_item[again], np.float64)
        above[again], tied[again] = exact
    return above + tied / 2


def _count_negatives(
    queries: _Rows, gallery: _Rows, pair_query: np.ndarray, pair_item: np.ndarray, dtype: type[np.floating]
) -> tuple[np.ndarray, np.ndarray]:
    """For each pair the number of negatives above, and tied with, the positive, (P,) int64 each; scores in `dtype`."""
    used, pair_row = np.unique(pair_query, return_inverse=True)
    query_rows, gallery_rows = queries.unit(dtype, used), gallery.unit(dtype)
    above, not_below = np.empty((2, len(pair_item)), np.int64)
    rows_per_block = max(1, SCORES_PER_BLOCK // len(gallery_rows))
    starts = np.arange(0, len(used), rows_per_block)
    for start, first, last in zip(starts, *_bounds(pair_row, starts), strict=True):
        scores = query_rows[start : start + rows_per_block] @ gallery_rows.T
        rows, items = pair_row[first:last] - start, pair_item[first:last]
        targets = scores[rows, items]
        scores[rows, items] = -np.inf  # what is left above a target is a negative
        upper, lower = targets + TIE_TOLERANCE[dtype], targets - TIE_TOLERANCE[dtype]
        # One row at a time, because a row stays in the CPU's nearest cache: faster than whole-block comparisons.
        for pair, row in enumerate(rows.tolist()):
            above[first + pair] = np.count_nonzero(scores[row] > upper[pair])
            not_below[first + pair] = np.count_nonzero(scores[row] >= lower[pair])
    return above, not_below - above


def _bounds(pair_row: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and one past the last pair of each block of rows; `pair_row` is sorted."""
    first = np.searchsorted(pair_row, starts)
    return first, np.append(first[1:], len(pair_row))


def _ranks(pair_query: np.ndarray, ahead: np.ndarray) -> np.ndarray:
    """The rank of each query's best positive; pairs are ordered by query."""
    return 1 + np.minimum.reduceat(ahead, _first_pairs(pair_query))


def _average_precisions(pair_query: np.ndarray, ahead: np.ndarray) -> np.ndarray:
    """AP@10 of each query; pairs are ordered by query."""
    ahead = ahead[np.lexsort((ahead, pair_query))]
    counted = 1 + np.arange(len(pair_query)) - _first_pairs(pair_query)[pair_query]  # i: 1 for a query's best positive
    positions = counted + ahead
    hits = np.where(positions <= PRECISION_CUTOFF, counted / positions, 0.0)
    return np.bincount(pair_query, weights=hits) / np.bincount(pair_query)


def _first_pairs(pair_query: np.ndarray) -> np.ndarray:
    """Where the pairs of each query begin."""
    return np.flatnonzero(np.diff(pair_query, prepend=-1))


def _summary(prefix: str, ranks: np.ndarray, precisions: np.ndarray) -> dict[str, float]:
    metrics = {f"R@{k}": np.mean(ranks <= k) for k in RECALL_CUTOFFS}
    metrics[f"mAP@{PRECISION_CUTOFF}"] = precisions.mean()
    metrics["median_rank"] = math.floor(np.median(ranks))
    metrics["mean_rank"] = ranks.mean()
    return {prefix + name: float(value) for name, value in metrics.items()}


def _some(at_fault: np.ndarray, noun: str) -> str:
    """The first few numbers where the (n,) mask is set, for an error message: "rows 3, 7 and 9"."""
    numbers = np.flatnonzero(at_fault).tolist()
    shown = [*map(str, numbers[:5]), *([f"{len(numbers) - 5} more"] if len(numbers) > 5 else [])]
    return f"{noun} {shown[0]}" if len(shown) == 1 else f"{noun}s {', '.join(shown[:-1])} and {shown[-1]}"
