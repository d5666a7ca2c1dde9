"""Rows without recordings: with embeddings, in a column or in a store, or with captions alone.

A data set may have millions of them. They stay in Arrow tables, and only rows that are wrong, or whose captions are in
unusual forms, are checked one by one.
"""

from collections.abc import Callable
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modeling_atri.embedding_store.vector_tables import vectors_of
from modeling_atri.embedding_store.vectors import StoredVectors, lengths_of

from ..sources.audio_column import AUDIO_COLUMNS, columns_alone
from ..sources.raw_rows import PROBLEM_COLUMN
from .bad_rows import MISSING_EMBEDDING, WRONG_EMBEDDING, BadRow, Problem
from .captions import resolve_captions
from .checks import VECTOR_COLUMNS, RowChecker, ids_of_files
from .lookup import EMBEDDING_COLUMN, EmbeddingFacts, EmbeddingLookup, lookup_of, vector_columns
from .right_rows import find_right_captions, right_names


_NO_STORE = (
    "`audio_embedding` holds ids of embeddings in a store. Name the store: `load_rows(..., audio_embeddings=...)`, or "
    "--audio_embeddings on the command line"
)


def check_soundless_rows(
    rows: datasets.Dataset,
    checker: RowChecker,
    skip: bool,
    name: str,
    store: StoredVectors | None = None,
    place_of: Callable[[int], str] = "row {}".format,
) -> tuple[datasets.Dataset, list[BadRow]]:
    """Check rows that have an `audio_embedding`, whose embeddings are in a store, or that have captions alone.

    Args:
        rows: Rows with columns of any names.
        checker: Checks the rows that are not known to be right.
        skip: Leave wrong rows out instead of raising.
        name: Name of the source, for messages.
        store (*optional*): Embeddings of the rows. The id of a row's embedding is its `audio_embedding`, if that is a
            string, or else its `audio_id`, or else the name of its recording. If no row has any of these and no row
            needs a sound, the rows are taken as captions alone.
        place_of: Returns the name of a row in messages, from its number.

    Returns:
        The right rows, with the columns `audio_embedding` (if there are embeddings), `audio_id`, `captions` and
        `group_id`, and the rows that are left out.

    Raises:
        ValueError: as `RowChecker.finish` does, or `audio_embedding` is of a type that cannot be used.
    """
    own_lookup = lookup_of(rows)
    rows = rows.with_format(None)
    holds_vectors = _holds_vectors(rows)
    vectors = [column for column in VECTOR_COLUMNS if column in rows.column_names]
    vectors += [EMBEDDING_COLUMN] if holds_vectors else []
    light = rows.remove_columns(vectors)
    table = light.with_format("arrow")[:]
    sounds = _names_of_sounds(table)
    problems: dict[int, Problem] = {}
    places = facts = None
    if own_lookup is not None:
        places, facts, store = table[EMBEDDING_COLUMN].to_numpy(), own_lookup.facts, own_lookup.store
    elif store is not None:
        keys = _coalesced(_strings(table, EMBEDDING_COLUMN), right_names(table, "audio_id")[0])
        if checker.needs_sound or keys.null_count < len(keys) or sounds.null_count < len(sounds):
            places, facts = _find_in_store(store, keys, sounds, problems)
    elif holds_vectors:
        _check_vectors(rows, problems)
    elif EMBEDDING_COLUMN in table.column_names and table[EMBEDDING_COLUMN].null_count < len(table):
        raise ValueError(f"{name}: {_NO_STORE}.")
    if EMBEDDING_COLUMN in rows.column_names and own_lookup is None:
        both = _has_sound(table) & _is_given(rows, table, holds_vectors)
        text = "it has both a recording and an `audio_embedding`: leave one of them out"
        problems.update(dict.fromkeys(np.flatnonzero(both).tolist(), Problem(WRONG_EMBEDDING, text)))
    ids = _ids(table, sounds)
    columns, kept, bad_rows = _check_texts(table, ids, problems, checker, skip, name, place_of)
    if places is not None:
        columns = {EMBEDDING_COLUMN: pa.chunked_array([pa.array(places[kept], pa.int64())])} | columns
    result = datasets.Dataset(pa.table(columns))
    if vectors:
        beside = columns_alone(rows, vectors)
        beside = beside if len(kept) == len(rows) else beside.select(kept)
        result = datasets.concatenate_datasets([result, beside], axis=1)
    if store is not None and facts is not None:
        result = result.with_transform(EmbeddingLookup(store, facts))
    return result, bad_rows


