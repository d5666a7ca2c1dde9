"""Processes that work together, as `accelerate launch` and `torchrun` start them."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist


_Told = TypeVar("_Told")
_Item = TypeVar("_Item")

# How long a process waits for the others. One that fails ends all of them, since its launcher stops the others.
_LONGEST_WAIT = timedelta(days=30)


def num_processes() -> int:
    """Number of processes that work together; 1 without a process group."""
    return dist.get_world_size() if dist.is_initialized() else 1


def process_rank() -> int:
    """Number of this process among those that work together, from 0, the main process."""
    return dist.get_rank() if dist.is_initialized() else 0


def told_by_main(ask: Callable[[], _Told]) -> _Told:
    """Call a function on the main process, and return its result, or raise its error, on all processes."""
    if num_processes() == 1:
        return ask()
    told: list[Any] = [None, None]  # the result and the error
    if dist.get_rank() == 0:
        try:
            told = [ask(), None]
        except (ValueError, OSError) as error:
            told = [None, error]
    with _others_needed():
        dist.broadcast_object_list(told)
    if told[1] is not None:
        raise told[1]
    found: _Told = told[0]
    return found


def main_first(make: Callable[[], _Told]) -> _Told:
    """Call a function on the main process and then on the others, and return the own result on each.

    The others do not call it if it raises an error on the main process, and raise the same error.
    """
    made: list[_Told] = []
    told_by_main(lambda: made.append(make()))
    return made[0] if made else make()


def told_by_all(value: _Told) -> list[_Told]:
    """The values of all processes, in the order of the processes, on each of them."""
    if num_processes() == 1:
        return [value]
    values: list[_Told] = [value] * num_processes()
    with _others_needed():
        dist.all_gather_object(values, value)
    return values


def made_by_all(make: Callable[[], _Told]) -> list[_Told] | None:
    """Call a function on every process, and return the results of all, in the order of the processes.

    Returns:
        The results on the main process, None on the others.

    Raises:
        ValueError or OSError: the function raised one on some process. All processes raise it.
    """
    made: _Told | None = None
    fault: tuple[type[Exception], str] | None = None
    own: Exception | None = None
    try:
        made = make()
    except (ValueError, OSError) as error:
        own, fault = error, (OSError if isinstance(error, OSError) else ValueError, str(error))
    faults = told_by_all(fault)
    if own is not None:
        raise own
    for kind, text in filter(None, faults):
        raise kind(text)
    if num_processes() == 1:
        return [cast(_Told, made)]
    parts: list[Any] | None = [None] * num_processes() if process_rank() == 0 else None
    with _others_needed():
        dist.gather_object(made, parts)
    return parts


@contextmanager
def _others_needed() -> Iterator[None]:
    """Say what has happened if another process ended, so that this one cannot exchange anything with it."""
    try:
        yield
    except RuntimeError as error:  # torch has no class of its own for it
        raise OSError(
            "Another process of this run has ended, so this one cannot go on. Its own message says why. What was "
            "written is kept; start all processes again."
        ) from error


def own_share(items: Sequence[_Item]) -> Sequence[_Item]:
    """The items of this process, where each item belongs to one process."""
    return items[process_rank() :: num_processes()]


@contextmanager
def launched_processes() -> Iterator[None]:
    """Join the processes that a launcher started, for work that does not compute together.

    Without a launcher, or if there is a process group already, nothing happens. Processes exchange objects in main
    memory (gloo), so each of them may compute on any device.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield
        return
    dist.init_process_group("gloo", timeout=_LONGEST_WAIT)
    try:
        yield
    finally:
        dist.destroy_process_group()


def device_of_process(device: str | None) -> str:
    """The device that a process computes on: of several processes on a machine, each has a GPU of its own.

    Args:
        device: as a user names it. `cuda`, without a number, depends on the process. With None, one process computes
            on the CPU, and several on the GPUs, if there are any and accelerate was not told to use CPUs.

    Raises:
        ValueError: the machine has fewer GPUs than processes.
    """
    if num_processes() == 1:
        return device or "cpu"
    if device is None:
        uses_cpus = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
        device = "cuda" if torch.cuda.is_available() and not uses_cpus else "cpu"
    if device != "cuda":
        return device
    rank = int(os.environ.get("LOCAL_RANK", "0"))
    if torch.cuda.is_available() and rank >= torch.cuda.device_count():
        raise ValueError(
            f"Process {rank} of this machine has no GPU, because there are {torch.cuda.device_count()}. Start one "
            "process per GPU (--nproc_per_node of torchrun, --num_processes of accelerate launch)."
        )
    return f"cuda:{rank}"
