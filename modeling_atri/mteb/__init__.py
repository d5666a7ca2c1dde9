"""ATRI models in MTEB, the benchmark of text, image and audio embeddings (extra `mteb`)."""

from typing import TYPE_CHECKING

from modeling_atri.lazy import lazy_names


_MODULE_OF = {
    "AtriMtebEncoder": "encoder",
}

__all__ = list(_MODULE_OF)
__getattr__ = lazy_names(__name__, _MODULE_OF)


if TYPE_CHECKING:
    from .encoder import AtriMtebEncoder
