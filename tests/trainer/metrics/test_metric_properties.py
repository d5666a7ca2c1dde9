"""What the metrics hold for any embeddings and ground truth. Equality with exact arithmetic: `test_metrics.py`."""

from fractions import Fraction
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeling_atri.trainer.metrics import (
    audio_to_text_ranks,
    consistency_metrics,
    retrieval_metrics,
    text_to_audio_ranks,
)
from tests.helpers.properties import property_settings


pytestmark = pytest.mark.heavy


DIRECTIONS = ("text_to_audio", "audio_to_text")


class Task(NamedTuple):
    """Clips, captions in some languages, and which clips a caption fits; every clip has a caption."""

    audio: np.ndarray  # (A, D)
    text: np.ndarray  # (K, M, D)
    positives: list[list[int]]

    @property
    def metrics(self) -> dict[str, float]:
        return retrieval_metrics(self.audio, self.text[0], self.positives)

    @property
    def consistency(self) -> dict[str, float]:
        return consistency_metrics(
            self.audio, {f"language {k}": text for k, text in enumerate(self.text)}, self.positives, "language 0"
        )


@st.composite
def tasks(draw: st.DrawFn, num_languages: int = 1) -> Task:
    """Small integers, so that ties are everywhere, or random directions, some of them several times."""
    num_audios, width = draw(st.integers(1, 12)), draw(st.integers(1, 6))
    positives = [[clip] for clip in range(num_audios)]
    positives += draw(
        st.lists(st.lists(st.integers(0, num_audios - 1), min_size=1, max_size=4, unique=True), max_size=15)
    )
    positives = draw(st.permutations(positives))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sizes = (num_audios, num_languages * len(positives))
    if draw(st.booleans()):
        audio, text = (rng.integers(-2, 3, size=(size, width)).astype(float) for size in sizes)
        audio[~audio.any(axis=1), 0] = text[~text.any(axis=1), 0] = 1.0
    else:
        directions = rng.normal(size=(draw(st.integers(1, 30)), width))
        audio, text = (directions[rng.integers(len(directions), size=size)] for size in sizes)
    return Task(audio, text.reshape(num_languages, len(positives), width), positives)


def exact_rank(query: np.ndarray, gallery: np.ndarray, positives: list[int]) -> Fraction:
    """Rank of the best positive by the definition; vectors of integers, compared by sign(q.i) (q.i)^2 / (i.i)."""
    scores = []
    for item in gallery.astype(int).tolist():
        product = sum(int(a) * b for a, b in zip(query, item, strict=True))
        scores.append(Fraction(product * abs(product), sum(b * b for b in item)))
    negatives = [score for item, score in enumerate(scores) if item not in positives]
    best = max(scores[item] for item in positives)
    return 1 + sum(score > best for score in negatives) + Fraction(sum(score == best for score in negatives), 2)


# What changes nothing


@property_settings(80)
@given(data=st.data())
def test_order_is_no_matter(data: st.DataObject) -> None:
    task = data.draw(tasks(num_languages=2))
    clips = data.draw(st.permutations(range(len(task.audio))))  # clips[i]: which clip is now in row i
    captions = data.draw(st.permutations(range(len(task.positives))))
    positives = [[clips.index(clip) for clip in reversed(task.positives[caption])] for caption in captions]
    moved = Task(task.audio[clips], task.text[:, captions], positives)
    assert moved.metrics == pytest.approx(task.metrics, rel=1e-12)
    assert moved.consistency == pytest.approx(task.consistency, rel=1e-9, abs=1e-12)
    ranks, moved_ranks = (text_to_audio_ranks(each.audio, each.text[0], each.positives) for each in (task, moved))
    np.testing.assert_array_equal(moved_ranks, ranks[captions])
    ranks, moved_ranks = (audio_to_text_ranks(each.audio, each.text[0], each.positives) for each in (task, moved))
    np.testing.assert_array_equal(moved_ranks, ranks[clips])