def _holds_vectors(rows: datasets.Dataset) -> bool:
    """Whether `audio_embedding` is a column of lists of numbers."""
    if EMBEDDING_COLUMN not in rows.column_names:
        return False
    kind = rows.data.schema.field(EMBEDDING_COLUMN).type
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if is_list and (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)):
        return True
    if not any(check(kind) for check in (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer)):
        if not pa.types.is_null(kind):
            raise ValueError(
                "`audio_embedding` must be a list of numbers, or the id of an embedding in a store, but the column is "
                f"of type {kind}."
            )
    return False


def _find_in_store(
    store: StoredVectors, keys: pa.ChunkedArray, sounds: pa.ChunkedArray, problems: dict[int, Problem]
) -> tuple[np.ndarray, EmbeddingFacts]:
    """The positions of the rows' embeddings in a store, by their keys or else by the names of their recordings."""
    places = store.find(keys)
    missing = places < 0
    if missing.any() and sounds.null_count < len(sounds):
        places[missing] = store.find(sounds.filter(pa.array(missing)))
    found = np.flatnonzero(places >= 0)
    lengths = store.lengths(places[found])
    for row in np.flatnonzero(places < 0).tolist():
        key = keys[row].as_py() or sounds[row].as_py()
        text = f"{store.name!r} has no embedding with the id {key!r}"
        if key is None:
            text = "it has neither an `audio_embedding` nor an `audio_id` to look its embedding up in the store"
        problems[row] = Problem(MISSING_EMBEDDING, text)
    _report_lengths(lengths, found, problems)
    good = lengths[lengths > 0]
    shortest, longest = (float(good.min()), float(good.max())) if len(good) else (0.0, 0.0)
    return places, EmbeddingFacts(repr(store.name), store.width, shortest, longest, store.facts)


def _check_vectors(rows: datasets.Dataset, problems: dict[int, Problem]) -> None:
    """Check the vectors that rows contain."""
    width, start = None, 0
    for column in vector_columns(rows):
        counts = pc.list_value_length(column)
        if width is None and counts.null_count < len(counts):
            width = counts.drop_null()[0].as_py()
        counts = pc.fill_null(counts, -1).to_numpy()
        for row in np.flatnonzero(counts < 0).tolist():
            problems[start + row] = Problem(MISSING_EMBEDDING, "it has no `audio_embedding`")
        for row in np.flatnonzero((counts >= 0) & (counts != width)).tolist():
            text = f"its `audio_embedding` has {counts[row]} numbers, but that of the first row has {width}"
            problems[start + row] = Problem(WRONG_EMBEDDING, text)
        right = np.flatnonzero(counts == width)
        if width:
            lengths = lengths_of(vectors_of(column.take(pa.array(right)), width))
            _report_lengths(lengths, start + right, problems)
        elif width == 0:
            problems.update(
                dict.fromkeys((start + right).tolist(), Problem(WRONG_EMBEDDING, "its `audio_embedding` is empty"))
            )
        start += len(column)


def _report_lengths(lengths: np.ndarray, rows: np.ndarray, problems: dict[int, Problem]) -> None:
    for row in rows[np.isnan(lengths)].tolist():
        problems[row] = Problem(WRONG_EMBEDDING, "its `audio_embedding` is missing or has numbers that are not finite")
    for row in rows[lengths == 0].tolist():
        text = "its `audio_embedding` is a vector of zeros, which has no direction"
        problems[row] = Problem(WRONG_EMBEDDING, text)


def _check_texts(
    table: pa.Table,
    ids: pa.ChunkedArray,
    problems: dict[int, Problem],
    checker: RowChecker,
    skip: bool,
    name: str,
    place_of: Callable[[int], str],
) -> tuple[dict[str, pa.ChunkedArray], np.ndarray, list[BadRow]]:
    """Check captions, ids and groups. Returns these columns of the right rows, their numbers, and the wrong rows."""
    takes_first = checker.languages is None
    checker.languages = checker.languages or _first_languages(table)
    languages = checker.languages or []
    captions, is_right, seen = find_right_captions(table, languages)
    _, ids_are_right = right_names(table, "audio_id")
    groups, groups_are_right = right_names(table, checker.group_column or "group_id")
    if checker.group_column is not None:
        groups_are_right &= np.asarray(groups.is_valid())
    is_right &= bool(languages) & ids_are_right & groups_are_right & ~_occurs_again(ids)
    is_right[list(problems)] = False
    if PROBLEM_COLUMN in table.column_names:
        is_right &= np.asarray(table[PROBLEM_COLUMN].is_null())
    others = np.flatnonzero(~is_right)
    texts = table.drop_columns([EMBEDDING_COLUMN] if EMBEDDING_COLUMN in table.column_names else [])
    for number, row in zip(others.tolist(), texts.take(others).to_pylist(), strict=True):
        if row.get(PROBLEM_COLUMN):
            checker.report_line(place_of(number), row[PROBLEM_COLUMN])
            continue
        own = row if row.get("audio_id") is not None else row | {"audio_id": ids[number].as_py()}
        checker.check_texts(place_of(number), own, number, [problems[number]] if number in problems else [])
    if takes_first and is_right.any():
        checker.note_languages(seen)
    kept, bad_rows = checker.finish(name, skip, num_right=int(is_right.sum()))
    columns = {
        "audio_id": ids.filter(pa.array(is_right)).cast(pa.string()),
        "captions": captions.filter(pa.array(is_right)),
        "group_id": _coalesced(groups, ids).filter(pa.array(is_right)).cast(pa.string()),
    }
    numbers = np.flatnonzero(is_right)
    if kept:
        schema = pa.schema([(column, values.type) for column, values in columns.items()])
        joined = pa.concat_tables([pa.table(columns), pa.table(checker.columns(kept), schema=schema)])
        numbers = np.concatenate([numbers, [row.number for row in kept]])
        order = np.argsort(numbers, kind="stable")
        numbers, joined = numbers[order], joined.take(order)
        columns = {column: joined[column] for column in joined.column_names}
    return columns, numbers, bad_rows


