"""Communication between processes: rows and gradients of a step."""

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from modeling_atri.loss_atri import Shard


class _GatherRows(torch.autograd.Function):
    """Gather the rows of all processes. In backward, each process gets the summed gradient of its own rows."""

    @staticmethod
    def forward(ctx, rows: Tensor, counts: list[int]) -> Tensor:
        ctx.counts = counts
        longest = max(counts)
        padded = rows.new_zeros(longest, *rows.shape[1:])
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        rank = dist.get_rank()
        start = sum(ctx.counts[:rank])
        return gradient[start : start + ctx.counts[rank]], None


def batch_shard(num_rows: int, device: torch.device) -> Shard | None:
    """This process's place in the batch of a step, or None if there is one process.

    `num_rows` may differ between processes. `device` is that of the tensors to exchange.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return None
    counts = [torch.zeros(1, dtype=torch.long, device=device) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, torch.tensor([num_rows], device=device))
    sizes = [int(count) for count in counts]
    return Shard(
        gather=lambda rows: _GatherRows.apply(rows, sizes),
        offset=sum(sizes[: dist.get_rank()]),
        world_size=len(sizes),
    )


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
