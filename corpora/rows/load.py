"""Load rows from wherever they are, and check them."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from os import PathLike
from pathlib import Path
from typing import Any

import datasets
import pyarrow

from modeling_atri.audio_inputs_atri import path_of
from modeling_atri.embedding_store.vectors import StoredVectors, open_vectors
from modeling_atri.languages_atri import resolve_languages

from ..sources.audio_column import (
    AUDIO_COLUMNS,
    FORMS,
    NO_AUDIO,
    audio_alone,
    audio_name,
    columns_alone,
    find_audio_column,
)
from ..sources.layout import METADATA_FILES
from ..sources.metadata import METADATA_ADVICE, read_file_rows
from ..sources.opening import open_source, pick_split
from ..sources.raw_rows import PROBLEM_COLUMN
from .bad_rows import BadRow, describe
from .captions import CAPTIONS_ADVICE, caption_columns
from .checks import VECTOR_COLUMNS, CheckedRow, RowChecker
from .lookup import EMBEDDING_COLUMN
from .plain_rows import CheckedRows, as_sequence, check_plain_rows, sound_of
from .recordings import audio_sources, is_url
from .row_blocks import soundless_table
from .soundless_rows import check_soundless_rows


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
    checker, skip = RowChecker(_codes(languages), group_column, needs_sound), left_out is not None
    store = audio_embeddings
    if store is not None and not isinstance(store, StoredVectors):
        store = open_vectors(store)
    name, places = "the data set", None
    if isinstance(source, (str, Path)):
        opened = open_source(str(source), split, audio_column=None if store is None else NO_AUDIO)
        name, source, split = str(source), opened, None
    if isinstance(source, Path):
        name = str(source)
        if store is not None or _is_soundless(_rows_of(source), needs_sound):
            source, places = _read_soundless(source)
    elif not isinstance(source, (datasets.Dataset, datasets.DatasetDict)):
        name = "the list of rows"
        if split is not None:
            raise ValueError(f"Only data sets have splits, but this is a {type(source).__name__}. Leave out `split`.")
        source = as_sequence(source)
        if store is not None or _is_soundless(_each(source), needs_sound):
            source = _dataset_of(source)
    if isinstance(source, Path):
        rows, bad_rows = _load_file(source, checker, skip)
    elif isinstance(source, (datasets.Dataset, datasets.DatasetDict)):
        dataset = pick_split(source, split)
        if store is not None or _has_embeddings(dataset) or not (needs_sound or find_audio_column(dataset.features)):
            place_of = "row {}".format if places is None else places.__getitem__
            rows, bad_rows = check_soundless_rows(dataset, checker, skip, name, store, place_of)
        else:
            rows, bad_rows = _load_dataset(dataset, checker, skip, name)
    else:
        checked, bad_rows = check_plain_rows(source, checker, skip)
        rows = checked.as_dataset()
    _report(name, bad_rows, len(rows), left_out)
    return rows


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
            they are.
        languages, group_column, left_out, needs_sound: As for `load_rows`.

    Returns:
        A `datasets.Dataset` for a data set or the name of one, and for rows without recordings; `CheckedRows` for
        other rows.

    Raises:
        ValueError: as `load_rows` does.
    """
    if isinstance(rows, CheckedRows):
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


def _rows_of(path: Path) -> Iterator[Any]:
    return (row for _, row, problem in read_file_rows(path) if problem is None)


def _has_embeddings(dataset: datasets.Dataset) -> bool:
    if EMBEDDING_COLUMN not in dataset.column_names:
        return False
    return not pyarrow.types.is_null(dataset.data.schema.field(EMBEDDING_COLUMN).type)


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


def _load_file(path: Path, checker: RowChecker, skip: bool) -> tuple[datasets.Dataset, list[BadRow]]:
    for place, row, problem in read_file_rows(path):
        if problem is not None:
            checker.report_line(place, problem)
            continue
        name = audio_name(row)
        if name is not None:
            checker.check(place, row, name if is_url(name) else str(path.parent / name), name)
        else:
            checker.check(place, row, None)
    kept, bad_rows = checker.finish(str(path), skip)
    columns = checker.columns(kept)
    if any(row.path is not None for row in kept):
        columns = {"audio": [row.path for row in kept]} | columns
    for name in VECTOR_COLUMNS:
        if any(name in row.vectors for row in kept):
            columns[name] = [row.vectors.get(name) for row in kept]
    rows = datasets.Dataset.from_dict(columns)
    return rows.cast_column("audio", datasets.Audio(decode=False)) if "audio" in columns else rows, bad_rows


