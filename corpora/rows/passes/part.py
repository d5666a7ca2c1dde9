"""A checked part of the rows of a source: columns of the right rows, and the others as objects."""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from modeling_atri.files import written_whole

from ..bad_rows import Problem
from ..checks.checked_row import CheckedRow
from ..kept.stored_rows import files_of, hold, is_same_source


# Columns of right rows, beside `captions`: the place in the source, the number of its line, the recording as the row
# names it, ids, and of its file the size in bytes, the time of the last change, and the samples at 16 kHz (or -1).
COLUMNS = {
    "position": pa.int64(),
    "line": pa.int64(),
    "file": pa.large_string(),
    "audio_id": pa.large_string(),
    "group_id": pa.large_string(),
    "size": pa.int64(),
    "time": pa.int64(),
    "samples": pa.int64(),
}
_FACTS = b"atri"  # key of the other facts in the metadata of the schema


@dataclass
class Part:
    """Successive rows of a source.

    Args:
        right: right rows, with the columns `COLUMNS` and `captions`.
        others: rows that were checked one by one, in their order.
        states: size and time of the file of each of the others; -1 if it has none.
        num_rows: number of all rows, and of lines that are no rows.
        seen: all languages in which rows have captions.
        languages: languages that the captions of right rows have; None if no row has had captions yet.
        end: where the source goes on, in the form that its reader takes.
    """

    right: pa.Table
    others: list[CheckedRow]
    states: list[tuple[int, int]]
    num_rows: int
    seen: list[str]
    languages: list[str] | None
    end: tuple[int, int]

    def write(self, path: Path, source: dict[str, Any]) -> None:
        """Write the part to a file, whole or not at all, with a description of the source that it belongs to."""
        facts = {
            "source": source,
            "others": [asdict(row) for row in self.others],
            "states": self.states,
            "num_rows": self.num_rows,
            "seen": self.seen,
            "languages": self.languages,
            "end": self.end,
        }
        table = self.right.replace_schema_metadata({_FACTS: json.dumps(facts).encode()})
        with written_whole(path) as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)

    def holds(self, folder: str) -> bool:
        """Whether all files of right rows are as they were, and those of wrong rows still are wrong."""
        states = np.column_stack([self.right[column].to_numpy() for column in ("size", "time", "samples")])
        return hold(self.right["file"], states, files_of(zip(self.others, self.states, strict=True)), folder)


def part_path(folder: Path, number: int) -> Path:
    """The file of a part of a pass that may be killed."""
    return folder / "parts" / f"{number:06d}.arrow"


def forget_parts(folder: Path) -> None:
    """Remove the parts of a pass that is over."""
    shutil.rmtree(folder / "parts", ignore_errors=True)


def has_parts(folder: Path, source: dict[str, Any]) -> bool:
    """Whether a pass over a source in this state was begun."""
    found = _read(part_path(folder, 0))
    return found is not None and is_same_source(found[1]["source"], source)


def _read(path: Path) -> tuple[pa.Table, dict[str, Any]] | None:
    """The right rows and the facts in a file; None if there is none, or it is damaged."""
    try:
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        return table, json.loads(table.schema.metadata[_FACTS])
    except (OSError, pa.ArrowException, ValueError, KeyError, TypeError):
        return None


def read_part(path: Path, source: dict[str, Any]) -> Part | None:
    """Read a part that `Part.write` wrote, memory-mapped; None if there is none of this source, or it is damaged."""
    found = _read(path)
    if found is None or found[1]["source"] != source:
        return None
    table, facts = found
    others = [CheckedRow(**row | {"problems": [Problem(*one) for one in row["problems"]]}) for row in facts["others"]]
    states = [(size, time) for size, time in facts["states"]]
    offset, line = facts["end"]
    return Part(table, others, states, facts["num_rows"], facts["seen"], facts["languages"], (offset, line))
