"""Figures of an index."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from ..object_storage import is_address
from .nearest import SearchFigures, figures
from .tables import CLIP, WINDOW, IndexTables, quoted


@dataclass(frozen=True)
class IndexStats:
    """Figures of an index.

    Args:
        num_sounds: number of sounds.
        num_windows: number of windows in them, each of which can be found as a moment.
        hours: length of all sounds.
        num_bytes: size of the index on disk; on object storage that of its vectors and columns alone.
        model: Hub id or folder of the model; None if it is not known.
        languages: its languages as FLORES-200 codes, as far as they are known.
        window_s, hop_s: length of a window and step from one to the next, in seconds; 0 for a model that takes stored
            embeddings.
        folders: number of sounds of each folder; the folder of sounds that came from rows or stored embeddings may be
            unknown, which is the empty text.
        columns: types of the further columns by name.
        failures: the files that could not be read when they were last tried, each with the reason.
        changed: time of the last change.
        search: how questions are compared with the rows: the vector index if there is one, what it finds, and the
            memory of this process that vectors take.
    """

    num_sounds: int
    num_windows: int
    hours: float
    num_bytes: int
    model: str | None
    languages: tuple[str, ...]
    window_s: float
    hop_s: float
    folders: Mapping[str, int]
    columns: Mapping[str, str]
    failures: Mapping[str, str]
    changed: datetime
    search: SearchFigures


def stats_of(tables: IndexTables) -> IndexStats:
    """The figures of an index as it is now."""
    facts = tables.facts
    files = tables.files(["folder", "kind", "duration_s"])
    counts = pc.value_counts(files["folder"]).to_pylist()
    num_clips = pc.sum(pc.equal(files["kind"], CLIP)).as_py() or 0
    return IndexStats(
        num_sounds=files.num_rows,
        num_windows=num_clips + tables.windows.count_rows(f"kind = {quoted(WINDOW)}"),
        hours=(pc.sum(files["duration_s"]).as_py() or 0.0) / 3600,
        num_bytes=_num_bytes(tables),
        model=facts.model,
        languages=tuple(facts.languages),
        window_s=facts.window_s or 0.0,
        hop_s=facts.hop_s or 0.0,
        folders={item["values"]: item["counts"] for item in counts},
        columns={name: str(kind) for name, kind in tables.columns.items()},
        failures={os.path.join(*key): failure.reason for key, failure in tables.failures().items()},
        changed=_changed(tables),
        search=figures(tables),
    )


def _num_bytes(tables: IndexTables) -> int:
    if is_address(tables.path):
        return int(tables.windows.stats()["total_bytes"])
    return sum(file.stat().st_size for file in Path(tables.path).rglob("*") if file.is_file())


def _changed(tables: IndexTables) -> datetime:
    latest: Mapping[str, Any] = max(tables.windows.list_versions(), key=lambda version: version["version"])
    changed: datetime = latest["timestamp"]
    return changed
