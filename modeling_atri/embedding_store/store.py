"""Embeddings on disk, in parts: those that a stopped run has written can be read and added to."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from ..files import content_digest, normalized_name, remove_unfinished, written_whole
from .dropped_rows import DROPPED_NAME, add_dropped, kept_rows, parts_with_dropped
from .facts import FACTS_KEY, StoreFacts
from .id_files import remove_ids, write_ids
from .npy_files import write_npy_rows


PARTS_FOLDER = "embeddings"


@dataclass(frozen=True)
class Clip:
    """The facts that are stored with the embedding of a sound file."""

    id: str  # path relative to the folder that was encoded, with `/` and in Unicode form NFC
    size: int  # of the file in bytes
    mtime_ns: int  # time of its last change in nanoseconds
    duration_s: float  # length of the sound in seconds
    content: str | None = None  # digest of the file, see `files.content_digest`; None if it is not known


class EmbeddingStore:
    """A folder with the embeddings of one model, in one parquet file per part.

    The files `folder/embeddings/00000.parquet, ...` have the columns `id` (string), `embedding` (list of
    `projection_dim` float32), `duration_s`, `size`, `mtime_ns` and `content` (digest of the file; parts of earlier
    versions have none). Their metadata holds JSON with the model's name and fingerprint under the key `modeling_atri`.
    A part is written completely or not at all, and no id is in two parts. Rows that were removed are listed in
    `folder/.dropped.jsonl`, and stay in their part until more than half of its rows are removed; then it is written
    again. As a context manager, the store keeps other processes from writing to the folder.

    Args:
        folder (`str` or `Path`): it is created if it does not exist.
        model_name (`str`): name of the model, for people.
        fingerprint (`str`): identifies everything that the embeddings depend on, see `fingerprints.audio_fingerprint`.
        width (`int`): length of an embedding.

    Raises:
        ValueError: the folder holds embeddings of another model or other files, or another process writes to it.
    """

    def __init__(self, folder: str | PathLike, model_name: str, fingerprint: str, width: int):
        self.folder = Path(folder)
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"{str(self.folder)!r} is a file. Name a folder for the embeddings.")
        self._parts_folder = self.folder / PARTS_FOLDER
        self._schema = pa.schema(
            {
                "id": pa.string(),
                "embedding": pa.list_(pa.float32(), width),
                "duration_s": pa.float64(),
                "size": pa.int64(),
                "mtime_ns": pa.int64(),
                "content": pa.string(),
            },
            metadata={FACTS_KEY: json.dumps({"model": model_name, "fingerprint": fingerprint})},
        )
        for path in part_paths(self.folder):
            theirs = _facts_of(path)
            if theirs.fingerprint != fingerprint:
                raise ValueError(
                    f"{str(self.folder)!r} holds embeddings of another model, {theirs.model!r} (fingerprint "
                    f"{theirs.fingerprint}), which cannot be compared with those of {model_name!r} "
                    f"({fingerprint}). Choose another folder, or delete that one."
                )
        self._parts_folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self.folder / ".lock", timeout=0)

    def __enter__(self) -> "EmbeddingStore":
        try:
            self._lock.acquire()
        except Timeout as error:
            raise ValueError(f"Another process is writing embeddings to {str(self.folder)!r}.") from error
        for folder in (self.folder, self._parts_folder):  # left by a process that was killed
            remove_unfinished(folder)
        return self

    def __exit__(self, *exception: object) -> None:
        self._lock.release()

    def clips(self) -> dict[str, Clip]:
        """The clips that have an embedding, by id."""
        columns = ["id", "size", "mtime_ns", "duration_s", "content"]
        rows = (row for path in part_paths(self.folder) for row in read_part(path, columns).to_pylist())
        return {row["id"]: Clip(**row) for row in rows}

    def add(self, clips: Sequence[Clip], embeddings: np.ndarray) -> None:
        """Write a part: clips that are not in the store yet, and their embeddings `(len(clips), width)`, float32."""
        used = {path.name for path in part_paths(self.folder)} | parts_with_dropped(self.folder)
        last = max((int(Path(name).stem) for name in used), default=-1)
        values = pa.array(np.ascontiguousarray(embeddings, dtype=np.float32).reshape(-1))
        names = ("id", "duration_s", "size", "mtime_ns", "content")
        columns: dict[str, Any] = {name: [getattr(clip, name) for clip in clips] for name in names}
        columns["embedding"] = pa.FixedSizeListArray.from_arrays(values, type=self._schema.field("embedding").type)
        self._write(self._parts_folder / f"{last + 1:05d}.parquet", pa.table(columns, schema=self._schema))

    def drop(self, ids: Iterable[str]) -> None:
        """Remove clips. A part is only written again when more than half of its rows have been removed."""
        ids, dropped = set(ids), dict[tuple[str, int], list[int]]()
        for path in part_paths(self.folder) if ids else []:
            names = _read(path, ["id"])["id"].to_pylist()
            rows = kept_rows(path, len(names))
            present = range(len(names)) if rows is None else rows.tolist()
            kept = [row for row in present if names[row] not in ids]
            if not kept:
                path.unlink()
            elif len(kept) == len(present):
                continue
            elif 2 * len(kept) < len(names):
                self._write(path, _read(path).take(kept))
            else:
                dropped[path.name, len(names)] = [row for row in present if names[row] in ids]
        add_dropped(self.folder, dropped)

    def move(self, clips: Mapping[str, Clip], part_size: int) -> None:
        """Give embeddings to other clips, of files that have the same content, and remove those that had them.

        Args:
            clips: the new clip for each id in the store. No id of a new clip may be in the store.
            part_size: number of rows after which a part is written.
        """
        waiting: list[tuple[Clip, np.ndarray]] = []
        for path in part_paths(self.folder) if clips else []:
            names = read_part(path, ["id"])["id"].to_pylist()
            if any(name in clips for name in names):
                waiting += [(clips[name], row) for name, row in _rows(path, names) if name in clips]
            while len(waiting) >= part_size:
                self._add_pairs(waiting[:part_size])
                waiting = waiting[part_size:]
        if waiting:
            self._add_pairs(waiting)
        self.drop(clips)

    def _add_pairs(self, pairs: Sequence[tuple[Clip, np.ndarray]]) -> None:
        self.add([clip for clip, _ in pairs], np.stack([row for _, row in pairs]))

    def _write(self, path: Path, table: pa.Table) -> None:
        with written_whole(path) as file:
            pq.write_table(table, file)


def load_embeddings(folder: str | PathLike, out: str | PathLike | None = None) -> tuple[list[str], np.ndarray]:
    """Load the embeddings that `encode_folder` or `atri encode` wrote.

    Args:
        folder (`str` or `Path`): the folder they wrote to.
        out (`str` or `Path`, *optional*): `.npy` file for the embeddings, which then need no memory. The file appears
            when it is complete. The ids are written beside it, for `x.npy` to `x.ids.json`, so that [`open_vectors`]
            can open it.

    Returns:
        A pair of the sorted ids (paths relative to the folder that was encoded, with `/` and in Unicode form NFC) and
        the embeddings, `np.ndarray` of shape `(len(ids), projection_dim)`, float32, in the same order; with `out`,
        mapped from the file and read-only.

    Raises:
        ValueError: the folder holds no embeddings, or those of several models.
    """
    if out is None:
        return read_parts(folder)[:2]
    remove_ids(Path(out))  # if the process is killed, no ids of other rows may remain
    ids, embeddings, facts = read_parts(folder, out)
    write_ids(Path(out), ids, facts)
    return ids, embeddings


def read_parts(folder: str | PathLike, out: str | PathLike | None = None) -> tuple[list[str], np.ndarray, StoreFacts]:
    """Read embeddings as `load_embeddings` does, without writing their ids. Also returns the facts of their model."""
    paths = part_paths(Path(folder))
    if not paths:
        raise ValueError(f"There are no embeddings in {str(folder)!r}: no {PARTS_FOLDER}/*.parquet.")
    facts = [_facts_of(path) for path in paths]
    if len({of_part.fingerprint for of_part in facts}) > 1:
        raise ValueError(f"The parts in {str(folder)!r} are of several models. Encode into one folder per model.")
    ids_of = _normalized([read_part(path, ["id"])["id"].to_pylist() for path in paths])
    ids = sorted(name for part in ids_of for name in part)
    place_of = {name: place for place, name in enumerate(ids)}
    width = pq.read_schema(paths[0]).field("embedding").type.list_size
    rows = ((place_of[name], row) for path, part in zip(paths, ids_of, strict=True) for name, row in _rows(path, part))
    if out is not None:
        return ids, write_npy_rows(Path(out), rows, len(ids), width), facts[0]
    embeddings = np.empty((len(ids), width), dtype=np.float32)
    for place, row in rows:
        embeddings[place] = row
    return ids, embeddings, facts[0]


def _normalized(parts: list[list[str]]) -> list[list[str]]:
    """Ids of parts in Unicode form NFC, except those that are then equal, which an earlier version could store."""
    counts = Counter(normalized_name(name) for part in parts for name in part)
    return [[name if counts[normalized_name(name)] > 1 else normalized_name(name) for name in part] for part in parts]


def _rows(path: Path, ids: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
    """The embeddings of a part, each with its id."""
    column = read_part(path, ["embedding"])["embedding"].combine_chunks()
    return zip(ids, column.flatten().to_numpy().reshape(len(ids), -1), strict=True)


def part_paths(folder: Path) -> list[Path]:
    """The parts of a store in the order in which they were written; see [`read_part`] for their rows."""
    paths = (folder / PARTS_FOLDER).glob("*.parquet")
    # Programs that synchronise folders may add a copy `00000 (1).parquet` of a part.
    return sorted((path for path in paths if path.stem.isdecimal()), key=lambda path: int(path.stem))


def read_part(path: Path, columns: list[str] | None = None) -> pa.Table:
    """The rows of a part that have not been removed, with some or all of its columns."""
    table = _read(path, columns)
    rows = kept_rows(path, len(table))
    return table if rows is None else table.take(rows)


def parts_state(folder: Path) -> str:
    """A digest of names, sizes and times of change of the parts of a store, and of the list of removed rows."""
    paths = [*part_paths(folder), folder / DROPPED_NAME]
    found = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in paths if path.exists()]
    return content_digest(json.dumps(found).encode())


def _read(path: Path, columns: list[str] | None = None) -> pa.Table:
    with pq.ParquetFile(path) as file:  # `pq.read_table` would add a column for a folder named like `a=b`
        return file.read(columns)


def _facts_of(path: Path) -> StoreFacts:
    """Name and fingerprint of the model of a part."""
    try:
        metadata = pq.read_schema(path).metadata or {}
        facts = json.loads(metadata[FACTS_KEY])
        return StoreFacts(facts["model"], facts["fingerprint"])
    except (pa.ArrowInvalid, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{str(path)!r} is not a part that modeling_atri has written. Delete it.") from error
