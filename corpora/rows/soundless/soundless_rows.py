"""Rows without recordings: with embeddings, in a column or in a store, or with captions alone.

A data set may have millions of them. They stay in Arrow tables, and only rows that are wrong, or whose captions are in
unusual forms, are checked one by one.
"""

from collections.abc import Callable

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modeling_atri.embedding_store.vectors import StoredVectors

from ...sources.audio_column import columns_alone, find_audio_column
from ...sources.raw_rows import PROBLEM_COLUMN
from ..bad_rows import BadRow, Problem
from ..captions import first_languages
from ..checks.ids import occurring_again
from ..checks.right_rows import find_right_texts, right_names, rows_of
from ..checks.row_checker import VECTOR_COLUMNS, RowChecker
from ..lookup import EMBEDDING_COLUMN, EmbeddingLookup, lookup_of, vector_columns
from .soundless_columns import (
    BOTH_KINDS,
    NO_STORE,
    are_vectors,
    check_vectors,
    coalesced,
    find_in_store,
    has_sound,
    names_of_sounds,
    row_ids,
    strings,
)


def is_soundless(rows: datasets.Dataset, needs_sound: bool) -> bool:
    """Whether rows have embeddings or, if no sound is needed, captions alone."""
    if EMBEDDING_COLUMN in rows.column_names and not pa.types.is_null(rows.data.schema.field(EMBEDDING_COLUMN).type):
        return True
    return not (needs_sound or find_audio_column(rows.features))


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
    has_column = EMBEDDING_COLUMN in rows.column_names
    holds_vectors = has_column and are_vectors(rows.data.schema.field(EMBEDDING_COLUMN).type)
    vectors = [column for column in VECTOR_COLUMNS if column in rows.column_names]
    vectors += [EMBEDDING_COLUMN] if holds_vectors else []
    light = rows.remove_columns(vectors)
    table = light.with_format("arrow")[:]
    sounds = names_of_sounds(table)
    problems: dict[int, Problem] = {}
    places = facts = None
    if own_lookup is not None:
        places, facts, store = table[EMBEDDING_COLUMN].to_numpy(), own_lookup.facts, own_lookup.store
    elif store is not None:
        keys = coalesced(strings(table, EMBEDDING_COLUMN), right_names(table, "audio_id")[0])
        if checker.needs_sound or keys.null_count < len(keys) or sounds.null_count < len(sounds):
            places, facts = find_in_store(store, keys, sounds, problems)
    elif holds_vectors:
        width, start = None, 0
        for column in vector_columns(rows):
            width = check_vectors(column, width, start, problems)
            start += len(column)
    elif EMBEDDING_COLUMN in table.column_names and table[EMBEDDING_COLUMN].null_count < len(table):
        raise ValueError(f"{name}: {NO_STORE}.")
    if EMBEDDING_COLUMN in rows.column_names and own_lookup is None:
        both = has_sound(table) & _is_given(rows, table, holds_vectors)
        problems.update(dict.fromkeys(np.flatnonzero(both).tolist(), BOTH_KINDS))
    ids = row_ids(table, sounds)
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
    checker.languages = checker.languages or first_languages(rows_of(table))
    captions, _, groups, is_right, seen = find_right_texts(table, checker.languages or [], checker.group_column)
    is_right &= ~_occurs_again(ids)
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
        "group_id": coalesced(groups, ids).filter(pa.array(is_right)).cast(pa.string()),
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


def _occurs_again(ids: pa.ChunkedArray) -> np.ndarray:
    """Which ids occur more than once."""
    again = occurring_again(ids)
    return np.zeros(len(ids), dtype=bool) if again is None else np.asarray(pc.is_in(ids, value_set=again))


def _is_given(rows: datasets.Dataset, table: pa.Table, holds_vectors: bool) -> np.ndarray:
    if not holds_vectors:
        return np.asarray(table[EMBEDDING_COLUMN].is_valid())
    return np.concatenate([np.asarray(column.is_valid()) for column in vector_columns(rows)])
