"""The best matches of queries among candidates, in one order everywhere."""

from collections.abc import Iterator

import numpy as np
from torch import Tensor


# Products in float32 differ a little with the number that is made at once. Closer scores are computed again.
ROUNDING = 2e-6
_ROWS_AT_ONCE = 8192  # candidates of a tile: 32 MB of 1024 float32
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


def best_matches(queries: np.ndarray, candidates: np.ndarray | Tensor, k: int) -> Iterator[list[tuple[int, float]]]:
    """For each query the k candidates with the highest dot product, as pairs of place and score, best first.

    Scores are in float64, so that equal candidates have equal scores and come in their order.

    Args:
        queries: `(q, dim)` float32.
        candidates: `(n, dim)` of any real type; an array, also one that is mapped from a file, or a tensor.
        k: number of matches.

    Raises:
        ValueError: a query or a candidate holds NaN or infinity.
    """
    for query, places in zip(queries, near_best(queries, candidates, k), strict=True):
        scores = exact_scores(candidates, query, places)
        best = best_places(scores, k)
        yield list(zip(places[best].tolist(), scores[best].tolist(), strict=True))


def near_best(
    queries: np.ndarray, candidates: np.ndarray | Tensor, k: int, allowed: np.ndarray | None = None
) -> Iterator[np.ndarray]:
    """For each query the places, in order, of the k best candidates, and of those that may score as much.

    The candidates are read once for many queries, in tiles that are converted to float32 one at a time; a float32
    array is not copied.

    Args:
        queries, candidates, k: As in `best_matches`.
        allowed (*optional*): bool mask `(n,)` of the only candidates that may be found.

    Raises:
        ValueError: a query or a candidate holds NaN or infinity. The scores show it, so that no search reads all
            numbers once more to find out.
    """
    several = max(1, _BLOCK_SCORES // max(1, min(len(candidates), _ROWS_AT_ONCE)))
    for start in range(0, len(queries), several):
        yield from _near_best(queries[start : start + several], candidates, k, allowed)


def _near_best(
    queries: np.ndarray, candidates: np.ndarray | Tensor, k: int, allowed: np.ndarray | None
) -> list[np.ndarray]:
    tolerances = ROUNDING * np.maximum(1, np.linalg.norm(queries, axis=1))
    least = np.full(len(queries), -np.inf)  # what a candidate has to score
    places = [np.zeros(0, np.int64)] * len(queries)
    scores = [np.zeros(0, np.float32)] * len(queries)
    for start in range(0, len(candidates), _ROWS_AT_ONCE):
        tile = slice(start, start + _ROWS_AT_ONCE)
        of_tile = _products(float32_rows(candidates, tile), queries)
        if not np.isfinite(of_tile).all():
            raise ValueError("The embeddings hold NaN or infinity.")
        for query in np.flatnonzero(of_tile.max(axis=1) >= least):
            is_found = of_tile[query] >= least[query]
            found = np.flatnonzero(is_found if allowed is None else is_found & allowed[tile])
            all_scores = np.concatenate([scores[query], of_tile[query, found]])
            all_places = np.concatenate([places[query], found + start])
            if len(all_scores) > k:
                least[query] = np.partition(all_scores, len(all_scores) - k)[-k] - tolerances[query]
                kept = all_scores >= least[query]
                all_scores, all_places = all_scores[kept], all_places[kept]
            scores[query], places[query] = all_scores, all_places
    return places


def _products(vectors: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Dot products `(q, n)`. A single query is a product with a vector, which is faster than one of matrices."""
    if len(queries) == 1:
        return (vectors @ queries[0])[None]
    return np.ascontiguousarray((vectors @ queries.T).T)  # `queries @ vectors.T` takes up to twice as long


def exact_scores(candidates: np.ndarray | Tensor, query: np.ndarray, places: np.ndarray | None = None) -> np.ndarray:
    """The dot products of candidates with a `(dim,)` query, in float64.

    The score of a candidate does not depend on the others, so equal vectors have equal scores.

    Args:
        candidates: As in `best_matches`.
        query: `(dim,)` float32.
        places (*optional*): `(p,)` places of the candidates that are wanted. Default: all.
    """
    parts = [np.zeros(0)]
    for start in range(0, len(candidates if places is None else places), _ROWS_AT_ONCE):
        tile = slice(start, start + _ROWS_AT_ONCE)
        rows = float32_rows(candidates, tile if places is None else places[tile])
        parts.append((rows.astype(np.float64) * query).sum(axis=1))
    return np.concatenate(parts)


def float32_rows(rows: np.ndarray | Tensor, which: slice | np.ndarray) -> np.ndarray:
    """Some rows of a matrix as a float32 array; a slice of a float32 array is not copied."""
    if isinstance(rows, Tensor):
        return rows[which].detach().float().cpu().numpy()
    return np.asarray(rows[which], dtype=np.float32)


def check_top_k(k: int) -> int:
    """Return `k`, or raise a ValueError unless it is a whole number of at least 1."""
    if not isinstance(k, int) or k < 1:
        raise ValueError(f"`top_k` must be a whole number of at least 1, got {k!r}.")
    return k
