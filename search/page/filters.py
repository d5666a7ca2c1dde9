"""Filters of the page: what can be chosen for each column of an index, and the condition of SQL that it means."""

import math
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from modeling_atri.bounds import is_number

from ..index.tables import OF_FILES, IndexTables, all_of, column, quoted


MAX_CHOICES = 200  # of one column; one with more values, such as a title, is searched for a part of the text
_MAX_TEXT = 200  # characters
_DURATION = "duration_s"


@dataclass(frozen=True)
class Filter:
    """A filter for a column.

    Args:
        column (`str`): name of the column.
        kind: `choice` takes any of some texts, `range` a pair of the least and the greatest number, `yes_no` a list
            of truth values, and `text` a part of the text.
        choices: the texts that occur, the most frequent one first; for `choice`.
        low, high (`float`): the least and the greatest number that occur; for `range`.
        is_list: whether a sound has several texts in the column, such as tags.
        is_whole: whether the numbers of a range are whole.
    """

    column: str
    kind: Literal["choice", "range", "yes_no", "text"]
    choices: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    is_list: bool = False
    is_whole: bool = False


class IndexFilters:
    """The filters of an index as it is now. They are found again when the index has changed."""

    def __init__(self, tables: IndexTables):
        self._tables = tables
        self._version: int | None = None
        self._found: list[Filter] = []

    def now(self) -> list[Filter]:
        version = self._tables.windows.version
        if version != self._version:
            self._found, self._version = find_filters(self._tables), version
        return self._found


def find_filters(tables: IndexTables) -> list[Filter]:
    """The filters of an index: the length, and the columns of texts, lists of texts, numbers and truth values.

    A column in which all sounds have the same value, or none, has no filter.
    """
    types = {_DURATION: pa.float64(), **tables.columns}
    rows = tables.rows(OF_FILES, list(types))
    found = (_filter_of(name, rows[name]) for name in types)
    return [item for item in found if item is not None]


def where_of(filters: Iterable[Filter], values: Mapping[str, Any]) -> str | None:
    """The condition that a sound meets all filters; None without a filter.

    Args:
        filters: the filters of the index.
        values: the value of each filter by column: a list of texts for `choice`, a pair of numbers or None for
            `range`, a list of truth values for `yes_no`, and a text for `text`. None and empty values do not filter.

    Raises:
        ValueError: there is no filter for a column, or a value is of the wrong type.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"Filters are given by column, such as {{'duration_s': [None, 30]}}; got {values!r}.")
    by_column = {item.column: item for item in filters}
    conditions = []
    for name, value in values.items():
        if name not in by_column:
            raise ValueError(
                f"There is no filter for the column {name!r}. The columns are {', '.join(by_column) or 'none'}."
            )
        if value is not None and value not in ("", []):
            conditions.append(_condition(by_column[name], value))
    return all_of(*conditions)


def _filter_of(name: str, values: pa.ChunkedArray) -> Filter | None:
    kind = values.type
    if pa.types.is_boolean(kind):
        return Filter(name, "yes_no") if len(pc.unique(values.drop_null())) > 1 else None
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        least_and_greatest = pc.min_max(values).as_py()
        low, high = least_and_greatest["min"], least_and_greatest["max"]
        if low is None or not (math.isfinite(low) and math.isfinite(high)) or low == high:
            return None
        return Filter(name, "range", low=low, high=high, is_whole=pa.types.is_integer(kind))
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    if not pa.types.is_string(kind.value_type if is_list else kind):
        return None
    texts = pc.list_flatten(values) if is_list else values
    numbers = Counter({item["values"]: item["counts"] for item in pc.value_counts(texts.drop_null()).to_pylist()})
    if len(numbers) < (1 if is_list else 2):
        return None
    if len(numbers) > MAX_CHOICES:
        return Filter(name, "text", is_list=is_list)
    ordered = sorted(numbers, key=lambda text: (-numbers[text], text))
    return Filter(name, "choice", tuple(ordered), is_list=is_list)


def _condition(item: Filter, value: Any) -> str:
    name = column(item.column)
    if item.kind == "choice":
        texts = _texts(item, value)
        if item.is_list:
            return " OR ".join(f"array_has({name}, {quoted(text)})" for text in texts)
        return f"{name} IN ({', '.join(map(quoted, texts))})"
    if item.kind == "yes_no":
        if not isinstance(value, (list, tuple)) or not all(isinstance(truth, bool) for truth in value):
            raise ValueError(f"The filter for {item.column!r} takes a list of true and false, got {value!r}.")
        return " OR ".join(f"{name} = {str(truth).lower()}" for truth in value)
    if item.kind == "range":
        least, greatest = _pair(item, value)
        at_least = None if least is None else f"{name} >= {_number(least)}"
        return all_of(at_least, None if greatest is None else f"{name} <= {_number(greatest)}") or "TRUE"
    if not isinstance(value, str) or len(value) > _MAX_TEXT:
        raise ValueError(f"The filter for {item.column!r} takes a text of at most {_MAX_TEXT} characters.")
    text = f"array_to_string({name}, '\n')" if item.is_list else name
    return f"contains(lower({text}), {quoted(value.lower())})"


def _number(value: float) -> str:
    return repr(value if isinstance(value, int) else float(value))


def _texts(item: Filter, value: Any) -> Sequence[str]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, (list, tuple)) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"The filter for {item.column!r} takes a list of texts, got {value!r}.")
    if len(texts) > MAX_CHOICES or sum(map(len, texts)) > _MAX_TEXT * MAX_CHOICES:
        raise ValueError(f"The filter for {item.column!r} takes at most {MAX_CHOICES} texts.")
    return texts


def _pair(item: Filter, value: Any) -> tuple[float | None, float | None]:
    """The ends of a range. An end is None where it does not filter."""
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise ValueError(f"The filter for {item.column!r} takes the least and the greatest number, got {value!r}.")
    for number in value:
        if number is not None and not (is_number(number) and abs(number) <= sys.float_info.max):
            raise ValueError(f"The filter for {item.column!r} takes two numbers, got {value!r}.")
    least, greatest = value
    if least is not None and greatest is not None and least > greatest:
        raise ValueError(
            f"No number is at least {least} and at most {greatest}. Exchange the ends of {item.column!r}."
        )
    return least, greatest
