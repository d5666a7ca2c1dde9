"""Measurements of the errors that ATRI's theory describes: distribution, alignment and weight errors."""

from typing import TYPE_CHECKING

from modeling_atri.lazy import lazy_names


if TYPE_CHECKING:
    from .callback import DiagnosticsCallback as DiagnosticsCallback

__getattr__, __all__ = lazy_names(__name__, __file__)
