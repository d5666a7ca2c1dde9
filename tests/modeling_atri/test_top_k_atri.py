"""The best matches, against a full sort."""

import tracemalloc

import numpy as np
import pytest
import torch

from modeling_atri import top_k_atri
from modeling_atri.top_k_atri import best_matches, best_places, check_top_k, exact_scores, near_best


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


@pytest.mark.parametrize("rows", [1, 7, 8192])
@pytest.mark.parametrize("block_scores", [1, 20, 2**24])
def test_matches_in_tiles(block_scores, rows, monkeypatch):
    """Against a stable sort of exact scores; a third of the candidates are copies of others."""
    monkeypatch.setattr(top_k_atri, "_BLOCK_SCORES", block_scores)
    monkeypatch.setattr(top_k_atri, "_ROWS_AT_ONCE", rows)
    generator = np.random.default_rng(0)
    queries, candidates = (generator.standard_normal((n, 5)).astype(np.float32) for n in (7, 30))
    candidates[generator.permutation(30)[:10]] = candidates[4]
    for k in (1, 4, 30, 100):
        found = list(best_matches(queries, candidates, k))
        scores = (candidates.astype(float) * queries[:, None].astype(float)).sum(axis=2)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        assert [[place for place, _ in row] for row in found] == order.tolist()
        np.testing.assert_array_equal([[score for _, score in row] for row in found], -np.sort(-scores, axis=1)[:, :k])
        assert [best for query in queries for best in best_matches(query[None], candidates, k)] == found


def test_equal_candidates_in_different_tiles_come_in_their_order(monkeypatch):
    monkeypatch.setattr(top_k_atri, "_ROWS_AT_ONCE", 8)
    vector = np.random.default_rng(0).standard_normal(384).astype(np.float32)
    candidates = np.tile(vector / np.linalg.norm(vector), (50, 1))
    for queries in (candidates[:1], candidates[:5]):
        for best in best_matches(queries, candidates, 20):
            assert [place for place, _ in best] == list(range(20))
            assert len({score for _, score in best}) == 1


@pytest.mark.parametrize("rows", [1, 7, 8192])
@pytest.mark.parametrize("num_allowed", [0, 1, 3, 30])
def test_only_allowed_candidates_are_found(num_allowed, rows, monkeypatch):
    """The best of all come first, so a search that forgets the mask finds them. Copies tie with the last one."""
    monkeypatch.setattr(top_k_atri, "_ROWS_AT_ONCE", rows)
    generator = np.random.default_rng(num_allowed)
    queries, candidates = (generator.standard_normal((n, 5)).astype(np.float32) for n in (4, 30))
    candidates[20:] = candidates[10:20]
    allowed = np.isin(np.arange(30), generator.permutation(30)[:num_allowed])
    scores = (candidates.astype(float) * queries[:, None].astype(float)).sum(axis=2)
    for k in (1, 2, 40):
        for query, places, of_query in zip(queries, near_best(queries, candidates, k, allowed), scores, strict=True):
            ordered = sorted((-of_query[place], place) for place in np.flatnonzero(allowed))
            lowest = ordered[min(k, num_allowed) - 1][0] if num_allowed else 0
            assert places.tolist() == sorted(place for score, place in ordered if score <= lowest)
            np.testing.assert_array_equal(exact_scores(candidates, query, places), of_query[places])


def test_there_may_be_no_candidates():
    queries = np.ones((2, 3), np.float32)
    assert [places.tolist() for places in near_best(queries, np.zeros((0, 3), np.float32), 5)] == [[], []]
    assert list(best_matches(queries, np.zeros((0, 3), np.float32), 5)) == [[], []]
    assert exact_scores(np.zeros((0, 3)), queries[0]).tolist() == []


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_candidates_are_converted_tile_by_tile(dtype, monkeypatch, tmp_path):
    monkeypatch.setattr(top_k_atri, "_ROWS_AT_ONCE", 64)
    candidates = torch.randn(1000, 32).to(dtype)
    queries = torch.randn(3, 32).numpy()
    expected = list(best_matches(queries, candidates.float().numpy(), 5))
    assert list(best_matches(queries, candidates, 5)) == expected
    if dtype is not torch.bfloat16:
        np.save(tmp_path / "candidates.npy", candidates.numpy())
        mapped = np.load(tmp_path / "candidates.npy", mmap_mode="r")
        tracemalloc.start()
        assert list(best_matches(queries, mapped, 5)) == expected
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 64_000  # all of them in float32: 128,000 bytes


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("num_queries", [1, 3])
def test_a_number_that_is_not_finite_is_found(value, num_queries, monkeypatch):
    monkeypatch.setattr(top_k_atri, "_ROWS_AT_ONCE", 8)
    candidates = np.random.default_rng(0).standard_normal((50, 5))
    queries = np.random.default_rng(1).standard_normal((num_queries, 5)).astype(np.float32)
    candidates[41, 3] = value
    with pytest.raises(ValueError, match="hold NaN or infinity"):
        list(best_matches(queries, candidates, 2))
    candidates[41, 3], queries[-1, 0] = 0, value
    with pytest.raises(ValueError, match="hold NaN or infinity"):
        list(best_matches(queries, candidates, 2))


@pytest.mark.parametrize("k", [0, -1, 1.0, None, "3"])
def test_numbers_of_matches_that_cannot_be(k):
    with pytest.raises(ValueError, match="`top_k` must be a whole number of at least 1"):
        check_top_k(k)
