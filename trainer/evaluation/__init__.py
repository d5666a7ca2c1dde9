"""Evaluation of retrieval in several languages."""

from typing import TYPE_CHECKING

from modeling_atri.lazy import lazy_names


if TYPE_CHECKING:
    from .retrieval import (
        RetrievalEmbeddings as RetrievalEmbeddings,
    )
    from .retrieval import (
        RetrievalSet as RetrievalSet,
    )
    from .retrieval import (
        embed_retrieval_set as embed_retrieval_set,
    )
    from .retrieval import (
        leave_out_unreadable as leave_out_unreadable,
    )
    from .retrieval import (
        retrieval_table as retrieval_table,
    )

__getattr__, __all__ = lazy_names(__name__, __file__)
