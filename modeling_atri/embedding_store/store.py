"""Embeddings on disk, written in parts: what stopped runs leave can be read, and added to."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from ..files import remove_unfinished, written_whole
from .npy_files import write_npy_rows


PARTS_FOLDER = "embeddings"
_METADATA_KEY = b"modeling_atri"


@dataclass(frozen=True)
class Clip:
    """What is known of a sound file beside its embedding.

    Args:
        id: its name, here the path relative to the folder that was encoded, with `/`.
        size: of the file, in bytes.
        mtime_ns: time of its last change, in nanoseconds.
        duration_s: of the sound, in seconds.
    """

    id: str
    size: int
    mtime_ns: int
    duration_s: float


class EmbeddingStore:
    """A folder of embeddings of one model, one parquet file a part.

    `folder/embeddings/00000.parquet, ...` have the columns `id` (string), `embedding` (list of `projection_dim`
    float32), `duration_s`, `size` and `mtime_ns`; their metadata, under the key `modeling_atri`, is JSON that names
    the model and its fingerprint. A part is there whole or not at all, and no id is in two of them. As a context
    manager it keeps other processes from writing to the folder.

    Args:
        folder (`str` or `Path`): made when it is missing.
        model_name (`str`): for people.
        fingerprint (`str`): of what makes the embeddings, see `fingerprints.audio_fingerprint`.
        width (`int`): of an embedding.

    Raises:
        ValueError: the folder holds embeddings of another model, files that are none of ours, or is in use.
    """

    def __init__(self, folder: str | PathLike, model_name: str, fingerprint: str, width: int):
        self.folder = Path(folder)
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"{str(self.folder)!r} is a file; name a folder for the embeddings.")
        self._facts = {"model": model_name, "fingerprint": fingerprint}
        self._schema = pa.schema(
            {
                "id": pa.string(),
                "embedding": pa.list_(pa.float32(), width),
                "duration_s": pa.float64(),
                "size": pa.int64(),
                "mtime_ns": pa.int64(),
            },
            metadata={_METADATA_KEY: json.dumps(self._facts)},
        )
        for path in _part_paths(self.folder):
            theirs = _facts_of(path)
            if theirs["fingerprint"] != fingerprint:
                raise ValueError(
                    f"{str(self.folder)!r} holds embeddings of another model, {theirs['model']!r} (fingerprint "
                    f"{theirs['fingerprint']}); this one is {model_name!r} ({fingerprint}), and the two cannot be "
                    "compared. Choose another folder, or delete that one."
                )
        self._parts_folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self.folder / ".lock", timeout=0)

    def __enter__(self) -> "EmbeddingStore":
        try:
            self._lock.acquire()
        except Timeout as error:
            raise ValueError(f"Another process is writing embeddings to {str(self.folder)!r}.") from error
        for folder in (self.folder, self._parts_folder):  # a process that was killed may have left some
            remove_unfinished(folder)
        return self

    def __exit__(self, *exception: object) -> None:
        self._lock.release()

    @property
    def _parts_folder(self) -> Path:
        return self.folder / PARTS_FOLDER

    def clips(self) -> dict[str, Clip]:
        """The clips that have an embedding, by id."""
        columns = ["id", "size", "mtime_ns", "duration_s"]
        rows = (row for path in _part_paths(self.folder) for row in _read(path, columns).to_pylist())
        return {row["id"]: Clip(**row) for row in rows}

    def add(self, clips: Sequence[Clip], embeddings: np.ndarray) -> None:
        """Write a part.

        Args:
            clips: of the rows; none of them is in the store yet.
            embeddings: `(len(clips), width)`, float32.
        """
        last = max((int(path.stem) for path in _part_paths(self.folder)), default=-1)
        values = pa.array(np.ascontiguousarray(embeddings, dtype=np.float32).reshape(-1))
        columns = {name: [getattr(clip, name) for clip in clips] for name in ("id", "duration_s", "size", "mtime_ns")}
        columns["embedding"] = pa.FixedSizeListArray.from_arrays(values, type=self._schema.field("embedding").type)
        self._write(self._parts_folder / f"{last + 1:05d}.parquet", pa.table(columns, schema=self._schema))

    def drop(self, ids: Iterable[str]) -> None:
        """Take clips out; only the parts that hold some are written anew."""
        ids = set(ids)
        for path in _part_paths(self.folder) if ids else []:
            present = _read(path, ["id"])["id"].to_pylist()
            kept = [row for row, name in enumerate(present) if name not in ids]
            if not kept:
                path.unlink()
            elif len(kept) < len(present):
                self._write(path, _read(path).take(kept))

    def _write(self, path: Path, table: pa.Table) -> None:
        with written_whole(path) as file:
            pq.write_table(table, file)


def load_embeddings(folder: str | PathLike, out: str | PathLike | None = None) -> tuple[list[str], np.ndarray]:
    """What `encode_folder` and `atri encode` wrote.

    Args:
        folder (`str` or `Path`): the folder they wrote to.
        out (`str` or `Path`, *optional*): `.npy` file to gather the embeddings in, instead of in memory. It appears
            when all are there.

    Returns:
        the ids, sorted (paths relative to the folder that was encoded, with `/`), and the embeddings, `np.ndarray` of
        shape `(len(ids), projection_dim)`, float32, in the same order; with `out`, mapped from the file, read-only.

    Raises:
        ValueError: there are no embeddings in the folder, or of several models.
    """
    paths = _part_paths(Path(folder))
    if not paths:
        raise ValueError(f"There are no embeddings in {str(folder)!r}: no {PARTS_FOLDER}/*.parquet.")
    if len({_facts_of(path)["fingerprint"] for path in paths}) > 1:
        raise ValueError(f"The parts in {str(folder)!r} are of several models; encode into a folder for each.")
    ids_of = [_read(path, ["id"])["id"].to_pylist() for path in paths]
    ids = sorted(name for part in ids_of for name in part)
    place_of = {name: place for place, name in enumerate(ids)}
    width = pq.read_schema(paths[0]).field("embedding").type.list_size
    rows = ((place_of[name], row) for path, part in zip(paths, ids_of, strict=True) for name, row in _rows(path, part))
    if out is not None:
        return ids, write_npy_rows(Path(out), rows, len(ids), width)
    embeddings = np.empty((len(ids), width), dtype=np.float32)
    for place, row in rows:
        embeddings[place] = row
    return ids, embeddings


def _rows(path: Path, ids: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
    """The embeddings of a part, each with its id."""
    column = _read(path, ["embedding"])["embedding"].combine_chunks()
    return zip(ids, column.flatten().to_numpy().reshape(len(ids), -1), strict=True)


def _part_paths(folder: Path) -> list[Path]:
    paths = (folder / PARTS_FOLDER).glob("*.parquet")
    # No `00000 (1).parquet`, which those who synchronise folders make: a part that is there already.
    return sorted((path for path in paths if path.stem.isdecimal()), key=lambda path: int(path.stem))


def _read(path: Path, columns: list[str] | None = None) -> pa.Table:
    with pq.ParquetFile(path) as file:  # unlike `pq.read_table`, it makes no columns of folders named like `a=b`
        return file.read(columns)


def _facts_of(path: Path) -> dict[str, str]:
    """The model of a part."""
    try:
        metadata = pq.read_schema(path).metadata or {}
        return json.loads(metadata[_METADATA_KEY])
    except (pa.ArrowInvalid, KeyError, ValueError) as error:
        raise ValueError(f"{str(path)!r} is no part of embeddings written by modeling_atri: delete it.") from error


__all__ = ["Clip", "EmbeddingStore", "load_embeddings"]
