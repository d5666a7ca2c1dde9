"""The metrics against hand-made tables, exact arithmetic, and the figures of ML-CLAP's public code."""

import doctest
import json
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from modeling_atri.trainer.metrics import (
    audio_to_text_ranks,
    consistency,
    consistency_metrics,
    multilingual_metrics,
    ranking,
    retrieval,
    retrieval_metrics,
    text_to_audio_ranks,
)


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
KEYS = ["R@1", "R@5", "R@10", "mAP@10", "median_rank", "mean_rank"]


def embeddings_of(scores: list[list[float]]) -> tuple[np.ndarray, np.ndarray]:
    """Audio and text embeddings whose cosines are the table `scores` (captions x clips)."""
    table = np.array(scores)
    rest = np.sqrt(1 - (table**2).sum(axis=1, keepdims=True))  # a coordinate that no clip has
    return np.eye(table.shape[1], table.shape[1] + 1), np.hstack([table, rest])


# The slow reference: Python loops over integers and fractions, in which ties are ties.


def slow_positions(scores: list, positives: list[int]) -> list[Fraction]:
    """For each positive, best first: its 1-based position behind the better positives and the negatives ahead."""
    negatives = [score for item, score in enumerate(scores) if item not in positives]
    above = [sum(score > scores[item] for score in negatives) for item in positives]
    tied = [sum(score == scores[item] for score in negatives) for item in positives]
    ahead = sorted(a + Fraction(t, 2) for a, t in zip(above, tied, strict=True))
    return [i + value for i, value in enumerate(ahead, start=1)]


