"""ATRI models in MTEB, the benchmark of text, image and audio embeddings (extra `mteb`)."""

from .encoder import AtriMtebEncoder


__all__ = ["AtriMtebEncoder"]
