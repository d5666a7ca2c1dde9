"""Files of rows: `metadata.jsonl`, and the same rows as JSON or CSV, which may be compressed with gzip."""

import gzip
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from .csv_rows import read_csv_rows
from .layout import suffix_of


METADATA_FILE = "metadata.jsonl"


# What to do about a folder of sounds without rows, for errors.
METADATA_ADVICE = (
    'Write a metadata.jsonl beside the sounds, with a line for each, such as {"file_name": "dog.wav", "captions": '
    '{"eng_Latn": ["a dog barks"]}}, or a metadata.csv with the line `dog.wav,a dog barks` below `file_name,caption`'
)


class FileRow(NamedTuple):
    """A line or item of a file of rows.

    Args:
        place: Where it is in the file, as `"line 3"` or `"item 0"`.
        row: Its content, as it is in the file; empty if it is not a row.
        problem: Why it is not a row; None if it is one.
    """

    place: str
    row: dict[str, Any]
    problem: str | None = None


def read_file_rows(path: Path) -> Iterator[FileRow]:
    """Read the rows of a `.jsonl`, `.csv` or `.tsv` file one by one, or of a list in a `.json` file.

    Raises:
        ValueError: if the file is not in its format, or a `.json` file does not hold a list. A wrong line of a
            `.jsonl` or CSV file is not an error but a `FileRow` with a `problem`.
    """
    suffix = suffix_of(path.name).removesuffix(".gz")
    if suffix in (".csv", ".tsv"):
        names, rows = read_csv_rows(path, content=_content(path) if path.name.lower().endswith(".gz") else None)
        for place, cells, problem in rows:
            yield FileRow(place, {name: cells.get(name) or None for name in names}, problem)
        return
    if suffix != ".jsonl":
        for index, item in enumerate(_json_list(path)):
            yield _file_row(f"item {index}", item)
        return
    with open_rows(path) as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield parse_line(number, line)


@contextmanager
def open_rows(path: Path) -> Iterator[BinaryIO]:
    """Open a file of rows, and decompress what ends in `.gz`.

    Raises:
        ValueError: while it is read, if the compressed file is damaged.
    """
    if not path.name.lower().endswith(".gz"):
        with path.open("rb") as file:
            yield file
        return
    try:
        with gzip.open(path, "rb") as unzipped:
            yield cast("BinaryIO", unzipped)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} cannot be decompressed: {error}. Please copy or download it again.") from error


def parse_line(number: int, line: bytes) -> FileRow:
    """The row in a line of a `.jsonl` file. `number` counts lines from 1."""
    try:
        return _file_row(f"line {number}", json.loads(line))
    except (ValueError, RecursionError) as error:  # wrong JSON, wrong UTF-8, or too many open brackets
        return FileRow(f"line {number}", {}, f"this is not JSON ({error})")


def read_metadata(path: Path) -> list[dict[str, Any]]:
    """Read a `metadata.jsonl` in which every line must be a row with a `file_name`.

    Raises:
        ValueError: if there is no such file, or a line is not such a row.
    """
    if not path.is_file():
        raise ValueError(f"There is no file {str(path)!r}. Please pass a folder that `atri prepare` wrote.")
    rows = []
    for place, row, problem in read_file_rows(path):
        if problem or "file_name" not in row:
            reason = problem or "`file_name` is missing"
            raise ValueError(f"{path}, {place}: this is no row with a `file_name`: {reason}.")
        rows.append(row)
    return rows


def _content(path: Path) -> bytes:
    with open_rows(path) as file:
        return file.read()


def _json_list(path: Path) -> list[Any]:
    try:
        items = json.loads(_content(path))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} is not JSON: {error}. (JSON Lines files must end in .jsonl.)") from error
    if not isinstance(items, list):
        raise ValueError(f"{str(path)!r} must hold a list of rows, but holds a {type(items).__name__}.")
    return items


def _file_row(place: str, item: Any) -> FileRow:
    if isinstance(item, dict):
        return FileRow(place, item)
    return FileRow(place, {}, f"a row must be a JSON object, but this is a {type(item).__name__}")
