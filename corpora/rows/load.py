"""Load rows from wherever they are, and check them."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import datasets

from modeling_atri.audio_inputs_atri import path_of
from modeling_atri.embedding_store.vectors import StoredVectors, open_vectors
from modeling_atri.languages_atri import resolve_languages
from modeling_atri.processes import num_processes, told_by_all, told_by_main

from ..sources.audio_column import AUDIO_COLUMNS, NO_AUDIO
from ..sources.metadata import read_file_rows
from ..sources.opening import FoundRows, find_rows, open_source, pick_split
from .bad_rows import BadRow, describe
from .captions import caption_columns
from .checks.data_sets import check_data_set
from .checks.row_checker import RowChecker
from .kept.facts import CheckedFacts, StoredPlace, are_unchanged, facts_of, note_checked
from .kept.stored_rows import map_stored
from .lookup import EMBEDDING_COLUMN
from .passes.file_pass import check_file
from .passes.table_pass import check_found
from .plain_rows import CheckedRows, as_sequence, check_plain_rows, sound_of
from .soundless.soundless_rows import check_soundless_rows, is_soundless
from .soundless.soundless_table import soundless_table


logger = logging.getLogger(__name__)

_OWN_COLUMNS = {*AUDIO_COLUMNS, "audio_id", "captions", "group_id"}


def load_rows(
    source: Any,
    split: str | None = None,
    *,
    languages: Sequence[str] | None = None,
    group_column: str | None = None,
    left_out: list[BadRow] | None = None,
    audio_embeddings: str | PathLike[str] | StoredVectors | None = None,
    needs_sound: bool = True,
) -> datasets.Dataset:
    """Load rows and check them. Recordings are not decoded: only their headers are read.

    Rows may have an `audio_embedding` instead of a recording: a list of numbers, or the id of an embedding in
    `audio_embeddings`, a store. With a store, the embedding of a row without an `audio_embedding` is looked up by its
    `audio_id`, or else by the name of its recording, which is not read. Embeddings in a store stay on disk until their
    row is used.

    Args:
        source: A folder with a `metadata.jsonl` (or with a subfolder `split` that has one), a `.jsonl` or `.json`
            file of the same rows, a `datasets.Dataset` or `DatasetDict`, or the id of a data set on the Hub
            (`"owner/name"`). In a file, `file_name` (or `audio`, if it is a string) is relative to the file's folder.
        split (`str`, *optional*): Which split to load. Needed where there are several.
        languages (*optional*): Languages that every row must have, as in `resolve_languages`.
            Other languages are left out. By default, the languages of the first row.
        group_column (`str`, *optional*): Column whose values say which rows describe the same sound. By default
            `group_id` where a row has it, else every row is its own group.
        left_out (`list`, *optional*): If given, wrong rows are added to this list instead of raising an error, and one
            warning says how many there are of each kind.
        audio_embeddings (`str`, `Path` or `StoredVectors`, *optional*): Store of the embeddings of the rows, as in
            `open_vectors`.
        needs_sound (`bool`, *optional*, defaults to `True`): Whether a row without a recording or an embedding is
            wrong. The objective `teach` needs none. If no row has one, there is no column `audio`.

    Returns:
        `datasets.Dataset`: Rows as [`Row`] describes them, with exactly the columns `audio` or `audio_embedding`,
        `audio_id`, `captions` and `group_id`, and `teacher_embedding` if there is any. `audio_id` defaults to the
        recording's `file_name` without its suffix; the suffix is kept where two names differ only there. Of absolute
        paths, it is the part below the folder that all of them share.

    Raises:
        ValueError: If the source is not found or not understood, or any row is wrong. A recording is wrong if it is
            missing, unreadable or shorter than 0.15 s; an embedding if the store does not have it, its width is not
            that of the others, it is zero or not finite, or the row has a recording as well. The error shows the first
            20 problems, each with its line number, and the number of problems. With `left_out`, only if no row is
            right, or a language is missing in every row.
    """
    options = _Options(_codes(languages), group_column, needs_sound, left_out is not None)
    store = audio_embeddings
    if store is not None and not isinstance(store, StoredVectors):
        store = open_vectors(store)
    if isinstance(source, (str, Path)):
        name = str(source)
        found = find_rows(name, split, audio_column=None if store is None else NO_AUDIO)
        name = str(found) if isinstance(found, Path) else name
        checked = _check_found(found, options, store, name)
    elif isinstance(source, (datasets.Dataset, datasets.DatasetDict)):
        name = "the data set"
        checked = _check_data_set(pick_split(source, split), options, store, name)
    else:
        name = "the list of rows"
        if split is not None:
            raise ValueError(f"Only data sets have splits, but this is a {type(source).__name__}. Leave out `split`.")
        checked = _check_list(as_sequence(source), options, store, name)
    rows = checked.rows
    _report(name, checked.bad_rows, len(rows), left_out)
    if "audio" not in rows.column_names:
        note_checked(rows, CheckedFacts(tuple(rows.features["captions"]), EMBEDDING_COLUMN in rows.column_names))
    return rows


class _Options(NamedTuple):
    """How rows are checked: options of `load_rows`, and whether wrong rows are left out."""

    languages: list[str] | None
    group_column: str | None
    needs_sound: bool
    skip: bool

    def checker(self) -> RowChecker:
        return RowChecker(self.languages, self.group_column, self.needs_sound)


class _Checked(NamedTuple):
    """The rows that can be used, and those that are left out."""

    rows: datasets.Dataset
    bad_rows: Sequence[BadRow]


def _check_found(found: Path | FoundRows, options: _Options, store: StoredVectors | None, name: str) -> _Checked:
    """Check the rows of a file, or of tables and archives."""
    kept = None
    if store is None:
        check = partial(check_file, found) if isinstance(found, Path) else partial(check_found, found, name=name)
        kept = check(checker=options.checker(), skip=options.skip)
    if kept is not None:
        return _Checked(kept.rows, kept.bad_rows)
    if isinstance(found, Path):
        dataset, places = _read_soundless(found)
        return _check_data_set(dataset, options, store, name, places.__getitem__)
    return _check_data_set(found.rows, options, store, name)


def _check_data_set(
    dataset: datasets.Dataset,
    options: _Options,
    store: StoredVectors | None,
    name: str,
    place_of: Callable[[int], str] = "row {}".format,
) -> _Checked:
    if store is not None or is_soundless(dataset, options.needs_sound):
        checker = options.checker()
        return _Checked(*check_soundless_rows(dataset, checker, options.skip, name, store, place_of))
    rows, found = check_data_set(dataset, options.checker(), options.skip, name)
    return _Checked(rows, found.bad_rows)


def _check_list(rows: Any, options: _Options, store: StoredVectors | None, name: str) -> _Checked:
    if store is not None or _is_soundless(_each(rows), options.needs_sound):
        return _check_data_set(_dataset_of(rows), options, store, name)
    checked, bad_rows = check_plain_rows(rows, options.checker(), options.skip)
    return _Checked(checked.as_dataset(), bad_rows)


def load_rows_together(source: Any, split: str | None = None, **options: Any) -> datasets.Dataset:
    """Load rows as `load_rows` does, on the main process only. The others map what it has kept on disk.

    All processes that work together must call it. On another machine, and where nothing can be kept, a process loads
    the rows itself.

    Args:
        source, split, options: as for `load_rows`. `left_out` is filled on all processes.
    """
    if num_processes() == 1:
        return load_rows(source, split, **options)
    loaded: list[datasets.Dataset] = []

    def load() -> StoredPlace | None:
        loaded.append(load_rows(source, split, **options))
        facts = facts_of(loaded[0])
        return None if facts is None else facts.place

    place = told_by_main(load)
    if loaded:
        return loaded[0]
    mapped = None if place is None else map_stored(place)
    if mapped is None:
        return load_rows(source, split, **options)
    if (left_out := options.get("left_out")) is not None:
        left_out.extend(mapped.bad_rows)
    return mapped.rows


def check_rows(
    rows: Any,
    languages: Sequence[str],
    group_column: str | None = None,
    left_out: list[BadRow] | None = None,
    needs_sound: bool = True,
) -> datasets.Dataset | CheckedRows:
    """Check rows in memory as `load_rows` does, but leave recordings of plain rows where they are.

    Args:
        rows: A `datasets.Dataset`, or rows of any other kind that `load_rows` takes. `CheckedRows` are returned as
            they are, and so is what `load_rows` returned for the same languages, if its files have not changed.
        languages, group_column, left_out, needs_sound: As for `load_rows`.

    Returns:
        A `datasets.Dataset` for a data set or the name of one, and for rows without recordings; `CheckedRows` for
        other rows.

    Raises:
        ValueError: as `load_rows` does.
    """
    if isinstance(rows, CheckedRows):
        return rows
    if _was_checked(rows, languages, group_column, needs_sound):
        return rows
    if not isinstance(rows, (str, Path, datasets.Dataset, datasets.DatasetDict)):
        rows = as_sequence(rows)
    if isinstance(rows, (str, Path, datasets.Dataset, datasets.DatasetDict)) or _is_soundless(
        _each(rows), needs_sound
    ):
        return load_rows(
            rows, languages=languages, group_column=group_column, left_out=left_out, needs_sound=needs_sound
        )
    checker = RowChecker(_codes(languages), group_column, needs_sound)
    checked, bad_rows = check_plain_rows(rows, checker, left_out is not None)
    _report("the list of rows", bad_rows, len(checked), left_out)
    return checked


def _was_checked(rows: Any, languages: Sequence[str], group_column: str | None, needs_sound: bool) -> bool:
    """Whether `load_rows` returned these rows, with the same languages, and their files are as they were."""
    facts = facts_of(rows)
    fits = (
        facts is not None
        and facts.languages == tuple(resolve_languages(languages))
        and group_column is None  # its values are in the column `group_id`
        and (facts.needs_sound or not needs_sound)
    )
    # A process cannot go its own way here, because the others would wait for it.
    if not all(told_by_all(fits)):
        return False
    return told_by_main(lambda: facts is not None and are_unchanged(rows, facts))


def _codes(languages: Sequence[str] | None) -> list[str] | None:
    codes = None if languages is None else resolve_languages(languages)
    if codes is not None and (not codes or len(set(codes)) < len(codes)):
        raise ValueError(f"`languages` must name at least one language and none twice, but is {languages}.")
    return codes


def _report(name: str, bad_rows: Sequence[BadRow], num_kept: int, left_out: list[BadRow] | None) -> None:
    if left_out is not None and bad_rows:
        logger.warning("%s: %s", name, describe(bad_rows, num_kept + len(bad_rows)))
        left_out.extend(bad_rows)


def read_other_columns(path: Path, split: str | None, bad_rows: Sequence[BadRow] = ()) -> list[dict[str, Any]]:
    """Read the other columns of each row that `load_rows` returned for the same file; it left out `bad_rows`."""
    found = open_source(str(path), split)
    if not isinstance(found, Path):
        raise ValueError(f"{str(path)!r} is no folder or file of rows. Write it as one with `atri prepare hub` first.")
    wrong = {row.place for row in bad_rows}
    rows = [row for place, row, _ in read_file_rows(found) if place not in wrong]
    return [
        {name: value for name, value in row.items() if name not in _OWN_COLUMNS | _caption_names(row)} for row in rows
    ]


def _caption_names(row: dict[str, Any]) -> set[str]:
    """The columns from which the captions of a row were read."""
    if isinstance(row.get("captions"), dict):
        return set()
    return {name for names in caption_columns(tuple(row)).values() for name in names}


def _is_soundless(rows: Iterable[Any], needs_sound: bool) -> bool:
    """Whether some rows have embeddings or, if no sound is needed, all have captions alone."""
    has_sound = False
    for row in rows:
        if isinstance(row, Mapping):
            if row.get(EMBEDDING_COLUMN) is not None:
                return True
            has_sound = has_sound or sound_of(row) is not None
    return not (needs_sound or has_sound)


def _each(rows: Any) -> Iterator[Any]:
    return (rows[number] for number in range(len(rows)))


def _dataset_of(rows: Any) -> datasets.Dataset:
    """A data set of plain rows that have no recordings, or whose recordings are not used."""
    sounds_by_name = ((_named_sound(row) if isinstance(row, Mapping) else row, None) for row in _each(rows))
    return datasets.Dataset(soundless_table(sounds_by_name))


def _named_sound(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with the name of its recording instead of the recording."""
    sound = sound_of(row)
    others = {column: value for column, value in row.items() if column not in AUDIO_COLUMNS}
    return others if sound is None else {"audio": path_of(sound) or "a recording", **others}


def _read_soundless(path: Path) -> tuple[datasets.Dataset, list[str]]:
    """The rows of a file, unchanged, and the place of each in the file."""
    places: list[str] = []

    def rows() -> Iterator[tuple[dict[str, Any], str | None]]:
        for place, row, problem in read_file_rows(path):
            places.append(place)
            yield row, problem

    return datasets.Dataset(soundless_table(rows())), places
