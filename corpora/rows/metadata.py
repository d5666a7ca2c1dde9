"""Files of rows: `metadata.jsonl`, and other `.jsonl` and `.json` files with the same rows."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple


METADATA_FILE = "metadata.jsonl"


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


def find_metadata(path: Path, split: str | None) -> Path:
    """Return the file that holds the rows of a folder, of one of its splits, or the file itself.

    Raises:
        ValueError: if there is no such file, or it is neither `.jsonl` nor `.json`.
    """
    if path.is_file():
        if path.suffix not in (".json", ".jsonl"):
            raise ValueError(f"Rows are read from folders and .jsonl or .json files, but {str(path)!r} is neither.")
        if split is not None:
            raise ValueError(
                f"A file has no splits, but `split` is {split!r}. Please pass the folder, or leave out `split`."
            )
        return path
    file = path / (split or "") / METADATA_FILE
    if file.is_file():
        return file
    splits = sorted(candidate.parent.name for candidate in path.glob(f"*/{METADATA_FILE}"))
    hint = f" The splits are {', '.join(splits)}: please choose one with `split`." if splits else ""
    raise ValueError(f"There is no file {str(file)!r}.{hint}")


def read_file_rows(path: Path) -> Iterator[FileRow]:
    """Read the rows of a `.jsonl` file one by one, or of a `.json` file that holds a list.

    Raises:
        ValueError: if a `.json` file is not JSON, or does not hold a list. A wrong line of a `.jsonl` file is not an
            error but a `FileRow` with a `problem`.
    """
    if path.suffix != ".jsonl":
        for index, item in enumerate(_json_list(path)):
            yield _file_row(f"item {index}", item)
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                yield _file_row(f"line {number}", json.loads(line))
            except (ValueError, RecursionError) as error:  # wrong JSON, wrong UTF-8, or too many open brackets
                yield FileRow(f"line {number}", {}, f"this is not JSON ({error})")


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


def is_unicode(text: str) -> bool:
    """Whether a text can be written as UTF-8. JSON escapes such as "\\ud800" are half a character and cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _json_list(path: Path) -> list[Any]:
    try:
        items = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} is not JSON: {error}. (JSON Lines files must end in .jsonl.)") from error
    if not isinstance(items, list):
        raise ValueError(f"{str(path)!r} must hold a list of rows, but holds a {type(items).__name__}.")
    return items


def _file_row(place: str, item: Any) -> FileRow:
    if isinstance(item, dict):
        return FileRow(place, item)
    return FileRow(place, {}, f"a row must be a JSON object, but this is a {type(item).__name__}")
