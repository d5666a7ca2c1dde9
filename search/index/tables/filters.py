"""Filters of SQL for the rows of an index, and the explanation of one that cannot be used."""

import re
from collections.abc import Iterable
from difflib import get_close_matches

import pyarrow as pa

from .places import reason_of
from .rows import KINDS, VECTOR, SoundKey


# What to write instead, by a part of LanceDB's reason.
_ADVICE = {
    "literal of type 'Date32'": ". Write a day as date '2024-05-01'",
    "literal of type 'Timestamp": ". Write a time as timestamp '2024-05-01 12:00:00'",
    "literal of type 'List(": ". Ask what a list holds with array_has(column, 'text')",
}


def quoted(text: str) -> str:
    """A text as a literal of SQL. Every text that comes into a filter of this package goes through here."""
    return "'" + text.replace("'", "''") + "'"


def of_kinds(by: str) -> str:
    """A filter for the rows that a search by `"file"` or `"moment"` reads."""
    return f"kind IN ({', '.join(map(quoted, KINDS[by]))})"


OF_FILES, OF_MOMENTS = map(of_kinds, KINDS)


def column(name: str) -> str:
    """The name of a column in SQL."""
    return "`" + name.replace("`", "``") + "`"


def of_sounds(keys: Iterable[SoundKey]) -> str:
    """A filter for the rows of some sounds."""
    by_folder: dict[str, list[str]] = {}
    for key in keys:
        by_folder.setdefault(key.folder, []).append(key.path)
    parts = [
        f"(folder = {quoted(folder)} AND path IN ({', '.join(map(quoted, paths))}))"
        for folder, paths in by_folder.items()
    ]
    return f"({' OR '.join(parts)})" if parts else "FALSE"


def of_folder(folder: str) -> str:
    """A filter for the rows of a folder."""
    return f"folder = {quoted(folder)}"


def all_of(*filters: str | None) -> str | None:
    """A filter for the rows that meet all filters. Filters that are None are left out.

    Raises:
        ValueError: the parentheses of a filter do not match, so that it would change the meaning of the others.
    """
    given = []
    for condition in filters:
        if condition is not None:
            _check_parentheses(condition)
            given.append(f"({condition})")
    return " AND ".join(given) or None


def _check_parentheses(condition: str) -> None:
    depth = 0
    for mark in re.findall(r"[()]", re.sub(r"'(?:[^']|'')*'|`[^`]*`|\"[^\"]*\"", "", condition)):
        depth += 1 if mark == "(" else -1
        if depth < 0:
            break
    if depth:
        raise ValueError(
            f"The filter {condition!r} cannot be used: a parenthesis of it has no partner. It is a condition of SQL "
            'on the columns, such as "duration_s < 30".'
        )


def explained(error: Exception, where: str, schema: pa.Schema) -> ValueError:
    """The error for a filter of a user's that LanceDB cannot apply to a table of this schema."""
    shown = {item.name: item.type for item in schema if item.name != VECTOR}
    reason = reason_of(error)
    if unknown := re.search(r"No field named (\S+?)\. ", reason):
        name = unknown[1].strip('"`')
        near = get_close_matches(name, shown, n=1)
        reason = f"there is no column {name!r}" + (f". Did you mean {near[0]!r}?" if near else "")
    else:
        reason += next((advice for part, advice in _ADVICE.items() if part in reason), "")
    return ValueError(
        f"The filter {where!r} cannot be used: {reason.rstrip('.?')}{'?' if reason.endswith('?') else '.'} It is a "
        f"condition of SQL on the columns {', '.join(f'{name} ({kind})' for name, kind in shown.items())}, such as "
        '"duration_s < 30".'
    )
