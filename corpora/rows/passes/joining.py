"""Join the checked parts of a source: ids are filled in, wrong rows are left out, and the rest becomes one table."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..checks.checked_row import CheckedRow
from ..checks.ids import RightNames
from ..checks.row_checker import VECTOR_COLUMNS, Finished, RowChecker
from ..kept.joined import Joined, row_schema
from ..recordings import joined_paths
from .part import Part


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
    for part in parts:
        checker.add(part.others)
        checker.note_languages(part.seen)
    finished = checker.finish_with(_right_names([part.right for part in parts], noun), name, skip)
    vectors = [column for column in VECTOR_COLUMNS if any(column in row.vectors for row in finished.kept)]
    schema = row_schema(checker.languages or [], True, vectors, finished.kept)
    kept = {row.position: row for row in finished.kept}

    def tables() -> Iterator[pa.Table]:
        return (_table(part, checker, schema, folder) for part in _kept_parts(parts, finished, kept))

    files: list[pa.Array] = []
    states = [np.zeros((0, 3), dtype=np.int64)]
    for kept_part in _kept_parts(parts, finished, kept):
        of_part, of_files = _files(kept_part, folder)
        files += of_part.chunks
        states.append(of_files)
    others = ((row, state) for part in parts for row, state in zip(part.others, part.states, strict=True))
    return Joined(
        tables,
        schema,
        pa.chunked_array(files, pa.large_string()),
        np.concatenate(states),
        finished.bad_rows,
        [(row, state) for row, state in others if row.position not in kept],
    )


class _KeptPart(NamedTuple):
    """The rows of a part that are not left out.

    Args:
        right: the right rows of the part, with their ids in the column `id`.
        is_kept: which of them are not left out; None if all are kept.
        others: the rows that were checked one by one, each with size and time of its file.
    """

    right: pa.Table
    is_kept: pa.Array | None
    others: list[tuple[CheckedRow, tuple[int, int]]]

    def columns(self, *names: str) -> pa.Table:
        """Columns of the right rows. Those that are left out are few, and removing them copies all others."""
        columns = self.right.select(names)
        return columns if self.is_kept is None else columns.filter(self.is_kept)

    def in_order(self, rows: Any) -> Any:
        """Rows of which the right ones come first, in the order of the source."""
        positions = [*self.columns("position")["position"].to_pylist(), *(row.position for row, _ in self.others)]
        return rows.take(pa.array(np.argsort(positions, kind="stable")))


def _kept_parts(parts: Sequence[Part], finished: Finished, kept: dict[int, CheckedRow]) -> Iterator[_KeptPart]:
    repeated, start = np.array(finished.repeated, dtype=np.int64), 0
    for part in parts:
        size = len(part.right)
        ids = finished.ids.slice(start, size).cast(pa.string())
        of_part = repeated[(repeated >= start) & (repeated < start + size)] - start
        is_kept = np.ones(size, dtype=bool)
        is_kept[of_part] = False
        others = [
            (kept[row.position], state)
            for row, state in zip(part.others, part.states, strict=True)
            if row.position in kept
        ]
        yield _KeptPart(part.right.append_column("id", ids), pa.array(is_kept) if len(of_part) else None, others)
        start += size


def _right_names(rights: Sequence[pa.Table], noun: str) -> RightNames:
    starts = np.concatenate([[0], np.cumsum([len(right) for right in rights])]).astype(np.int64)

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
    return RightNames(positions, names, ids, row_at)


def _table(part: _KeptPart, checker: RowChecker, schema: pa.Schema, folder: str) -> pa.Table:
    """The rows of a part in their order: those that are right in themselves, and others."""
    right = part.columns("file", "id", "group_id", "captions")
    paths = joined_paths(folder, right["file"]).cast(pa.string()).combine_chunks()
    columns: dict[str, Any] = {
        "audio": pa.StructArray.from_arrays([pa.nulls(len(paths), pa.binary()), paths], ["bytes", "path"]),
        "audio_id": right["id"],
        # Before a row has captions, their languages are not known, and no row is right.
        "captions": right["captions"] if len(right) else pa.nulls(0, schema.field("captions").type),
        "group_id": pc.coalesce(right["group_id"].cast(pa.string()), right["id"]),
    }
    vectors = [name for name in schema.names if name not in columns]
    columns |= {name: pa.nulls(len(right), schema.field(name).type) for name in vectors}
    table = pa.table({name: columns[name] for name in schema.names}, schema=schema)
    if not part.others:
        return table
    others = [row for row, _ in part.others]
    own = checker.columns(others) | {"audio": [{"bytes": None, "path": row.path} for row in others]}
    own |= {name: [row.vectors.get(name) for row in others] for name in vectors}
    own_table = pa.table({name: own[name] for name in schema.names}, schema=schema)
    return part.in_order(pa.concat_tables([table, own_table]))


def _files(part: _KeptPart, folder: str) -> tuple[pa.ChunkedArray, np.ndarray]:
    """The files of the rows of a part in their order, as the rows name them, and their states and lengths."""
    right = part.columns("file", "size", "time", "samples")
    if not part.others:
        return right["file"], np.column_stack([right[column].to_numpy() for column in ("size", "time", "samples")])
    own = {
        "file": pa.array([_relative(row, folder) for row, _ in part.others], pa.large_string()),
        "size": [size for _, (size, _) in part.others],
        "time": [time for _, (_, time) in part.others],
        "samples": [-1 if row.seconds is None else round(row.seconds * 16_000) for row, _ in part.others],
    }
    joined = part.in_order(pa.concat_tables([right, pa.table(own, schema=right.schema)]))
    return joined["file"], np.column_stack([joined[column].to_numpy() for column in ("size", "time", "samples")])


def _relative(row: CheckedRow, folder: str) -> str | None:
    """The recording of a row that was checked one by one, as a name that `joined_paths` makes the same path of."""
    path = row.path
    return path.removeprefix(f"{folder}/") if path is not None else row.name


def _column(tables: Sequence[pa.Table], name: str, kind: pa.DataType) -> pa.ChunkedArray:
    return pa.chunked_array([chunk for table in tables for chunk in table[name].chunks], kind)
