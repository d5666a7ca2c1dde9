"""Rows that hold sounds or their embeddings, such as those of a data set, as sounds of an index."""

import hashlib
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass, replace
from datetime import date
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
from tqdm.auto import tqdm

from modeling_atri.audio_inputs_atri import lacks_rate, path_of
from modeling_atri.encode.clip_reader import AudioFailure
from modeling_atri.files import normalized_name

from ..windows import EncodedSound, WindowPlan, encode_windows
from .column_types import Cell, typed_column
from .indexing import EncodeOptions, IndexSummary, LoadModel, batches, write_batch
from .side_files import LEFT_OUT, usable_name
from .tables import NO_FOLDER, Failure, IndexedSound, IndexTables, SoundKey


_OWN = frozenset({"audio", "audio_embedding", "audio_id", "sampling_rate", *LEFT_OUT})  # no further columns
_UPDATES_AT_ONCE = 500


@dataclass(frozen=True)
class _SoundRow:
    """A row, and what is known about its sound before it is read."""

    key: SoundKey
    sound: Any  # in any form that `encode_audio` takes, or a vector
    is_vector: bool
    columns: Mapping[str, Any]
    duration_s: float = 0.0
    size: int | None = None
    mtime_ns: int | None = None
    content: str | None = None


def add_rows(
    tables: IndexTables, load: LoadModel, plan: WindowPlan, rows: Iterable[Mapping[str, Any]], options: EncodeOptions
) -> IndexSummary:
    """Add the sounds of rows. Rows whose sound is in the index, with the same content, are not encoded again.

    Args:
        tables: of the index.
        load: returns model and processor. It is not called if nothing must be encoded.
        plan: the windows of the index; without a length for a model that takes stored embeddings.
        rows: a data set, or mappings, each with `audio` (a sound in any form that `encode_audio` takes; a waveform
            with its `sampling_rate` in the row) or `audio_embedding` (the vector that the model gives the sound, or
            for a model without an audio tower, the vector that it takes), and with `audio_id`, which becomes the
            path. Default of the id: the path of the sound. Values that are text, numbers, truth values, days, times or
            lists of texts become columns.
        options: of encoding.

    Raises:
        ValueError: a row is no mapping, another process writes to the index, or a value does not fit its column; with
            `on_error="raise"`, a row cannot be used.
    """
    began = time.perf_counter()
    summary = IndexSummary()
    failures: dict[str, Failure] = {}
    total = len(rows) if isinstance(rows, Sized) else None
    with tables.writing(), tqdm(total=total, desc="rows", disable=not options.progress) as bar:
        known = _Known(tables)
        new = known.new_rows(_undecoded(rows), failures, options.on_error == "raise", bar)
        sounds = _encoded(load, plan, tables.facts.projection_dim, new, failures, options)
        for batch in batches(sounds):
            write_batch(tables, _typed(tables, batch), known.present)
            summary.num_encoded += len(batch)
            summary.hours += sum(sound.duration_s for sound in batch) / 3600
        known.update_columns(tables)
        tables.set_failures(NO_FOLDER, failures, known.was_tried)
    summary.num_sounds = known.num_kept + summary.num_encoded
    summary.failures = {path: failure.reason for path, failure in failures.items()}
    summary.seconds = time.perf_counter() - began
    return summary


