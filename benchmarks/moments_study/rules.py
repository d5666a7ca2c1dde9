"""Rules that make moments from the scores of windows: the rule of the package, simpler ones, and deaf ones."""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from modeling_atri.search.hits import Moment, merge_windows
from modeling_atri.search.moments.metrics import MAX_PREDICTIONS, interval_ious


Rule = Callable[[np.ndarray, np.ndarray, np.random.Generator], list[Moment]]  # spans (n, 2), scores (n,), draws

MOST_OVERLAP = 0.3  # between two windows that are both moments
UNION_SHARE = 0.8


def parts(spans: np.ndarray, scores: np.ndarray, rng: np.random.Generator, **options: float) -> list[Moment]:
    """The rule of the package: parts of the recording, with the mean scores of the windows that cover them."""
    return merge_windows([(a, b) for a, b in spans.tolist()], scores.tolist(), MAX_PREDICTIONS, **options)


def single_windows(spans: np.ndarray, scores: np.ndarray, rng: np.random.Generator) -> list[Moment]:
    """The best windows that overlap none of the better ones by more than `MOST_OVERLAP`."""
    ious = interval_ious(spans, spans)
    free = np.ones(len(scores), dtype=bool)
    found: list[Moment] = []
    for place in np.argsort(-scores, kind="stable"):
        if free[place] and len(found) < MAX_PREDICTIONS:
            found.append(Moment(*spans[place].tolist(), float(scores[place])))
            free &= ious[place] <= MOST_OVERLAP
    return found


def unions(spans: np.ndarray, scores: np.ndarray, rng: np.random.Generator) -> list[Moment]:
    """The union of the best window and its neighbours, as long as their scores are high enough; then the next."""
    free = np.ones(len(scores), dtype=bool)
    found: list[Moment] = []
    for peak in np.argsort(-scores, kind="stable"):
        if not free[peak] or len(found) == MAX_PREDICTIONS:
            continue
        high = free & (scores >= scores.min() + UNION_SHARE * (scores[peak] - scores.min()))
        first = last = peak
        while first > 0 and high[first - 1]:
            first -= 1
        while last + 1 < len(scores) and high[last + 1]:
            last += 1
        start, end = float(spans[first, 0]), float(spans[last, 1])
        found.append(Moment(start, end, float(scores[peak])))
        inside = np.minimum(spans[:, 1], end) - np.maximum(spans[:, 0], start)
        free &= inside < (spans[:, 1] - spans[:, 0]) / 2
    return found


def random_moments(spans: np.ndarray, scores: np.ndarray, rng: np.random.Generator) -> list[Moment]:
    """Ten spans of 3 to 20 s anywhere in the recording."""
    lengths = rng.uniform(3.0, 20.0, MAX_PREDICTIONS)
    starts = rng.uniform(0.0, spans[-1, 1] - lengths)
    return [Moment(start, start + length, rng.random()) for start, length in zip(starts, lengths, strict=True)]


def whole_recording(spans: np.ndarray, scores: np.ndarray, rng: np.random.Generator) -> list[Moment]:
    """The whole recording."""
    return [Moment(0.0, float(spans[-1, 1]), 1.0)]


RULES: Mapping[str, Rule] = {"parts": parts, "unions": unions, "single windows": single_windows}
FLOORS: Mapping[str, Rule] = {"random moments": random_moments, "whole recording": whole_recording}
TUNED: Mapping[float, Rule] = {share: partial(parts, merge_share=share) for share in (0.5, 0.6, 0.65, 0.7, 0.8)}
