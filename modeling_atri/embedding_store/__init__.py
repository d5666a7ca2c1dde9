"""Embeddings of many sounds on disk, in parts that remain when a run is stopped."""

from typing import TYPE_CHECKING

from modeling_atri.lazy import lazy_names


_MODULE_OF = {
    "EmbeddingStore": "store",
    "load_embeddings": "store",
}

__all__ = list(_MODULE_OF)
__getattr__ = lazy_names(__name__, _MODULE_OF)


if TYPE_CHECKING:
    from .store import EmbeddingStore, load_embeddings
