"""Captions and ids of checked rows for an evaluation, which stay in the file that the rows are mapped from."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, overload

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modeling_atri.corpora.rows.captions import unescape_entities
from modeling_atri.corpora.rows.kept.facts import facts_of


_TEXTS_AT_ONCE = 1024


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
    audio_ids: MappedTexts
    owners: Any  # an array of integers


def map_captions(rows: Any, languages: Sequence[str]) -> MappedCaptions | None:
    """Map the captions of rows that `load_rows` returned; None for other rows, which have to be looked at one by one.

    Args:
        rows: The rows.
        languages: FLORES-200 codes.
    """
    facts = facts_of(rows)
    if not isinstance(rows, datasets.Dataset) or facts is None or not set(languages) <= set(facts.languages):
        return None
    table = rows.with_format(None).select_columns(["audio_id", "captions", "group_id"]).with_format("arrow")[:]
    lists = {code: pc.struct_field(table["captions"], code) for code in languages}
    captions = {code: _flat(column) for code, column in lists.items()}
    if any(map(_may_change, captions.values())):
        return None
    counts = pc.list_value_length(lists[languages[0]]).to_numpy()
    codes = table["group_id"].combine_chunks().dictionary_encode().indices.to_numpy()
    members: dict[int, list[int]] = {}
    for index, code in enumerate(codes.tolist()):
        members.setdefault(code, []).append(index)
    positives: list[list[int]] = []
    for code, count in zip(codes.tolist(), counts.tolist(), strict=True):
        positives += [members[code]] * count  # one list, which all captions of the group share
    texts = {code: MappedTexts(column) for code, column in captions.items()}
    return MappedCaptions(texts, positives, MappedTexts(table["audio_id"]), np.repeat(np.arange(len(table)), counts))


def _flat(lists: pa.ChunkedArray) -> pa.ChunkedArray:
    return pa.chunked_array([chunk.flatten() for chunk in lists.chunks], lists.type.value_type)


def _may_change(texts: pa.ChunkedArray) -> bool:
    """Whether a caption still has an HTML entity, as can come about when signs within one are removed."""
    found = texts.filter(pc.match_substring(texts, "&")).to_pylist()
    return any(unescape_entities(text) != text for text in found)
