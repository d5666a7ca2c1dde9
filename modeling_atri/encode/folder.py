"""All sound files below a folder to embeddings on disk, from where the last run was stopped."""

import json
import os
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, Literal, NamedTuple

from torch import Tensor
from tqdm.auto import tqdm

from ..audio_io.load import load_audio
from ..embedding_store.store import Clip, EmbeddingStore, load_embeddings
from ..feature_extraction_atri import AtriFeatureExtractor
from ..files import written_whole
from ..modeling_atri import AtriModel
from ..processing_atri import AtriProcessor
from .encoding import encode_audio
from .fingerprints import audio_fingerprint


SOUND_SUFFIXES = (".aif", ".aifc", ".aiff", ".au", ".caf", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".w64", ".wav")
FAILURES_NAME = "failures.jsonl"
ARRAY_NAME, IDS_NAME = "embeddings.npy", "ids.json"


@dataclass
class FolderSummary:
    """What `encode_folder` did.

    Args:
        num_clips: clips that have an embedding now.
        num_encoded: of them, those that this run encoded.
        num_dropped: embeddings of files that are gone.
        hours: of sound that this run encoded.
        seconds: that it took.
        failures: the ids of the files that could not be read, each with what is wrong with it.
    """

    num_clips: int = 0
    num_encoded: int = 0
    num_dropped: int = 0
    hours: float = 0.0
    seconds: float = 0.0
    failures: dict[str, str] = field(default_factory=dict)


class SoundFile(NamedTuple):
    """Where a sound is, its size in bytes and the time of its last change in nanoseconds; -1 where it has none."""

    path: Path
    size: int
    mtime_ns: int


def encode_folder(
    model: AtriModel,
    processor: AtriProcessor,
    folder: str | PathLike,
    out: str | PathLike,
    model_name: str | None = None,
    format: Literal["parquet", "npy"] = "parquet",
    batch_size: int = 16,
    part_size: int = 1000,
    pad_short: bool = False,
    on_error: Literal["raise", "skip"] = "skip",
    num_workers: int | None = None,
    progress: bool = False,
) -> FolderSummary:
    """Embeddings of every sound file below a folder, kept up to date on disk.

    Files that have an embedding already, and are of the size and time they had, are left alone; what changed is
    encoded again, what is gone is dropped. A run that is stopped, by whatever, loses the part it was at, and the next
    run goes on from there to the same embeddings, bit for bit. Read them with `load_embeddings(out)`.

    Args:
        model (`AtriModel`): on any device; its training mode is put back afterwards.
        processor (`AtriProcessor`): of the model.
        folder (`str` or `Path`): searched with all below it for the suffixes in `SOUND_SUFFIXES`; hidden files and
            folders are left out, and links to folders are not followed.
        out (`str` or `Path`): folder for the parts, `embeddings/*.parquet` (see `EmbeddingStore`), and
            `failures.jsonl`, which lists the files that could not be read; they are tried again by every run.
        model_name (`str`, *optional*): noted with the embeddings. Default: where the model was loaded from.
        format (`str`, *optional*, defaults to `"parquet"`): `"npy"` also gathers the parts, at the end, in
            `embeddings.npy` and `ids.json`.
        part_size (`int`, *optional*, defaults to 1000): files a part.
        on_error (`str`, *optional*, defaults to `"skip"`): `"raise"` ends at the first file that cannot be read.
        batch_size, pad_short, num_workers, progress: see `encode_audio`.

    Returns:
        `FolderSummary`.

    Raises:
        ValueError: no folder, no sound file in it, embeddings of another model in `out`, arguments that do not fit.
        OSError: a folder below that cannot be searched, whose embeddings would be dropped; a full disk.
    """
    if format not in ("parquet", "npy"):
        raise ValueError(f"`format` must be 'parquet' or 'npy', got {format!r}.")
    if part_size < 1:
        raise ValueError(f"`part_size` must be at least 1, got {part_size}.")
    out, began = Path(out), time.perf_counter()
    sounds = find_sounds(folder)
    fingerprint = audio_fingerprint(model, processor)
    model_name = model.config._name_or_path if model_name is None else model_name
    options = {"batch_size": batch_size, "num_workers": num_workers, "on_error": on_error}
    summary = FolderSummary()
    with EmbeddingStore(out, model_name, fingerprint, model.config.projection_dim) as store:
        stored = store.clips()
        stale = {name for name, clip in stored.items() if sounds.get(name, ())[1:] != (clip.size, clip.mtime_ns)}
        store.drop(stale)
        summary.num_dropped = len(stale - sounds.keys())
        current = stored.keys() - stale
        _write_failures(out, summary.failures)
        with tqdm(total=len(sounds.keys() - current), desc="files read", disable=not progress) as bar:
            reader = _FileReader(processor.feature_extractor, pad_short, bar)
            for ids in _parts(sorted(sounds), current, part_size):
                part = {name: sounds[name] for name in ids}
                clips = _encode_part(model, processor, reader, part, store, summary.failures, options)
                summary.num_encoded += len(clips)
                summary.hours += sum(clip.duration_s for clip in clips) / 3600
                _write_failures(out, summary.failures)
        summary.num_clips = len(current) + summary.num_encoded
        if format == "npy" or (out / ARRAY_NAME).exists():
            _gather(out, summary.num_clips)
    summary.seconds = time.perf_counter() - began
    return summary


