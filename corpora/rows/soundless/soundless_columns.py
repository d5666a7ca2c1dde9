"""Columns of rows without recordings: embeddings, ids and names, and what is wrong with the values in them."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modeling_atri.embedding_store.vector_tables import vectors_of
from modeling_atri.embedding_store.vectors import StoredVectors, lengths_of

from ...sources.audio_column import AUDIO_COLUMNS
from ..bad_rows import MISSING_EMBEDDING, WRONG_EMBEDDING, Problem
from ..checks.ids import ids_of_file_column
from ..checks.right_rows import right_names
from ..lookup import EMBEDDING_COLUMN, EmbeddingFacts


NO_STORE = (
    "`audio_embedding` holds ids of embeddings in a store. Name the store: `load_rows(..., audio_embeddings=...)`, or "
    "--audio_embeddings on the command line"
)
BOTH_KINDS = Problem(WRONG_EMBEDDING, "it has both a recording and an `audio_embedding`: leave one of them out")


def are_vectors(kind: pa.DataType) -> bool:
    """Whether a column `audio_embedding` of this type holds lists of numbers, and not ids.

    Raises:
        ValueError: if it can be neither.
    """
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


def find_in_store(
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
    report_lengths(lengths, found, problems)
    good = lengths[lengths > 0]
    shortest, longest = (float(good.min()), float(good.max())) if len(good) else (0.0, 0.0)
    return places, EmbeddingFacts(repr(store.name), store.width, shortest, longest, store.facts)


def check_vectors(column: pa.Array, width: int | None, start: int, problems: dict[int, Problem]) -> int | None:
    """Check a block of vectors that rows contain. What is wrong is added to `problems`.

    Args:
        column: Lists of floating-point numbers.
        width: Width of the vectors of earlier rows; None if there are none.
        start: Number of the first row.
        problems: Receives the problems, by the number of the row.

    Returns:
        The width of the vectors; None if no row had one so far.
    """
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
        lengths = lengths_of(vectors_of(column if len(right) == len(column) else column.take(pa.array(right)), width))
        report_lengths(lengths, start + right, problems)
    elif width == 0:
        empty = Problem(WRONG_EMBEDDING, "its `audio_embedding` is empty")
        problems.update(dict.fromkeys((start + right).tolist(), empty))
    return width


def report_lengths(lengths: np.ndarray, rows: np.ndarray, problems: dict[int, Problem]) -> None:
    """Report vectors that are not finite, or have the length 0. `rows` are their numbers."""
    for row in rows[np.isnan(lengths)].tolist():
        problems[row] = Problem(WRONG_EMBEDDING, "its `audio_embedding` is missing or has numbers that are not finite")
    for row in rows[lengths == 0].tolist():
        text = "its `audio_embedding` is a vector of zeros, which has no direction"
        problems[row] = Problem(WRONG_EMBEDDING, text)


def row_ids(table: pa.Table, sounds: pa.ChunkedArray) -> pa.ChunkedArray:
    """An id for each row: its `audio_id`, else the id of its embedding, the name of its recording, or its number."""
    ids = coalesced(right_names(table, "audio_id")[0], strings(table, EMBEDDING_COLUMN))
    if ids.null_count and sounds.null_count < len(sounds):
        wanted = np.asarray(ids.is_null()) & np.asarray(sounds.is_valid())
        names = ids_of_file_column(sounds.filter(pa.array(wanted))).combine_chunks()
        filled = pc.replace_with_mask(pa.nulls(len(table), pa.large_string()), pa.array(wanted), names)
        ids = coalesced(ids, pa.chunked_array([filled]))
    if ids.null_count:
        numbers = pa.array(np.arange(len(table))).cast(pa.string())
        names = pc.binary_join_element_wise("row", numbers, " ").cast(pa.large_string())
        ids = coalesced(ids, pa.chunked_array([names]))
    return ids


def names_of_sounds(table: pa.Table) -> pa.ChunkedArray:
    """The names of the rows' recordings, which are not read."""
    found = pa.chunked_array([pa.nulls(len(table), pa.large_string())])
    for column in AUDIO_COLUMNS:
        if column in table.column_names:
            if pa.types.is_struct(table[column].type) and "path" in table[column].type.names:
                found = coalesced(found, pc.struct_field(table[column], "path").cast(pa.large_string()))
            else:
                found = coalesced(found, strings(table, column))
    return found


def has_sound(table: pa.Table) -> np.ndarray:
    """Which rows have a recording, or the name of one."""
    found = np.zeros(len(table), dtype=bool)
    for column in set(AUDIO_COLUMNS) & set(table.column_names):
        values = table[column]
        if pa.types.is_struct(values.type):
            for field in values.type.names:
                found |= np.asarray(pc.struct_field(values, field).is_valid())
        else:
            found |= np.asarray(values.is_valid())
    return found


def strings(table: pa.Table, column: str) -> pa.ChunkedArray:
    """A column of strings or whole numbers as strings; null for other types, and for empty strings."""
    names, is_right = right_names(table, column)
    return pc.if_else(pa.array(is_right), names, None)


def coalesced(first: Any, second: Any) -> pa.ChunkedArray:
    """The values of the first column or, where they are null, those of the second."""
    joined = pc.coalesce(first, second)
    return joined if isinstance(joined, pa.ChunkedArray) else pa.chunked_array([joined])
