"""Earlier import path of `modeling_atri.mteb`, kept for existing code."""

from typing import TYPE_CHECKING

from modeling_atri.lazy import lazy_names


_MODULE_OF = {
    "AtriMtebEncoder": "modeling_atri.mteb",
}

__all__ = list(_MODULE_OF)
__getattr__ = lazy_names(__name__, _MODULE_OF)


if TYPE_CHECKING:
    from modeling_atri.mteb import AtriMtebEncoder
