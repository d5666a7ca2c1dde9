"""Models whose parameters are sharded over the processes, by FSDP2 (`fully_shard` of torch)."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator, DistributedType, PartialState
from accelerate.utils import convert_outputs_to_fp32
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, Partial, distribute_tensor


def is_sharded(model: Any) -> bool:
    """Whether FSDP2 shards the parameters of a model."""
    return isinstance(model, FSDPModule)


@contextmanager
def set_up_by_accelerate(is_chosen: bool) -> Iterator[None]:
    """Let an `Accelerator` that is made within set up FSDP also for processes on CPUs, which it ignores otherwise.

    Afterwards the environment is as it was: Accelerate notes there that later trainers use FSDP, too.
    """
    noted = "ACCELERATE_USE_FSDP"
    before, state = os.environ.get(noted), PartialState()
    if is_chosen and state.distributed_type == DistributedType.MULTI_CPU:
        state.distributed_type = DistributedType.MULTI_GPU  # Accelerate makes FSDP of it; the device remains the CPU
    try:
        yield
    finally:
        os.environ.pop(noted, None)
        if before is not None:
            os.environ[noted] = before


def copy_from_first(model: nn.Module) -> None:
    """Give all processes the parameters and buffers of the first one, as DDP does when it wraps a model."""
    with torch.no_grad():
        for tensor in model.state_dict().values():
            dist.broadcast(tensor, 0)


def mixed_precision_call(model: nn.Module, accelerator: Accelerator) -> Callable[..., Any]:
    """The model, which computes in the precision of the arguments and returns float32.

    For other engines Accelerate wraps the model in this way. For FSDP2 it would convert the parameters and inputs
    instead, and the log-mel features and the logit scale would be rounded.
    """
    if accelerator.mixed_precision == "no":
        return model

    def call(*args: Any, **kwargs: Any) -> Any:
        with accelerator.autocast():
            return model(*args, **kwargs)

    converted: Callable[..., Any] = convert_outputs_to_fp32(call)
    return converted


def whole_parameter(parameter: Tensor) -> Tensor:
    """All values of a parameter. Gradients of the result are averaged over the processes, which all need one."""
    if not isinstance(parameter, DTensor):
        return parameter
    mesh = parameter.device_mesh
    whole = parameter.full_tensor(grad_placements=[Partial()] * mesh.ndim)
    fixed = whole.detach()
    return fixed + (whole - fixed) / mesh.size()  # the sum of the gradients becomes their mean


@contextmanager
def held_parameter(model: nn.Module | None, parameter: Callable[[], Tensor]) -> Iterator[Tensor]:
    """Yield all values of a parameter, for several backward passes.

    Its gradient is averaged over the processes once, in the end. Without sharding, the parameter itself is yielded.

    Args:
        model: The model to which FSDP2 was applied; None without sharding.
        parameter: Returns the parameter, which FSDP2 replaces by its shard and back.
    """
    if not isinstance(model, FSDPModule):
        yield parameter()
        return
    model.reshard()
    whole = whole_parameter(parameter())
    held = whole.detach().requires_grad_(whole.requires_grad)
    yield held
    if held.grad is not None:
        whole.backward(held.grad)


@contextmanager
def whole_model(model: nn.Module, reshards: bool = True) -> Iterator[None]:
    """Keep all parameters on every process, so that the processes may encode different numbers of batches.

    Args:
        model: The model. Nothing happens if it is not sharded.
        reshards (*optional*, defaults to `True`): Whether the layers are sharded again after each forward pass of a
            training step, `reshard_after_forward` of FSDP.
    """
    if not isinstance(model, FSDPModule):
        yield
        return
    token = torch.ones(1, 1, dtype=torch.long, device=next(model.parameters()).device)
    with torch.no_grad():
        model(input_ids=token, attention_mask=token)  # FSDP2 takes the module that is called first as its root
    parts = [module for module in model.modules() if isinstance(module, FSDPModule)]
    model.set_reshard_after_forward(False)
    for part in parts:
        part.unshard()
    try:
        yield
    finally:
        model.set_reshard_after_forward(reshards)
        model.set_reshard_after_forward(False, recurse=False)  # the root is needed for the backward pass at once
        for part in parts:
            part.reshard()


def own_values(parameter: Tensor) -> Tensor:
    """The values of a parameter that this process has."""
    return parameter.to_local() if isinstance(parameter, DTensor) else parameter


def sharded_like(target: Any, value: Any) -> Any:
    """The shard that belongs to `target`, if this is sharded, of a tensor that every process has; else `value`."""
    if not isinstance(target, DTensor):
        return value
    value = value.to(target.device)
    return distribute_tensor(value, target.device_mesh, target.placements, src_data_rank=None)


def load_whole_state(model: nn.Module, state: Mapping[str, Tensor]) -> Any:
    """Load a state dict that every process has into a model, sharded or not; keys may differ as in `strict=False`."""
    own = model.state_dict()
    return model.load_state_dict({name: sharded_like(own.get(name), value) for name, value in state.items()}, False)


@contextmanager
def plain_class(model: nn.Module) -> Iterator[None]:
    """Give a model the class that it had before it was sharded, for the code that is saved with it."""
    sharded = type(model)
    if is_sharded(model):
        model.__class__ = next(base for base in sharded.__bases__ if base is not FSDPModule)
    try:
        yield
    finally:
        model.__class__ = sharded