@property_settings(80)
@given(tasks(num_languages=2), st.integers(0, 2**32 - 1), st.integers(0, 30))
def test_length_is_no_matter(task: Task, seed: int, spread: int) -> None:
    rng = np.random.default_rng(seed)
    lengths = 10.0 ** rng.uniform(-spread, spread, size=len(task.audio))
    text_lengths = 10.0 ** rng.uniform(-spread, spread, size=task.text.shape[:2])
    scaled = Task(task.audio * lengths[:, None], task.text * text_lengths[..., None], task.positives)
    assert scaled.metrics == task.metrics
    assert scaled.consistency == pytest.approx(task.consistency, rel=1e-9, abs=1e-12)


@property_settings(80)
@given(tasks(num_languages=2), st.integers(0, 2**32 - 1))
def test_the_frame_of_reference_is_no_matter(task: Task, seed: int) -> None:
    width = task.audio.shape[1]
    rotation = np.linalg.qr(np.random.default_rng(seed).normal(size=(width, width)))[0]
    rotated = Task(task.audio @ rotation, task.text @ rotation, task.positives)
    assert rotated.metrics == task.metrics
    assert rotated.consistency == pytest.approx(task.consistency, rel=1e-9, abs=1e-9)
    padded = Task(np.pad(task.audio, ((0, 0), (0, 9))), np.pad(task.text, ((0, 0), (0, 0), (0, 9))), task.positives)
    assert padded.metrics == task.metrics


@property_settings(60)
@given(tasks())
def test_the_other_direction_is_the_other_way_round(task: Task) -> None:
    captions = [[m for m, clips in enumerate(task.positives) if clip in clips] for clip in range(len(task.audio))]
    turned = retrieval_metrics(task.text[0], task.audio, captions)
    metrics = task.metrics
    for name in ("R@1", "R@5", "R@10", "median_rank", "mean_rank"):  # mAP differs by definition
        assert turned[f"text_to_audio_{name}"] == metrics[f"audio_to_text_{name}"]
        assert turned[f"audio_to_text_{name}"] == metrics[f"text_to_audio_{name}"]


# Values


@property_settings(80)
@given(tasks())
def test_figures_are_in_their_ranges(task: Task) -> None:
    metrics, sizes = task.metrics, {"text_to_audio": len(task.audio), "audio_to_text": len(task.positives)}
    for way in DIRECTIONS:
        recalls = [metrics[f"{way}_R@{k}"] for k in (1, 5, 10)]
        assert 0 <= recalls[0] <= recalls[1] <= recalls[2] <= 1
        assert 0 <= metrics[f"{way}_mAP@10"] <= recalls[2]
        assert metrics[f"{way}_median_rank"] == int(metrics[f"{way}_median_rank"])
        for name in ("median_rank", "mean_rank"):
            assert 1 <= metrics[f"{way}_{name}"] <= sizes[way]
        if sizes[way] <= 10:
            assert recalls[2] == 1
    assert metrics["text_to_audio_mAP@10"] >= recalls_at_one(metrics)


def recalls_at_one(metrics: dict[str, float]) -> float:
    return metrics["text_to_audio_R@1"] - 1e-12


@property_settings(40)
@given(st.integers(1, 30), st.data())
def test_a_perfect_model_scores_one(num_audios: int, data: st.DataObject) -> None:
    clips = data.draw(st.lists(st.integers(0, num_audios - 1), max_size=30)) + list(range(num_audios))
    audio = np.eye(num_audios) + 0.1
    metrics = retrieval_metrics(audio, audio[clips] + 0.1, clips)
    precision = metrics.pop("audio_to_text_mAP@10")
    assert set(metrics.values()) == {1.0}
    # Of more than ten captions of a clip, only ten can stand among the first ten.
    counts = [clips.count(clip) for clip in range(num_audios)]
    assert precision == pytest.approx(np.mean([min(10, count) / count for count in counts]))


