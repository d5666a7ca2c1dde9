"""Evaluation of retrieval in several languages."""

from typing import TYPE_CHECKING

from modeling_atri.lazy import lazy_names


if TYPE_CHECKING:
    from .retrieval import (
        RetrievalEmbeddings,
        RetrievalSet,
        embed_retrieval_set,
        leave_out_unreadable,
        retrieval_table,
    )

__getattr__, __all__ = lazy_names(__name__, __file__)
