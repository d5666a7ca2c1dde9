"""Files of rows in blocks of Arrow columns. JSON Lines are parsed by Arrow, without making Python objects."""

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.json

from ...sources.audio_column import AUDIO_COLUMNS
from ...sources.layout import suffix_of
from ...sources.metadata import FileRow, open_rows, parse_line, read_file_rows
from ..captions import caption_columns
from ..checks.row_checker import VECTOR_COLUMNS
from ..lookup import EMBEDDING_COLUMN


_BLOCK_BYTES = 2**24
_BLOCK_ROWS = 4096  # of files that are not JSON Lines


class RowBlock(NamedTuple):
    """Successive rows of a file, and lines that are not rows.

    Args:
        table: their columns; rows that could not be read are null.
        numbers: the number of each row's line or item.
        row_at: returns the row at a place of the block as it is in the file, with what is wrong with it, until the
            next block is read.
        odd: places of the rows that have to be checked one by one, because they are not in the table as they are.
        end: where the file goes on after the block, in the form that `read_blocks` takes.
    """

    table: pa.Table
    numbers: list[int]
    row_at: Callable[[int], FileRow]
    odd: list[int]
    end: tuple[int, int]


def read_blocks(path: Path, start: tuple[int, int] = (0, 0)) -> Iterator[RowBlock]:
    """Read a file of rows as `read_file_rows` does, in blocks.

    Args:
        path: The file.
        start (*optional*): Where to go on, as an earlier block said.

    Raises:
        ValueError: as `read_file_rows` does.
    """
    return _line_blocks(path, *start) if _kind(path) == ".jsonl" else _other_blocks(path, start[1])


def noun_of(path: Path) -> str:
    """What a row of a file is called in messages, before its number."""
    return "line" if _kind(path) in (".jsonl", ".csv", ".tsv") else "item"


def counts_bytes(path: Path) -> bool:
    """Whether the `end` of a block counts bytes of the file itself."""
    return suffix_of(path.name) == ".jsonl"


def _kind(path: Path) -> str:
    return suffix_of(path.name).removesuffix(".gz")


def _line_blocks(path: Path, offset: int, num_lines: int) -> Iterator[RowBlock]:
    schema = None
    with open_rows(path) as file:
        file.seek(offset)
        for content in _whole_lines(file):
            offset += len(content)
            lines, num_lines = _lines_of(content, num_lines)
            if lines.numbers:
                block = _block_of_lines(lines, (offset, num_lines), schema)
                schema = block.table.schema
                yield block


def _whole_lines(file: Any) -> Iterator[memoryview]:
    """The rest of a binary file in blocks of whole lines, all in the same memory, which the next block overwrites."""
    memory = bytearray(_BLOCK_BYTES)
    while size := file.readinto(memoryview(memory)[:_BLOCK_BYTES]):
        rest = file.readline()
        end = size + len(rest)
        if end > len(memory):
            memory = memory[:size] + bytearray(2 * len(rest))
        memory[size:end] = rest
        yield memoryview(memory)[:end].toreadonly()


class _Lines(NamedTuple):
    """Lines that are not empty.

    Args:
        content: the lines, one after the other.
        starts, ends: where each begins and ends, with its line break.
        numbers: their numbers in the file, counted from 1.
    """

    content: memoryview | bytes
    starts: np.ndarray
    ends: np.ndarray
    numbers: list[int]

    def line(self, place: int) -> bytes:
        return bytes(self.content[self.starts[place] : self.ends[place]])


def _lines_of(content: memoryview, num_before: int) -> tuple[_Lines, int]:
    """The lines of a block that are not empty, and the number of its last line."""
    signs = np.frombuffer(content, np.uint8)
    ends = np.flatnonzero(signs == ord("\n")) + 1
    if signs[-1] != ord("\n"):
        ends = np.append(ends, len(content))
    starts = np.concatenate([[0], ends[:-1]])
    last = num_before + len(ends)
    lines = _Lines(content, starts, ends, list(range(num_before + 1, last + 1)))
    empty = [place for place in np.flatnonzero(signs[starts] != ord("{")).tolist() if lines.line(place).isspace()]
    if not empty:
        return lines, last
    kept = [place for place in range(len(ends)) if place not in set(empty)]
    ends = np.cumsum((ends - starts)[kept])
    joined = b"".join(map(lines.line, kept))
    return _Lines(joined, np.concatenate([[0], ends[:-1]]), ends, [lines.numbers[place] for place in kept]), last


def _block_of_lines(lines: _Lines, end: tuple[int, int], schema: pa.Schema | None) -> RowBlock:
    table = _parsed(lines, schema)
    if table is not None:
        return RowBlock(
            table, lines.numbers, lambda place: parse_line(lines.numbers[place], lines.line(place)), [], end
        )
    return _block_of_rows([parse_line(number, lines.line(place)) for place, number in enumerate(lines.numbers)], end)


