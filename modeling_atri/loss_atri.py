"""The InfoNCE loss, of which all ATRI objectives are composed."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Shard:
    """The rows that this process holds of a batch that is distributed over several processes.

    Args:
        gather: function that takes a tensor of shape `(rows, ...)` and returns the rows of all processes in the order
            of their ranks, `(total_rows, ...)`. Gradients flow back to the processes that own the rows.
        offset: index of the first row of this process among all rows.
        world_size: number of processes.
        num_rows (*optional*): number of rows of all processes, for terms that need nothing else of them. By default
            they are gathered and counted.
    """

    gather: Callable[[Tensor], Tensor]
    offset: int
    world_size: int
    num_rows: int | None = None


def info_nce_loss(
    x: Tensor, y: Tensor, scale: Tensor | float, ids: Tensor | None = None, shard: Shard | None = None
) -> Tensor:
    """Symmetric InfoNCE between two views of the same items.

    The loss is `(L(x -> y) + L(y -> x)) / 2` with
    `L(x -> y) = -1/N sum_i sum_j p_ij log softmax_j(scale * <x_i, y_j>)`. The targets p are the identity, or with
    `ids`, uniform over the items of equal id (soft positives, as in `AudioTextContrastiveLoss` of ml-clap,
    https://github.com/zyyan4/ml-clap/blob/154393e/tools/losses.py).

    Args:
        x, y (`torch.Tensor` of shape `(N, D)`): L2-normalised embeddings of the same items, row by row.
        scale (`torch.Tensor` or `float`): inverse temperature, `logit_scale.exp()`.
        ids (`torch.Tensor` of shape `(N,)`, *optional*): integers. Rows with equal id are positives of one another.
        shard (`Shard`, *optional*): for several processes. The local rows are compared with the columns of all
            processes. The mean of the losses (and gradients) over the processes is that of the whole batch, even if
            the processes hold different numbers of rows.

    Returns:
        `torch.Tensor` of shape `()`: the loss, in the dtype of the embeddings, but at least float32.

    Raises:
        ValueError: embeddings are not tensors, ids are not integers, or shapes do not match.
    """
    check_same_shape(x=x, y=y)
    if ids is not None:
        _check_ids(ids, num_items=len(x))
    all_x, all_y = (x, y) if shard is None else (shard.gather(x), shard.gather(y))
    targets = _targets(x, ids, shard, num_columns=len(all_y))
    # The share of this process in the mean over all rows, times the number of processes, over which it is averaged.
    weight = (1 if shard is None else shard.world_size) / (2 * len(all_y))
    return weight * (_cross_entropy_sum(x, all_y, scale, targets) + _cross_entropy_sum(y, all_x, scale, targets))


def check_same_shape(**embeddings: Tensor) -> None:
    """Raise a ValueError unless all embeddings are tensors of the same shape `(N, D)` with N >= 1."""
    for name, value in embeddings.items():
        if not isinstance(value, Tensor):
            raise ValueError(f"Embeddings must be torch tensors; got `{name}` of type {type(value).__name__}.")
    shapes = {name: tuple(value.shape) for name, value in embeddings.items()}
    first = next(iter(shapes.values()))
    if len(set(shapes.values())) > 1 or len(first) != 2 or first[0] == 0:
        raise ValueError(
            f"Embeddings must have the same shape (N, D) with N >= 1, where row i of each is item i; got {shapes}."
        )


def _check_ids(ids: Tensor, num_items: int) -> None:
    if not isinstance(ids, Tensor) or ids.dtype == torch.bool or ids.is_floating_point() or ids.is_complex():
        given = f"a tensor of {ids.dtype}" if isinstance(ids, Tensor) else f"a {type(ids).__name__}"
        raise ValueError(f"`ids` must be a tensor of integers, equal for items that are positives; got {given}.")
    if ids.shape != (num_items,):
        raise ValueError(f"`ids` must have shape ({num_items},), one id for each item; got {tuple(ids.shape)}.")


def _targets(x: Tensor, ids: Tensor | None, shard: Shard | None, num_columns: int) -> Tensor:
    """Target columns: indices `(N,)`, or with `ids` probabilities `(N, num_columns)` over all positives."""
    if ids is None:
        return torch.arange(len(x), device=x.device) + (0 if shard is None else shard.offset)
    all_ids = ids if shard is None else shard.gather(ids)
    positives = ids[:, None].eq(all_ids[None, :]).to(torch.promote_types(x.dtype, torch.float32))
    return positives / positives.sum(dim=1, keepdim=True)


def _cross_entropy_sum(rows: Tensor, columns: Tensor, scale: Tensor | float, targets: Tensor) -> Tensor:
    # In half precision (autocast included), similarities are too coarse for the scale, and a softmax over a batch
    # loses the small terms on which the gradient of the positives depends.
    with torch.autocast(rows.device.type, enabled=False):
        logits = scale * (at_least_float32(rows) @ at_least_float32(columns).T)
        return F.cross_entropy(logits, targets, reduction="sum")


def at_least_float32(tensor: Tensor) -> Tensor:
    """Convert a tensor of half precision to float32; return others as they are."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
