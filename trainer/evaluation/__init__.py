"""Evaluation of retrieval in several languages."""

from typing import TYPE_CHECKING

from modeling_atri.lazy import lazy_names


_MODULE_OF = {
    "RetrievalEmbeddings": "retrieval",
    "RetrievalSet": "retrieval",
    "embed_retrieval_set": "retrieval",
    "leave_out_unreadable": "retrieval",
    "retrieval_table": "retrieval",
}

__all__ = list(_MODULE_OF)
__getattr__ = lazy_names(__name__, _MODULE_OF)


if TYPE_CHECKING:
    from .retrieval import (
        RetrievalEmbeddings,
        RetrievalSet,
        embed_retrieval_set,
        leave_out_unreadable,
        retrieval_table,
    )