def _load_dataset(
    dataset: datasets.Dataset, checker: RowChecker, skip: bool, name: str
) -> tuple[datasets.Dataset, list[BadRow]]:
    names = dataset.column_names
    languages = None if checker.languages is None else tuple(checker.languages)
    found = {column for columns in caption_columns(tuple(names), languages).values() for column in columns}
    captions = {"captions"} & set(names) or found
    audio_column = find_audio_column(dataset.features)
    missing = [] if audio_column or not checker.needs_sound else ["audio"]
    missing += [] if captions else ["captions"]
    if audio_column is None and (odd := [column for column in AUDIO_COLUMNS if column in names]):
        raise ValueError(f"The column `{odd[0]}` of {name} holds {dataset.features[odd[0]]}, but {FORMS}.")
    if missing:
        advice = f"{CAPTIONS_ADVICE} (`dataset.rename_column`)"
        if Path(name).is_dir() and not captions:
            advice = f"{name!r} has none of {', '.join(METADATA_FILES)}. {METADATA_ADVICE}"
        raise ValueError(
            f"The data set has no column {' and no column '.join(missing)}; it has {', '.join(names)}. {advice}."
        )
    dataset = dataset.with_format(None)
    vectors = [column for column in VECTOR_COLUMNS if column in names]
    kept_columns = [columns_alone(dataset, vectors)] if vectors else []
    sounds: Iterable[Any] = repeat(None, len(dataset))
    if audio_column is not None:
        audio = audio_alone(dataset, audio_column)
        sounds = audio_sources(audio)
    wanted = {"audio_id", "group_id", checker.group_column, PROBLEM_COLUMN, *captions}
    rows = dataset.select_columns([column for column in names if column in wanted])
    for index, (row, sound) in enumerate(zip(rows, sounds, strict=True)):
        if row.get(PROBLEM_COLUMN):
            checker.report_line(f"row {index}", row[PROBLEM_COLUMN])
        else:
            checker.check(f"row {index}", row, sound)
    kept, bad_rows = checker.finish(name, skip)
    if audio_column is not None:
        kept_columns = [_with_found_files(audio, kept), *kept_columns]
    if not bad_rows:
        columns = datasets.Dataset.from_dict(checker.columns(kept))
        return datasets.concatenate_datasets([*kept_columns, columns], axis=1), bad_rows
    # Columns are joined before rows are selected, because selecting first would copy embedded sounds. The joined
    # columns need a value for rows that are left out as well: any will do.
    row_at = {row.number: row for row in kept}
    columns = datasets.Dataset.from_dict(checker.columns(row_at.get(index, kept[0]) for index in range(len(dataset))))
    return datasets.concatenate_datasets([*kept_columns, columns], axis=1).select(list(row_at)), bad_rows


def _with_found_files(audio: datasets.Dataset, kept: Sequence[CheckedRow]) -> datasets.Dataset:
    """Replace the paths of files that are on disk under the same name in another Unicode form."""
    found = {row.number: row.path for row in kept if row.path is not None and row.path != row.name}
    if not found:
        return audio
    paths = [found.get(index, sound["path"]) for index, sound in enumerate(audio_sources(audio))]
    contents = audio.with_format("arrow")[:]["audio"]
    chunks, start = [], 0
    for chunk in contents.chunks:
        names = pyarrow.array(paths[start : start + len(chunk)], pyarrow.string())
        chunks.append(pyarrow.StructArray.from_arrays([chunk.field("bytes"), names], ["bytes", "path"]))
        start += len(chunk)
    renamed = datasets.Dataset(pyarrow.table({"audio": pyarrow.chunked_array(chunks)}))
    return renamed.cast_column("audio", datasets.Audio(decode=False))
