"""Retrieval and consistency metrics: pure functions of embeddings and an explicit ground truth.

The same definitions hold in both directions. Similarity is the cosine. The *positives* of a query are the items that
belong to it; all other items are its *negatives*.

- Negatives ahead of a positive: those that score higher, plus half of those that tie with it. A model that gives
  every item the same embedding therefore ranks in the middle, not first. Positives never count against each other.
- Rank (1-based): 1 + the negatives ahead of the best positive. It ends in .5 if an odd number of negatives ties.
  R@k is the share of queries with rank <= k. `median_rank` is rounded down.
- AP@10, audio to text: the i-th best positive stands at position p_i = i + the negatives ahead of it. AP@10 is the
  sum of i / p_i over the positives with p_i <= 10, divided by the number of all captions of the clip.
- AP@10, text to audio: 1 / rank if rank <= 10, else 0, also if a caption fits several clips.

Without ties these are the figures of the public ML-CLAP code (https://github.com/zyyan4/ml-clap/tree/154393e, `t2a`
and `a2t`), as fractions instead of percent. That code leaves the order of ties to an unstable sort.
"""

import math
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from modeling_atri.hub_cards.figures import PRECISION_CUTOFF, RECALL_CUTOFFS


__all__ = [
    "audio_to_text_ranks",
    "consistency_metrics",
    "multilingual_metrics",
    "retrieval_metric_path",
    "retrieval_metrics",
    "text_to_audio_ranks",
]

Array: TypeAlias = NDArray[Any]
Embeddings: TypeAlias = Array | torch.Tensor
Positives: TypeAlias = Array | torch.Tensor | Sequence[int] | Sequence[Sequence[int]]

# Scores held at once: 4 MB in float32. A product this large runs at the speed of the whole one.
SCORES_PER_BLOCK = 2**20

# Cosines that differ by less than this count as tied. The float64 value is far above the rounding of a dot product
# (about 1e-15) and far below any difference that matters. In float32, where rounding reaches 2.4e-6, the value only
# marks the pairs that are compared again in float64.
TIE_TOLERANCE: dict[type[np.floating[Any]], float] = {np.float32: 1e-5, np.float64: 1e-12}


def retrieval_metrics(audio_embeds: Embeddings, text_embeds: Embeddings, positives: Positives) -> dict[str, float]:
    """Compute recall, mean average precision and ranks in both directions, for the captions of one language.

    Args:
        audio_embeds (`np.ndarray` or `torch.Tensor` of shape `(A, D)`): One row for each clip, on any device. The
            function L2-normalises the rows.
        text_embeds (`np.ndarray` or `torch.Tensor` of shape `(M, D)`): One row for each caption, treated alike.
        positives: For each caption the row of its clip in `audio_embeds`: `(M,)` integers, or M lists of integers
            where a caption fits several clips. Every clip needs at least one caption.

    Returns:
        `dict[str, float]`: Twelve figures: `text_to_audio_` and `audio_to_text_`, each with `R@1`, `R@5`, `R@10`,
        `mAP@10` (fractions from 0 to 1), `median_rank` and `mean_rank` (1-based). The module's docstring defines them.

    Raises:
        ValueError: An embedding is zero or not finite, shapes do not fit together, a caption has no clip, a clip has
            no caption, or a positive is not a row of `audio_embeds`.

    Example:
        >>> audio, text = np.eye(2), np.array([[1.0, 0.1], [1.0, 0.2], [0.1, 1.0]])
        >>> retrieval_metrics(audio, text, [0, 0, 1])["text_to_audio_R@1"]
        1.0
    """
    audio, text, captions, clips = _checked(audio_embeds, text_embeds, positives)
    return _retrieval_metrics(audio, text, captions, clips, _best_ranks(text, audio, captions, clips))


def text_to_audio_ranks(audio_embeds: Embeddings, text_embeds: Embeddings, positives: Positives) -> Array:
    """Compute the rank of each caption's clip among all clips; of the best clip where a caption fits several.

    Arguments and errors are those of [`retrieval_metrics`], but clips without a caption are allowed: they are
    negatives of every caption.

    Returns:
        `np.ndarray` of shape `(M,)`, float64: Ranks, 1-based, in steps of 0.5.
    """
    audio, text, captions, clips = _checked(audio_embeds, text_embeds, positives)
    return _best_ranks(text, audio, captions, clips)


def audio_to_text_ranks(audio_embeds: Embeddings, text_embeds: Embeddings, positives: Positives) -> Array:
    """Compute the rank of each clip's best caption among all captions.

    Arguments and errors are those of [`retrieval_metrics`].

    Returns:
        `np.ndarray` of shape `(A,)`, float64: Ranks, 1-based, in steps of 0.5.
    """
    audio, text, captions, clips = _checked(audio_embeds, text_embeds, positives)
    return _best_ranks(audio, text, *_pairs_by_clip(captions, clips, len(audio)))