@property_settings(40)
@given(tasks(num_languages=3), st.integers(0, 2**32 - 1))
def test_a_collapsed_model_ranks_by_chance(task: Task, seed: int) -> None:
    direction = np.random.default_rng(seed).normal(size=task.audio.shape[1])
    collapsed = Task(
        np.tile(direction, (len(task.audio), 1)), np.tile(direction, (*task.text.shape[:2], 1)), task.positives
    )
    expected = [1 + (len(task.audio) - len(clips)) / 2 for clips in task.positives]
    ranks = text_to_audio_ranks(collapsed.audio, collapsed.text[0], task.positives)
    np.testing.assert_array_equal(ranks, expected)
    counts = np.bincount(np.concatenate(task.positives), minlength=len(task.audio))
    ranks = audio_to_text_ranks(collapsed.audio, collapsed.text[0], task.positives)
    np.testing.assert_array_equal(ranks, 1 + (len(task.positives) - counts) / 2)
    assert set(collapsed.consistency.values()) == {0.0}


@property_settings(60)
@given(tasks(), st.data())
def test_a_better_caption_ranks_no_worse(task: Task, data: st.DataObject) -> None:
    """A clip's own embedding is the best caption of the clip, and leaves the other captions' ranks as they are."""
    caption = data.draw(st.integers(0, len(task.positives) - 1))
    before = text_to_audio_ranks(task.audio, task.text[0], task.positives)
    text = task.text[0].copy()
    text[caption] = task.audio[task.positives[caption][0]]
    after = text_to_audio_ranks(task.audio, text, task.positives)
    others = np.arange(len(before)) != caption
    np.testing.assert_array_equal(after[others], before[others])
    # Nothing is above it; at most it ties with copies of the clip.
    unit = task.audio / np.linalg.norm(task.audio, axis=1, keepdims=True)
    copies = (unit @ unit[task.positives[caption][0]] > 1 - 1e-12).nonzero()[0]
    assert after[caption] == 1 + len(set(copies) - set(task.positives[caption])) / 2


# Consistency


@st.composite
def integer_tasks(draw: st.DrawFn) -> Task:
    num_audios, num_captions, width = draw(st.integers(1, 6)), draw(st.integers(1, 5)), draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    audio, text = (
        rng.integers(-2, 3, size=(*size, width)) for size in ((num_audios,), (draw(st.integers(2, 4)), num_captions))
    )
    audio[~audio.any(axis=-1), 0] = text[~text.any(axis=-1), 0] = 1
    clips = st.lists(st.integers(0, num_audios - 1), min_size=1, unique=True)
    return Task(audio, text, draw(st.lists(clips, min_size=num_captions, max_size=num_captions)))


@property_settings(80)
@given(integer_tasks())
def test_rank_variance_equals_exact_arithmetic(task: Task) -> None:
    variances = []
    for caption, positives in enumerate(task.positives):
        ranks = [exact_rank(text[caption], task.audio, positives) for text in task.text]
        mean = sum(ranks) / len(ranks)
        variances.append(sum((rank - mean) ** 2 for rank in ranks) / len(ranks))
    result = task.consistency
    assert result["mrv"] == pytest.approx(float(sum(variances) / len(variances)), rel=1e-12)
    assert result["mean_rank_std"] == pytest.approx(np.mean([float(value) ** 0.5 for value in variances]), rel=1e-12)
    # Zero exactly where every caption has one rank in all languages.
    assert (result["mrv"] == 0) == (not any(variances))
    assert (result["mean_rank_std"] == 0) == (result["mrv"] == 0)


@property_settings(60)
@given(data=st.data())
def test_the_order_of_languages_is_no_matter(data: st.DataObject) -> None:
    task = data.draw(tasks(num_languages=3))
    others = data.draw(st.permutations([1, 2]))
    result, moved = task.consistency, task._replace(text=task.text[[0, *others]]).consistency
    assert moved == pytest.approx(result, rel=1e-12, abs=1e-15)
    assert 0 <= result["embedding_gap"] <= result["embedding_distance"] + 1e-12
    assert result["embedding_distance"] <= 2 + 1e-12
    assert result["mean_rank_std"] ** 2 <= result["mrv"] + 1e-12  # Jensen