def _first_languages(table: pa.Table) -> list[str] | None:
    """The languages of the first row with captions."""
    for batch in table.to_batches(max_chunksize=100):
        for row in batch.to_pylist():
            if captions := resolve_captions(row, None, problems=[]):
                return list(captions)
    return None


def _occurs_again(ids: pa.ChunkedArray) -> np.ndarray:
    """Which ids occur more than once."""
    if pc.count_distinct(ids).as_py() == len(ids):
        return np.zeros(len(ids), dtype=bool)
    counts = pc.value_counts(ids)
    twice = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    return np.asarray(pc.is_in(ids, value_set=twice))


def _ids(table: pa.Table, sounds: pa.ChunkedArray) -> pa.ChunkedArray:
    """An id for each row: its `audio_id`, else the id of its embedding, the name of its recording, or its number."""
    ids = _coalesced(right_names(table, "audio_id")[0], _strings(table, EMBEDDING_COLUMN))
    if ids.null_count and sounds.null_count < len(sounds):
        wanted = np.flatnonzero(np.asarray(ids.is_null()) & np.asarray(sounds.is_valid()))
        names = np.full(len(table), None, dtype=object)
        names[wanted] = ids_of_files(sounds.take(wanted).to_pylist())
        ids = _coalesced(ids, pa.chunked_array([pa.array(names, pa.large_string())]))
    if ids.null_count:
        numbers = pa.array(np.arange(len(table))).cast(pa.string())
        names = pc.binary_join_element_wise("row", numbers, " ").cast(pa.large_string())
        ids = _coalesced(ids, pa.chunked_array([names]))
    return ids


def _names_of_sounds(table: pa.Table) -> pa.ChunkedArray:
    """The names of the rows' recordings, which are not read."""
    found = pa.chunked_array([pa.nulls(len(table), pa.large_string())])
    for column in AUDIO_COLUMNS:
        if column in table.column_names:
            if pa.types.is_struct(table[column].type) and "path" in table[column].type.names:
                found = _coalesced(found, pc.struct_field(table[column], "path").cast(pa.large_string()))
            else:
                found = _coalesced(found, _strings(table, column))
    return found


def _has_sound(table: pa.Table) -> np.ndarray:
    """Which rows have a recording, or the name of one."""
    has_sound = np.zeros(len(table), dtype=bool)
    for column in set(AUDIO_COLUMNS) & set(table.column_names):
        values = table[column]
        if pa.types.is_struct(values.type):
            for field in values.type.names:
                has_sound |= np.asarray(pc.struct_field(values, field).is_valid())
        else:
            has_sound |= np.asarray(values.is_valid())
    return has_sound


def _is_given(rows: datasets.Dataset, table: pa.Table, holds_vectors: bool) -> np.ndarray:
    if not holds_vectors:
        return np.asarray(table[EMBEDDING_COLUMN].is_valid())
    return np.concatenate([np.asarray(column.is_valid()) for column in vector_columns(rows)])


def _strings(table: pa.Table, column: str) -> pa.ChunkedArray:
    """A column of strings or whole numbers as strings; null for other types, and for empty strings."""
    names, is_right = right_names(table, column)
    return pc.if_else(pa.array(is_right), names, None)


def _coalesced(first: Any, second: Any) -> pa.ChunkedArray:
    joined = pc.coalesce(first, second)
    return joined if isinstance(joined, pa.ChunkedArray) else pa.chunked_array([joined])
