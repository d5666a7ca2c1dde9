"""The best matches, against a full sort."""

import numpy as np
import pytest

from modeling_atri import top_k_atri
from modeling_atri.top_k_atri import best_matches, best_places, check_top_k


@pytest.mark.parametrize("k", [1, 2, 5, 39, 40, 100])
def test_places_of_a_full_sort_with_ties_in_their_order(k):
    scores = np.random.default_rng(k).integers(0, 8, size=40).astype(np.float32)
    order = sorted(range(40), key=lambda place: (-scores[place], place))
    assert best_places(scores, k).tolist() == order[:k]


def test_ties_by_hand():
    assert best_places(np.array([0.5, 0.9, 0.5, 0.9]), 3).tolist() == [1, 3, 0]
    assert best_places(np.zeros(0), 3).tolist() == []


def test_nan_comes_last():
    scores = np.array([np.nan, 0.5, np.nan, 0.9])
    assert [best_places(scores, k).tolist() for k in (1, 2, 3, 4)] == [[3], [3, 1], [3, 1, 0], [3, 1, 0, 2]]
    assert best_places(np.full(3, np.nan), 2).tolist() == [0, 1]  # a broken model still gives results


@pytest.mark.parametrize("block_scores", [1, 100, 2**24])
def test_matches_in_blocks_of_queries(block_scores, monkeypatch):
    monkeypatch.setattr(top_k_atri, "_BLOCK_SCORES", block_scores)
    generator = np.random.default_rng(0)
    queries, candidates = generator.standard_normal((7, 5)), generator.standard_normal((30, 5))
    found = list(best_matches(queries, candidates, 4))
    scores = queries @ candidates.T
    assert [[place for place, _ in row] for row in found] == np.argsort(-scores, axis=1)[:, :4].tolist()
    np.testing.assert_allclose([[score for _, score in row] for row in found], -np.sort(-scores, axis=1)[:, :4])


@pytest.mark.parametrize("k", [0, -1, 1.0, None, "3"])
def test_numbers_of_matches_that_cannot_be(k):
    with pytest.raises(ValueError, match="`top_k` must be a whole number of at least 1"):
        check_top_k(k)