def slow_metrics(text_scores: list[list], audio_scores: list[list], positives: list[list[int]]) -> dict[str, float]:
    """`text_scores` has a row a caption, `audio_scores` a row a clip; a row orders its items as their cosines do."""
    captions = [[m for m, clips in enumerate(positives) if clip in clips] for clip in range(len(audio_scores))]
    to_audio = [slow_positions(*query) for query in zip(text_scores, positives, strict=True)]
    to_text = [slow_positions(*query) for query in zip(audio_scores, captions, strict=True)]
    results = {}
    for direction, positions in {"text_to_audio": to_audio, "audio_to_text": to_text}.items():
        ranks = [p[0] for p in positions]
        if direction == "text_to_audio":
            precisions = [1 / rank if rank <= 10 else 0 for rank in ranks]
        else:
            precisions = [sum(i / p for i, p in enumerate(ps, 1) if p <= 10) / len(ps) for ps in positions]
        for k in (1, 5, 10):
            results[f"{direction}_R@{k}"] = sum(rank <= k for rank in ranks) / len(ranks)
        results[f"{direction}_mAP@10"] = float(sum(precisions) / len(precisions))
        zero_based = sorted(rank - 1 for rank in ranks)
        middle = (zero_based[(len(ranks) - 1) // 2] + zero_based[len(ranks) // 2]) / 2
        results[f"{direction}_median_rank"] = math.floor(middle) + 1
        results[f"{direction}_mean_rank"] = float(sum(ranks) / len(ranks))
    return results


# Hand-made tables.


def test_hand_table_with_one_clip_a_caption() -> None:
    audio, text = embeddings_of(
        [
            [0.9, 0.1, 0.2],  # clip 0: rank 1
            [0.3, 0.2, 0.1],  # clip 0: rank 1
            [0.5, 0.4, 0.3],  # clip 1: rank 2
            [0.4, 0.6, 0.25],  # clip 2: rank 3
        ]
    )
    result = retrieval_metrics(audio, text, [0, 0, 1, 2])
    assert result == pytest.approx(
        {
            "text_to_audio_R@1": 2 / 4,
            "text_to_audio_R@5": 1,
            "text_to_audio_R@10": 1,
            "text_to_audio_mAP@10": (1 + 1 + 1 / 2 + 1 / 3) / 4,
            "text_to_audio_median_rank": 1,  # 0-based ranks 0 0 1 2, median 0.5, floor 0
            "text_to_audio_mean_rank": 7 / 4,
            # Clip 0: captions by score 0 2 3 1, its own at positions 1 and 4. Clip 1: 3 2 1 0, its own at 2.
            # Clip 2: 2 3 0 1, its own at 2.
            "audio_to_text_R@1": 1 / 3,
            "audio_to_text_R@5": 1,
            "audio_to_text_R@10": 1,
            "audio_to_text_mAP@10": ((1 / 1 + 2 / 4) / 2 + 1 / 2 + 1 / 2) / 3,
            "audio_to_text_median_rank": 2,
            "audio_to_text_mean_rank": 5 / 3,
        }
    )
    assert list(result) == [f"{way}_{key}" for way in ("text_to_audio", "audio_to_text") for key in KEYS]
    assert all(type(value) is float for value in result.values())


def test_hand_table_with_several_clips_a_caption() -> None:
    audio, text = embeddings_of([[0.5, 0.4, 0.3, 0.2], [0.1, 0.2, 0.3, 0.4]])
    positives = [[1, 2], [0, 3]]
    # Caption 0: only clip 0 is ahead of clip 1. Caption 1: nothing is ahead of clip 3.
    np.testing.assert_array_equal(text_to_audio_ranks(audio, text, positives), [2, 1])
    # Clip 0: caption 0 is ahead. Clip 1: first. Clip 2: tied, 0.3 and 0.3. Clip 3: first.
    np.testing.assert_array_equal(audio_to_text_ranks(audio, text, positives), [2, 1, 1.5, 1])
    result = retrieval_metrics(audio, text, positives)
    assert result["text_to_audio_mAP@10"] == (1 / 2 + 1) / 2
    assert result["audio_to_text_mAP@10"] == pytest.approx((1 / 2 + 1 + 1 / 1.5 + 1) / 4)


def test_precision_counts_hits_up_to_ten_and_divides_by_all_captions() -> None:
    # Clip 0 has 12 captions, and one caption of clip 1 stands before its 3rd: positions 1 2 4 5 ... 13.
    scores = [[0.95 - 0.05 * i, 0] for i in range(12)] + [[0.87, 0.1]]
    result = retrieval_metrics(*embeddings_of(scores), [0] * 12 + [1])
    of_clip_0 = (1 / 1 + 2 / 2 + sum(i / (i + 1) for i in range(3, 10))) / 12
    assert result["audio_to_text_mAP@10"] == pytest.approx((of_clip_0 + 1) / 2)


# Ties.


@pytest.mark.parametrize("dim", [1, 7, 384, 1024])
def test_collapsed_model_ranks_in_the_middle(dim: int) -> None:
    # 384: a width at which some BLAS kernels give equal rows scores 2e-6 apart.
    direction = np.random.rand(dim).astype(np.float32) + 0.5
    audio, text = np.tile(direction, (101, 1)), np.tile(direction, (303, 1))
    result = retrieval_metrics(audio, text, np.arange(303) % 101)
    assert result["text_to_audio_mean_rank"] == 1 + 100 / 2
    assert result["audio_to_text_mean_rank"] == 1 + 300 / 2
    assert [result[key] for key in result if "@" in key] == [0] * 8


def test_embeddings_of_one_direction_tie_whatever_their_length() -> None:
    audio = np.outer([1, 3, 0.1, 1e-20, 1e20], np.random.randn(33))
    np.testing.assert_array_equal(text_to_audio_ranks(audio, np.random.randn(1, 33), [2]), [3])


def test_tied_vectors_need_not_be_equal() -> None:
    # The cosine of [1, 1, 1] is the same with all permutations of (1, 2, 2), and with twice them.
    audio = np.array([[1, 2, 2], [2, 1, 2], [2, 2, 1], [4, 4, 2], [-1, 0, 0]])
    np.testing.assert_array_equal(text_to_audio_ranks(audio, np.ones((1, 3)), [0]), [1 + 3 / 2])


def test_duplicated_clips_share_the_places_between_them() -> None:
    audio = np.random.randn(30, 16)
    audio = np.concatenate([audio, audio[::-1]])
    text = audio[:30] + 0.01 * np.random.randn(30, 16)
    np.testing.assert_array_equal(text_to_audio_ranks(audio, text, np.arange(30)), np.full(30, 1.5))
    both = [[i, 59 - i] for i in range(30)]
    np.testing.assert_array_equal(text_to_audio_ranks(audio, text, both), np.ones(30))


def test_positives_tied_with_each_other_do_not_hurt() -> None:
    audio, text = embeddings_of([[0.6, 0.1]] * 4 + [[0.5, 0.2]])
    result = retrieval_metrics(audio, text, [0, 0, 0, 0, 1])
    assert result["audio_to_text_mAP@10"] == 1
    assert result["audio_to_text_mean_rank"] == 1


def test_differences_far_below_float32_still_decide() -> None:
    text = np.array([[1.0, 0.0]])
    for difference in (1e-9, 1e-11):
        audio = np.array([[0.6, 0.8], [0.6 + difference, 0.8]])
        assert text_to_audio_ranks(audio, text, [0]) == [2]
        assert text_to_audio_ranks(audio, text, [1]) == [1]


def test_near_ties_behind_a_clear_first_are_decided_too() -> None:
    # Clip 0: its captions are the first, far ahead, and the second, 1e-7 below two negatives and 1e-7 above another.
    scores = [[0.9, 0], [0.5, 0], [0.7, 0.1], [0.5 + 1e-7, 0.1], [0.5 + 2e-7, 0.1], [0.5 - 1e-7, 0.1]]
    result = retrieval_metrics(*embeddings_of(scores), [0, 0, 1, 1, 1, 1])
    assert result["audio_to_text_mAP@10"] == pytest.approx(((1 / 1 + 2 / 5) / 2 + 1) / 2, rel=1e-12)


# Agreement with the slow reference.


def exact_scores(queries: np.ndarray, gallery: np.ndarray) -> list[list[Fraction]]:
    """For integer vectors: fractions that order each query's items as the cosines do, sign(q.i) (q.i)^2 / (i.i)."""
    products = (queries @ gallery.T).tolist()
    squares = (gallery**2).sum(axis=1).tolist()
    return [[Fraction(p * abs(p), square) for p, square in zip(row, squares, strict=True)] for row in products]


@st.composite
def retrieval_tasks(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, list[list[int]]]:
    """Small integer embeddings, rich in ties, and a ground truth in which every clip has a caption."""
    num_audios, dim = draw(st.integers(1, 8)), draw(st.integers(1, 4))
    positives = [[clip] for clip in range(num_audios)]
    positives += draw(st.lists(st.lists(st.integers(0, num_audios - 1), min_size=1, unique=True), max_size=12))
    row = st.lists(st.integers(-2, 2), min_size=dim, max_size=dim).filter(any)
    audio = draw(st.lists(row, min_size=num_audios, max_size=num_audios))
    text = draw(st.lists(row, min_size=len(positives), max_size=len(positives)))
    return np.array(audio), np.array(text), positives


@pytest.mark.heavy
@settings(max_examples=150, deadline=None)
@given(task=retrieval_tasks(), dtype=st.sampled_from([np.int64, np.float16, np.float32, np.float64]))
def test_equal_to_exact_arithmetic(task: tuple[np.ndarray, np.ndarray, list[list[int]]], dtype: type) -> None:
    audio, text, positives = task
    result = retrieval_metrics(audio.astype(dtype), text.astype(dtype), positives)
    expected = slow_metrics(exact_scores(text, audio), exact_scores(audio, text), positives)
    assert result == pytest.approx(expected, rel=1e-12)


def test_equal_to_exact_arithmetic_where_float32_cannot_tell() -> None:
    # Cosines in four far clusters of seven levels 1e-7 apart, so that near ties and ties are everywhere.
    generator = np.random.default_rng(0)
    levels = generator.integers(4, size=(60, 25)) * 100_000 + generator.integers(7, size=(60, 25))
    positives = [[clip] for clip in range(25)] + [
        generator.choice(25, size=generator.integers(1, 5), replace=False).tolist() for _ in range(35)
    ]
    audio, text = embeddings_of((1e-7 * levels).tolist())
    expected = slow_metrics(levels.tolist(), levels.T.tolist(), positives)
    assert retrieval_metrics(audio, text, positives) == pytest.approx(expected, rel=1e-12)


def test_equal_to_the_full_float64_matrix() -> None:
    audio = np.random.randn(120, 64).astype(np.float32)
    positives = np.random.permutation(np.arange(600) % 120)
    text = (audio[positives] + 3 * np.random.randn(600, 64)).astype(np.float32)
    scores = text.astype(float) @ audio.T.astype(float) / np.linalg.norm(audio.astype(float), axis=1)
    expected = [1 + sum(row > row[clip]) for row, clip in zip(scores, positives, strict=True)]
    np.testing.assert_array_equal(text_to_audio_ranks(audio, text, positives), expected)


@pytest.mark.parametrize("noise", [0, 1e-7, 2.0])
def test_tiles_change_nothing(noise: float, monkeypatch: pytest.MonkeyPatch) -> None:
    audio = np.random.randn(61, 48).astype(np.float32)
    audio[30:] = audio[:31]
    positives = np.arange(305) % 61
    text = (audio[positives] + noise * np.random.randn(305, 48)).astype(np.float32)
    expected = retrieval_metrics(audio, text, positives)
    for tile_scores in (100, 61 * 7, 305 * 5, 61 * 305 - 1):
        monkeypatch.setitem(ranking.TILE_SCORES, "cpu", tile_scores)
        assert retrieval_metrics(audio, text, positives) == expected


@pytest.mark.parametrize("noise", [0, 1e-7, 2.0])
def test_order_of_captions_and_clips_changes_nothing(noise: float) -> None:
    audio = np.tile(np.random.randn(31, 48), (2, 1)).astype(np.float32)
    positives = np.arange(310) % 62
    text = (audio[positives] + noise * np.random.randn(310, 48)).astype(np.float32)
    expected = text_to_audio_ranks(audio, text, positives)
    captions, clips = np.random.permutation(310), np.random.permutation(62)
    moved = text_to_audio_ranks(audio[clips], text[captions], np.argsort(clips)[positives[captions]])
    np.testing.assert_array_equal(moved, expected[captions])


class LargestTensor(TorchDispatchMode):
    """Notes the bytes of the largest tensor that torch makes."""

    num_bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self.num_bytes = max(self.num_bytes, tensor.untyped_storage().nbytes())
        return result


@pytest.mark.parametrize("is_collapsed", [False, True])
def test_scores_are_held_in_small_tiles(is_collapsed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ranking.TILE_SCORES, "cpu", 2**14)
    audio, text = np.random.randn(500, 2).astype(np.float32), np.random.randn(2000, 2).astype(np.float32)
    if is_collapsed:
        audio[:], text[:] = 1, 1
    with LargestTensor() as largest:
        retrieval_metrics(audio, text, np.arange(2000) % 500)
    assert 2**16 <= largest.num_bytes < 2**19  # all scores in float32: 4 MB


def counted(scores: np.ndarray, positives: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ranks and AP@10 of the rows of a matrix of float64 scores, by sorting; positives are a mask."""
    ranks, precisions = [], []
    for row, mask in zip(scores, positives, strict=True):
        negatives = row[~mask]
        ahead = [
            (negatives > score + 1e-12).sum() + (abs(negatives - score) <= 1e-12).sum() / 2
            for score in sorted(row[mask])[::-1]
        ]
        places = np.arange(1, len(ahead) + 1) + ahead
        ranks.append(1 + ahead[0])
        precisions.append(sum(i / place for i, place in enumerate(places, 1) if place <= 10) / len(ahead))
    return np.array(ranks), np.array(precisions)


@pytest.mark.parametrize("tile_scores", [2**20, 700])
@pytest.mark.parametrize("num_groups, noise", [(120, 0.5), (120, 3.0), (120, 1e-7), (4, 1.0), (4, 1e-7), (1, 3.0)])
def test_equal_to_a_sort_of_each_row(num_groups: int, noise: float, tile_scores: int, monkeypatch) -> None:
    """Also where a class has many clips and captions, so that a query has many positives; a quarter are copies."""
    monkeypatch.setitem(ranking.TILE_SCORES, "cpu", tile_scores)
    rng = np.random.default_rng(num_groups)
    groups = np.arange(120) % num_groups
    audio = (rng.normal(size=(num_groups, 24))[groups] + noise * rng.normal(size=(120, 24))).astype(np.float32)
    audio[rng.integers(120, size=30)] = audio[rng.integers(120, size=30)]
    clips = np.arange(360) % 120
    text = (audio[clips] + noise * rng.normal(size=(360, 24))).astype(np.float32)
    text[rng.integers(360, size=90)] = text[rng.integers(360, size=90)]
    mask = groups[clips][:, None] == groups
    unit_audio, unit_text = (rows / np.linalg.norm(rows.astype(float), axis=1)[:, None] for rows in (audio, text))
    result = retrieval_metrics(audio, text, [np.flatnonzero(row).tolist() for row in mask])
    ranks, _ = counted(unit_text @ unit_audio.T, mask)
    assert result["text_to_audio_mean_rank"] == ranks.mean()
    assert result["text_to_audio_R@5"] == (ranks <= 5).mean()
    ranks, precisions = counted(unit_audio @ unit_text.T, mask.T)
    assert result["audio_to_text_mean_rank"] == ranks.mean()
    assert result["audio_to_text_mAP@10"] == pytest.approx(precisions.mean(), rel=1e-12)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_gpu)])
def test_devices_and_reduced_precision_change_nothing(device: str) -> None:
    audio = np.random.randn(200, 512).astype(np.float32)
    text = (np.repeat(audio, 3, axis=0) + 8 * np.random.randn(600, 512)).astype(np.float32)
    expected = retrieval_metrics(audio.astype(float), text.astype(float), np.arange(600) // 3)
    settings = torch.backends.mkldnn.matmul, torch.backends.cuda.matmul
    before = [setting.fp32_precision for setting in settings]
    try:
        for setting, precision in zip(settings, ("bf16", "tf32"), strict=True):
            setting.fp32_precision = precision
        with torch.autocast(device, dtype=torch.bfloat16):
            result = retrieval_metrics(
                torch.from_numpy(audio).to(device), torch.from_numpy(text), np.arange(600) // 3, device=device
            )
        assert [setting.fp32_precision for setting in settings] == ["bf16", "tf32"]
    finally:
        for setting, precision in zip(settings, before, strict=True):
            setting.fp32_precision = precision
    assert result == expected


@pytest.mark.parametrize("change", [lambda rows: rows[::-1], lambda rows: rows.astype(">f4"), np.asfortranarray])
def test_arrays_of_any_layout(change) -> None:
    audio, text = (change(np.random.randn(5, 4).astype(np.float32)) for _ in range(2))
    plain = [np.array(rows.tolist(), np.float32) for rows in (audio, text)]
    assert retrieval_metrics(audio, text, np.arange(5)) == retrieval_metrics(*plain, np.arange(5))


# Agreement with the figures of ML-CLAP's public code.


@pytest.fixture(scope="module")
def reference(shared_dir):
    with open(shared_dir / "reference" / "metrics.json", encoding="utf-8") as file:
        figures = json.load(file)
    with np.load(shared_dir / "reference" / "metrics.npz") as arrays:
        return figures, dict(arrays)


def as_mlclap(result: dict[str, float], direction: str) -> dict[str, float]:
    """Our figures in ML-CLAP's names and percent."""
    names = {"r1": "R@1", "r5": "R@5", "r10": "R@10", "mAP10": "mAP@10"}
    percent = {theirs: 100 * result[f"{direction}_{ours}"] for theirs, ours in names.items()}
    return percent | {"medr": result[f"{direction}_median_rank"], "meanr": result[f"{direction}_mean_rank"]}


@pytest.mark.parametrize("num_captions", [1, 5])
@pytest.mark.parametrize("language", ["eng", "fra", "jpn"])
def test_equal_to_mlclap(reference, language: str, num_captions: int) -> None:
    figures, arrays = reference
    audio, text = arrays["audio"], arrays["text"][figures["langs"].index(language)][:, :num_captions]
    positives = np.repeat(np.arange(len(audio)), num_captions)
    result = retrieval_metrics(audio, text.reshape(len(positives), -1), positives)
    expected = figures["results"][language] if num_captions == 5 else figures["results"]["num_caps_1"][language]
    for direction, short in {"text_to_audio": "t2a", "audio_to_text": "a2t"}.items():
        theirs = {name: value for name, value in expected[short].items() if name != "r50"}
        assert as_mlclap(result, direction) == pytest.approx(theirs, rel=1e-12)


@pytest.mark.parametrize("language", ["eng", "fra", "jpn"])
def test_ranks_are_those_of_mlclap(reference, language: str) -> None:
    figures, arrays = reference
    audio, text = arrays["audio"], arrays["text"][figures["langs"].index(language)].reshape(200, -1)
    positives = np.repeat(np.arange(40), 5)
    ranks = text_to_audio_ranks(audio, text, positives)
    np.testing.assert_array_equal(ranks, arrays[f"t2a_ranks_{language}"] + 1)
    np.testing.assert_array_equal(audio_to_text_ranks(audio, text, positives), arrays[f"a2t_ranks_{language}"] + 1)


def test_rank_variance_is_that_of_the_reference(reference) -> None:
    figures, arrays = reference
    text = {language: arrays["text"][k].reshape(200, -1) for k, language in enumerate(figures["langs"])}
    result = consistency_metrics(arrays["audio"], text, np.repeat(np.arange(40), 5), anchor="eng")
    expected = figures["results"]["MRV"]["t2a"]
    assert result["mrv"] == pytest.approx(expected["variance_form"], rel=1e-12)
    assert result["mean_rank_std"] == pytest.approx(expected["mean_std_form_CCRK"], rel=1e-12)


# Consistency.


def test_consistency_by_hand() -> None:
    audio = np.eye(2)
    english = np.array([[3.0, 0.0], [0.0, 1.0]])
    french = np.array([[0.0, 2.0], [0.0, 1.0]])  # the first caption has turned to the other clip
    german = np.array([[1.0, 0.0], [5.0, 0.0]])  # the second has
    result = consistency_metrics(audio, {"eng_Latn": english, "fra_Latn": french, "deu_Latn": german}, [0, 1])
    # Ranks over languages: 1 2 1 and 1 1 2, each with variance 2/9.
    assert result == pytest.approx(
        {
            "mrv": 2 / 9,
            "mean_rank_std": math.sqrt(2) / 3,
            "embedding_gap": math.sqrt(0.5),  # means (.5, .5) and (0, 1), or (1, 0)
            "embedding_distance": math.sqrt(2) / 2,  # one caption of two has moved, by the root of 2
        }
    )
    assert all(type(value) is float for value in result.values())


@pytest.mark.parametrize("anchor", [None, "fra_Latn"])
def test_all_figures_at_once_are_those_of_the_two_functions(anchor: str | None, monkeypatch) -> None:
    audio = np.random.randn(9, 8)
    text = {code: np.random.randn(18, 8) for code in ("eng_Latn", "fra_Latn", "jpn_Jpan")}
    positives = np.arange(18) % 9
    by_language = {code: retrieval_metrics(audio, rows, positives) for code, rows in text.items()}
    expected = {f"{code}_{name}": value for code, figures in by_language.items() for name, value in figures.items()}
    for name in by_language["eng_Latn"]:
        expected[f"mean_{name}"] = sum(figures[name] for figures in by_language.values()) / 3
    expected |= consistency_metrics(audio, text, positives, anchor=anchor or "eng_Latn")

    searches = []
    count = ranking.negatives_ahead
    monkeypatch.setattr(consistency, "negatives_ahead", lambda *args: searches.append(args) or count(*args))
    table = multilingual_metrics(audio, text, positives, anchor=anchor)
    assert list(table) == list(expected)
    assert table == pytest.approx(expected, rel=1e-15)
    assert len(searches) == 3, "one pass for each language"
    alone = multilingual_metrics(audio, {"fra_Latn": text["fra_Latn"]}, positives)
    assert alone["mean_text_to_audio_R@1"] == by_language["fra_Latn"]["text_to_audio_R@1"]
    assert "mrv" not in alone


def test_the_anchor_matters_to_the_embeddings_alone() -> None:
    audio = np.random.randn(9, 8)
    text = {code: np.random.randn(18, 8) for code in ("eng_Latn", "fra_Latn", "jpn_Jpan")}
    by_english, by_french = (
        consistency_metrics(audio, text, np.arange(18) % 9, anchor=anchor) for anchor in ("eng_Latn", "fra_Latn")
    )
    assert by_english["mrv"] == by_french["mrv"]
    assert by_english["embedding_distance"] != by_french["embedding_distance"]
    unit = {code: rows / np.linalg.norm(rows, axis=1, keepdims=True) for code, rows in text.items()}
    others = [unit["eng_Latn"], unit["jpn_Jpan"]]
    gap = np.mean([np.linalg.norm(unit["fra_Latn"].mean(0) - other.mean(0)) for other in others])
    distance = np.mean([np.linalg.norm(unit["fra_Latn"] - other, axis=1) for other in others])
    assert (by_french["embedding_gap"], by_french["embedding_distance"]) == pytest.approx((gap, distance))


@pytest.mark.parametrize("dim", [3, 384])
def test_languages_that_agree_are_perfectly_consistent(dim: int) -> None:
    text = np.random.randn(50, dim).astype(np.float32)
    languages = {"eng_Latn": text, "fra_Latn": 2 * text, "zho_Hans": text.copy()}
    result = consistency_metrics(np.random.randn(25, dim), languages, np.arange(50) % 25)
    assert result == {"mrv": 0, "mean_rank_std": 0, "embedding_gap": 0, "embedding_distance": 0}


# What goes in.


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_tensors_count_like_arrays(dtype: torch.dtype) -> None:
    audio = torch.randn(6, 4, dtype=dtype, requires_grad=True)
    text = torch.randn(4, 12, dtype=dtype).T
    positives = torch.arange(12) % 6
    expected = retrieval_metrics(audio.detach().double().numpy(), text.double().numpy(), positives.tolist())
    assert retrieval_metrics(audio, text, positives) == expected
    assert retrieval_metrics(audio.tolist(), text.tolist(), positives[:, None]) == expected
    assert retrieval_metrics(audio, text, [[clip] for clip in positives.tolist()]) == expected


def test_inputs_are_left_as_they_were() -> None:
    audio, text = np.random.randn(5, 4), np.random.randn(5, 4)
    copies = audio.copy(), text.copy()
    audio.flags.writeable = text.flags.writeable = False
    retrieval_metrics(audio, text, np.arange(5))
    np.testing.assert_array_equal((audio, text), copies)


def test_a_clip_without_captions_may_stand_in_the_way() -> None:
    audio, text = embeddings_of([[0.5, 0.6], [0.5, 0.4]])
    np.testing.assert_array_equal(text_to_audio_ranks(audio, text, [0, 0]), [2, 1])
    with pytest.raises(ValueError, match="no caption for clip 1"):
        audio_to_text_ranks(audio, text, [0, 0])
    with pytest.raises(ValueError, match="no caption for clips 1, 2, 3, 4, 5 and 2 more"):
        retrieval_metrics(np.eye(8), np.eye(8)[:1], [0])


@pytest.mark.parametrize(
    "positives, message",
    [
        ([0, 1], "one entry for each caption; got 2 for 3 captions"),
        ([0, 1, 2], "names clip 2 for caption 2, but `audio_embeds` has the rows 0 to 1"),
        ([0, 1, -1], "names clip -1 for caption 2"),
        (np.array([0, 1, 7]), "names clip 7"),
        ([[0], [], [1]], "names no clip for caption 1"),
        ([[], [], [1]], "names no clip for captions 0 and 1"),
        ([[0, 1], [1, 1], [0]], "names clip 1 twice for caption 1"),
        ([0.0, 1.0, 1.0], "integers"),
        (np.array([0.0, 1.0, 1.0]), "integers"),
        ([True, False, True], "integers"),
        (["0", "1", "1"], "integers"),
    ],
)
def test_wrong_ground_truth(positives, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        retrieval_metrics(np.eye(2), np.ones((3, 2)), positives)


@pytest.mark.parametrize("value", [0, np.nan, np.inf, -np.inf])
@pytest.mark.filterwarnings("error")
def test_wrong_embedding(value: float) -> None:
    good, bad = np.ones((4, 3), np.float32), np.ones((4, 3), np.float32)
    bad[2] = value
    with pytest.raises(ValueError, match="`audio_embeds` cannot be L2-normalised in row 2"):
        retrieval_metrics(bad, good, np.arange(4))
    with pytest.raises(ValueError, match="`text_embeds` cannot be L2-normalised in row 2"):
        retrieval_metrics(good, bad, np.arange(4))
    with pytest.raises(ValueError, match="`text_embeds.'fra_Latn'.` cannot be L2-normalised in row 2"):
        consistency_metrics(good, {"eng_Latn": good, "fra_Latn": bad}, np.arange(4))


@pytest.mark.parametrize("audio", [np.ones(3), np.ones((0, 3)), np.ones((3, 0)), np.ones((3, 3), complex)])
def test_wrong_matrix(audio: np.ndarray) -> None:
    with pytest.raises(ValueError, match="`audio_embeds` must be a non-empty matrix"):
        retrieval_metrics(audio, np.ones((3, 3)), [0, 1, 2])


def test_embeddings_of_different_width() -> None:
    with pytest.raises(ValueError, match="equally wide, but `text_embeds` has 4 and `audio_embeds` has 3"):
        retrieval_metrics(np.ones((2, 3)), np.ones((2, 4)), [0, 1])


def test_wrong_languages() -> None:
    audio = text = np.eye(2)
    with pytest.raises(ValueError, match="at least two"):
        consistency_metrics(audio, {"eng_Latn": text}, [0, 1])
    with pytest.raises(ValueError, match="the anchor 'eng_Latn' must be one"):
        consistency_metrics(audio, {"fra_Latn": text, "deu_Latn": text}, [0, 1])
    with pytest.raises(ValueError, match="same captions in the same order"):
        consistency_metrics(audio, {"eng_Latn": text, "fra_Latn": np.ones((3, 2))}, [0, 1])


def test_examples_in_the_docstrings() -> None:
    assert doctest.testmod(retrieval).failed == 0