def find_sounds(folder: str | PathLike) -> dict[str, SoundFile]:
    """The sound files below a folder, by id: the path relative to it, with `/`.

    Raises:
        ValueError: no such folder, or no sound file in it.
        OSError: a folder that cannot be searched.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"There is no folder {str(folder)!r}.")
    sounds = {}
    for path in _files_below(folder):
        if path.suffix.lower() not in SOUND_SUFFIXES:
            continue
        # A name that is no UTF-8 must not stop the others.
        name = os.fsencode(path.relative_to(folder).as_posix()).decode("utf-8", errors="backslashreplace")
        try:
            status = path.stat()
            sounds[name] = SoundFile(path, status.st_size, status.st_mtime_ns)
        except OSError:  # a link to nowhere: reported when it is read
            sounds[name] = SoundFile(path, -1, -1)
    if not sounds:
        raise ValueError(f"There is no sound file below {str(folder)!r} ({' '.join(SOUND_SUFFIXES)}).")
    return sounds


def _files_below(folder: Path) -> Iterator[Path]:
    """All files but hidden ones. Unlike `Path.rglob`, not silent about a folder that may not be read."""

    def refuse(error: OSError) -> None:
        raise error

    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]  # where `os.walk` goes on
        yield from (Path(parent, name) for name in names if not name.startswith("."))


def _parts(ids: list[str], stored: Collection[str], part_size: int) -> Iterator[list[str]]:
    """What to encode, in parts that do not depend on where a run was stopped: neither do batches, nor rounding."""
    rest = []
    for start in range(0, len(ids), part_size):
        part = ids[start : start + part_size]
        missing = [name for name in part if name not in stored]
        if len(missing) == len(part):
            yield part
        else:
            rest += missing
    yield from (rest[start : start + part_size] for start in range(0, len(rest), part_size))


class _FileReader:
    """Reads features, and notes how long the sounds are; called from several threads."""

    def __init__(self, feature_extractor: AtriFeatureExtractor, pad_short: bool, bar: tqdm):
        self.durations_s: dict[Path, float] = {}
        self._feature_extractor = feature_extractor
        self._pad_short = pad_short
        self._bar = bar

    def __call__(self, path: Path) -> Tensor:
        try:
            sampling_rate = self._feature_extractor.sampling_rate
            waveform = load_audio(path, sampling_rate)
            self.durations_s[path] = len(waveform) / sampling_rate
            return self._feature_extractor.extract_clip(waveform, self._pad_short, name=repr(str(path)))
        finally:
            with self._bar.get_lock():
                self._bar.update()


def _encode_part(
    model: AtriModel,
    processor: AtriProcessor,
    reader: _FileReader,
    sounds: dict[str, SoundFile],
    store: EmbeddingStore,
    failures: dict[str, str],
    options: dict[str, Any],
) -> list[Clip]:
    """Encode some files and store them; those that could not be read go to `failures`."""
    reader.durations_s.clear()
    paths = [sound.path for sound in sounds.values()]
    result = encode_audio(model, processor, paths, read_features=reader, names=list(sounds), **options)
    embeddings, failed = result if options["on_error"] == "skip" else (result, [])
    failures |= {failure.name: failure.reason for failure in failed}
    clips = [
        Clip(name, sound.size, sound.mtime_ns, reader.durations_s[sound.path])
        for name, sound in sounds.items()
        if name not in failures
    ]
    if clips:
        store.add(clips, embeddings)
    return clips


def _write_failures(out: Path, failures: dict[str, str]) -> None:
    path = out / FAILURES_NAME
    if not failures:
        path.unlink(missing_ok=True)
        return
    with written_whole(path) as file:
        for name, reason in failures.items():
            line = json.dumps({"id": name, "reason": reason}, ensure_ascii=False) + "\n"
            file.write(line.encode("utf-8", errors="backslashreplace"))


def _gather(out: Path, num_clips: int) -> None:
    """All parts in one array, and its ids beside it."""
    (out / IDS_NAME).unlink(missing_ok=True)  # a process that is killed here must not leave the ids of other rows
    if num_clips == 0:
        (out / ARRAY_NAME).unlink(missing_ok=True)
        return
    ids, _ = load_embeddings(out, out=out / ARRAY_NAME)
    with written_whole(out / IDS_NAME) as file:
        file.write(json.dumps(ids, ensure_ascii=False, indent=0).encode())


__all__ = ["FolderSummary", "encode_folder", "find_sounds"]
