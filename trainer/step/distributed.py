"""Communication between processes: rows and gradients of a step."""

from collections.abc import Iterable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from modeling_atri.loss_atri import Shard


class _GatherRows(torch.autograd.Function):
    """Gather the rows of all processes. In backward, each process gets the summed gradient of its own rows."""

    @staticmethod
    def forward(ctx, rows: Tensor, counts: list[int]) -> Tensor:
        ctx.counts = counts
        return _gathered(rows, counts)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        return _own_gradient(gradient, ctx.counts), None


def _gathered(rows: Tensor, counts: Sequence[int]) -> Tensor:
    longest = max(counts)
    padded = rows.new_zeros(longest, *rows.shape[1:])
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(parts, padded)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])


def _own_gradient(gradient: Tensor, counts: Sequence[int]) -> Tensor:
    """The sum over the processes of the gradient of all rows, at the rows of this process."""
    gradient = gradient.contiguous()
    dist.all_reduce(gradient)
    rank = dist.get_rank()
    start = sum(counts[:rank])
    return gradient[start : start + counts[rank]]


class SharedRows:
    """Exchanges the rows of a step, each view of the items once, however many terms of a loss compare it.

    A loss asks for the rows of all processes by calling the object, which returns the same tensor for the same rows.

    Args:
        counts: Number of rows of each process.
        holds_gradients (*optional*, defaults to `False`): For several backward passes. Rows that are leaves, such as
            those of [`CachedEmbeddings`], are gathered into another leaf. Its gradient adds up until
            `return_gradient` sums it over the processes. With False, every backward pass sums it.
    """

    def __init__(self, counts: Sequence[int], holds_gradients: bool = False):
        self._counts, self._holds_gradients = list(counts), holds_gradients
        self._known: list[tuple[Tensor, Tensor]] = []  # rows of this process, and of all

    def __call__(self, rows: Tensor) -> Tensor:
        """The rows `(n, ...)` of all processes, in the order of their ranks."""
        for own, everyone in self._known:
            if own is rows:
                return everyone
        if self._holds_gradients and rows.requires_grad and rows.is_leaf:
            everyone = _gathered(rows.detach(), self._counts).requires_grad_()
        else:
            everyone = _GatherRows.apply(rows, self._counts)
        self._known.append((rows, everyone))
        return everyone

    def return_gradient(self, rows: Tensor) -> None:
        """Add the gradient of these rows on all processes to `rows.grad`, and forget the rows."""
        held = [everyone.grad for own, everyone in self._known if own is rows and everyone.is_leaf]
        self._known = [known for known in self._known if known[0] is not rows]
        if held and held[0] is not None:
            gradient = _own_gradient(held[0], self._counts)
            rows.grad = gradient if rows.grad is None else rows.grad + gradient

    def shard(self) -> Shard | None:
        """This process's place in the batch, or None if there is one process."""
        if len(self._counts) == 1:
            return None
        offset = sum(self._counts[: dist.get_rank()])
        return Shard(gather=self, offset=offset, world_size=len(self._counts), num_rows=sum(self._counts))


def rows_of_processes(num_rows: int, device: torch.device) -> list[int]:
    """Number of rows of a batch on each process. `device` is that of the tensors to exchange."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return [num_rows]
    counts = [torch.zeros(1, dtype=torch.long, device=device) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, torch.tensor([num_rows], device=device))
    return [int(count) for count in counts]


def batch_shard(num_rows: int, device: torch.device) -> Shard | None:
    """This process's place in the batch of a step, or None if there is one process.

    `num_rows` may differ between processes. `device` is that of the tensors to exchange.
    """
    return SharedRows(rows_of_processes(num_rows, device)).shard()


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace every parameter's gradient by its mean over the processes, with one message per dtype.

    If a parameter has a gradient on another process only, it counts as zero on this one. If it has none on any
    process, it keeps none, so that the optimizer does not update it, not even by weight decay.
    """
    trained = _used_by_any([parameter for parameter in parameters if parameter.requires_grad])
    for dtype in sorted({parameter.dtype for parameter in trained}, key=str):  # the same order on all processes
        group = [parameter for parameter in trained if parameter.dtype == dtype]
        for parameter in group:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        flat = torch.cat([parameter.grad.flatten() for parameter in group])
        dist.all_reduce(flat)
        flat /= dist.get_world_size()
        parts = flat.split([parameter.numel() for parameter in group])
        for parameter, gradient in zip(group, parts, strict=True):
            parameter.grad.copy_(gradient.view_as(parameter))


def _used_by_any(parameters: list[nn.Parameter]) -> list[nn.Parameter]:
    """The parameters that have a gradient on at least one process; the same list on all processes."""
    if not parameters:
        return []
    used = torch.tensor([parameter.grad is not None for parameter in parameters], device=parameters[0].device)
    counts = used.int()
    dist.all_reduce(counts)
    return [parameter for parameter, count in zip(parameters, counts.tolist(), strict=True) if count]
