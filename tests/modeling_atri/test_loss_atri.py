import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from modeling_atri.loss_atri import Shard, info_nce_loss


def embeddings(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return F.normalize(torch.randn(*shape, dtype=dtype), dim=-1).requires_grad_()


def plain_info_nce(x: Tensor, y: Tensor, scale: float, ids: list[int] | None = None) -> float:
    """The formula with loops over scalars."""
    x, y = x.tolist(), y.tolist()
    ids = list(range(len(x))) if ids is None else ids
    total = 0.0
    for rows, columns in ((x, y), (y, x)):
        for i in range(len(rows)):
            scores = [scale * sum(a * b for a, b in zip(rows[i], column, strict=True)) for column in columns]
            log_sum = math.log(sum(math.exp(score) for score in scores))
            positives = [j for j in range(len(columns)) if ids[j] == ids[i]]
            total -= sum(scores[j] - log_sum for j in positives) / len(positives)
    return total / (2 * len(x))


@pytest.mark.parametrize("ids", [None, [0, 1, 2, 3, 4], [7, 3, 7, 3, 7], [1, 1, 1, 1, 1]])
def test_equals_the_formula(ids):
    x, y = embeddings(5, 4), embeddings(5, 4)
    loss = info_nce_loss(x, y, 5.0, None if ids is None else torch.tensor(ids))
    assert loss.item() == pytest.approx(plain_info_nce(x, y, 5.0, ids), abs=1e-12)


def test_values_known_by_hand():
    orthogonal = torch.eye(2)
    assert info_nce_loss(orthogonal, orthogonal, 3.0).item() == pytest.approx(math.log(1 + math.exp(-3)))
    assert info_nce_loss(orthogonal, orthogonal.flip(0), 3.0).item() == pytest.approx(math.log(1 + math.exp(3)))
    collapsed = F.normalize(torch.ones(8, 3), dim=-1)
    assert info_nce_loss(collapsed, collapsed, 10.0).item() == pytest.approx(math.log(8))
    assert info_nce_loss(embeddings(1, 3), embeddings(1, 3), 10.0).item() == 0.0


def test_is_symmetric_and_has_the_right_gradient():
    x, y, scale = embeddings(4, 3), embeddings(4, 3), torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    assert info_nce_loss(x, y, scale).item() == pytest.approx(info_nce_loss(y, x, scale).item(), abs=1e-15)
    assert torch.autograd.gradcheck(info_nce_loss, (x, y, scale))
    assert torch.autograd.gradcheck(info_nce_loss, (x, y, scale, torch.tensor([0, 1, 0, 2])))


@pytest.mark.parametrize("counts", [(3, 3), (2, 2, 2), (4, 2), (1, 5), (3, 1, 2)])
@pytest.mark.parametrize("ids", [None, [0, 1, 1, 2, 0, 1]])
def test_mean_over_processes_is_the_whole_batch(counts, ids):
    x, y = embeddings(6, 4), embeddings(6, 4)
    ids = None if ids is None else torch.tensor(ids)
    scale = torch.tensor(7.0, dtype=torch.float64, requires_grad=True)
    whole = info_nce_loss(x, y, scale, ids)
    expected = torch.autograd.grad(whole, (x, y, scale))

    losses = []
    for rank, count in enumerate(counts):
        rows = slice(sum(counts[:rank]), sum(counts[:rank]) + count)
        local = {"x": x[rows], "y": y[rows], "ids": None if ids is None else ids[rows]}
        everything = {id(local["x"]): x, id(local["y"]): y, id(local["ids"]): ids}

        def gather(tensor: Tensor, everything: dict[int, Tensor] = everything) -> Tensor:
            return everything[id(tensor)]

        shard = Shard(gather=gather, offset=rows.start, world_size=len(counts))
        losses.append(info_nce_loss(local["x"], local["y"], scale, local["ids"], shard))
    mean = torch.stack(losses).mean()
    assert mean.item() == pytest.approx(whole.item(), abs=1e-14)
    for gradient, wanted in zip(torch.autograd.grad(mean, (x, y, scale)), expected, strict=True):
        torch.testing.assert_close(gradient, wanted, atol=1e-14, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("ids", [None, torch.tensor([0, 1, 0, 2])])
def test_half_precision_embeddings_are_compared_in_float32(dtype, ids):
    x, y = embeddings(4, 16, dtype=torch.float32).to(dtype), embeddings(4, 16, dtype=torch.float32).to(dtype)
    loss = info_nce_loss(x, y, torch.tensor(14.0), ids)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(info_nce_loss(x.double(), y.double(), 14.0, ids).item(), abs=1e-5)


def test_autocast_changes_nothing():
    x, y = embeddings(6, 16, dtype=torch.float32), embeddings(6, 16, dtype=torch.float32)
    expected = torch.autograd.grad(info_nce_loss(x, y, 14.0), (x, y))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = info_nce_loss(x, y, 14.0)
    assert loss.item() == info_nce_loss(x, y, 14.0).item()
    for gradient, wanted in zip(torch.autograd.grad(loss, (x, y)), expected, strict=True):
        assert torch.equal(gradient, wanted)


@pytest.mark.parametrize(
    "shapes", [((3, 4), (2, 4)), ((3, 4), (3, 5)), ((3,), (3,)), ((0, 4), (0, 4)), ((2, 3, 4), (2, 3, 4))]
)
def test_shapes_that_do_not_fit(shapes):
    with pytest.raises(ValueError, match=r"have the same shape \(N, D\)"):
        info_nce_loss(torch.ones(shapes[0]), torch.ones(shapes[1]), 1.0)


@pytest.mark.parametrize("shape", [(2,), (4,), (3, 1), ()])
def test_ids_that_do_not_fit(shape):
    with pytest.raises(ValueError, match=r"`ids` must have shape \(3,\)"):
        info_nce_loss(torch.eye(3), torch.eye(3), 1.0, torch.zeros(shape, dtype=torch.long))


@pytest.mark.parametrize(
    ("ids", "given"),
    [
        ([1, 1, 2], "a list"),
        (["a", "a", "b"], "a list"),
        (np.array([1, 1, 2]), "a ndarray"),
        (torch.tensor([1.0, 1.0, 2.0]), "a tensor of torch.float32"),
        (torch.tensor([True, True, False]), "a tensor of torch.bool"),
    ],
)
def test_ids_that_are_no_integers(ids, given):
    with pytest.raises(ValueError, match=f"`ids` must be a tensor of integers, .* got {given}."):
        info_nce_loss(torch.eye(3), torch.eye(3), 1.0, ids)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.uint8])
def test_ids_of_any_integers(dtype):
    x, y = embeddings(3, 4), embeddings(3, 4)
    loss = info_nce_loss(x, y, 5.0, torch.tensor([1, 1, 2], dtype=dtype))
    assert loss.item() == pytest.approx(plain_info_nce(x, y, 5.0, [1, 1, 2]), abs=1e-12)


def test_embeddings_that_are_no_tensors():
    with pytest.raises(ValueError, match="must be torch tensors; got `y` of type ndarray"):
        info_nce_loss(torch.eye(3), np.eye(3), 1.0)
    with pytest.raises(ValueError, match="must be torch tensors; got `x` of type list"):
        info_nce_loss([[1.0, 0.0]], torch.eye(2), 1.0)
