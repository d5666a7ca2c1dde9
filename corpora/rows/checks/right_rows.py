"""Find the rows of a table whose captions and ids are right, column by column, without making Python objects.

`RowChecker` would find no fault in these rows. All others have to be checked one by one. Captions that have to be
cleaned, a few of many, are the only ones that become Python strings.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modeling_atri.languages_atri import resolve_language

from ..captions import caption_columns, clean_caption


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


class RightTexts(NamedTuple):
    """Right captions, ids and groups of a table.

    Args:
        captions: as in `RightRows`.
        audio_ids, groups: ids and groups in Unicode form NFC, null if missing, `(rows,)`.
        is_right: whether all three of each row are right, `(rows,)`, bool.
        seen: as in `RightRows`.
    """

    captions: pa.ChunkedArray
    audio_ids: pa.ChunkedArray
    groups: pa.ChunkedArray
    is_right: np.ndarray
    seen: list[str]


_STRINGS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
_LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
_TEXTS = pa.list_(pa.string())


# Signs of the usual scripts that can be printed: ASCII without `&`, Latin, Greek, Cyrillic, Japanese, Chinese, Korean.
# They are found much faster than by looking up what each sign is.
_SIGNS = (
    r"!-%'-~\x{a1}-\x{ac}\x{ae}-\x{377}\x{400}-\x{52f}"
    r"\x{3001}-\x{303f}\x{3041}-\x{3096}\x{3099}-\x{30ff}\x{4e00}-\x{9fff}\x{ac00}-\x{d7a3}\x{ff01}-\x{ffbe}"
)
_CLEAN = f"^[{_SIGNS}](?:[ {_SIGNS}]*[{_SIGNS}])?$"


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
    if "captions" in names:
        return
    for code, of_language in columns.items():
        if len(of_language) == 1:
            yield code, batch.column(of_language[0])
        elif (joined := _joined([batch.column(name) for name in of_language])) is not None:
            yield code, joined


def _joined(columns: Sequence[pa.Array]) -> pa.Array | None:
    """The captions of several columns of strings as lists; None for other columns.

    Lists with a text that is missing, or that may be JSON, are null, because they have to be checked in their row.
    """
    if not all(any(check(column.type) for check in _STRINGS) for column in columns):
        return None
    texts = pa.concat_arrays([column.cast(pa.string()) for column in columns])
    # From column after column to row after row.
    order = np.arange(len(texts)).reshape(len(columns), -1).T.ravel()
    texts = texts.take(pa.array(order))
    is_odd = ~_is_true(pc.not_equal(pc.utf8_trim_whitespace(texts), "")) | _is_true(_may_be_json(texts))
    is_odd = is_odd.reshape(-1, len(columns)).any(axis=1)
    offsets = np.arange(len(is_odd) + 1, dtype=np.int32) * len(columns)
    return pa.ListArray.from_arrays(pa.array(offsets), texts, mask=pa.array(is_odd))


def _may_be_json(texts: pa.Array) -> pa.Array:
    return pc.match_substring_regex(texts, r"^\s*[\[{]")


def _code(name: str) -> str | None:
    try:
        return resolve_language(name)
    except ValueError:
        return None


def _right_lists(column: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Clean captions of one language as lists of strings, and which of the lists are right."""
    kind = column.type
    if any(check(kind) for check in _STRINGS):
        column = column.cast(pa.string())
        texts, is_clean = _cleaned(column)
        ok = is_clean & ~_is_true(_may_be_json(column))
        offsets = pa.array(np.arange(len(column) + 1, dtype=np.int32))
        return pa.ListArray.from_arrays(offsets, texts), ok
    if not (any(check(kind) for check in _LISTS) and any(check(kind.value_type) for check in _STRINGS)):
        return pa.nulls(len(column), _TEXTS), np.zeros(len(column), dtype=bool)
    column = column.cast(_TEXTS)
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
    texts, clean = _cleaned(column.flatten())
    stops = np.cumsum(lengths)
    sums = np.concatenate([[0], np.cumsum(clean)])
    offsets = pa.array(np.concatenate([[0], stops]).astype(np.int32))
    lists = pa.ListArray.from_arrays(offsets, texts, mask=column.is_null() if column.null_count else None)
    return lists, (lengths > 0) & (sums[stops] - sums[stops - lengths] == lengths)


def _cleaned(texts: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Strings as `clean_caption` returns them, and which of them are captions; null and empty ones are not."""
    is_odd = _is_true(pc.invert(pc.match_substring_regex(texts, _CLEAN)))
    ok = _is_true(texts.is_valid())
    if not is_odd.any():
        return texts, ok
    others = texts.filter(pa.array(is_odd))
    printable = pc.and_(pc.utf8_is_printable(others), pc.invert(pc.match_substring(others, "&")))
    trimmed = pc.and_(pc.equal(pc.utf8_trim_whitespace(others), others), pc.not_equal(others, ""))
    is_odd[is_odd] = ~_is_true(pc.and_(printable, trimmed))
    if not is_odd.any():
        return texts, ok
    cleaned = [clean_caption(text) for text in texts.filter(pa.array(is_odd)).to_pylist()]
    ok[is_odd] = [bool(text) and not text.isspace() for text in cleaned]
    return pc.replace_with_mask(texts, pa.array(is_odd), pa.array(cleaned, pa.string())), ok


def _is_true(values: pa.Array | pa.ChunkedArray) -> np.ndarray:
    return np.asarray(pc.fill_null(values, False))


def find_right_texts(table: pa.Table, languages: Sequence[str], group_column: str | None) -> RightTexts:
    """Find the rows with right captions in all of these languages, and with right ids and groups.

    Args:
        table: the rows.
        languages: FLORES-200 codes. Without any, no row is right.
        group_column: the column of groups, which every row needs; None for an optional `group_id`.
    """
    captions, is_right, seen = find_right_captions(table, languages)
    audio_ids, ids_are_right = right_names(table, "audio_id")
    groups, groups_are_right = right_names(table, group_column or "group_id")
    is_right &= bool(languages) & ids_are_right & groups_are_right
    if group_column is not None:
        is_right &= np.asarray(groups.is_valid())
    return RightTexts(captions, audio_ids, groups, is_right, seen)


def rows_of(table: pa.Table) -> Iterator[dict[str, Any]]:
    """The rows one after the other, as Python objects, of which there are few at a time."""
    for batch in table.to_batches(max_chunksize=100):
        yield from batch.to_pylist()


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
