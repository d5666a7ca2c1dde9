"""The studies of `evidence.py`. Each module of this folder has a `STUDY`."""

from importlib import import_module
from pkgutil import iter_modules

from ..cells import Study


NAMES = tuple(sorted(module.name for module in iter_modules(__path__)))


def find_study(name: str) -> Study:
    """The study of a name."""
    return import_module(f"{__name__}.{name}").STUDY
