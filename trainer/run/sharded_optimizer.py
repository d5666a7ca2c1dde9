"""The state of an optimizer of sharded parameters, in the form that one process saves and loads."""

from typing import Any

import torch
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from ..step.sharded import sharded_like


def whole_optimizer_state(optimizer: Optimizer, is_kept: bool) -> dict[str, Any]:
    """The state dict with whole tensors in main memory. All processes call it; `is_kept` says which ones use it."""
    state = optimizer.state_dict()

    def whole(value: Any) -> Any:
        value = value.full_tensor() if isinstance(value, DTensor) else value
        return value.cpu() if is_kept and isinstance(value, torch.Tensor) else value if is_kept else None

    entries = {
        number: {name: whole(value) for name, value in entry.items()} for number, entry in state["state"].items()
    }
    return state | {"state": entries}


def load_whole_optimizer_state(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Load a state dict of whole tensors, which every process has, into an optimizer of sharded parameters."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]

    def shard(number: int, value: Any) -> Any:
        parameter = parameters[number]
        fits = isinstance(value, torch.Tensor) and value.numel() == parameter.numel() and value.ndim > 0
        return sharded_like(parameter, value.reshape(parameter.shape)) if fits else value

    entries = {
        number: {name: shard(number, value) for name, value in entry.items()}
        for number, entry in state["state"].items()
    }
    optimizer.load_state_dict(state | {"state": entries})