class _Known:
    """The sounds that an index has, to tell which rows are new."""

    def __init__(self, tables: IndexTables):
        names = list(tables.columns)
        files = tables.files(["folder", "path", "size", "mtime_ns", "content", *names])
        rows = files.to_pylist()
        self._facts = {SoundKey(row["folder"], row["path"]): row for row in rows}
        self._changed: dict[SoundKey, Mapping[str, Any]] = {}
        self._seen: set[SoundKey] = set()
        self._tried: set[str] = set()  # names of sounds
        self._num_rows = 0
        self.present = frozenset(self._facts)
        self.num_kept = 0

    def new_rows(
        self, rows: Iterable[Any], failures: dict[str, Failure], raises: bool, bar: Any
    ) -> Iterator[_SoundRow]:
        """The rows that must be encoded. Those that cannot be used go to `failures`."""
        for number, row in enumerate(rows):
            bar.update()
            self._num_rows = number + 1
            if not isinstance(row, Mapping):
                raise ValueError(
                    f"Row {number} is a {type(row).__name__}. Pass mappings with `audio` or `audio_embedding`, "
                    "and with `audio_id`."
                )
            try:
                found = _read_row(row)
                if found.key in self._seen:
                    raise ValueError(f"another row has the `audio_id` {found.key.path!r} too")
            except (ValueError, OSError) as error:
                name = str(row.get("audio_id") or f"row {number}")
                if raises:
                    raise ValueError(f"Row {number} cannot be used: {error}.") from error
                failures.setdefault(name, Failure(f"Row {number} cannot be used: {error}."))
                continue
            self._seen.add(found.key)
            self._tried.add(found.key.path)
            if not self._is_kept(found):
                yield found

    def was_tried(self, name: str) -> bool:
        """Whether one of the rows has this name, or this is the number of one of them."""
        kind, _, number = name.partition(" ")
        return name in self._tried or (kind == "row" and number.isdecimal() and int(number) < self._num_rows)

    def _is_kept(self, row: _SoundRow) -> bool:
        """Whether the index has the sound of a row already. If its columns differ, they are noted."""
        stored = self._facts.get(row.key)
        if stored is None:
            return False
        is_same_file = row.mtime_ns is not None and (row.size, row.mtime_ns) == (stored["size"], stored["mtime_ns"])
        if not is_same_file and (row.content is None or row.content != stored["content"]):
            return False
        if any(stored.get(name) != value for name, value in row.columns.items()):
            self._changed[row.key] = row.columns
        self.num_kept += 1
        return True

    def update_columns(self, tables: IndexTables) -> None:
        """Write the columns that differ."""
        keys = list(self._changed)
        for start in range(0, len(keys), _UPDATES_AT_ONCE):
            part = keys[start : start + _UPDATES_AT_ONCE]
            typed = _typed_columns(tables, [(key.path, self._changed[key]) for key in part])
            tables.update_columns(dict(zip(part, typed, strict=True)))


def _read_row(row: Mapping[str, Any]) -> _SoundRow:
    """What a row holds.

    Raises:
        ValueError: it has no sound or no name.
        OSError: there is no such file.
    """
    sound = row.get("audio") if row.get("audio_embedding") is None else row["audio_embedding"]
    if sound is None:
        raise ValueError(f"it has neither `audio` nor `audio_embedding`, only {', '.join(map(str, row)) or 'nothing'}")
    is_vector = row.get("audio_embedding") is not None
    path = None if is_vector else path_of(sound)
    name = row.get("audio_id")
    if name is None or name == "":
        name = path
    if name is None:
        raise ValueError("it has no `audio_id`, and its sound has no path")
    name = normalized_name(str(name))
    columns = {
        usable_name(str(column)): _plain(value) for column, value in row.items() if column not in _OWN and column
    }
    columns = {column: value for column, value in columns.items() if value is not None}
    duration_s = row.get("duration_s") if is_vector else None
    size, mtime_ns, content = None, None, None
    if path is not None and not _has_bytes(sound) and os.path.isfile(path):
        status = os.stat(path)
        size, mtime_ns = status.st_size, status.st_mtime_ns
    else:
        if not is_vector and row.get("sampling_rate") is not None and lacks_rate(sound):
            samples = sound if not isinstance(sound, Mapping) else sound.get("array", sound.get("raw"))
            sound = {"array": samples, "sampling_rate": row["sampling_rate"]}
        content = _digest(sound)
    key = SoundKey(_folder_of(path, name) if size is not None else NO_FOLDER, name)
    return _SoundRow(key, sound, is_vector, columns, float(duration_s or 0.0), size, mtime_ns, content)


def _folder_of(path: str | None, name: str) -> str:
    """The folder below which a file has this name; empty if the file is called otherwise."""
    whole = normalized_name(os.path.abspath(path or ""))
    return whole.removesuffix(f"/{name}") if whole.endswith(f"/{name}") else NO_FOLDER


def _has_bytes(sound: Any) -> bool:
    return isinstance(sound, Mapping) and any(sound.get(key) is not None for key in ("bytes", "array", "raw"))


def _digest(sound: Any) -> str | None:
    """A digest of the bytes of a file, of samples with their rate, or of a vector; None for other forms."""
    if isinstance(sound, Mapping):
        if sound.get("bytes") is not None:
            return _digest(sound["bytes"])
        samples = sound.get("array", sound.get("raw"))
        inner = None if samples is None else _digest(samples)
        return None if inner is None else _digest(f"{inner} {sound.get('sampling_rate')}".encode())
    if isinstance(sound, (bytes, bytearray)):
        return hashlib.blake2b(sound, digest_size=16).hexdigest()
    if isinstance(sound, (np.ndarray, list, tuple)) or hasattr(sound, "numpy"):
        array = np.ascontiguousarray(sound.numpy() if hasattr(sound, "numpy") else sound)
        return _digest(f"{array.dtype} {array.shape}".encode() + array.tobytes())
    return None


