"""Evaluation mode for as long as a model encodes, also in several threads at once."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn


_lock = Lock()
# How many contexts hold a module that was in training mode before the first of them.
_holders: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()


@contextmanager
def in_eval_mode(model: Any) -> Iterator[None]:
    """Put every module of a model into evaluation mode, and back afterwards. Other objects are left alone.

    Contexts of one model, or of a model and a part of it, may overlap in several threads: a module returns to training
    mode when the last context that holds it ends.
    """
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    with _lock:
        held = [module for module in modules if module.training or module in _holders]
        for module in held:
            _holders[module] = _holders.get(module, 0) + 1
            module.training = False
    try:
        yield
    finally:
        with _lock:
            for module in held:
                _holders[module] -= 1
                if not _holders[module]:
                    del _holders[module]
                    module.training = True


__all__ = ["in_eval_mode"]
