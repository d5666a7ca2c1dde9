"""Lazy imports: the public names of a package are imported when they are first used."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_names(package: str, module_of: Mapping[str, str]) -> Callable[[str], Any]:
    """Make the `__getattr__` of a package's `__init__.py` (PEP 562), so that importing the package loads nothing else.

    Args:
        package: dotted name of the package.
        module_of: public name -> module that defines it, either relative to `package` or starting with
            `modeling_atri.`.
    """

    def load(name: str) -> Any:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = module_of[name]
        return getattr(import_module(module if module.startswith("modeling_atri.") else f"{package}.{module}"), name)

    return load
