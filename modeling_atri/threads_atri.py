"""The clips of a batch, worked on at the same time."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch


Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_threads(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """`[function(item) for item in items]`, spread over the threads that torch may use here.

    That is for work that leaves Python alone most of the time, such as decoding and arithmetic on tensors. Where torch
    has one thread (`torch.set_num_threads(1)`, a worker of a `DataLoader`, a call from inside another one) or there is
    one item, it happens in the caller's own thread. No thread outlives the call, so a process may fork afterwards.

    Args:
        function: takes an item; called from several threads at once.
        items: of any kind.

    Returns:
        `list`, what the function gave for each item, in their order.

    Raises:
        Exception: that of the first item, in their order, for which the function raises one.
    """
    num_threads = torch.get_num_threads()
    num_workers = min(num_threads, len(items))
    if num_workers < 2:
        return [function(item) for item in items]
    try:
        # One thread of torch in each of ours: else every one brings a team as large as the machine. The setting is
        # the worker's own, and the default of threads to come, which is put back at the end.
        with ThreadPoolExecutor(num_workers, "atri-map", torch.set_num_threads, (1,)) as executor:
            return list(executor.map(function, items))
    finally:
        torch.set_num_threads(num_threads)


__all__ = ["map_in_threads"]
