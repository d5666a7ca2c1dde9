"""The rules for rows of a stream, which are those of `load_rows` as far as they need no other rows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, cast

import numpy as np
import pyarrow as pa

from modeling_atri.embedding_store.vector_tables import vectors_of
from modeling_atri.embedding_store.vectors import StoredVectors, are_unit, lengths_of

from ..rows.bad_rows import MISSING_EMBEDDING, WRONG_EMBEDDING, BadRow, Problem
from ..rows.captions import CleanCaptions, is_missing
from ..rows.checks.ids import ids_of_files
from ..rows.checks.right_rows import find_right_texts, right_names
from ..rows.checks.row_checker import VECTOR_COLUMNS, RowChecker
from ..rows.lookup import EMBEDDING_COLUMN
from ..rows.plain_rows import as_undecoded
from ..rows.schema import Row
from ..rows.soundless.soundless_columns import (
    BOTH_KINDS,
    are_vectors,
    check_vectors,
    coalesced,
    find_in_store,
    has_sound,
    names_of_sounds,
    strings,
)
from ..rows.soundless.soundless_table import soundless_table
from ..sources.audio_column import AUDIO_COLUMNS
from ..sources.raw_rows import PROBLEM_COLUMN
from .raw.blocks import RawBlock, RawRow
from .row_shards import StreamFacts


_OTHER_KIND = Problem(
    WRONG_EMBEDDING,
    "it has an `audio_embedding`, but the first rows have recordings: all rows of a stream are of one kind",
)


@dataclass(frozen=True)
class RowRules:
    """Checks rows of a stream.

    Args:
        facts: What the first rows say about all of them.
        store: Embeddings that are looked up by the ids of rows; None if there are none, or rows contain them.
    """

    facts: StreamFacts
    store: StoredVectors | None = None

    def check(self, block: RawBlock, numbers: Sequence[int]) -> Iterator[Row | BadRow]:
        """Check some of the rows of a block, by their numbers in it."""
        if self.facts.has_audio:
            yield from (self._check_row(block.row_at(number)) for number in numbers)
            return
        table = block.table
        if table is None:
            table = soundless_table(map(_without_sound, map(block.row_at, numbers)))
        elif len(numbers) < block.size:
            table = table.take(pa.array(numbers, pa.int64()))
        yield from self._check_table(table, [partial(block.row_at, number) for number in numbers])

    # Rows with recordings

    def _check_row(self, raw: RawRow) -> Row | BadRow:
        checker = RowChecker(self.facts.languages, self.facts.group_column)
        sound, problem = None, raw.problem
        try:
            sound = None if raw.sound is None or problem is not None else raw.sound()
        except ValueError as error:  # a damaged file in an archive
            problem = str(error)
        if problem is not None:
            checker.report_line(raw.place, problem)
            return checker.finish_row().as_bad_row()
        checker.check(raw.place, raw.row, sound, raw.name)
        row = checker.finish_row()
        if not is_missing(raw.row.get(EMBEDDING_COLUMN)):
            row.problems.insert(0, _OTHER_KIND if sound is None else BOTH_KINDS)
        if row.problems:
            return row.as_bad_row()
        audio = {"path": row.path, "bytes": None} if row.path is not None else as_undecoded(sound)
        captions = CleanCaptions({code: (row.captions or {})[code] for code in self.facts.languages})
        found = {"audio": audio, "audio_id": row.audio_id, "captions": captions, "group_id": row.group_id}
        return cast("Row", found | row.vectors)

    # Rows without recordings

    def _check_table(self, table: pa.Table, raw_rows: Sequence[Any]) -> Iterator[Row | BadRow]:
        """Check rows in columns. `raw_rows` returns each of them, for those that are not known to be right."""
        problems: dict[int, Problem] = {}
        sounds, keys = names_of_sounds(table), strings(table, EMBEDDING_COLUMN)
        vectors = self._vectors(table, keys, sounds, problems)
        captions, ids, groups, is_right, _ = find_right_texts(table, self.facts.languages, self.facts.group_column)
        is_right[list(problems)] = False
        if PROBLEM_COLUMN in table.column_names:
            is_right &= np.asarray(table[PROBLEM_COLUMN].is_null())
        names = coalesced(coalesced(ids, keys), sounds)
        names_of_rows = _as_objects(names)
        for number in np.flatnonzero(np.asarray(ids.is_null())).tolist():
            raw = raw_rows[number]()
            is_key = keys[number].is_valid and not is_missing(raw.row.get(EMBEDDING_COLUMN))
            if not is_key:  # the name of a recording, or nothing
                name = names_of_rows[number]
                names_of_rows[number] = raw.place if name is None else id_of_name(raw.name or name)
        groups_of_rows = _as_objects(groups)
        texts = [_as_lists(captions, code) for code in self.facts.languages]
        others = {name: table[name].to_pylist() for name in VECTOR_COLUMNS if name in table.column_names}
        for number, right in enumerate(is_right.tolist()):
            name = names_of_rows[number]
            if right:
                group = groups_of_rows[number]
                found = {
                    "audio_id": name,
                    "captions": CleanCaptions(
                        zip(self.facts.languages, [of_language[number] for of_language in texts], strict=True)
                    ),
                    "group_id": name if group is None else group,
                }
            else:
                checked = self._check_texts(raw_rows[number](), name, problems.get(number))
                if isinstance(checked, BadRow):
                    yield checked
                    continue
                found = checked
            if vectors is not None:
                found[EMBEDDING_COLUMN] = vectors[number].copy()  # a view would keep those of the whole block
            for column, values in others.items():
                if values[number] is not None:
                    found[column] = values[number]
            yield cast("Row", found)

    def _check_texts(self, raw: RawRow, audio_id: str | None, problem: Problem | None) -> dict[str, Any] | BadRow:
        """Check captions, id and group of a row whose embedding was checked before."""
        checker = RowChecker(self.facts.languages, self.facts.group_column, needs_sound=False)
        if raw.problem is not None:
            checker.report_line(raw.place, raw.problem)
            return checker.finish_row().as_bad_row()
        own = raw.row if not is_missing(raw.row.get("audio_id")) else {**raw.row, "audio_id": audio_id}
        checker.check_texts(raw.place, own, 0, [] if problem is None else [problem])
        row = checker.finish_row()
        if row.problems:
            return row.as_bad_row()
        captions = CleanCaptions({code: (row.captions or {})[code] for code in self.facts.languages})
        return {"audio_id": row.audio_id, "captions": captions, "group_id": row.group_id}

    def _vectors(
        self, table: pa.Table, keys: pa.ChunkedArray, sounds: pa.ChunkedArray, problems: dict[int, Problem]
    ) -> np.ndarray | None:
        """The embeddings of rows, `(rows, width)`, float32; None for captions alone. Those of wrong rows are zeros."""
        facts = self.facts.embeddings
        if facts is None:
            return None
        if EMBEDDING_COLUMN in table.column_names:
            both = has_sound(table) & np.asarray(table[EMBEDDING_COLUMN].is_valid())
            problems.update(dict.fromkeys(np.flatnonzero(both).tolist(), BOTH_KINDS))
        if self.store is not None:
            names = coalesced(keys, right_names(table, "audio_id")[0])
            places, _ = find_in_store(self.store, names, sounds, problems)
            right = np.setdiff1d(np.arange(len(table)), list(problems))
            vectors = np.zeros((len(table), facts.width), dtype=np.float32)
            vectors[right] = self.store[places[right]]
            return vectors
        found = _vectors_in(table, facts.width, problems)
        if facts.normalized:
            lengths = lengths_of(found)
            for number in np.flatnonzero(~are_unit(lengths)).tolist():
                text = (
                    f"its `audio_embedding` has the length {lengths[number]:.4g}, but those of the first rows have 1"
                )
                problems.setdefault(number, Problem(WRONG_EMBEDDING, text))
        return found


def id_of_name(name: str) -> str:
    """The id of a recording by its name: the path without suffix. Other than in `load_rows`, no other name counts."""
    return ids_of_files([name.lstrip("/")])[0]


def _vectors_in(table: pa.Table, width: int, problems: dict[int, Problem]) -> np.ndarray:
    """The vectors that rows contain, `(rows, width)`, float32. What is wrong is added to `problems`."""
    vectors = np.zeros((len(table), width), dtype=np.float32)
    missing = Problem(MISSING_EMBEDDING, "it has no `audio_embedding`")
    if EMBEDDING_COLUMN not in table.column_names:
        problems.update(dict.fromkeys(range(len(table)), missing))
        return vectors
    column = table[EMBEDDING_COLUMN]
    try:
        in_rows = are_vectors(column.type)
        text = "`audio_embedding` must be a list of numbers, as in the first row, but is "
        text += "an id" if column.null_count < len(column) else "missing"
    except ValueError as error:
        in_rows, text = False, str(error)
    if not in_rows:
        given = np.asarray(column.is_valid()).tolist()
        wrong = Problem(WRONG_EMBEDDING, text)
        problems.update({number: wrong if given[number] else missing for number in range(len(table))})
        return vectors
    lists = column.combine_chunks()
    lists = lists if pa.types.is_floating(lists.type.value_type) else lists.cast(pa.list_(pa.float32()))
    own: dict[int, Problem] = {}
    check_vectors(lists, width, 0, own)
    problems |= own
    if not own:
        return vectors_of(lists, width)
    right = np.setdiff1d(np.arange(len(table)), list(own))
    vectors[right] = vectors_of(lists.take(pa.array(right)), width)
    return vectors


def _without_sound(raw: RawRow) -> tuple[Any, str | None]:
    """A row with the name of its recording instead of the recording, and what is wrong with it."""
    row = {name: value for name, value in raw.row.items() if name not in AUDIO_COLUMNS}
    if raw.sound is not None:
        row["audio"] = raw.name or "a recording"
    return row, raw.problem


def _as_objects(column: pa.ChunkedArray) -> list[str | None]:
    found: list[str | None] = column.to_numpy(zero_copy_only=False).tolist()
    return found


def _as_lists(captions: pa.ChunkedArray, code: str) -> list[list[str]]:
    """The captions of all rows in a language. Those of wrong rows have no meaning."""
    lists: list[list[str]] = []
    for chunk in captions.chunks:
        column = chunk.field(code)
        texts = column.values.to_numpy(zero_copy_only=False).tolist()
        stops = column.offsets.to_numpy().tolist()
        lists += [texts[start:stop] for start, stop in pairwise(stops)]
    return lists