def consistency_metrics(
    audio_embeds: Embeddings,
    text_embeds: Mapping[str, Embeddings],
    positives: Positives,
    anchor: str = "eng_Latn",
) -> dict[str, float]:
    """Measure how much retrieval and the text embeddings differ between languages for the same captions.

    Args:
        audio_embeds (`np.ndarray` or `torch.Tensor` of shape `(A, D)`): One row for each clip; L2-normalised here.
        text_embeds (mapping): For each of at least two languages an array or tensor of shape `(M, D)`. Row m is the
            same caption in every language. L2-normalised here.
        positives: As in [`retrieval_metrics`], the same for every language.
        anchor (`str`, *optional*, defaults to `"eng_Latn"`): The language, a key of `text_embeds`, that the others are
            compared with.

    Returns:
        `dict[str, float]`: Four figures:

        - `mrv`, mean rank variance: variance over the languages (population form) of a caption's text-to-audio rank,
          averaged over captions.
        - `mean_rank_std`: the same with the standard deviation.
        - `embedding_gap`: Euclidean distance between the mean caption embedding of the anchor and that of another
          language, averaged over the other languages.
        - `embedding_distance`: Euclidean distance between a caption's embeddings in the anchor and in another
          language, averaged over captions and the other languages.

    Raises:
        ValueError: As in [`retrieval_metrics`]; or there are fewer than two languages, `anchor` is not one of them, or
            the languages have different numbers of captions.

    References:
        MRV: Nie et al., KDD 2024 (arXiv 2406.18254), whose code reports `mean_rank_std`. All four: ATRI, ACL 2025
        (arXiv 2502.14627).
    """
    _check_anchor(list(text_embeds), anchor)
    audio, texts, captions, clips = _checked_languages(audio_embeds, text_embeds, positives)
    ranks = [_best_ranks(text, audio, captions, clips) for text in texts.values()]
    return _consistency(np.stack(ranks), texts, anchor)


def multilingual_metrics(
    audio_embeds: Embeddings,
    text_embeds: Mapping[str, Embeddings],
    positives: Positives,
    anchor: str | None = None,
) -> dict[str, float]:
    """Compute [`retrieval_metrics`] for each language, their means, and [`consistency_metrics`].

    The figures equal those of the two functions, but each language's ranks are computed only once.

    Args:
        audio_embeds, text_embeds, positives: As in [`consistency_metrics`]; one language is enough.
        anchor (`str`, *optional*): As in [`consistency_metrics`]. By default the first language.

    Returns:
        `dict[str, float]`: `{language}_{figure}` and `mean_{figure}` for the figures of [`retrieval_metrics`], and
        with at least two languages those of [`consistency_metrics`].

    Raises:
        ValueError: As in the two functions.
    """
    languages = list(text_embeds)
    if len(languages) > 1:
        _check_anchor(languages, anchor or languages[0])
    audio, texts, captions, clips = _checked_languages(audio_embeds, text_embeds, positives)
    ranks = {language: _best_ranks(text, audio, captions, clips) for language, text in texts.items()}
    figures = {
        language: _retrieval_metrics(audio, text, captions, clips, ranks[language]) for language, text in texts.items()
    }
    table = {f"{language}_{name}": value for language in languages for name, value in figures[language].items()}
    for name in figures[languages[0]]:
        table[f"mean_{name}"] = float(np.mean([figures[language][name] for language in languages]))
    if len(languages) > 1:
        table |= _consistency(np.stack(list(ranks.values())), texts, anchor or languages[0])
    return table


def retrieval_metric_path() -> str:
    """Folder of the `evaluate.Metric`, for `evaluate.load(retrieval_metric_path())`. Nothing is downloaded."""
    return str(files(__package__) / "evaluation" / "retrieval_metric")


