"""Captions and ids of a data set for an evaluation, which stay in the file that the rows are mapped from."""

from collections.abc import Hashable, Iterator, Sequence
from typing import Any, NamedTuple, overload

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modeling_atri.corpora.rows.bad_rows import MISSING_LANGUAGE, UNEQUAL_CAPTIONS, BadRowError
from modeling_atri.corpora.rows.captions import as_list, captions_of, resolve_captions, unescape_entities
from modeling_atri.corpora.rows.checks.right_rows import find_right_captions
from modeling_atri.corpora.rows.kept.facts import facts_of

from ..data.batches import group_of, without_audio


_TEXTS_AT_ONCE = 1024
_ROWS_AT_ONCE = 4096


class MappedTexts(Sequence[str]):
    """Texts in an Arrow column. Each becomes a Python string when it is used.

    Args:
        column: strings without nulls.
    """

    def __init__(self, column: pa.ChunkedArray):
        self._column = column

    def __len__(self) -> int:
        return len(self._column)

    def __iter__(self) -> Iterator[str]:
        for chunk in self._column.chunks:
            for start in range(0, len(chunk), _TEXTS_AT_ONCE):
                yield from chunk.slice(start, _TEXTS_AT_ONCE).to_pylist()

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> "MappedTexts": ...

    def __getitem__(self, index: int | slice) -> "str | MappedTexts":
        if not isinstance(index, slice):
            return self._column[index].as_py()
        start, stop, step = index.indices(len(self))
        if step == 1:
            return MappedTexts(self._column.slice(start, max(0, stop - start)))
        return self.select(range(start, stop, step))

    def select(self, places: Sequence[int]) -> "MappedTexts":
        """The texts at some places, which are copied."""
        return MappedTexts(self._column.take(pa.array(np.asarray(places, dtype=np.int64))))

    def different(self) -> "MappedTexts":
        """Each text once, in the order in which they come first."""
        return MappedTexts(pa.chunked_array([self._column.unique()]))


class MappedCaptions(NamedTuple):
    """What a `RetrievalSet` needs of rows, besides the clips. The fields are named as there."""

    captions: dict[str, MappedTexts]
    positives: list[list[int]]
    audio_ids: Sequence[Any]
    owners: Any  # an array of integers


def map_captions(rows: datasets.Dataset, languages: Sequence[str]) -> MappedCaptions:
    """Map the captions of a data set, or copy those that have to be looked at one by one into Arrow columns.

    Args:
        rows: The rows. Those that `load_rows` returned are not checked again.
        languages: FLORES-200 codes.

    Raises:
        BadRowError: A row lacks a language, or has different numbers of captions in the languages.
    """
    facts = facts_of(rows)
    if facts is not None and set(languages) <= set(facts.languages):
        table = rows.with_format(None).select_columns(["audio_id", "captions", "group_id"]).with_format("arrow")[:]
        lists = {code: pc.struct_field(table["captions"], code) for code in languages}
        if not any(_may_change(_flat(column)) for column in lists.values()):
            groups = table["group_id"].combine_chunks().dictionary_encode().indices.to_pylist()
            return _of_lists(lists, groups, MappedTexts(table["audio_id"]))
    columns: Any = without_audio(rows)
    audio_ids = [index if name is None else name for index, name in enumerate(_values(columns, "audio_id"))]
    groups = [
        group_of({"audio_id": name, "group_id": group})
        for name, group in zip(audio_ids, _values(columns, "group_id"), strict=True)
    ]
    parts: list[pa.StructArray] = []
    for start in range(0, len(columns), _ROWS_AT_ONCE):
        block = columns.select(range(start, min(start + _ROWS_AT_ONCE, len(columns))))
        parts += _captions_of_block(block, languages, audio_ids[start : start + _ROWS_AT_ONCE])
    captions = pa.chunked_array(parts, _kind_of(languages))
    return _of_lists({code: pc.struct_field(captions, code) for code in languages}, groups, audio_ids)


def _of_lists(
    lists: dict[str, pa.ChunkedArray], groups: Sequence[Hashable], audio_ids: Sequence[Any]
) -> MappedCaptions:
    """Captions, from the lists of each row, and the clips that they fit."""
    counts = pc.list_value_length(next(iter(lists.values()))).to_numpy()
    members: dict[Hashable, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    positives: list[list[int]] = []
    for group, count in zip(groups, counts.tolist(), strict=True):
        positives += [members[group]] * count  # one list, which all captions of the group share
    texts = {code: MappedTexts(_flat(column)) for code, column in lists.items()}
    return MappedCaptions(texts, positives, audio_ids, np.repeat(np.arange(len(groups)), counts))


def _values(rows: datasets.Dataset, column: str) -> Sequence[Any]:
    return rows[column][:] if column in rows.column_names else [None] * len(rows)


def _kind_of(languages: Sequence[str]) -> pa.DataType:
    return pa.struct([(code, pa.list_(pa.string())) for code in languages])


def _captions_of_block(
    rows: datasets.Dataset, languages: Sequence[str], audio_ids: Sequence[Any]
) -> Sequence[pa.StructArray]:
    """The lists of captions of some rows, without a copy if nothing about them has to be changed."""
    table = rows.with_format("arrow")[:]
    found = find_right_captions(table, languages)
    if found.is_right.all() and all(_is_unchanged(table, found.captions, code) for code in languages):
        chunks: Sequence[pa.StructArray] = found.captions.chunks
        return chunks
    captions = [parallel_captions(row, languages, name) for row, name in zip(rows, audio_ids, strict=True)]
    return [pa.array(captions, _kind_of(languages))]


def _is_unchanged(table: pa.Table, found: pa.ChunkedArray, code: str) -> bool:
    """Whether captions that were found in a table are there in the same words."""
    kind = table.schema.field("captions").type if "captions" in table.column_names else None
    if kind is None or not pa.types.is_struct(kind) or kind.get_field_index(code) < 0:
        return False
    written = pc.struct_field(table["captions"], code)
    is_plain = pa.types.is_list(written.type) and pa.types.is_string(written.type.value_type)
    return is_plain and bool(_flat(written).equals(_flat(pc.struct_field(found, code))))


def parallel_captions(row: dict, languages: Sequence[str], name: Any) -> dict[str, list[str]]:
    """The captions of a row in all of these languages, in each of them the same number.

    Raises:
        BadRowError: The row `name` does not have them.
    """
    try:
        return captions_of(row, languages, name)
    except BadRowError as error:
        reason = f"{error}."
        if error.kind in (MISSING_LANGUAGE, UNEQUAL_CAPTIONS):
            found = resolve_captions(row, languages, problems=[]) or {}
            counts = {code: len(as_list(found.get(code)) or ()) for code in languages}
            reason = f"it has {counts} captions. Each language needs the same captions, at least one."
        raise BadRowError(f"Row {name!r} cannot be evaluated in all languages: {reason}", error.kind) from error


def _flat(lists: pa.ChunkedArray) -> pa.ChunkedArray:
    return pa.chunked_array([chunk.flatten() for chunk in lists.chunks], lists.type.value_type)


def _may_change(texts: pa.ChunkedArray) -> bool:
    """Whether a caption still has an HTML entity, as can come about when signs within one are removed."""
    found = texts.filter(pc.match_substring(texts, "&")).to_pylist()
    return any(unescape_entities(text) != text for text in found)
