"""Measurements of the errors that ATRI's theory describes: distribution, alignment and weight errors."""

from typing import TYPE_CHECKING

from modeling_atri.lazy import lazy_names


_MODULE_OF = {
    "DiagnosticsCallback": "callback",
}

__all__ = list(_MODULE_OF)
__getattr__ = lazy_names(__name__, _MODULE_OF)


if TYPE_CHECKING:
    from .callback import DiagnosticsCallback
