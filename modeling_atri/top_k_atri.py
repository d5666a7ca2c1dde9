"""The best matches of queries among candidates, in one order everywhere."""

from collections.abc import Iterator

import numpy as np


_BLOCK_SCORES = 2**24  # scores in memory at a time: 64 MB


def best_places(scores: np.ndarray, k: int) -> np.ndarray:
    """Places of the k highest of `(n,)` scores, the highest first, NaN last; equal scores stay in their order.

    If k is more than n, all places are returned: the result has the shape `(min(k, n),)`.
    """
    k = min(k, len(scores))
    if k == 0:
        return np.zeros(0, dtype=np.int64)
    negated = -scores
    picked = np.flatnonzero(~(negated > np.partition(negated, k - 1)[k - 1]))  # and NaN, which is sorted last
    return picked[np.argsort(negated[picked], kind="stable")][:k]


def best_matches(queries: np.ndarray, candidates: np.ndarray, k: int) -> Iterator[list[tuple[int, float]]]:
    """For each query the k candidates with the highest dot product, as pairs of place and score, best first.

    Queries have the shape `(q, dim)` and candidates `(n, dim)`, with n at least 1.
    """
    rows = max(1, _BLOCK_SCORES // len(candidates))
    for start in range(0, len(queries), rows):
        for scores in queries[start : start + rows] @ candidates.T:
            best = best_places(scores, k)
            yield list(zip(best.tolist(), scores[best].tolist(), strict=True))


def check_top_k(k: int) -> int:
    """Return `k`, or raise a ValueError unless it is a whole number of at least 1."""
    if not isinstance(k, int) or k < 1:
        raise ValueError(f"`top_k` must be a whole number of at least 1, got {k!r}.")
    return k
