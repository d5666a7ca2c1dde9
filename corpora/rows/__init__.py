"""Rows: their schema, loading, checks, look-ups of stored embeddings, and the list of rows that were left out."""

from typing import TYPE_CHECKING

from modeling_atri.lazy import lazy_names


if TYPE_CHECKING:
    from .bad_rows import BadRow as BadRow
    from .bad_rows import BadRowError as BadRowError
    from .load import load_rows as load_rows
    from .schema import Row as Row

__getattr__, __all__ = lazy_names(__name__, __file__)
