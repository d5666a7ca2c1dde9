"""One type for each column of side files, whose values are JSON or the text of a CSV file."""

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any, NamedTuple

import pyarrow as pa


BOOL, WHOLE, NUMBER, DAY = pa.bool_(), pa.int64(), pa.float64(), pa.date32()
TIME, TIME_UTC = pa.timestamp("us"), pa.timestamp("us", "UTC")
TEXT, TEXTS = pa.string(), pa.list_(pa.string())
_NAMES = {
    BOOL: "true or false",
    WHOLE: "whole numbers",
    NUMBER: "numbers",
    DAY: "days",
    TIME: "times",
    TIME_UTC: "times with a time zone",
    TEXT: "text",
    TEXTS: "lists of texts",
}
# Values of the first type can be stored as the second one. All can be stored as text.
_FITS = {(WHOLE, NUMBER), (DAY, TIME), *((kind, TEXTS) for kind in (TEXT, DAY, TIME, TIME_UTC))}

_WHOLE_TEXT = re.compile(r"-?(0|[1-9]\d*)")
_NUMBER_TEXT = re.compile(r"-?(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][+-]?\d+)?")
_DAY_TEXT = re.compile(r"\d{4}-\d{2}-\d{2}")
_TIME_TEXT = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?")
_MISSING_TEXTS = {"na", "n/a", "nan", "null", "none"}  # in a CSV file, beside values that are no text
_BOOLS = {"true": True, "false": False}


class Cell(NamedTuple):
    """A value of a column as it is in a file, and its place there, such as `"metadata.csv, line 3"`."""

    value: Any
    place: str
    is_text: bool = False  # of a CSV file, which has no other values


class TypedColumn(NamedTuple):
    """The values of a column in one type, which is None if there are none, and a sentence about odd ones, if any."""

    type: pa.DataType | None
    values: list[Any]
    note: str | None = None


def typed_column(name: str, cells: Sequence[Cell], stored: pa.DataType | None = None) -> TypedColumn:
    """Give the values of a column one type.

    Types are whole numbers, numbers, true or false, days and times in ISO 8601, text, and lists of texts. Whole
    numbers beside other numbers become numbers, days beside times become times, and texts beside lists become lists.
    Other JSON values are written as JSON texts. What differs otherwise is stored as text. In a CSV file, `NA`, `NaN`
    and their like are missing values where the others are no text.

    Args:
        name: the column, for messages.
        cells: its values; None is missing.
        stored: the type of the column in the index, which stays; None if there is no such column.

    Raises:
        ValueError: a value does not fit the type of the column in the index. A column of whole numbers takes numbers,
            because the index changes it, and one of text takes all.
    """
    parsed = [_parsed(cell) for cell in cells]
    if any(kind == TEXT for kind, _ in parsed if kind is not None):
        parsed = [_parsed(cell) if not _is_missing(cell) else (TEXT, cell.value) for cell in cells]
    kinds = Counter(kind for kind, _ in parsed if kind is not None)
    if not kinds:
        return TypedColumn(None, [None] * len(cells))
    found = next((kind for kind in kinds if all(fits(one, kind) for one in kinds)), TEXT)
    usual, note = kinds.most_common(1)[0][0], None
    if stored is not None:
        target = found if (stored, found) == (WHOLE, NUMBER) else stored
        if odd := _first_odd(cells, parsed, target):
            raise ValueError(
                f"{odd.place}: the column `{name}` holds {_shown(odd.value)}, but the index holds "
                f"{_NAMES.get(stored, stored)} there. Correct the value, or give the column another name."
            )
    else:
        target = found
        if found == TEXT and usual != TEXT and (odd := _first_odd(cells, parsed, usual)):
            note = (
                f"{odd.place}: the column `{name}` holds {_shown(odd.value)}, and mostly {_NAMES[usual]} elsewhere. "
                "It is indexed as text."
            )
    values = [
        None if kind is None else _converted(value, target, cell)
        for (kind, value), cell in zip(parsed, cells, strict=True)
    ]
    return TypedColumn(target, values, note)


def fits(kind: pa.DataType, target: pa.DataType) -> bool:
    """Whether values of a type can be stored as another one without becoming text."""
    return kind == target or (kind, target) in _FITS


def _first_odd(
    cells: Sequence[Cell], parsed: Sequence[tuple[pa.DataType | None, Any]], target: pa.DataType
) -> Cell | None:
    """The first value that cannot be stored as a type."""
    for cell, (kind, _) in zip(cells, parsed, strict=True):
        if kind is not None and target != TEXT and not fits(kind, target):
            return cell
    return None


def _is_missing(cell: Cell) -> bool:
    return cell.is_text and isinstance(cell.value, str) and cell.value.lower() in _MISSING_TEXTS


def _parsed(cell: Cell) -> tuple[pa.DataType | None, Any]:
    """Type and value of a cell; None and None if it is missing."""
    value = cell.value
    if value is None or value == "" or _is_missing(cell):
        return None, None
    if isinstance(value, bool):
        return BOOL, value
    if isinstance(value, int):
        return (WHOLE, value) if -(2**63) <= value < 2**63 else (TEXT, str(value))
    if isinstance(value, float):
        return (None, None) if math.isnan(value) else (NUMBER, value)
    if isinstance(value, datetime):
        return (TIME, value) if value.tzinfo is None else (TIME_UTC, value.astimezone(UTC))
    if isinstance(value, date):
        return DAY, value
    if isinstance(value, str):
        return _parsed_text(value, cell.is_text)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return TEXTS, value
    return TEXT, json.dumps(value, ensure_ascii=False, default=str)


def _parsed_text(text: str, is_csv: bool) -> tuple[pa.DataType, Any]:
    stripped = text.strip()
    if is_csv:
        if stripped.lower() in _BOOLS:
            return BOOL, _BOOLS[stripped.lower()]
        if _WHOLE_TEXT.fullmatch(stripped) and -(2**63) <= int(stripped) < 2**63:
            return WHOLE, int(stripped)
        if _NUMBER_TEXT.fullmatch(stripped):
            return NUMBER, float(stripped)
    try:
        if _DAY_TEXT.fullmatch(stripped):
            return DAY, date.fromisoformat(stripped)
        if _TIME_TEXT.fullmatch(stripped):
            found = datetime.fromisoformat(stripped)
            return (TIME, found) if found.tzinfo is None else (TIME_UTC, found.astimezone(UTC))
    except ValueError:  # such as the 31st of February
        pass
    return TEXT, text


def _converted(value: Any, target: pa.DataType, cell: Cell) -> Any:
    """A value in the type of its column."""
    if target in (TEXT, TEXTS):
        if target == TEXTS and isinstance(value, list):
            return value
        text = cell.value if isinstance(cell.value, str) else _as_text(cell.value)
        return [text] if target == TEXTS else text
    if target == NUMBER:
        return float(value)
    if target == TIME and not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day)
    return value


def _as_text(value: Any) -> str:
    return (
        json.dumps(value, ensure_ascii=False, default=str) if not isinstance(value, (date, datetime)) else str(value)
    )


def _shown(value: Any) -> str:
    shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return repr(shown if len(shown) <= 60 else f"{shown[:60]}...")
