"""Join the checked parts of a source: ids are filled in, wrong rows are left out, and the rest becomes one table."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..bad_rows import BadRow
from ..checked_row import CheckedRow
from ..checks import VECTOR_COLUMNS, RowChecker
from ..ids import RightNames
from .block_checks import joined_paths
from .part import Part


_BATCH_ROWS = 1024  # of a record batch on disk


@dataclass
class Joined:
    """Checked rows of a source.

    Args:
        tables: returns the rows in parts, with the columns that `load_rows` returns.
        schema: of these parts.
        files: the recording of each row, as the row names it; null without one.
        states: sizes, times of the last change and numbers of samples of the files, `(rows, 3)`, int64.
        bad_rows: rows that are left out.
        wrong: those of them that were checked one by one, each with the state of its file.
    """

    tables: Callable[[], Iterator[pa.Table]]
    schema: pa.Schema
    files: pa.ChunkedArray
    states: np.ndarray
    bad_rows: list[BadRow]
    wrong: list[tuple[CheckedRow, tuple[int, int]]] = field(default_factory=list)


def join_parts(parts: Sequence[Part], checker: RowChecker, noun: str, folder: str, name: str, skip: bool) -> Joined:
    """Check all rows of a source together, and leave out wrong ones.

    Args:
        parts: all parts of the source in their order.
        checker: as it was when it checked the last of them. It has no rows.
        noun: what a row is called in messages, `"line"` or `"item"`.
        folder: the folder that names of recordings are relative to.
        name: name of the source, for messages.
        skip: leave wrong rows out instead of raising.

    Raises:
        ValueError: as `RowChecker.finish` does.
    """
    rights = [part.right for part in parts]
    starts = np.concatenate([[0], np.cumsum([len(right) for right in rights])]).astype(np.int64)
    for part in parts:
        checker.add(part.others)
        checker.note_languages(part.seen)

    def row_at(place: int) -> CheckedRow:
        number = int(np.searchsorted(starts, place, side="right")) - 1
        row = rights[number].slice(place - int(starts[number]), 1).to_pylist()[0]
        return CheckedRow(
            f"{noun} {row['line']}",
            name=row["file"],
            audio_id=row["audio_id"],
            group_id=row["group_id"],
            captions=row["captions"],
            number=row["position"],
            position=row["position"],
        )

    positions = _column(rights, "position", pa.int64()).to_numpy()
    names, ids = (_column(rights, column, pa.large_string()) for column in ("file", "audio_id"))
    finished = checker.finish_with(RightNames(positions, names, ids, row_at), name, skip)
    kept = {row.position: row for row in finished.kept}
    is_right = np.ones(len(positions), dtype=bool)
    is_right[finished.repeated] = False
    own_vectors = [column for column in VECTOR_COLUMNS if any(column in row.vectors for row in finished.kept)]
    schema = _schema(checker.languages or [], own_vectors, finished.kept)

    def tables() -> Iterator[pa.Table]:
        for number, part in enumerate(parts):
            ours = slice(int(starts[number]), int(starts[number + 1]))
            mask = pa.array(is_right[ours])
            of_right = part.right.append_column(
                "id", finished.ids.slice(ours.start, len(part.right)).cast(pa.string())
            )
            others = [kept[row.position] for row in part.others if row.position in kept]
            yield _table(of_right.filter(mask), others, checker, schema, folder)

    files, states = [], [np.zeros((0, 3), dtype=np.int64)]
    for number, part in enumerate(parts):
        right = part.right.filter(pa.array(is_right[starts[number] : starts[number + 1]]))
        others = [(row, state) for row, state in zip(part.others, part.states, strict=True) if row.position in kept]
        of_right = np.column_stack([right[column].to_numpy() for column in ("size", "time", "samples")])
        if not others:
            files += right["file"].chunks
            states.append(of_right)
            continue
        order = np.argsort([*right["position"].to_pylist(), *(row.position for row, _ in others)], kind="stable")
        names_of_others = pa.array([_relative(row, folder) for row, _ in others], pa.large_string())
        files += pa.chunked_array([*right["file"].chunks, names_of_others]).take(pa.array(order)).chunks
        of_others = [[*state, -1 if row.seconds is None else round(row.seconds * 16_000)] for row, state in others]
        states.append(np.concatenate([of_right, np.array(of_others, dtype=np.int64).reshape(-1, 3)])[order])
    wrong = [
        (row, state)
        for part in parts
        for row, state in zip(part.others, part.states, strict=True)
        if row.position not in kept
    ]
    return Joined(
        tables,
        schema,
        pa.chunked_array(files, pa.large_string()),
        np.concatenate(states),
        finished.bad_rows,
        wrong,
    )


def record_batches(joined: Joined) -> Iterator[pa.RecordBatch]:
    """The rows in batches for a file."""
    for table in joined.tables():
        yield from table.combine_chunks().to_batches(max_chunksize=_BATCH_ROWS)


def _schema(languages: Sequence[str], vectors: Sequence[str], kept: Sequence[CheckedRow]) -> pa.Schema:
    """The schema of checked rows as `datasets` writes it."""
    columns: dict[str, Any] = {"audio": datasets.Audio(decode=False)}
    columns["audio_id"] = datasets.Value("string")
    columns["captions"] = {code: datasets.List(datasets.Value("string")) for code in languages}
    columns["group_id"] = datasets.Value("string")
    for name in vectors:
        values = [row.vectors.get(name) for row in kept]
        columns[name] = datasets.Dataset.from_dict({name: values}).features[name]
    return datasets.Features(columns).arrow_schema


def _table(
    right: pa.Table, others: Sequence[CheckedRow], checker: RowChecker, schema: pa.Schema, folder: str
) -> pa.Table:
    """The rows of a part in their order: those that are right in themselves, and others."""
    paths = pa.array(joined_paths(folder, right["file"].to_pylist()), pa.string())
    group_ids = pc.coalesce(right["group_id"].cast(pa.string()), right["id"])
    columns: dict[str, Any] = {
        "audio": pa.StructArray.from_arrays([pa.nulls(len(paths), pa.binary()), paths], ["bytes", "path"]),
        "audio_id": right["id"],
        # Before a row has captions, their languages are not known, and no row is right.
        "captions": right["captions"] if len(right) else pa.nulls(0, schema.field("captions").type),
        "group_id": group_ids,
    }
    vectors = [name for name in schema.names if name not in columns]
    columns |= {name: pa.nulls(len(right), schema.field(name).type) for name in vectors}
    table = pa.table({name: columns[name] for name in schema.names}, schema=schema)
    if not others:
        return table
    own = checker.columns(others) | {"audio": [{"bytes": None, "path": row.path} for row in others]}
    own |= {name: [row.vectors.get(name) for row in others] for name in vectors}
    joined = pa.concat_tables([table, pa.table({name: own[name] for name in schema.names}, schema=schema)])
    order = np.argsort([*right["position"].to_pylist(), *(row.position for row in others)], kind="stable")
    return joined.take(pa.array(order))


def _relative(row: CheckedRow, folder: str) -> str | None:
    """The recording of a row that was checked one by one, as a name that `joined_path` makes the same path of."""
    path = row.path
    return path.removeprefix(f"{folder}/") if path is not None else row.name


def _column(tables: Sequence[pa.Table], name: str, kind: pa.DataType) -> pa.ChunkedArray:
    return pa.chunked_array([chunk for table in tables for chunk in table[name].chunks], kind)
