"""Embeddings of all sound files below a folder, on disk. A run continues where the last one stopped."""

import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor
from tqdm.auto import tqdm

from ..audio_io.discovery import FoundSound, SoundSearch, search_folder
from ..clip_features_atri import extract_checked, long_enough
from ..embedding_store.store import Clip, EmbeddingStore, parts_state, read_parts
from ..files import json_line, normalized_name, write_json, written_whole
from ..long_sounds_atri import LongSound, read_or_scan
from ..modeling_atri import AtriModel
from ..processes import made_by_all, own_share, process_rank, told_by_main
from ..processing_atri import AtriProcessor
from .encoding import encode_audio
from .fingerprints import audio_fingerprint
from .moved_files import digest_if_unchanged, find_moved


FAILURES_NAME = "failures.jsonl"
ARRAY_NAME, IDS_NAME = "embeddings.npy", "ids.json"
_GATHERED_NAME = ".gathered.json"


@dataclass
class FolderSummary:
    """The figures of a run of `encode_folder`.

    Args:
        num_clips: clips that have an embedding now.
        num_encoded: clips that this run encoded.
        num_moved: embeddings that were kept for files that were renamed or moved.
        num_dropped: embeddings that were removed because their files are gone.
        hours: hours of sound that this run encoded.
        seconds: duration of the run.
        failures: the ids of the files that could not be read, and of the folders and links that could not be searched,
            each with the reason.
        other_files: number of files that were passed over because their suffix is not that of a sound, by suffix.
    """

    num_clips: int = 0
    num_encoded: int = 0
    num_moved: int = 0
    num_dropped: int = 0
    hours: float = 0.0
    seconds: float = 0.0
    failures: dict[str, str] = field(default_factory=dict)
    other_files: dict[str, int] = field(default_factory=dict)


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

    Files that have an embedding, and still have the size and time of change that they had, are not read again. Changed
    files are encoded again, and embeddings of files that are gone are removed. A new file that has the content of one
    that is gone, because it or its folder was renamed or moved, gets its embedding (embeddings of earlier versions,
    which have no digest of the content, are made again). Nothing is removed if `folder` is
    missing or holds no sound, as when a disk is not mounted, and nothing below a folder that cannot be searched. A run
    that is stopped for any reason loses the part it was working on. The next run continues from there to the same
    embeddings, bit for bit. Read the embeddings with `load_embeddings(out)`.

    Several processes that a launcher started (see [`~processes.launched_processes`]) share the files of each part, and
    the main process writes what one process would write, up to rounding. All of them return the same summary.

    Args:
        model (`AtriModel`): on any device; its training mode is restored afterwards.
        processor (`AtriProcessor`): the processor of the model.
        folder (`str` or `Path`): it is searched with all folders below it, see [`~audio_io.find_sounds`].
        out (`str` or `Path`): folder for the parts, `embeddings/*.parquet` (see `EmbeddingStore`), and for
            `failures.jsonl`, which lists the files that could not be read and the folders and links that could not be
            searched. Every run tries these again.
        model_name (`str`, *optional*): name that is stored with the embeddings. Default: where the model was loaded
            from.
        format (`str`, *optional*, defaults to `"parquet"`): `"npy"` also gathers all parts at the end in
            `embeddings.npy` and `ids.json`, if they are not those of the parts already.
        part_size (`int`, *optional*, defaults to 1000): files per part.
        on_error (`str`, *optional*, defaults to `"skip"`): `"raise"` stops at the first file that cannot be read, or
            folder or link that cannot be searched.
        batch_size, pad_short, num_workers, progress: see `encode_audio`.

    Returns:
        `FolderSummary`.

    Raises:
        ValueError: there is no such folder or no sound file in it, `out` holds embeddings of another model, the model
            has no audio tower, or an argument is wrong.
        OSError: `folder` cannot be searched, or the disk is full.
    """
    _check_options(processor, format, part_size)
    out, began = Path(out), time.perf_counter()
    name, fingerprint = model_name or model.config.name_or_path or "", audio_fingerprint(model, processor)
    make_store = partial(EmbeddingStore, out, name, fingerprint, model.config.projection_dim)
    encode = partial(encode_audio, model, processor, batch_size=batch_size, num_workers=num_workers, on_error=on_error)
    with _begun(make_store, folder, on_error, part_size, num_workers) as (work, store):
        summary, is_shown = work.summary, progress and process_rank() == 0
        with tqdm(total=sum(map(len, work.parts)), desc="files read", disable=not is_shown) as bar:
            reader = _FileReader(processor.feature_extractor, pad_short, bar)
            for sounds in work.parts:
                own = dict(own_share(list(sounds.items())))
                found = made_by_all(partial(_encode_files, encode, reader, own))
                bar.update(len(sounds) - len(own))
                if store is not None and found is not None:
                    _store_part(list(sounds), found, store, summary)
        summary = told_by_main(partial(_finish, out, format, summary))
    summary.seconds = time.perf_counter() - began
    return summary


def _check_options(processor: AtriProcessor, format: str, part_size: int) -> None:
    if format not in ("parquet", "npy"):
        raise ValueError(f"`format` must be 'parquet' or 'npy', got {format!r}.")
    if part_size < 1:
        raise ValueError(f"`part_size` must be at least 1, got {part_size}.")
    if processor.feature_extractor.sampling_rate is None:
        raise ValueError(processor.feature_extractor.takes)


@dataclass(frozen=True)
class _Work:
    """What there is to do: the files to encode, in parts, and the figures so far."""

    parts: list[dict[str, FoundSound]]
    summary: FolderSummary


@contextmanager
def _begun(
    make_store: Callable[[], EmbeddingStore],
    folder: str | PathLike,
    on_error: str,
    part_size: int,
    num_workers: int | None,
) -> Iterator[tuple[_Work, EmbeddingStore | None]]:
    """What there is to do, and the store, which is open on the main process and None on the others."""
    stores: list[EmbeddingStore] = []
    with ExitStack() as stack:

        def begin() -> _Work:
            search = search_folder(folder)
            if search.problems and on_error == "raise":
                raise ValueError("{}: {}".format(*next(iter(search.problems.items()))))
            stores.append(stack.enter_context(make_store()))
            return _remove_and_plan(stores[0], search, part_size, num_workers)

        yield told_by_main(begin), stores[0] if stores else None


def _remove_and_plan(store: EmbeddingStore, search: SoundSearch, part_size: int, num_workers: int | None) -> _Work:
    """Follow files that were moved, remove the embeddings of those that are gone, and find out what to encode."""
    summary = FolderSummary(failures=dict(search.problems), other_files=dict(search.other_files))
    stored = store.clips()
    current, stale = _compare(stored, search)
    moved = find_moved({name: stored[name] for name in stale}, search, current, num_workers)
    stale -= moved.keys()
    store.drop(stale)  # first, because a file may have been moved to the name of another
    store.move(moved, part_size)
    current |= {clip.id for clip in moved.values()}
    summary.num_moved = len(moved)
    summary.num_dropped = len({normalized_name(name) for name in stale} - search.sounds.keys() - current)
    summary.num_clips = len(current)
    (store.folder / FAILURES_NAME).unlink(missing_ok=True)  # of the last run
    _add_failures(store.folder, summary.failures)
    parts = _parts(sorted(search.sounds), current, part_size)
    return _Work([{name: search.sounds[name] for name in ids} for ids in parts], summary)


def _compare(stored: Mapping[str, Clip], search: SoundSearch) -> tuple[set[str], set[str]]:
    """The ids whose embedding is kept, and those, as they are stored, whose embedding is removed.

    An earlier version stored names as they were on disk, so two of them may be equal in form NFC.
    """
    current, stale = set(), set()
    for stored_name, clip in stored.items():
        name = normalized_name(stored_name)
        sound = search.sounds.get(name)
        is_current = sound[1:] == (clip.size, clip.mtime_ns) if sound else search.misses(name)
        if is_current and name not in current:
            current.add(name)
        else:
            stale.add(stored_name)
    return current, stale


def _parts(ids: list[str], stored: Collection[str], part_size: int) -> Iterator[list[str]]:
    """Ids to encode in parts that do not depend on where a run was stopped, so batches and rounding do not either."""
    rest = []
    for start in range(0, len(ids), part_size):
        part = ids[start : start + part_size]
        missing = [name for name in part if name not in stored]
        if len(missing) == len(part):
            yield part
        else:
            rest += missing
    yield from (rest[start : start + part_size] for start in range(0, len(rest), part_size))


@dataclass
class _FileReader:
    """Reads features and records how long the sounds are; called from several threads."""

    feature_extractor: Any
    pad_short: bool
    bar: tqdm
    durations_s: dict[Path, float] = field(default_factory=dict)

    def __call__(self, path: Path) -> Tensor | LongSound:
        extractor, name = self.feature_extractor, repr(str(path))
        try:
            read = read_or_scan(extractor, path)
            if isinstance(read, LongSound):
                self.durations_s[path] = read.num_samples / extractor.sampling_rate
                return read
            self.durations_s[path] = len(read) / extractor.sampling_rate
            return extract_checked(extractor, long_enough(extractor, read, self.pad_short, name), name)
        finally:
            with self.bar.get_lock():
                self.bar.update()


@dataclass(frozen=True)
class _EncodedFiles:
    """Clips with their embeddings, one for each row, and the reasons why other files could not be read."""

    clips: list[Clip]
    embeddings: np.ndarray
    failures: dict[str, str]


def _encode_files(encode: Callable[..., Any], reader: _FileReader, sounds: dict[str, FoundSound]) -> _EncodedFiles:
    """Encode some files."""
    reader.durations_s.clear()
    paths = [sound.path for sound in sounds.values()]
    result = encode(paths, read_features=reader, names=list(sounds))
    embeddings, failed = result if isinstance(result, tuple) else (result, [])
    failures = {failure.name: failure.reason for failure in failed}
    clips = [
        Clip(name, sound.size, sound.mtime_ns, reader.durations_s[sound.path], digest_if_unchanged(sound))
        for name, sound in sounds.items()
        if name not in failures
    ]
    return _EncodedFiles(clips, embeddings, failures)


def _store_part(ids: list[str], found: list[_EncodedFiles], store: EmbeddingStore, summary: FolderSummary) -> None:
    """Store what the processes encoded of a part, in the order of its ids, and count it."""
    failed = {name: reason for part in found for name, reason in part.failures.items()}
    rows = {clip.id: (clip, row) for part in found for clip, row in zip(part.clips, part.embeddings, strict=True)}
    kept = [rows[name] for name in ids if name in rows]
    if kept:
        store.add([clip for clip, _ in kept], np.stack([row for _, row in kept]))
    failures = {name: failed[name] for name in ids if name in failed}
    _add_failures(store.folder, failures)
    summary.num_encoded += len(kept)
    summary.hours += sum(clip.duration_s for clip, _ in kept) / 3600
    summary.failures |= failures


def _finish(out: Path, format: str, summary: FolderSummary) -> FolderSummary:
    """Complete the figures, and gather all parts in one array if that is wanted or was done before."""
    summary.num_clips += summary.num_encoded
    if format == "npy" or (out / ARRAY_NAME).exists():
        _gather(out, summary.num_clips)
    return summary


def _add_failures(out: Path, failures: dict[str, str]) -> None:
    """Add to the list of this run. There is no file where nothing failed."""
    if failures:
        with open(out / FAILURES_NAME, "ab") as file:
            file.writelines(json_line({"id": name, "reason": reason}) for name, reason in failures.items())


def _gather(out: Path, num_clips: int) -> None:
    """Write all parts as one array, with its ids in a file beside it, unless they are those of the parts already."""
    if num_clips and _gathered(out) == _read_state(out):
        return
    (out / _GATHERED_NAME).unlink(missing_ok=True)
    (out / IDS_NAME).unlink(missing_ok=True)  # a process that is killed here must not leave ids of other rows
    if num_clips == 0:
        (out / ARRAY_NAME).unlink(missing_ok=True)
        return
    ids, _, _ = read_parts(out, out=out / ARRAY_NAME)
    with written_whole(out / IDS_NAME) as file:
        file.write(json.dumps(ids, ensure_ascii=False, indent=0).encode())
    write_json(out / _GATHERED_NAME, _gathered(out))


def _gathered(out: Path) -> dict[str, Any] | None:
    """What tells whether the array is that of the parts: their state, and that of the files that were made of them."""
    paths = [out / ARRAY_NAME, out / IDS_NAME]
    if not all(path.is_file() for path in paths):
        return None
    return {"parts": parts_state(out)} | {path.name: [path.stat().st_size, path.stat().st_mtime_ns] for path in paths}


def _read_state(out: Path) -> Any:
    try:
        return json.loads((out / _GATHERED_NAME).read_bytes())
    except (FileNotFoundError, ValueError):  # gathered by an earlier version, or killed while it was written
        return {}
