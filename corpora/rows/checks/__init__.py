"""Checks of rows: a checker of single rows, whole columns in which only odd rows are checked alone, and ids."""

from typing import TYPE_CHECKING

from modeling_atri.lazy import lazy_names


if TYPE_CHECKING:
    from .checked_row import CheckedRow as CheckedRow
    from .row_checker import VECTOR_COLUMNS as VECTOR_COLUMNS
    from .row_checker import RowChecker as RowChecker
    from .row_checker import wrong_rows_error as wrong_rows_error

__getattr__, __all__ = lazy_names(__name__, __file__)
