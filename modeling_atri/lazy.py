"""Lazy imports: the public names of a package are imported when they are first used."""

import ast
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from pkgutil import get_data
from typing import Any


def lazy_names(package: str, file: str) -> tuple[Callable[[str], Any], list[str]]:
    """Make `__getattr__` (PEP 562) and `__all__` of a package, so that importing the package loads nothing else.

    The names are those that the package's `__init__.py` imports under `if TYPE_CHECKING:`. They are written
    `name as name`, which tells type checkers that they are re-exported.

    Args:
        package: dotted name of the package.
        file: path of its `__init__.py`.
    """
    module_of = {
        alias.name: f"{'.' * node.level}{node.module}"
        for block in ast.parse(get_data(package, Path(file).name) or b"").body  # from a zip file too
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }

    def load(name: str) -> Any:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(module_of[name], package), name)

    return load, list(module_of)
