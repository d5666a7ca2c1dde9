"""Check a `datasets.Dataset` of rows with recordings: in columns, and only odd rows one by one."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...sources.audio_column import AUDIO_COLUMNS, FORMS, audio_alone, columns_alone, find_audio_column
from ...sources.layout import METADATA_FILES
from ...sources.metadata import METADATA_ADVICE
from ...sources.raw_rows import PROBLEM_COLUMN
from ..bad_rows import BadRow
from ..captions import CAPTIONS_ADVICE, caption_columns, first_languages
from ..kept.facts import CheckedFacts, note_checked
from ..kept.lengths import file_states
from ..progress import progress_bar
from .checked_row import CheckedRow
from .ids import RightNames
from .right_rows import find_right_texts, rows_of
from .row_checker import VECTOR_COLUMNS, Finished, RowChecker
from .sounds import look_at


_ROWS_AT_ONCE = 4096
_SOUNDS_AT_ONCE = 100  # recordings that the rows contain


class CheckedColumns(NamedTuple):
    """What a check found in a data set.

    Args:
        texts: the columns `audio_id`, `captions` and `group_id` of the rows that are not left out, in their order.
        numbers: the numbers of these rows in the data set, `(rows,)`, ascending.
        paths: the paths of their recordings, or the names of those that the rows contain; null without one.
        states: sizes, times of the last change and numbers of samples of their files, `(rows, 3)`, int64; -1 where
            they are not known.
        renamed: by number of the row, the paths of files whose names have another Unicode form on disk.
        has_audio: whether there is a column of recordings.
        has_contents: whether rows contain recordings.
        vectors: columns of vectors.
        bad_rows: the rows that are left out.
        wrong: those of them that were checked one by one, each with size and time of its file.
    """

    texts: pa.Table
    numbers: np.ndarray
    paths: pa.ChunkedArray
    states: np.ndarray
    renamed: dict[int, str]
    has_audio: bool
    has_contents: bool
    vectors: list[str]
    bad_rows: list[BadRow]
    wrong: list[tuple[CheckedRow, tuple[int, int]]]


def check_columns(
    dataset: datasets.Dataset, checker: RowChecker, skip: bool, name: str, lengths_file: Path | None = None
) -> CheckedColumns:
    """Check rows with recordings, or with the paths of recordings.

    Args:
        dataset: Rows with columns of any names.
        checker: Checks the rows that are not known to be right.
        skip: Leave wrong rows out instead of raising.
        name: Name of the source, for messages.
        lengths_file (*optional*): Where the lengths of files are kept for later runs.

    Raises:
        ValueError: as `RowChecker.finish` does, or columns are missing.
    """
    names = dataset.column_names
    languages = None if checker.languages is None else tuple(checker.languages)
    found = {column for columns in caption_columns(tuple(names), languages).values() for column in columns}
    captions = {"captions"} & set(names) or found
    audio_column = _audio_column(dataset, checker, name, bool(captions))
    dataset = dataset.with_format(None)
    wanted = {"audio_id", "group_id", checker.group_column, PROBLEM_COLUMN, *captions}
    texts = dataset.select_columns([column for column in names if column in wanted])
    audio = None if audio_column is None else audio_alone(dataset, audio_column)
    blocks = []
    with progress_bar("rows checked", len(dataset)) as bar:
        for start, table, sounds in _blocks(texts, audio):
            blocks.append(_check_block(start, table, sounds, checker, lengths_file))
            bar.update(len(table))
    if not blocks:
        raise ValueError(f"{name} holds no rows.")
    vectors = [column for column in VECTOR_COLUMNS if column in names]
    return _finish(blocks, checker, skip, name, audio is not None, vectors)


def check_data_set(
    dataset: datasets.Dataset, checker: RowChecker, skip: bool, name: str
) -> tuple[datasets.Dataset, CheckedColumns]:
    """Check rows as `check_columns` does. Returns the right rows, with the columns that `load_rows` returns."""
    found = check_columns(dataset, checker, skip, name)
    columns = datasets.Dataset(in_all_rows(found, len(dataset)))
    beside = ["audio", *found.vectors] if found.has_audio else found.vectors
    rows = with_sounds(columns, dataset, beside, found.renamed, found.numbers)
    note_checked(rows, CheckedFacts(tuple(checker.languages or ()), found.has_audio, found.states))
    return rows, found


def in_all_rows(found: CheckedColumns, num_rows: int) -> pa.Table:
    """The texts with a row for each row of the data set. Rows that are left out are null."""
    if len(found.numbers) == num_rows:
        return found.texts
    places = np.full(num_rows, -1, dtype=np.int64)
    places[found.numbers] = np.arange(len(found.numbers))
    return found.texts.take(pa.array(places, mask=places < 0))


def with_sounds(
    columns: datasets.Dataset,
    dataset: datasets.Dataset,
    beside: Sequence[str],
    renamed: Mapping[int, str],
    numbers: np.ndarray,
) -> datasets.Dataset:
    """Join checked columns with the recordings and vectors of their data set, which are not copied.

    Columns are joined before rows are selected, because selecting first would copy recordings that the rows contain.

    Args:
        columns: What `in_all_rows` returns.
        dataset: The data set.
        beside: `audio`, for the recordings, and columns of vectors.
        renamed, numbers: as in `CheckedColumns`.
    """
    dataset = dataset.with_format(None)
    vectors = [column for column in beside if column != "audio"]
    parts = [columns_alone(dataset, vectors)] if vectors else []
    audio_column = find_audio_column(dataset.features) if "audio" in beside else None
    if audio_column is not None:
        parts = [_with_found_files(audio_alone(dataset, audio_column), renamed), *parts]
    joined = datasets.concatenate_datasets([*parts, columns], axis=1)
    return joined if len(numbers) == len(dataset) else joined.select(numbers.tolist())


class _Block(NamedTuple):
    """Right rows as columns, other rows, states of the files of all rows, and whether rows contain recordings."""

    right: pa.Table
    others: list[CheckedRow]
    states: np.ndarray
    has_contents: bool


def _audio_column(dataset: datasets.Dataset, checker: RowChecker, name: str, has_captions: bool) -> str | None:
    """The column of recordings, after a check that the columns are there which every row needs."""
    names = dataset.column_names
    audio_column = find_audio_column(dataset.features)
    missing = [] if audio_column or not checker.needs_sound else ["audio"]
    missing += [] if has_captions else ["captions"]
    if audio_column is None and (odd := [column for column in AUDIO_COLUMNS if column in names]):
        raise ValueError(f"The column `{odd[0]}` of {name} holds {dataset.features[odd[0]]}, but {FORMS}.")
    if missing:
        advice = f"{CAPTIONS_ADVICE} (`dataset.rename_column`)"
        if Path(name).is_dir() and not has_captions:
            advice = f"{name!r} has none of {', '.join(METADATA_FILES)}. {METADATA_ADVICE}"
        raise ValueError(
            f"The data set has no column {' and no column '.join(missing)}; it has {', '.join(names)}. {advice}."
        )
    return audio_column


def _blocks(
    texts: datasets.Dataset, audio: datasets.Dataset | None
) -> Iterator[tuple[int, pa.Table, pa.ChunkedArray | None]]:
    """Successive rows: the number of the first, their texts, and their recordings. Few where rows contain sounds."""
    rows_at_once = _ROWS_AT_ONCE
    if audio is not None:
        first = audio.with_format("arrow")[:1]["audio"]
        if any(chunk.field("bytes").null_count < len(chunk) for chunk in first.chunks):
            rows_at_once = _SOUNDS_AT_ONCE
    texts = texts.with_format("arrow")
    sounds = None if audio is None else audio.with_format("arrow")
    for start in range(0, len(texts), rows_at_once):
        rows = slice(start, start + rows_at_once)
        yield start, texts[rows], None if sounds is None else sounds[rows]["audio"]


def _check_block(
    start: int, table: pa.Table, audio: pa.ChunkedArray | None, checker: RowChecker, lengths_file: Path | None
) -> _Block:
    size = len(table)
    if checker.languages is None:
        checker.languages = first_languages(row for row in rows_of(table) if not row.get(PROBLEM_COLUMN))
    captions, audio_ids, groups, is_right, seen = find_right_texts(
        table, checker.languages or [], checker.group_column
    )
    sounds = look_at(audio, size, lengths_file)
    has_name = np.array([bool(path) for path in sounds.paths], dtype=bool) | np.asarray(audio_ids.is_valid())
    is_right &= sounds.are_usable & has_name
    if PROBLEM_COLUMN in table.column_names:
        is_right &= np.asarray(table[PROBLEM_COLUMN].is_null())
    for number in np.flatnonzero(~is_right).tolist():
        row = table.slice(number, 1).to_pylist()[0]
        place = f"row {start + number}"
        if row.get(PROBLEM_COLUMN):
            checker.report_line(place, row[PROBLEM_COLUMN], start + number)
            continue
        checker.check(place, row, None if audio is None else sounds.source(number), number=start + number)
    names = pa.array([path or None for path in sounds.paths], pa.large_string())
    columns = {"number": pa.array(np.arange(start, start + size)), "name": names, "audio_id": audio_ids}
    right = pa.table(columns | {"group_id": groups, "captions": captions})
    right = right if is_right.all() else right.filter(pa.array(is_right))  # filtering copies all texts
    rows = checker.take()
    if is_right.any():
        checker.note_languages(seen)
    states = sounds.states
    for row in rows:
        if row.path is not None and row.path != row.name:  # on disk, its name has another Unicode form
            samples = -1 if row.seconds is None else round(row.seconds * 16_000)
            states[row.position - start] = [*np.ravel(file_states([row.path])), samples]
    return _Block(right, rows, states, sounds.has_contents)


def _finish(
    blocks: Sequence[_Block], checker: RowChecker, skip: bool, name: str, has_audio: bool, vectors: list[str]
) -> CheckedColumns:
    """Check all rows together."""
    # Before a row has captions, their languages are not known, and no row is right.
    right = pa.concat_tables([block.right for block in blocks if len(block.right)] or [blocks[-1].right])

    def row_at(place: int) -> CheckedRow:
        row = right.slice(place, 1).to_pylist()[0]
        number = row["number"]
        return CheckedRow(f"row {number}", row["name"], number=number, position=number, captions=row["captions"])

    others = [row for block in blocks for row in block.others]
    checker.add(others)
    numbers = right["number"].to_numpy()
    finished = checker.finish_with(RightNames(numbers, right["name"], right["audio_id"], row_at), name, skip)
    texts, paths, numbers = _kept_columns(right, finished, checker)
    states = np.concatenate([block.states for block in blocks])
    kept = {row.position for row in finished.kept}
    wrong = [row for row in others if row.position not in kept]
    return CheckedColumns(
        texts,
        numbers,
        paths,
        states[numbers],
        {row.position: row.path for row in finished.kept if row.path is not None and row.path != row.name},
        has_audio,
        any(block.has_contents for block in blocks),
        vectors,
        finished.bad_rows,
        [(row, (int(states[row.position, 0]), int(states[row.position, 1]))) for row in wrong],
    )


def _kept_columns(
    right: pa.Table, finished: Finished, checker: RowChecker
) -> tuple[pa.Table, pa.ChunkedArray, np.ndarray]:
    """The checked columns of all rows that are not left out, the paths of their recordings, and their numbers."""
    columns: dict[str, Any] = {
        "audio_id": finished.ids.cast(pa.string()),
        "captions": right["captions"],
        "group_id": pc.coalesce(right["group_id"], finished.ids).cast(pa.string()),
    }
    table = pa.table(columns)
    beside = right.select(["name", "number"])
    if finished.repeated:
        is_kept = np.ones(len(right), dtype=bool)
        is_kept[finished.repeated] = False
        table, beside = table.filter(pa.array(is_kept)), beside.filter(pa.array(is_kept))
    if finished.kept:
        others = {
            "name": [row.name if row.path is None else row.path for row in finished.kept],
            "number": [row.number for row in finished.kept],
        }
        table = pa.concat_tables([table, pa.table(checker.columns(finished.kept), schema=table.schema)])
        beside = pa.concat_tables([beside, pa.table(others, schema=beside.schema)])
        order = pa.array(np.argsort(beside["number"].to_numpy(), kind="stable"))
        table, beside = table.take(order), beside.take(order)
    return table, beside["name"], beside["number"].to_numpy()


def _with_found_files(audio: datasets.Dataset, found: Mapping[int, str]) -> datasets.Dataset:
    """Replace the paths of files that are on disk under the same name in another Unicode form."""
    if not found:
        return audio
    contents = audio.with_format("arrow")[:]["audio"]
    chunks, start = [], 0
    for chunk in contents.chunks:
        names = chunk.field("path").to_pylist()
        names = [found.get(start + place, name) for place, name in enumerate(names)]
        renamed = pa.array(names, pa.string())
        chunks.append(pa.StructArray.from_arrays([chunk.field("bytes"), renamed], ["bytes", "path"]))
        start += len(chunk)
    table = datasets.Dataset(pa.table({"audio": pa.chunked_array(chunks)}))
    return table.cast_column("audio", datasets.Audio(decode=False))
