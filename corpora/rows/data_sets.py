"""Check a `datasets.Dataset` of rows with recordings: in columns, and only odd rows one by one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..sources.audio_column import AUDIO_COLUMNS, FORMS, audio_alone, columns_alone, find_audio_column
from ..sources.layout import METADATA_FILES
from ..sources.metadata import METADATA_ADVICE
from ..sources.raw_rows import PROBLEM_COLUMN
from .bad_rows import BadRow, BadRowError
from .captions import CAPTIONS_ADVICE, caption_columns, resolve_captions
from .checked_row import CheckedRow
from .checks import VECTOR_COLUMNS, RowChecker
from .ids import RightNames
from .kept.facts import CheckedFacts, note_checked
from .kept.lengths import FileStates, file_states
from .recordings import is_url, usable_length, usable_samples
from .right_rows import find_right_texts


_ROWS_AT_ONCE = 4096
_SOUNDS_AT_ONCE = 100  # recordings that the rows contain


def check_data_set(
    dataset: datasets.Dataset, checker: RowChecker, skip: bool, name: str
) -> tuple[datasets.Dataset, list[BadRow]]:
    """Check rows with recordings, or with the paths of recordings.

    Args:
        dataset: Rows with columns of any names.
        checker: Checks the rows that are not known to be right.
        skip: Leave wrong rows out instead of raising.
        name: Name of the source, for messages.

    Returns:
        The right rows, with the columns that `load_rows` returns, and the rows that are left out.

    Raises:
        ValueError: as `RowChecker.finish` does, or columns are missing.
    """
    names = dataset.column_names
    languages = None if checker.languages is None else tuple(checker.languages)
    found = {column for columns in caption_columns(tuple(names), languages).values() for column in columns}
    captions = {"captions"} & set(names) or found
    audio_column = _audio_column(dataset, checker, name, bool(captions))
    dataset = dataset.with_format(None)
    vectors = [column for column in VECTOR_COLUMNS if column in names]
    kept_columns = [columns_alone(dataset, vectors)] if vectors else []
    wanted = {"audio_id", "group_id", checker.group_column, PROBLEM_COLUMN, *captions}
    texts = dataset.select_columns([column for column in names if column in wanted])
    audio = None if audio_column is None else audio_alone(dataset, audio_column)
    blocks = [_check_block(*block, checker) for block in _blocks(texts, audio)]
    if not blocks:
        raise ValueError(f"{name} holds no rows.")
    # Before a row has captions, their languages are not known, and no row is right.
    right = pa.concat_tables([block.right for block in blocks if len(block.right)] or [blocks[-1].right])

    def row_at(place: int) -> CheckedRow:
        row = right.slice(place, 1).to_pylist()[0]
        number = row["number"]
        return CheckedRow(f"row {number}", row["name"], number=number, position=number, captions=row["captions"])

    checker.add([row for block in blocks for row in block.others])
    numbers = right["number"].to_numpy()
    finished = checker.finish_with(RightNames(numbers, right["name"], right["audio_id"], row_at), name, skip)
    is_kept = np.ones(len(numbers), dtype=bool)
    is_kept[finished.repeated] = False
    columns = _columns(right, finished.ids, is_kept, finished.kept, checker)
    numbers = np.concatenate([numbers[is_kept], [row.number for row in finished.kept]]).astype(np.int64)
    if audio is not None:
        kept_columns = [_with_found_files(audio, finished.kept), *kept_columns]
    # Columns are joined before rows are selected, because selecting first would copy embedded sounds. In the joined
    # columns, rows that are left out are null.
    places = np.full(len(dataset), -1, dtype=np.int64)
    places[numbers] = np.arange(len(numbers))
    is_whole = len(numbers) == len(dataset)
    if not (is_whole and (np.diff(places) > 0).all()):
        columns = columns.take(pa.array(places, mask=places < 0))
    result = datasets.concatenate_datasets([*kept_columns, datasets.Dataset(columns)], axis=1)
    numbers.sort()
    result = result if is_whole else result.select(numbers.tolist())
    states = np.concatenate([block.states for block in blocks])[numbers]
    note_checked(result, CheckedFacts(tuple(checker.languages or ()), audio is not None, states))
    return result, finished.bad_rows


@dataclass
class _Block:
    """Right rows as columns, other rows, and sizes, times and numbers of samples of all files, `(rows, 3)`."""

    right: pa.Table
    others: list[CheckedRow]
    states: np.ndarray


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


def _check_block(start: int, table: pa.Table, audio: pa.ChunkedArray | None, checker: RowChecker) -> _Block:
    size = len(table)
    if checker.languages is None:
        checker.languages = _first_languages(table)
    captions, audio_ids, groups, is_right, seen = find_right_texts(
        table, checker.languages or [], checker.group_column
    )
    paths, contents = _sounds_of(audio, size)
    states, samples = _look_at(paths, contents)
    has_name = np.array([bool(path) for path in paths], dtype=bool) | np.asarray(audio_ids.is_valid())
    is_right &= (samples >= 0) & has_name
    if PROBLEM_COLUMN in table.column_names:
        is_right &= np.asarray(table[PROBLEM_COLUMN].is_null())
    for number in np.flatnonzero(~is_right).tolist():
        row = table.slice(number, 1).to_pylist()[0]
        place = f"row {start + number}"
        if row.get(PROBLEM_COLUMN):
            checker.report_line(place, row[PROBLEM_COLUMN], start + number)
            continue
        file = None if contents[number] is None else pa.BufferReader(contents[number])
        sound = None if audio is None else {"path": paths[number], "bytes": file}
        checker.check(place, row, sound, number=start + number)
    names = pa.array([path or None for path in paths], pa.large_string())
    columns = {"number": pa.array(np.arange(start, start + size)), "name": names, "audio_id": audio_ids}
    columns |= {"group_id": groups, "captions": captions}
    rows = checker.take()
    if is_right.any():
        checker.note_languages(seen)
    samples = np.where([path is not None and is_url(path) for path in paths], -1, samples)
    return _Block(pa.table(columns).filter(pa.array(is_right)), rows, np.column_stack([*states, samples]))


def _sounds_of(audio: pa.ChunkedArray | None, size: int) -> tuple[list[str | None], list[pa.Buffer | None]]:
    """The path of each recording, and the content of each that is in the rows, which is not copied."""
    if audio is None:
        return [None] * size, [None] * size
    paths: list[str | None] = []
    contents: list[pa.Buffer | None] = []
    for chunk in audio.chunks:
        paths += chunk.field("path").to_pylist()
        of_chunk = chunk.field("bytes")
        if of_chunk.null_count == len(of_chunk):
            contents += [None] * len(of_chunk)
        else:
            contents += [content.as_buffer() if content.is_valid else None for content in of_chunk]
    return paths, contents


def _look_at(paths: Sequence[str | None], contents: Sequence[pa.Buffer | None]) -> tuple[FileStates, np.ndarray]:
    """States of files, and numbers of samples; -1 for recordings that cannot be used. URLs are not looked at."""
    sizes, times, samples = (np.full(len(paths), -1, dtype=np.int64) for _ in range(3))
    is_file = [bool(path) and content is None for path, content in zip(paths, contents, strict=True)]
    places = [place for place, is_one in enumerate(is_file) if is_one and not is_url(paths[place] or "")]
    chosen = [paths[place] or "" for place in places]
    states = file_states(chosen)
    sizes[places], times[places] = states
    samples[places] = usable_samples(chosen, states)
    for place, (path, content) in enumerate(zip(paths, contents, strict=True)):
        if content is not None:
            samples[place] = _samples_of_content(path, content)
        elif path and is_url(path):
            samples[place] = 0
    return FileStates(sizes, times), samples


def _samples_of_content(path: str | None, content: pa.Buffer) -> int:
    try:
        return round(usable_length({"path": path, "bytes": pa.BufferReader(content)}) * 16_000)
    except BadRowError:
        return -1


def _first_languages(table: pa.Table) -> list[str] | None:
    """The languages of the first row with captions."""
    for batch in table.to_batches(max_chunksize=100):
        for row in batch.to_pylist():
            if not row.get(PROBLEM_COLUMN) and (captions := resolve_captions(row, None, problems=[])):
                return list(captions)
    return None


def _columns(
    right: pa.Table, ids: pa.ChunkedArray, is_kept: np.ndarray, kept: Sequence[CheckedRow], checker: RowChecker
) -> pa.Table:
    """The checked columns of right rows, and then of those that were checked one by one."""
    columns: dict[str, Any] = {
        "audio_id": ids.cast(pa.string()),
        "captions": right["captions"],
        "group_id": pc.coalesce(right["group_id"], ids).cast(pa.string()),
    }
    table = pa.table(columns)
    table = table if is_kept.all() else table.filter(pa.array(is_kept))
    return pa.concat_tables([table, pa.table(checker.columns(kept), schema=table.schema)]) if kept else table


def _with_found_files(audio: datasets.Dataset, kept: Sequence[CheckedRow]) -> datasets.Dataset:
    """Replace the paths of files that are on disk under the same name in another Unicode form."""
    found = {row.number: row.path for row in kept if row.path is not None and row.path != row.name}
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
