"""InfoNCE, the one formula that every ATRI objective is made of."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Shard:
    """This process's rows of a batch that is spread over several processes.

    Args:
        gather: takes a tensor of shape `(rows, ...)` and returns the rows of all processes, in order of their rank,
            `(total_rows, ...)`, with gradients that flow back to their owners.
        offset: index of this process's first row among all rows.
        world_size: number of processes.
    """

    gather: Callable[[Tensor], Tensor]
    offset: int
    world_size: int


def info_nce_loss(
    x: Tensor, y: Tensor, scale: Tensor | float, ids: Tensor | None = None, shard: Shard | None = None
) -> Tensor:
    """Symmetric InfoNCE between two views of the same items.

    `(L(x -> y) + L(y -> x)) / 2` with `L(x -> y) = -1/N sum_i sum_j p_ij log softmax_j(scale * <x_i, y_j>)`, where p
    is the identity, or, with `ids`, spreads evenly over the items of equal id (soft positives, as in ml-clap's
    `AudioTextContrastiveLoss`, https://github.com/zyyan4/ml-clap/blob/154393e/tools/losses.py).

    Args:
        x (`torch.Tensor` of shape `(N, D)`): L2-normalised embeddings.
        y (`torch.Tensor` of shape `(N, D)`): L2-normalised embeddings of the same items, row by row.
        scale (`torch.Tensor` or `float`): inverse temperature, `logit_scale.exp()`.
        ids (`torch.Tensor` of shape `(N,)`, *optional*): integers; rows with equal id are positives of one another.
        shard (`Shard`, *optional*): for several processes: the local rows are held against the columns of all. The
            mean of the results (and gradients) over the processes is that of the whole batch, however unevenly its
            rows are spread.

    Returns:
        `torch.Tensor` of shape `()`: the loss, in the dtype of the embeddings, float32 at least.

    Raises:
        ValueError: what is no tensor; ids that are no integers; shapes that do not fit together.
    """
    check_same_shape(x=x, y=y)
    if ids is not None:
        _check_ids(ids, num_items=len(x))
    all_x, all_y = (x, y) if shard is None else (shard.gather(x), shard.gather(y))
    targets = _targets(x, ids, shard, num_columns=len(all_y))
    # This process's share of the mean over all rows, times the number of processes: averaging then gives the mean.
    weight = (1 if shard is None else shard.world_size) / (2 * len(all_y))
    return weight * (_cross_entropy_sum(x, all_y, scale, targets) + _cross_entropy_sum(y, all_x, scale, targets))


def check_same_shape(**embeddings: Tensor) -> None:
    """Raise a ValueError unless all are tensors of one shape `(N, D)` with N >= 1."""
    for name, value in embeddings.items():
        if not isinstance(value, Tensor):
            raise ValueError(f"Embeddings must be torch tensors; got `{name}` of type {type(value).__name__}.")
    shapes = {name: tuple(value.shape) for name, value in embeddings.items()}
    first = next(iter(shapes.values()))
    if len(set(shapes.values())) > 1 or len(first) != 2 or first[0] == 0:
        raise ValueError(
            f"Embeddings must share one shape (N, D) with N >= 1, row i of each being item i; got {shapes}."
        )


def _check_ids(ids: Tensor, num_items: int) -> None:
    if not isinstance(ids, Tensor) or ids.dtype == torch.bool or ids.is_floating_point() or ids.is_complex():
        given = f"a tensor of {ids.dtype}" if isinstance(ids, Tensor) else f"a {type(ids).__name__}"
        raise ValueError(f"`ids` must be a tensor of integers, equal where items are positives; got {given}.")
    if ids.shape != (num_items,):
        raise ValueError(f"`ids` must have shape ({num_items},), one id an item; got {tuple(ids.shape)}.")


def _targets(x: Tensor, ids: Tensor | None, shard: Shard | None, num_columns: int) -> Tensor:
    """Column indices `(N,)`, or probabilities `(N, num_columns)` where several columns are positive."""
    if ids is None:
        return torch.arange(len(x), device=x.device) + (0 if shard is None else shard.offset)
    all_ids = ids if shard is None else shard.gather(ids)
    positives = ids[:, None].eq(all_ids[None, :]).to(torch.promote_types(x.dtype, torch.float32))
    return positives / positives.sum(dim=1, keepdim=True)


def _cross_entropy_sum(rows: Tensor, columns: Tensor, scale: Tensor | float, targets: Tensor) -> Tensor:
    # In half precision, also autocast's, similarities are too coarse for the scale, and a softmax over a batch loses
    # the small terms that the gradient of the positives is made of.
    with torch.autocast(rows.device.type, enabled=False):
        logits = scale * (at_least_float32(rows) @ at_least_float32(columns).T)
        return F.cross_entropy(logits, targets, reduction="sum")


def at_least_float32(tensor: Tensor) -> Tensor:
    """The tensor itself, or in float32 if it is of half precision."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
