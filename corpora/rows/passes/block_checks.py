"""Check a block of rows that name recordings: in columns, and only odd rows one by one."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...sources.audio_column import AUDIO_COLUMNS, audio_name
from ..captions import first_languages
from ..checks.checked_row import CheckedRow
from ..checks.right_rows import find_right_texts
from ..checks.row_checker import VECTOR_COLUMNS, RowChecker
from ..kept.lengths import FileStates, file_states
from ..lookup import EMBEDDING_COLUMN
from ..recordings import are_urls, is_url, joined_paths, usable_samples
from .part import COLUMNS, Part
from .row_files import RowBlock


def has_embeddings(block: RowBlock) -> bool:
    """Whether a row has an embedding in place of a recording."""
    table = block.table
    return EMBEDDING_COLUMN in table.column_names and bool(table[EMBEDDING_COLUMN].null_count < len(table))


def names_a_recording(block: RowBlock) -> bool:
    """Whether a row names a recording."""
    return bool(names_of_recordings(block.table).null_count < len(block.table))


def check_block(
    block: RowBlock, folder: Path, checker: RowChecker, position: int, lengths_file: Path | None = None
) -> Part:
    """Check the rows of a block with their recordings, without a look at other blocks.

    Args:
        block: Rows of a file.
        folder: The folder that names of recordings are relative to.
        checker: Checks the rows that are not known to be right. Its languages are those of the first row with
            captions, if none were named.
        position: Number of rows before the block.
        lengths_file (*optional*): Where the lengths of recordings are kept for later runs.
    """
    table, size = block.table, len(block.table)
    if checker.languages is None:
        checker.languages = first_languages(_readable_rows(block))
    captions, audio_ids, groups, is_right, seen = find_right_texts(
        table, checker.languages or [], checker.group_column
    )
    names = names_of_recordings(table)
    states, samples = _look_at(names, folder, lengths_file)
    is_right &= samples >= 0
    is_right[block.odd] = False
    for column in set(VECTOR_COLUMNS) & set(table.column_names):
        is_right &= np.asarray(table[column].is_null())
    samples = np.where(states.sizes < 0, -1, samples)
    others = np.flatnonzero(~is_right).tolist()
    for number in others:
        _check_row(block, number, folder, checker, position + number)
    rows = checker.take()
    if is_right.any():
        checker.note_languages(seen)
    mask = None if is_right.all() else pa.array(is_right)  # filtering copies all texts
    columns = [
        *(np.arange(position, position + size), np.array(block.numbers, dtype=np.int64)),
        *(names, audio_ids, groups, states.sizes, states.times, samples),
    ]
    arrays = {
        name: pc.cast(values if isinstance(values, pa.ChunkedArray) else pa.array(values), kind)
        for (name, kind), values in zip(COLUMNS.items(), columns, strict=True)
    }
    right = pa.table(arrays | {"captions": captions})
    return Part(
        right if mask is None else right.filter(mask),
        rows,
        [_state_of(row, states, number) for row, number in zip(rows, others, strict=True)],
        size,
        checker.seen_languages,
        checker.languages,
        block.end,
    )


def names_of_recordings(table: pa.Table) -> pa.ChunkedArray:
    """The name of each row's recording, as `audio_name` finds it; null without one."""
    found = pa.chunked_array([pa.nulls(len(table), pa.large_string())])
    for column in AUDIO_COLUMNS:
        if column in table.column_names and pa.types.is_string(table[column].type):
            texts = table[column].cast(pa.large_string())
            found = pc.coalesce(found, pc.if_else(pc.not_equal(texts, ""), texts, None))
    return found


def _look_at(names: pa.ChunkedArray, folder: Path, lengths_file: Path | None) -> tuple[FileStates, np.ndarray]:
    """States of the files, and their numbers of samples; -1 if they cannot be used. URLs are not looked at."""
    sizes, times, samples = (np.full(len(names), -1, dtype=np.int64) for _ in range(3))
    are_remote = are_urls(names)
    places = np.flatnonzero(np.asarray(names.is_valid()) & ~are_remote)
    chosen = joined_paths(str(folder), names.take(pa.array(places))).to_pylist()
    states = file_states(chosen)
    sizes[places], times[places] = states
    samples[places] = usable_samples(chosen, states, lengths_file)
    samples[are_remote] = 0
    return FileStates(sizes, times), samples


def _check_row(block: RowBlock, number: int, folder: Path, checker: RowChecker, position: int) -> None:
    place, row, problem = block.row_at(number)
    if problem is not None:
        checker.report_line(place, problem, position)
        return
    name = audio_name(row)
    path = None if name is None else name if is_url(name) else str(folder / name)
    checker.check(place, row, path, name, position)


def _readable_rows(block: RowBlock) -> Iterator[Mapping[str, Any]]:
    rows = map(block.row_at, range(len(block.table)))
    return (row.row for row in rows if row.problem is None)


def _state_of(row: CheckedRow, states: FileStates, number: int) -> tuple[int, int]:
    """Size and time of the file of a row, which may have its name in another Unicode form."""
    if states.sizes[number] < 0 and row.path is not None and not is_url(row.path):
        states, number = file_states([row.path]), 0
    return int(states.sizes[number]), int(states.times[number])
