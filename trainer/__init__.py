"""Training, evaluation and data."""

from importlib import import_module
from typing import TYPE_CHECKING, Any


_MODULE_OF = {
    "AtriTrainer": "trainer",
    "AtriTrainingArguments": "arguments",
    "AtriDataCollator": "data.collator",
    "load_rows": "data.rows",
}

__all__ = list(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)
    globals()[name] = value
    return value


if TYPE_CHECKING:
    from .arguments import AtriTrainingArguments
    from .data.collator import AtriDataCollator
    from .data.rows import load_rows
    from .trainer import AtriTrainer