def _plain(value: Any) -> Any:
    """A value of a column; None if it is no scalar, and no list of texts."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        return value
    return value if isinstance(value, (str, int, float, date)) and value == value else None  # NaN is missing


def _undecoded(rows: Any) -> Iterable[Any]:
    """The rows. The sounds of a data set are not decoded, because that is done where they are encoded."""
    features = getattr(rows, "features", None)
    found: Iterable[Any] = rows
    if not features or "audio" not in features:
        return found
    import datasets

    from modeling_atri.corpora.sources.audio_column import holds_audio, undecoded

    if isinstance(rows, datasets.Dataset) and holds_audio(features["audio"]):
        found = undecoded(rows, "audio")
    elif isinstance(features["audio"], datasets.Audio):
        found = rows.cast_column("audio", datasets.Audio(decode=False))
    return found


def _encoded(
    load: LoadModel,
    plan: WindowPlan,
    width: int,
    rows: Iterator[_SoundRow],
    failures: dict[str, Failure],
    options: EncodeOptions,
) -> Iterator[IndexedSound]:
    """The rows as sounds of an index. Those that cannot be read go to `failures`."""
    first = next(rows, None)
    if first is None:
        return
    waiting: deque[_SoundRow] = deque()
    names: list[str] = []

    def sounds() -> Iterator[Any]:
        for row in chain([first], rows):
            if row.is_vector != first.is_vector:
                kind, other = ("audio_embedding", "audio") if row.is_vector else ("audio", "audio_embedding")
                raise ValueError(
                    f"The row {row.key.path!r} has `{kind}`, but the first one has `{other}`. Add them separately."
                )
            waiting.append(row)
            names.append(row.key.path)
            yield row.sound

    results: Iterable[EncodedSound | AudioFailure]
    if first.is_vector and plan.window_s:  # the model has an audio tower, and this is what it gives
        results = (_as_encoded(vector, width, names[-1], options.on_error == "raise") for vector in sounds())
    else:
        model, processor = load()
        results = encode_windows(
            model,
            processor,
            sounds(),
            plan,
            names=names,
            batch_size=options.batch_size,
            num_workers=options.num_workers,
            pad_short=options.pad_short,
            on_error=options.on_error,
        )
    for result in results:
        row = waiting.popleft()
        if isinstance(result, AudioFailure):
            failures[row.key.path] = Failure(result.reason, row.size, row.mtime_ns)
            continue
        yield IndexedSound(
            row.key.path,
            row.key.folder,
            row.duration_s if row.is_vector else result.duration_s,
            [(0.0, row.duration_s)] if row.is_vector else result.spans,
            result.vectors,
            result.whole,
            row.size,
            row.mtime_ns,
            row.content or result.content,
            row.columns,
        )


def _as_encoded(vector: Any, width: int, name: str, raises: bool) -> EncodedSound | AudioFailure:
    """A vector that a model gave, with length 1."""
    values = np.array(vector, dtype=np.float32)
    length = float(np.linalg.norm(values))
    if values.shape == (width,) and np.isfinite(length) and length > 0:
        values /= length
        return EncodedSound(0.0, [(0.0, 0.0)], values[None], values)
    found = f"has the shape {values.shape}" if values.shape != (width,) else "is zero, or holds NaN or infinity"
    reason = f"Its `audio_embedding` {found}, but must hold {width} finite numbers that are not all zero."
    if raises:
        raise ValueError(f"{name}: {reason}")
    return AudioFailure(0, name, reason)


def _typed(tables: IndexTables, batch: list[IndexedSound]) -> list[IndexedSound]:
    """Sounds with columns of one type each, which the tables have afterwards."""
    columns = _typed_columns(tables, [(sound.path, sound.columns) for sound in batch])
    return [replace(sound, columns=values) for sound, values in zip(batch, columns, strict=True)]


def _typed_columns(tables: IndexTables, rows: list[tuple[str, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """The columns of rows, given with their names, in one type each, which the tables have afterwards."""
    types: dict[str, pa.DataType] = {}
    typed: list[dict[str, Any]] = [{} for _ in rows]
    for column in {column: None for _, values in rows for column in values}:
        cells = [Cell(values.get(column), f"row {name!r}") for name, values in rows]
        found = typed_column(column, cells, tables.columns.get(column))
        if found.type is not None:
            types[column] = found.type
            for values, value in zip(typed, found.values, strict=True):
                values[column] = value
    tables.ensure_columns(types)
    return typed
