"""Find the rows of a table whose captions and ids are right, column by column, without making Python objects.

These are rows that `RowChecker` would return unchanged. All others have to be checked one by one.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modeling_atri.languages_atri import resolve_language

from .captions import caption_columns


class RightRows(NamedTuple):
    """Right captions of a table.

    Args:
        captions: the captions by FLORES-200 code, as a struct of lists of strings; meaningless in wrong rows.
        is_right: whether the captions of each row are right, `(rows,)`, bool.
        seen: all languages in which at least one row has captions.
    """

    captions: pa.ChunkedArray
    is_right: np.ndarray
    seen: list[str]


_STRINGS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
_LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
_TEXTS = pa.list_(pa.string())


def find_right_captions(table: pa.Table, languages: Sequence[str]) -> RightRows:
    """Find the rows with right captions in all of these languages. `seen` may have more languages."""
    parts = [_of_batch(batch, languages) for batch in table.to_batches(max_chunksize=2**16)]
    kind = pa.struct([(code, _TEXTS) for code in languages])
    return RightRows(
        pa.chunked_array([part.captions for part in parts], kind),
        np.concatenate([part.is_right for part in parts] or [np.zeros(0, dtype=bool)]),
        list(dict.fromkeys(code for part in parts for code in part.seen)),
    )


def _of_batch(batch: pa.RecordBatch, languages: Sequence[str]) -> RightRows:
    found = dict(_caption_arrays(batch, languages))
    lists: list[pa.Array] = []
    is_right = np.full(len(batch), all(code in found for code in languages))
    counts: np.ndarray | None = None
    for code in languages:
        texts, ok = _right_lists(found[code]) if code in found else (pa.nulls(len(batch), _TEXTS), is_right)
        number = pc.fill_null(pc.list_value_length(texts), 0).to_numpy()
        counts = number if counts is None else counts
        is_right &= ok & (number == counts)
        lists.append(texts)
    kind = pa.struct([(code, _TEXTS) for code in languages])
    captions = pa.StructArray.from_arrays(lists, fields=list(kind)) if lists else pa.nulls(len(batch), kind)
    return RightRows(captions, is_right, [code for code, texts in found.items() if texts.null_count < len(texts)])


def _caption_arrays(batch: pa.RecordBatch, languages: Sequence[str]) -> Iterator[tuple[str, pa.Array]]:
    """Columns of captions by language; none if their form has to be checked row by row."""
    names = batch.schema.names
    if "captions" in names and pa.types.is_struct(batch.schema.field("captions").type):
        column = batch.column("captions")
        codes = [_code(field.name) for field in column.type]
        if None not in codes and len(set(codes)) == len(codes):
            yield from ((code, pc.struct_field(column, index)) for index, code in enumerate(codes) if code)
        return
    try:
        columns = caption_columns(tuple(names), tuple(languages))
    except ValueError:
        return
    if "captions" not in names and all(len(of_language) == 1 for of_language in columns.values()):
        yield from ((code, batch.column(name)) for code, (name,) in columns.items())


def _code(name: str) -> str | None:
    try:
        return resolve_language(name)
    except ValueError:
        return None


def _right_lists(column: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Captions of one language as lists of strings, and which of them are right."""
    kind = column.type
    if any(check(kind) for check in _STRINGS):
        column = column.cast(pa.string())
        ok = _are_clean(column) & ~_is_true(pc.match_substring_regex(column, r"^\s*[\[{]"))  # may be JSON
        offsets = pa.array(np.arange(len(column) + 1, dtype=np.int32))
        return pa.ListArray.from_arrays(offsets, column), ok
    if not (any(check(kind) for check in _LISTS) and any(check(kind.value_type) for check in _STRINGS)):
        return pa.nulls(len(column), _TEXTS), np.zeros(len(column), dtype=bool)
    column = column.cast(_TEXTS)
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
    clean = _are_clean(column.flatten())
    stops = np.cumsum(lengths)
    sums = np.concatenate([[0], np.cumsum(clean)])
    return column, (lengths > 0) & (sums[stops] - sums[stops - lengths] == lengths)


def _are_clean(texts: pa.Array) -> np.ndarray:
    """Whether `clean_caption` would leave each string unchanged; false for null."""
    printable = pc.and_(pc.utf8_is_printable(texts), pc.invert(pc.match_substring(texts, "&")))
    trimmed = pc.and_(pc.equal(pc.utf8_trim_whitespace(texts), texts), pc.not_equal(texts, ""))
    return _is_true(pc.and_(printable, trimmed))


def _is_true(values: pa.Array | pa.ChunkedArray) -> np.ndarray:
    return np.asarray(pc.fill_null(values, False))


def right_names(table: pa.Table, column: str) -> tuple[pa.ChunkedArray, np.ndarray]:
    """Ids of a column as strings in Unicode form NFC, null if missing, and whether each row is right or null."""
    nothing = pa.chunked_array([pa.nulls(len(table), pa.large_string())])
    if column not in table.column_names:
        return nothing, np.ones(len(table), dtype=bool)
    values = table[column]
    if not (pa.types.is_integer(values.type) or any(check(values.type) for check in _STRINGS)):
        return nothing, np.full(len(table), pa.types.is_null(values.type))
    names = pc.utf8_normalize(values.cast(pa.large_string()), "NFC")
    return names, _is_true(pc.or_kleene(names.is_null(), pc.not_equal(names, "")))