class _Rows:
    """Checked embeddings (n, D), which `unit` returns L2-normalised in the requested precision."""

    def __init__(self, embeds: Embeddings, name: str):
        if isinstance(embeds, torch.Tensor):
            embeds = embeds.detach().cpu()
            embeds = (embeds.float() if embeds.dtype == torch.bfloat16 else embeds).numpy()  # numpy lacks bfloat16
        values = np.asarray(embeds)
        if values.ndim != 2 or 0 in values.shape or values.dtype.kind not in "fiu":
            raise ValueError(
                f"`{name}` must be a non-empty matrix of real numbers with one embedding in each row; "
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

    def unit(self, dtype: type[np.floating[Any]], rows: Array | slice = slice(None)) -> Array:
        # Divide in float64 and round once, so that rows of one direction but different length become equal.
        units: Array = np.empty((len(self.norms[rows]), self.values.shape[1]), dtype)
        np.divide(self.values[rows], self.norms[rows, None], out=units, casting="same_kind")
        return units


def _checked(
    audio_embeds: Embeddings, text_embeds: Embeddings, positives: Positives
) -> tuple[_Rows, _Rows, Array, Array]:
    """Checked clips and captions, and caption and clip of each positive pair, ordered by caption."""
    audio, text = _Rows(audio_embeds, "audio_embeds"), _Rows(text_embeds, "text_embeds")
    return audio, text, *_positive_pairs(positives, len(text), len(audio))


def _checked_languages(
    audio_embeds: Embeddings, text_embeds: Mapping[str, Embeddings], positives: Positives
) -> tuple[_Rows, dict[str, _Rows], Array, Array]:
    """As `_checked`, for captions in several languages."""
    audio = _Rows(audio_embeds, "audio_embeds")
    texts = {language: _Rows(embeds, f"text_embeds[{language!r}]") for language, embeds in text_embeds.items()}
    sizes = {language: len(text) for language, text in texts.items()}
    if len(set(sizes.values())) != 1:
        raise ValueError(
            f"All languages must have the same captions in the same order, but their numbers are {sizes}."
        )
    return audio, texts, *_positive_pairs(positives, next(iter(sizes.values())), len(audio))


def _check_anchor(languages: Sequence[str], anchor: str) -> None:
    if len(languages) < 2 or anchor not in languages:
        raise ValueError(
            f"`text_embeds` holds the languages {sorted(languages)}. Consistency compares at least two languages, and "
            f"the anchor {anchor!r} must be one of them. Add captions or pass another `anchor`."
        )


def _positive_pairs(positives: Positives, num_texts: int, num_audios: int) -> tuple[Array, Array]:
    """Caption and clip of each positive pair as two (P,) int64 arrays, ordered by caption."""
    if isinstance(positives, torch.Tensor):
        positives = positives.cpu().numpy()
    if len(positives) != num_texts:
        raise ValueError(
            f"`positives` needs one entry for each caption; got {len(positives)} for {num_texts} captions."
        )
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
        raise ValueError(f"`positives` must be row numbers of `audio_embeds` (integers); got {clips.dtype}.")
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


def _pairs_by_clip(captions: Array, clips: Array, num_audios: int) -> tuple[Array, Array]:
    """The same pairs as (clips, captions), ordered by clip."""
    missing = np.bincount(clips, minlength=num_audios) == 0
    if missing.any():
        raise ValueError(
            f"`positives` has no caption for {_some(missing, 'clip')}: audio-to-text retrieval is undefined for it. "
            "Leave such clips out, or use `text_to_audio_ranks`, which allows them."
        )
    order = np.argsort(clips, kind="stable")
    return clips[order], captions[order]


def _negatives_ahead(queries: _Rows, gallery: _Rows, pair_query: Array, pair_item: Array) -> Array:
    """Count for each positive pair the negatives above it plus half of those tied with it, (P,) float64.

    A float32 product gives a cosine to about 1e-6, and the same two vectors may get different values: rounding depends
    on their place in the block and on the machine's BLAS. Ranks must not depend on that. So float32 counts the clear
    cases, and the few queries where an item comes too near to a positive are counted again in float64.

    Pairs are ordered by query, and every query has at least one. Ties that cannot change a rank or an AP@10 stay
    undecided.
    """
    if queries.values.shape[1] != gallery.values.shape[1]:
        raise ValueError(
            f"Embeddings must be equally wide, but `{queries.name}` has {queries.values.shape[1]} "
            f"and `{gallery.name}` has {gallery.values.shape[1]}."
        )
    above, tied = _count_negatives(queries, gallery, pair_query, pair_item, np.float32)
    # Ties matter only for the best positive of a query and for positives that may stand among the first ten.
    matters = above < np.maximum(_ranks(pair_query, above), PRECISION_CUTOFF)[pair_query]
    doubtful = np.zeros(len(queries), bool)
    doubtful[pair_query[matters & (tied > 0)]] = True
    again = doubtful[pair_query]
    if again.any():
        exact = _count_negatives(queries, gallery, pair_query[again], pair_item[again], np.float64)
        above[again], tied[again] = exact
    return above + tied / 2


def _count_negatives(
    queries: _Rows, gallery: _Rows, pair_query: Array, pair_item: Array, dtype: type[np.floating[Any]]
) -> tuple[Array, Array]:
    """Count for each pair the negatives above and tied with the positive, (P,) int64 each; scores in `dtype`."""
    used, pair_row = np.unique(pair_query, return_inverse=True)
    query_rows, gallery_rows = queries.unit(dtype, used), gallery.unit(dtype)
    above, not_below = np.empty((2, len(pair_item)), np.int64)
    rows_per_block = max(1, SCORES_PER_BLOCK // len(gallery_rows))
    starts = np.arange(0, len(used), rows_per_block)
    for start, first, last in zip(starts, *_bounds(pair_row, starts), strict=True):
        scores = query_rows[start : start + rows_per_block] @ gallery_rows.T
        rows, items = pair_row[first:last] - start, pair_item[first:last]
        targets = scores[rows, items]
        scores[rows, items] = -np.inf  # all that is left above a target is negative
        upper, lower = targets + TIE_TOLERANCE[dtype], targets - TIE_TOLERANCE[dtype]
        # One row at a time: a row stays in the CPU's nearest cache, which is faster than comparing whole blocks.
        for pair, row in enumerate(rows.tolist()):
            above[first + pair] = np.count_nonzero(scores[row] > upper[pair])
            not_below[first + pair] = np.count_nonzero(scores[row] >= lower[pair])
    return above, not_below - above


def _bounds(pair_row: Array, starts: Array) -> tuple[Array, Array]:
    """First pair, and one past the last, of each block of rows; `pair_row` is sorted."""
    first = np.searchsorted(pair_row, starts)
    return first, np.append(first[1:], len(pair_row))


def _best_ranks(queries: _Rows, gallery: _Rows, pair_query: Array, pair_item: Array) -> Array:
    """The rank of each query's best positive."""
    return _ranks(pair_query, _negatives_ahead(queries, gallery, pair_query, pair_item))


def _ranks(pair_query: Array, ahead: Array) -> Array:
    """The rank of each query's best positive; pairs are ordered by query."""
    ranks: Array = 1 + np.minimum.reduceat(ahead, _first_pairs(pair_query))
    return ranks


def _average_precisions(pair_query: Array, ahead: Array) -> Array:
    """AP@10 of each query; pairs are ordered by query."""
    ahead = ahead[np.lexsort((ahead, pair_query))]
    counted = 1 + np.arange(len(pair_query)) - _first_pairs(pair_query)[pair_query]  # i: 1 for a query's best positive
    positions = counted + ahead
    hits = np.where(positions <= PRECISION_CUTOFF, counted / positions, 0.0)
    precisions: Array = np.bincount(pair_query, weights=hits) / np.bincount(pair_query)
    return precisions


def _first_pairs(pair_query: Array) -> Array:
    """Where the pairs of each query begin."""
    return np.flatnonzero(np.diff(pair_query, prepend=-1))


def _retrieval_metrics(audio: _Rows, text: _Rows, captions: Array, clips: Array, ranks: Array) -> dict[str, float]:
    """Figures of one language, from the text-to-audio `ranks` and the pairs ordered by caption."""
    metrics = _summary("text_to_audio_", ranks, np.where(ranks <= PRECISION_CUTOFF, 1 / ranks, 0.0))
    clips, captions = _pairs_by_clip(captions, clips, len(audio))
    ahead = _negatives_ahead(audio, text, clips, captions)
    return metrics | _summary("audio_to_text_", _ranks(clips, ahead), _average_precisions(clips, ahead))


def _consistency(ranks: Array, texts: Mapping[str, _Rows], anchor: str) -> dict[str, float]:
    """Figures of `consistency_metrics` from text-to-audio ranks (K, M) and checked captions."""
    anchor_rows = texts[anchor].unit(np.float64)
    gaps, distances = [], []
    for text in (text for language, text in texts.items() if language != anchor):
        differences = anchor_rows - text.unit(np.float64)
        gaps.append(np.linalg.norm(differences.mean(axis=0)))
        distances.append(np.linalg.norm(differences, axis=1).mean())
    return {
        "mrv": float(ranks.var(axis=0).mean()),
        "mean_rank_std": float(ranks.std(axis=0).mean()),
        "embedding_gap": float(np.mean(gaps)),
        "embedding_distance": float(np.mean(distances)),
    }


def _summary(prefix: str, ranks: Array, precisions: Array) -> dict[str, float]:
    metrics = {f"R@{k}": np.mean(ranks <= k) for k in RECALL_CUTOFFS}
    metrics[f"mAP@{PRECISION_CUTOFF}"] = precisions.mean()
    metrics["median_rank"] = math.floor(np.median(ranks))
    metrics["mean_rank"] = ranks.mean()
    return {prefix + name: float(value) for name, value in metrics.items()}


def _some(at_fault: Array, noun: str) -> str:
    """The first few numbers where the (n,) mask is set, for an error message: "rows 3, 7 and 9"."""
    numbers = np.flatnonzero(at_fault).tolist()
    shown = [*map(str, numbers[:5]), *([f"{len(numbers) - 5} more"] if len(numbers) > 5 else [])]
    return f"{noun} {shown[0]}" if len(shown) == 1 else f"{noun}s {', '.join(shown[:-1])} and {shown[-1]}"
