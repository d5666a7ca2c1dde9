"""The memory that autograd keeps for the backward pass."""

import weakref
from collections.abc import Callable
from typing import Any

import torch


def peak_saved_megabytes(run: Callable[[], Any], standing: list[Any]) -> float:
    """Measure the most that autograd keeps for backward at any time of `run`, in megabytes (10^6 bytes).

    Args:
        run: function that runs forward and backward.
        standing: values whose tensors are in memory anyway and are not counted.
    """
    tensors = [value for value in standing if isinstance(value, torch.Tensor)]
    counter = _SavedTensors({tensor.untyped_storage().data_ptr() for tensor in tensors})
    with torch.autograd.graph.saved_tensors_hooks(counter.pack, lambda saved: saved.tensor):
        run()
    # A step with all languages at once also makes logits that no loss uses; their scale, one number, stays.
    if counter.bytes > 1e-4 * counter.peak:
        raise RuntimeError(f"{counter.bytes} bytes are still kept after the step: the count is wrong.")
    return counter.peak / 1e6


class _SavedTensors:
    """Counts the bytes that autograd keeps for backward, each storage once."""

    def __init__(self, ignored: set[int]):
        self.ignored = ignored
        self.holders: dict[int, int] = {}  # address of a storage: number of nodes that keep it
        self.bytes = self.peak = 0

    def pack(self, tensor: torch.Tensor) -> "_Saved":
        saved = _Saved(tensor)
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self.ignored:
            self._add(storage.data_ptr(), storage.nbytes())
            # Autograd releases the object when its node has run backward.
            weakref.finalize(saved, self._remove, storage.data_ptr(), storage.nbytes())
        return saved

    def _add(self, address: int, size: int) -> None:
        self.holders[address] = self.holders.get(address, 0) + 1
        if self.holders[address] == 1:
            self.bytes += size
            self.peak = max(self.peak, self.bytes)

    def _remove(self, address: int, size: int) -> None:
        self.holders[address] -= 1
        if self.holders[address] == 0:
            del self.holders[address]
            self.bytes -= size


class _Saved:
    """Holds a tensor; its end tells when autograd releases the tensor."""

    def __init__(self, tensor: torch.Tensor):
        self.tensor = tensor
