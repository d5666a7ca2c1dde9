"""Rows of parts that were removed without writing the parts again."""

import json
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from ..files import json_line


DROPPED_NAME = ".dropped.jsonl"


def kept_rows(part: Path, num_rows: int) -> np.ndarray | None:
    """The numbers of the rows of a part that count; None if all of its `num_rows` rows do."""
    dropped = _read(part.parent.parent).get((part.name, num_rows))
    return None if dropped is None else np.setdiff1d(np.arange(num_rows), dropped)


def add_dropped(folder: Path, rows: Mapping[tuple[str, int], Sequence[int]]) -> None:
    """Remove rows of the parts in `folder/embeddings`.

    Args:
        folder: the folder of the store.
        rows: numbers of rows, by name and number of rows of the part. A part that is written again has fewer rows, so
            what was noted about it before does not apply any more.
    """
    path = folder / DROPPED_NAME
    lines = [
        json_line({"part": part, "of": num_rows, "rows": list(map(int, gone))})
        for (part, num_rows), gone in rows.items()
    ]
    if not lines:
        return
    is_torn = path.exists() and not path.read_bytes().endswith(b"\n") and path.stat().st_size > 0
    with open(path, "ab") as file:
        file.write((b"\n" if is_torn else b"") + b"".join(lines))
        file.flush()
        os.fsync(file.fileno())


def parts_with_dropped(folder: Path) -> set[str]:
    """The names of parts, of which some may be gone, that rows were removed from. They must not be used again."""
    return {part for part, _ in _read(folder)}


def _read(folder: Path) -> Mapping[tuple[str, int], list[int]]:
    path = folder / DROPPED_NAME
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return _parse(str(path), status.st_ino, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=8)
def _parse(path: str, *state: int) -> Mapping[tuple[str, int], list[int]]:
    """The file in a state that its number, size and time of change tell."""
    found: dict[tuple[str, int], list[int]] = {}
    for line in Path(path).read_bytes().splitlines():
        try:
            fields = json.loads(line)
            found.setdefault((fields["part"], fields["of"]), []).extend(fields["rows"])
        except (
            ValueError,
            KeyError,
            TypeError,
        ):  # a run was killed while it wrote the line: its rows are removed anew
            continue
    return found