def _parsed(lines: _Lines, expected: pa.Schema | None) -> pa.Table | None:
    """Lines as Arrow reads them; None if one of them is not a JSON object, or values of a key differ in their types.

    Arrow is stricter than `json` in all but two things, which are checked here: it takes bytes that are not UTF-8, and
    it does not care where lines end.

    Args:
        lines: the lines.
        expected: the columns of the lines before, which saves to find out the types of values again.
    """
    if not _are_objects(lines):
        return None
    try:
        _check_utf8(lines.content)
        table = _read_json(lines.content, expected)
        schema = pa.schema([field.with_type(_as_text(field.type)) for field in table.schema])
        if schema != table.schema:  # texts that look like dates
            table = _read_json(lines.content, schema)
        table.validate()  # Arrow 26 loses a null at the beginning of the first list of a column
    except (UnicodeDecodeError, pa.ArrowInvalid, pa.ArrowNotImplementedError):  # the first: in the name of a key
        # Values may differ in their types from those before, but not from one another.
        return None if expected is None else _parsed(lines, None)
    return table if len(table) == len(lines.numbers) else None


def _are_objects(lines: _Lines) -> bool:
    """Whether each line is in braces."""
    signs = np.frombuffer(lines.content, np.uint8)
    lasts = np.maximum(lines.starts, lines.ends - 1 - (signs[lines.ends - 1] == ord("\n")))
    in_braces = (signs[lines.starts] == ord("{")) & (signs[lasts] == ord("}"))
    others = map(lines.line, np.flatnonzero(~in_braces).tolist())
    return all(line.rstrip().endswith(b"}") and line.lstrip().startswith(b"{") for line in others)


def _read_json(content: memoryview | bytes, schema: pa.Schema | None) -> pa.Table:
    read_options = pyarrow.json.ReadOptions(use_threads=False, block_size=len(content) + 1)
    known = None if schema is None else pa.schema([field for field in schema if not _has_null(field.type)])
    return pyarrow.json.read_json(
        pa.BufferReader(content), read_options, pyarrow.json.ParseOptions(explicit_schema=known)
    )


def _has_null(kind: pa.DataType) -> bool:
    """Whether a type is that of values which are all missing."""
    if pa.types.is_list(kind):
        return _has_null(kind.value_type)
    if pa.types.is_struct(kind):
        return any(_has_null(field.type) for field in kind)
    return bool(pa.types.is_null(kind))


def _check_utf8(content: memoryview | bytes) -> None:
    """Raise `pyarrow.ArrowInvalid` for bytes that are not UTF-8."""
    ends = pa.py_buffer(np.array([0, len(content)], dtype=np.int64))
    pa.Array.from_buffers(pa.large_binary(), 1, [None, ends, pa.py_buffer(content)]).cast(pa.large_string())


def _as_text(kind: pa.DataType) -> pa.DataType:
    """A type with strings in the place of times."""
    if pa.types.is_temporal(kind):
        return pa.string()
    if pa.types.is_list(kind):
        return pa.list_(_as_text(kind.value_type))
    return pa.struct([f.with_type(_as_text(f.type)) for f in kind]) if pa.types.is_struct(kind) else kind


def _other_blocks(path: Path, num_rows: int) -> Iterator[RowBlock]:
    rows = islice(read_file_rows(path), num_rows, None)
    while block := list(islice(rows, _BLOCK_ROWS)):
        num_rows += len(block)
        yield _block_of_rows(block, (0, num_rows))


def _block_of_rows(rows: list[FileRow], end: tuple[int, int]) -> RowBlock:
    odd = {number for number, row in enumerate(rows) if row.problem is not None}
    plain = [_unwritten(row.row) for row in rows]
    columns: dict[str, pa.Array] = {}
    for name in dict.fromkeys(name for row in plain for name in row):
        values = [row.get(name) for row in plain]
        array = _array(values)
        if array is None and _is_used(name):
            are_texts = [_is_text(value) for value in values]
            array = _array([value if is_text else None for value, is_text in zip(values, are_texts, strict=True)])
            odd.update(number for number in range(len(rows)) if array is None or not are_texts[number])
        if array is not None:
            columns[name] = array
    table = pa.table(columns) if columns else pa.table({"": pa.nulls(len(rows))})
    numbers = [int(row.place.rpartition(" ")[2]) for row in rows]
    return RowBlock(table, numbers, rows.__getitem__, sorted(odd), end)


def _array(values: Sequence[Any]) -> pa.Array | None:
    """A column of values, in which single texts become lists where others are lists; None if they differ further."""
    for as_lists in (False, True):
        try:
            return pa.array([_as_lists(value) for value in values] if as_lists else values, from_pandas=False)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError, UnicodeEncodeError):
            continue
    return None


def _as_lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _as_lists(inner) for name, inner in value.items()}
    return [value] if isinstance(value, str) else value


def _is_text(value: Any) -> bool:
    """Whether a value is a text, texts in a list, or both by language, which fit into one column; or None."""
    if isinstance(value, dict):
        return all(not isinstance(inner, dict) and _is_text(inner) for inner in value.values())
    texts = value if isinstance(value, list) else [value]
    return all(text is None or (isinstance(text, str) and text.isprintable()) for text in texts)


def _is_used(name: str) -> bool:
    """Whether a column may hold recordings, captions or ids."""
    fixed = {*AUDIO_COLUMNS, *VECTOR_COLUMNS, EMBEDDING_COLUMN, "audio_id", "group_id", "captions"}
    return name in fixed or bool(caption_columns((name,)))


def _unwritten(row: dict[str, Any]) -> dict[str, Any]:
    """A row whose captions by language were written as JSON, as in a cell of a CSV file, as columns."""
    captions = row.get("captions")
    if not isinstance(captions, str) or not captions.lstrip().startswith("{"):
        return row
    try:
        found = json.loads(captions)
    except (ValueError, RecursionError):  # explained where the row is checked
        return row
    return row | {"captions": found}
