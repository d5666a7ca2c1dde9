"""Metrics of moment retrieval: pure functions of predicted moments with scores, and the relevant windows.

The definitions are those of the evaluation of Moment-DETR and QVHighlights
(https://github.com/jayleicn/moment_detr/tree/2fa9e32/standalone_eval), which Lighthouse and CASTELLA use too:

- IoU of two spans: the length of their intersection divided by that of their union.
- R1@t: share of queries whose prediction with the highest score has an IoU of at least t with any relevant window.
- AP@t of a query: its ten best predictions are taken in order of their scores. Each is a true positive if a relevant
  window that no better prediction has taken has an IoU of at least t with it; it takes the one with the highest IoU.
  AP is the area under the precision-recall curve, where the precision at a recall is the highest at this or any
  higher recall, as in Pascal VOC since 2010.
- mAP@t: mean of AP@t over queries. mAP: mean of mAP@t over t = 0.50, 0.55, ..., 0.95.

The figures are fractions that are not rounded, where the public code has percentages with two decimals. Predictions
with equal scores keep their order. A query without a prediction counts as 0 in all figures; the public code leaves it
out of mAP and fails in R1. Spans of no length have an IoU of 0 with everything.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modeling_atri.hub_cards.figures import MOMENT_MAP_THRESHOLDS, MOMENT_RECALL_THRESHOLDS


Floats = NDArray[np.float64]

IOU_THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))  # that mAP is the mean over
MAX_PREDICTIONS = 10  # of a query, in mAP


def moment_metrics(
    predictions: Sequence[ArrayLike],
    relevant_windows: Sequence[ArrayLike],
    max_predictions: int | None = MAX_PREDICTIONS,
) -> dict[str, float]:
    """Compute R1 and mAP over queries.

    Args:
        predictions: For each query an array of shape `(n, 3)`: start and end in seconds, and score, in any order. It
            may be empty.
        relevant_windows: For each query an array of shape `(m, 2)` with m >= 1: start and end in seconds.
        max_predictions: Number of the best predictions of a query that count in mAP; None for all.

    Returns:
        `dict[str, float]`: `R1@0.5`, `R1@0.7`, `mAP`, `mAP@0.5` and `mAP@0.75`, fractions from 0 to 1. The module's
        docstring defines them.

    Raises:
        ValueError: There is no query, the two sequences differ in length, an array has another shape or a value that
            is not finite, or a query has no relevant window.

    Example:
        >>> figures = moment_metrics([[[0, 10, 0.9], [40, 50, 0.2]]], [[[0, 8], [40, 50]]])
        >>> figures["R1@0.7"], figures["mAP@0.75"], round(figures["mAP"], 3)
        (1.0, 1.0, 0.775)
    """
    if len(predictions) != len(relevant_windows) or not len(predictions):
        raise ValueError(
            "There must be at least one query, and as many predictions as relevant windows; got predictions for "
            f"{len(predictions)} queries and relevant windows for {len(relevant_windows)}."
        )
    best_ious = np.zeros(len(predictions))
    precisions = np.zeros((len(predictions), len(IOU_THRESHOLDS)))
    for query, (predicted, relevant) in enumerate(zip(predictions, relevant_windows, strict=True)):
        spans, windows = _best_first(predicted, query), _checked(relevant, 2, "Relevant windows", query)
        if not len(windows):
            raise ValueError(f"Query {query} has no relevant window. Leave such queries out.")
        if len(spans):
            ious = interval_ious(spans, windows)
            best_ious[query] = ious[0].max()
            precisions[query] = _average_precisions(ious[:max_predictions], IOU_THRESHOLDS)
    figures = {f"R1@{t}": float((best_ious >= t).mean()) for t in MOMENT_RECALL_THRESHOLDS}
    figures["mAP"] = float(precisions.mean())
    at = dict(zip(IOU_THRESHOLDS, precisions.mean(axis=0).tolist(), strict=True))
    return figures | {f"mAP@{t}": at[t] for t in MOMENT_MAP_THRESHOLDS}


def interval_ious(first: ArrayLike, second: ArrayLike) -> Floats:
    """Intersection over union of each span of `first`, shape `(n, 2)`, with each of `second`, shape `(m, 2)`.

    Returns:
        Array of shape `(n, m)`, from 0 to 1.
    """
    a, b = np.asarray(first, float).reshape(-1, 1, 2), np.asarray(second, float).reshape(1, -1, 2)
    shared = np.clip(np.minimum(a[..., 1], b[..., 1]) - np.maximum(a[..., 0], b[..., 0]), 0, None)
    union = (a[..., 1] - a[..., 0]) + (b[..., 1] - b[..., 0]) - shared
    ious: Floats = np.divide(shared, union, out=np.zeros_like(shared), where=shared > 0)
    return ious


def _best_first(predicted: ArrayLike, query: int) -> Floats:
    """The spans of the predictions of a query, those with the highest scores first."""
    rows = _checked(predicted, 3, "Predictions", query)
    spans: Floats = rows[np.argsort(-rows[:, 2], kind="stable"), :2]
    return spans


def _checked(values: ArrayLike, width: int, name: str, query: int) -> Floats:
    rows = np.asarray(values, float)
    if not rows.size:
        return rows.reshape(0, width)
    if rows.ndim != 2 or rows.shape[1] != width or not np.isfinite(rows).all() or (rows[:, 1] < rows[:, 0]).any():
        columns = ("start", "end", "score")[:width]
        raise ValueError(
            f"{name} of a query must be rows of {', '.join(columns)}, all finite, with start <= end; those of query "
            f"{query} are not: an array of shape {rows.shape}, {rows.tolist()[:3]} ..."
        )
    return rows


def _average_precisions(ious: Floats, thresholds: Sequence[float]) -> Floats:
    """AP of a query at each threshold, of predictions in order of their scores, from their IoU `(n, m)`."""
    least = np.asarray(thresholds)
    num_predictions, num_windows = ious.shape
    is_taken = np.zeros((num_windows, len(least)), dtype=bool)
    is_true = np.zeros((num_predictions, len(least)), dtype=bool)
    for prediction, row in enumerate(ious):
        for window in np.argsort(row, kind="stable")[::-1]:
            takes = (row[window] >= least) & ~is_taken[window] & ~is_true[prediction]
            is_taken[window] |= takes
            is_true[prediction] |= takes
    precision = is_true.cumsum(axis=0) / np.arange(1, num_predictions + 1)[:, None]
    envelope = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    average: Floats = (is_true * envelope).sum(axis=0) / num_windows
    return average
