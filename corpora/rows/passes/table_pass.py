"""Check rows in tables and archives, and keep what was found beside them, or take it over."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import datasets
import numpy as np
import pyarrow as pa

from ...sources.audio_column import audio_alone, find_audio_column
from ...sources.opening import FoundRows
from ..bad_rows import UNREADABLE_RECORDING, BadRowError
from ..checks.data_sets import CheckedColumns, check_columns, in_all_rows, with_sounds
from ..checks.row_checker import RowChecker, warn_of_languages_left_out
from ..kept.entries import locked, note_use
from ..kept.facts import facts_of, note_checked
from ..kept.joined import Beside, Joined, row_schema
from ..kept.places import cache_folder
from ..kept.stored_rows import LoadedRows, entry_folder, load_stored, state_of_files
from ..recordings import audio_sources, usable_length
from ..soundless.soundless_rows import is_soundless
from .keeping import Keeper


_ROWS_AT_ONCE = 2**14  # that are written


def check_found(found: FoundRows, checker: RowChecker, skip: bool, name: str) -> LoadedRows | None:
    """Check rows with their recordings, or take over what an earlier check of the same files kept.

    Where no row contains its recording, rows are kept whole, and the files are not opened again. Otherwise the checked
    columns are kept, and joined with the recordings in the files.

    Args:
        found: The rows.
        checker: Checks rows that are not known to be right.
        skip: Leave wrong rows out instead of raising.
        name: Name of the source, for messages.

    Returns:
        None if nothing is kept of such rows: they have embeddings or, where no row needs a sound, captions alone; they
        are a folder of sounds; or there is no folder that can be written.

    Raises:
        ValueError: as `RowChecker.finish` does, or files cannot be read.
    """
    cache = None if found.files is None else cache_folder(found.folder)
    if cache is None or found.files is None:
        return None
    languages = None if checker.languages is None else list(checker.languages)
    options = {"languages": languages, "group_column": checker.group_column, "choice": found.choice}
    folder = entry_folder(cache, found.label, options | {"files": [str(file) for file in found.files]})
    with locked(folder) as may_write:
        source = state_of_files(found.label, found.files)
        stored = load_stored(folder, source, checker.needs_sound, skip)
        loaded = None if stored is None else _whole(found, stored)
        if loaded is None:
            if not may_write or is_soundless(found.rows, checker.needs_sound):
                return None
            keeper = Keeper(folder, source)
            checked = check_columns(found.rows, checker, skip, name, keeper.lengths_file)
            kept = keeper.finish(_joined(found, checked, checker), checker, skip)
            return _whole(found, kept)
        if may_write:
            note_use(folder)
    warn_of_languages_left_out(name, loaded.other_languages)
    return loaded


def _joined(found: FoundRows, checked: CheckedColumns, checker: RowChecker) -> Joined:
    """What is kept of the rows."""
    is_whole = checked.has_audio and not (checked.has_contents or checked.vectors)
    schema = row_schema(checker.languages or [], is_whole, [], [])
    beside = None
    if is_whole:
        paths = checked.paths.cast(pa.string()).combine_chunks()
        audio = pa.StructArray.from_arrays([pa.nulls(len(paths), pa.binary()), paths], ["bytes", "path"])
        texts = checked.texts.add_column(0, "audio", audio)
    else:
        texts = in_all_rows(checked, len(found.rows))
        columns = ["audio", *checked.vectors] if checked.has_audio else checked.vectors
        beside = Beside(columns, checked.renamed, _unreadable(checked))
    return Joined(
        partial(_slices, texts.cast(schema)),
        schema,
        checked.paths,
        checked.states,
        checked.bad_rows,
        checked.wrong,
        beside,
    )


def _slices(table: pa.Table) -> Iterator[pa.Table]:
    return (table.slice(start, _ROWS_AT_ONCE) for start in range(0, len(table), _ROWS_AT_ONCE))


def _unreadable(checked: CheckedColumns) -> dict[int, str]:
    return {
        row.number: problem.text
        for row, _ in checked.wrong
        for problem in row.problems
        if problem.kind == UNREADABLE_RECORDING and row.path is None and row.number is not None
    }


def _whole(found: FoundRows, loaded: LoadedRows) -> LoadedRows | None:
    """Kept rows with what their source holds; None if it does not fit them."""
    if loaded.beside is None:
        return loaded
    columns, renamed, unreadable = loaded.beside
    dataset = found.sounds if columns == ["audio"] else found.rows
    # An archive that cannot be read counts as one row, and may be readable another time.
    if len(dataset) != len(loaded.rows) or not _are_unreadable(dataset, unreadable):
        return None
    numbers = np.flatnonzero(np.asarray(loaded.rows.with_format("arrow")[:]["audio_id"].is_valid()))
    rows = with_sounds(loaded.rows, dataset, columns, renamed, numbers)
    if (facts := facts_of(loaded.rows)) is not None:
        note_checked(rows, replace(facts, place=None))
    return replace(loaded, rows=rows, beside=None)


def _are_unreadable(dataset: datasets.Dataset, faults: dict[int, str]) -> bool:
    """Whether recordings have the same faults as before. A decoder that was missing may have been installed."""
    column = find_audio_column(dataset.features)
    if not faults or column is None:
        return True
    sounds = audio_sources(audio_alone(dataset, column).select(list(faults)))
    for sound, fault in zip(sounds, faults.values(), strict=True):
        try:
            usable_length(sound)
        except BadRowError as error:
            if str(error) == fault:
                continue
        return False
    return True
