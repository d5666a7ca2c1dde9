"""Embeddings of many sounds on disk: parts that `atri encode` writes, and look-ups in stores of any origin."""

from typing import TYPE_CHECKING

from modeling_atri.lazy import lazy_names


if TYPE_CHECKING:
    from .store import EmbeddingStore as EmbeddingStore
    from .store import load_embeddings as load_embeddings
    from .vectors import StoredVectors as StoredVectors
    from .vectors import open_vectors as open_vectors

__getattr__, __all__ = lazy_names(__name__, __file__)
