"""Rows: their schema, how they are loaded and checked, and the list of rows that were left out."""

from typing import TYPE_CHECKING

from modeling_atri.lazy import lazy_names


_MODULE_OF = {
    "BadRow": "bad_rows",
    "BadRowError": "bad_rows",
    "Row": "schema",
    "load_rows": "load",
}

__all__ = list(_MODULE_OF)
__getattr__ = lazy_names(__name__, _MODULE_OF)


if TYPE_CHECKING:
    from .bad_rows import BadRow, BadRowError
    from .load import load_rows
    from .schema import Row
