"""What the objectives hold for any batch: any sizes, duplicates, groups, languages, scale and split over processes."""

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from modeling_atri.loss_atri import Shard, info_nce_loss
from modeling_atri.trainer.losses import akcl_loss, cacl_loss, kcl_loss, mlclap_loss
from tests.helpers.properties import property_settings


pytestmark = pytest.mark.heavy


class Batch(NamedTuple):
    """Embeddings of `items` clips in `languages` languages, L2-normalised float64, and what the losses take beside."""

    audio: Tensor  # (N, D)
    text: Tensor  # (K, N, D)
    scale: float
    ids: Tensor | None

    def taken(self, items: list[int] | Tensor) -> "Batch":
        """The same items in another order."""
        ids = None if self.ids is None else self.ids[items]
        return Batch(self.audio[items].detach(), self.text[:, items].detach(), self.scale, ids).with_gradients()

    def with_gradients(self) -> "Batch":
        return self._replace(audio=self.audio.requires_grad_(), text=self.text.requires_grad_())


@st.composite
def batches(draw: st.DrawFn, min_languages: int = 1, min_items: int = 1) -> Batch:
    """Random directions, with items that are copies of others, axes in place of directions, and groups."""
    num_items, width = draw(st.integers(min_items, 6)), draw(st.integers(1, 5))
    num_languages = draw(st.integers(min_languages, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows = rng.normal(size=(1 + num_languages, num_items, width))
    if draw(st.booleans()):  # axes: exactly orthogonal, equal and opposite pairs
        rows = np.eye(width)[rng.integers(width, size=rows.shape[:2])] * rng.choice(
            [-1.0, 1.0], size=rows.shape[:2] + (1,)
        )
    copied = draw(st.lists(st.integers(0, num_items - 1), min_size=num_items, max_size=num_items) | st.none())
    if copied is not None:
        rows = rows[:, copied]
    embeds = F.normalize(torch.from_numpy(rows), dim=-1)
    groups = draw(st.lists(st.integers(-3, 3), min_size=num_items, max_size=num_items) | st.none())
    ids = None if groups is None else torch.tensor(groups)
    return Batch(embeds[0].clone(), embeds[1:].clone(), draw(st.floats(0.0, 100.0)), ids).with_gradients()


def kcl(batch: Batch, shard: Shard | None = None) -> Tensor:
    return kcl_loss(batch.audio, batch.text, batch.scale, batch.ids, shard)


def mlclap(batch: Batch, shard: Shard | None = None) -> Tensor:
    return mlclap_loss(batch.audio, batch.text[0], batch.scale, batch.ids, shard=shard)


def mlclap_regularised(batch: Batch, shard: Shard | None = None) -> Tensor:
    return mlclap_loss(batch.audio, batch.text[0], batch.scale, batch.ids, embed_regularization=True, shard=shard)


def cacl(batch: Batch, shard: Shard | None = None) -> Tensor:
    return cacl_loss(batch.audio, batch.text[0], batch.text[1], batch.scale, batch.ids, shard)


def akcl(batch: Batch, shard: Shard | None = None) -> Tensor:
    return akcl_loss(batch.audio, batch.text, batch.scale, batch.ids, anchor=1, weight=0.3, shard=shard)


OBJECTIVES = [kcl, mlclap, mlclap_regularised, cacl, akcl]
Objective = Callable[..., Tensor]


def gradients(loss: Tensor, batch: Batch) -> list[Tensor]:
    found = torch.autograd.grad(loss, (batch.audio, batch.text), allow_unused=True)
    return [torch.zeros_like(leaf) if grad is None else grad for leaf, grad in zip(batch[:2], found, strict=True)]


def assert_close(first: Tensor, second: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(first, second, atol=tolerance, rtol=tolerance)


# The slow reference: sums over items in plain floats, and the gradient as calculus has it.


def slow_pair(x: np.ndarray, y: np.ndarray, scale: float, ids: list[int]) -> tuple[float, np.ndarray, np.ndarray]:
    """A(x, y) and its gradients."""
    num_items = len(x)
    scores = [
        [scale * sum(a * b for a, b in zip(x[i], y[j], strict=True)) for j in range(num_items)]
        for i in range(num_items)
    ]
    total, slope = 0.0, np.zeros((num_items, num_items))  # slope: of the loss, by each score
    for i in range(num_items):
        partners = [j for j in range(num_items) if ids[j] == ids[i]]
        for forth in (True, False):
            line = [scores[i][j] if forth else scores[j][i] for j in range(num_items)]
            highest = max(line)
            log_sum = highest + math.log(sum(math.exp(score - highest) for score in line))
            for j in range(num_items):
                target = 1 / len(partners) if j in partners else 0.0
                total += target * (log_sum - line[j])
                slope[(i, j) if forth else (j, i)] += math.exp(line[j] - log_sum) - target
    slope *= scale / (2 * num_items)
    return total / (2 * num_items), slope @ y, slope.T @ x


def slow_loss(objective: Objective, batch: Batch) -> tuple[float, list[np.ndarray]]:
    """Value and gradients of audio and text: a weighted sum of pairs of views, 0 the audio, k the k-th language."""
    views = [batch.audio.detach().numpy(), *batch.text.detach().numpy()]
    ids = list(range(len(views[0]))) if batch.ids is None else batch.ids.tolist()
    num_languages = len(batch.text)
    if objective is mlclap:
        pairs = {(0, 1): 1.0}
    elif objective is cacl:
        pairs = {(0, 1): 1 / 3, (0, 2): 1 / 3, (1, 2): 1 / 3}
    elif objective is kcl:
        pairs = {(0, k): 1 / num_languages for k in range(1, 1 + num_languages)}
    else:  # the anchor is language 1, view 2
        pairs = {(0, k): 0.3 / num_languages for k in range(1, 1 + num_languages)}
        pairs |= {(2, k): 0.7 / (num_languages - 1) for k in range(1, 1 + num_languages) if k != 2}
    total, slopes = 0.0, [np.zeros_like(view) for view in views]
    for (first, second), weight in pairs.items():
        value, *found = slow_pair(views[first], views[second], batch.scale, ids)
        total += weight * value
        for view, slope in zip((first, second), found, strict=True):
            slopes[view] += weight * slope
    return total, [slopes[0], np.stack(slopes[1:])]


@pytest.mark.parametrize("objective", [kcl, mlclap, cacl, akcl])
@property_settings(25)
@given(batches(min_languages=2))
def test_value_and_gradient_equal_sums_over_items(objective: Objective, batch: Batch) -> None:
    loss = objective(batch)
    value, slopes = slow_loss(objective, batch)
    assert loss.item() == pytest.approx(value, rel=1e-10, abs=1e-10)
    for found, expected in zip(gradients(loss, batch), slopes, strict=True):
        assert_close(found, torch.from_numpy(expected))


# What changes nothing


@pytest.mark.parametrize("objective", OBJECTIVES)
@property_settings(15)
@given(data=st.data())
def test_the_order_of_items_is_no_matter(objective: Objective, data: st.DataObject) -> None:
    batch = data.draw(batches(min_languages=2))
    order = data.draw(st.permutations(range(len(batch.audio))))
    moved = batch.taken(order)
    loss, other = objective(batch), objective(moved)
    assert_close(loss, other)
    for found, expected in zip(gradients(other, moved), gradients(loss, batch), strict=True):
        assert_close(found, expected[..., order, :])


@property_settings(30)
@given(data=st.data())
def test_names_of_groups_are_no_matter(data: st.DataObject) -> None:
    batch = data.draw(batches())
    names = data.draw(st.permutations([-(2**62), -1, 0, 1, 7, 10**6, 2**62]))  # as large as hashes of names are
    groups = [0] * len(batch.audio) if batch.ids is None else [number + 3 for number in batch.ids.tolist()]
    by_number, by_name = torch.tensor(groups), torch.tensor([names[number] for number in groups])
    assert_close(kcl(batch._replace(ids=by_number)), kcl(batch._replace(ids=by_name)), 0.0)
    each_its_own = torch.tensor(names[: len(groups)])
    assert_close(kcl(batch._replace(ids=each_its_own)), kcl(batch._replace(ids=None)), 1e-12)


@property_settings(30)
@given(batches(min_languages=2))
def test_views_of_a_pair_change_places(batch: Batch) -> None:
    scale, ids = batch.scale, batch.ids
    assert_close(
        info_nce_loss(batch.audio, batch.text[0], scale, ids), info_nce_loss(batch.text[0], batch.audio, scale, ids)
    )
    views = (batch.audio, batch.text[0], batch.text[1])
    for order in itertools.permutations(views):
        assert_close(cacl_loss(*order, scale, ids), cacl_loss(*views, scale, ids))


@property_settings(30)
@given(data=st.data())
def test_the_order_of_languages_is_no_matter(data: st.DataObject) -> None:
    batch = data.draw(batches(min_languages=2))
    order = data.draw(st.permutations(range(len(batch.text))))
    moved = batch._replace(text=batch.text[order])
    assert_close(kcl(moved), kcl(batch))
    expected = akcl_loss(batch.audio, batch.text, batch.scale, batch.ids, anchor=1, weight=0.3)
    assert_close(akcl_loss(moved.audio, moved.text, batch.scale, batch.ids, order.index(1), weight=0.3), expected)


@property_settings(30)
@given(batches(), st.integers(1, 5))
def test_equal_languages_count_as_one(batch: Batch, num_languages: int) -> None:
    text = batch.text[0].detach()
    repeated = batch._replace(text=text.expand(num_languages, *text.shape).clone().requires_grad_())
    loss, expected = kcl(repeated), mlclap(batch)
    assert_close(loss, expected)
    (audio, captions), (expected_audio, expected_captions) = gradients(loss, repeated), gradients(expected, batch)
    assert_close(audio, expected_audio)
    assert_close(captions.sum(dim=0), expected_captions[0])


@property_settings(30)
@given(batches(min_languages=2), st.data())
def test_anchored_kcl_of_one_term(batch: Batch, data: st.DataObject) -> None:
    anchor = data.draw(st.integers(0, len(batch.text) - 1))
    of_audio = akcl_loss(batch.audio, batch.text, batch.scale, batch.ids, anchor, weight=1.0)
    assert_close(of_audio, kcl(batch))
    for found, expected in zip(gradients(of_audio, batch), gradients(kcl(batch), batch), strict=True):
        assert_close(found, expected)
    of_text = akcl_loss(batch.audio, batch.text, batch.scale, batch.ids, anchor, weight=0.0)
    others = [k for k in range(len(batch.text)) if k != anchor]
    assert_close(of_text, kcl_loss(batch.text[anchor], batch.text[others], batch.scale, batch.ids))
    assert not gradients(of_text, batch)[0].any()


# Limits of the scale


@pytest.mark.parametrize("objective", [kcl, mlclap, cacl, akcl])
@property_settings(15)
@given(batches(min_languages=2))
def test_without_scale_or_differences_nothing_is_told_apart(objective: Objective, batch: Batch) -> None:
    chance = math.log(len(batch.audio))
    assert objective(batch._replace(scale=0.0)).item() == pytest.approx(chance, abs=1e-12)
    direction = batch.audio.detach()[:1]
    collapsed = batch._replace(audio=direction.expand_as(batch.audio), text=direction.expand_as(batch.text))
    assert objective(collapsed).item() == pytest.approx(chance, abs=1e-9)


@pytest.mark.parametrize("objective", [kcl, mlclap, cacl, akcl])
@property_settings(15)
@given(batches(min_languages=2))
def test_no_loss_is_below_what_its_groups_leave_open(objective: Objective, batch: Batch) -> None:
    ids = list(range(len(batch.audio))) if batch.ids is None else batch.ids.tolist()
    least = sum(math.log(ids.count(number)) for number in ids) / len(ids)
    assert objective(batch).item() >= least - 1e-9


@pytest.mark.parametrize("objective", [kcl, mlclap, cacl, akcl])
@property_settings(15)
@given(st.integers(1, 6), st.integers(2, 4), st.floats(0.0, 1e4))
def test_axes_that_match_have_the_loss_of_the_formula(
    objective: Objective, num_items: int, num_languages: int, scale: float
) -> None:
    axes = torch.eye(num_items, dtype=torch.float64)
    batch = Batch(axes, axes.expand(num_languages, -1, -1), scale, None)
    assert objective(batch).item() == pytest.approx(math.log1p((num_items - 1) * math.exp(-scale)), abs=1e-12)


# Precision


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("objective", OBJECTIVES)
@property_settings(10)
@given(batches(min_languages=2))
def test_any_precision_gives_finite_gradients_and_the_loss_in_float32(
    objective: Objective, dtype: torch.dtype, batch: Batch
) -> None:
    low = batch._replace(audio=batch.audio.detach().to(dtype), text=batch.text.detach().to(dtype)).with_gradients()
    loss = objective(low)
    assert loss.dtype == torch.float32
    exact = objective(low._replace(audio=low.audio.double(), text=low.text.double()))
    if objective is not mlclap_regularised:  # its norms are taken in the precision of the embeddings
        assert loss.item() == pytest.approx(exact.item(), rel=1e-5, abs=1e-4)
    for found in gradients(loss, low):
        assert found.dtype == dtype
        assert found.isfinite().all()


@pytest.mark.parametrize("objective", [kcl, mlclap, cacl, akcl])
@property_settings(15)
@given(batches(min_languages=2), st.lists(st.integers(0, 5), min_size=1))
def test_embeddings_of_zero_give_finite_gradients(objective: Objective, batch: Batch, zeros: list[int]) -> None:
    rows = [row for row in zeros if row < len(batch.audio)]
    audio, text = batch.audio.detach().float(), batch.text.detach().float()
    audio[rows], text[:, rows] = 0.0, 0.0
    empty = batch._replace(audio=audio, text=text).with_gradients()
    loss = objective(empty)
    assert loss.isfinite()
    assert all(found.isfinite().all() for found in gradients(loss, empty))


# Several processes


def shard_of(batch: Batch, rows: slice, world_size: int) -> Shard:
    """A process that holds some rows of a batch: what it gathers are the whole tensors that its rows lie in."""
    wholes = [batch.audio, *batch.text, *([] if batch.ids is None else [batch.ids])]

    def gather(local: Tensor) -> Tensor:
        return next(whole for whole in wholes if whole[rows].data_ptr() == local.data_ptr())

    return Shard(gather, rows.start, world_size)


@pytest.mark.parametrize("objective", OBJECTIVES)
@property_settings(20)
@given(data=st.data())
def test_the_mean_over_processes_is_the_whole_batch(objective: Objective, data: st.DataObject) -> None:
    batch = data.draw(batches(min_languages=2))
    num_items = len(batch.audio)
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, num_items - 1)))) if num_items > 1 else [])
    bounds = [0, *cuts, num_items]
    losses = []
    for start, stop in itertools.pairwise(bounds):
        rows = slice(start, stop)
        ids = None if batch.ids is None else batch.ids[rows]
        local = Batch(batch.audio[rows], batch.text[:, rows], batch.scale, ids)
        losses.append(objective(local, shard_of(batch, rows, len(bounds) - 1)))
    mean, whole = torch.stack(losses).mean(), objective(batch)
    assert_close(mean, whole)
    for found, expected in zip(gradients(mean, batch), gradients(whole, batch), strict=True):
        assert_close(found, expected)
