"""Rows of a CSV file, and what is wrong with each of them."""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple


_LINE_BREAK = re.compile(r"[\r\n]")


class CsvRow(NamedTuple):
    """A row of a CSV file.

    Args:
        place: Where it is, as `"line 2"`.
        cells: Its cells by column; without those at the end that it lacks.
        problem: Why it cannot be read; None if it can.
    """

    place: str
    cells: dict[str, str]
    problem: str | None = None


def read_csv_rows(
    path: str | Path, encoding: str = "utf-8-sig", content: bytes | None = None
) -> tuple[list[str], Iterator[CsvRow]]:
    """Read a CSV file, whose cells are separated by what its first line has most of: commas, semicolons or tabs.

    A missing quote can cut a caption at its comma, or join several lines to one cell. Both are problems, because the
    caption that was meant cannot be recovered.

    Args:
        path: The file.
        encoding (*optional*): By default UTF-8, with or without a byte order mark.
        content (*optional*): Content of the file, if it was read or decompressed before.

    Returns:
        The names in the first line, without spaces around them, and the rows.

    Raises:
        ValueError: if there is no such file, or it is in another encoding.
    """
    if not Path(path).is_file():
        raise ValueError(f"There is no file {str(path)!r}.")
    try:
        file = io.StringIO((Path(path).read_bytes() if content is None else content).decode(encoding), newline="")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} cannot be read as CSV in UTF-8: {error}. Save it as UTF-8.") from error
    header = file.readline()
    delimiter = max(",;\t", key=header.count)
    file.seek(0)
    reader = csv.reader(file, strict=True, delimiter=delimiter)
    try:
        names = [name.strip() for name in next(reader, [])]
    except csv.Error as error:
        raise ValueError(f"{path}, line 1: {_not_csv(error)}.") from error
    return names, _rows(reader, names)


def _rows(reader: Any, names: Sequence[str]) -> Iterator[CsvRow]:
    while True:
        place = f"line {reader.line_num + 1}"
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield CsvRow(place, {}, _not_csv(error))
            continue
        if cells is None:
            return
        if cells:  # not an empty line
            yield CsvRow(place, dict(zip(names, cells, strict=False)), _problem(cells, names))


def _not_csv(error: csv.Error) -> str:
    return (
        f"this cannot be read as CSV ({error}). Close every quote, and double quotes inside a quoted caption: "
        '"A man says ""stop"""'
    )


def _problem(cells: Sequence[str], names: Sequence[str]) -> str | None:
    if len(cells) > len(names):
        return (
            f"it has too many cells, {len(cells)} for the columns {', '.join(names)}: {cells}. Quote a caption that "
            'has a comma: "Rain falls, then thunder"'
        )
    for name, cell in zip(names, cells, strict=False):
        if _LINE_BREAK.search(cell.strip()):
            return f"`{name}` goes over several lines: {cell!r:.200}. Close its opening quote, or write it in one line"
    return None
