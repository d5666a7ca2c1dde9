"""The loop of `SoundIndex.add`: what is new is encoded and written, some files in each commit."""

import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from os import PathLike
from typing import Literal

from tqdm.auto import tqdm

from modeling_atri import AtriModel, AtriProcessor
from modeling_atri.audio_io.discovery import FoundSound, search_folder
from modeling_atri.encode.clip_reader import AudioFailure

from ..windows import WindowPlan, encode_windows
from .folder_changes import CHANGED_WHILE_READ, compare_folder, digest_if_unchanged
from .tables import Failure, IndexedSound, IndexTables, SoundKey, of_folder


# A commit is made when one of these is reached. A process that is killed loses what it has not committed.
FILES_AT_ONCE = 500
SECONDS_AT_ONCE = 30.0
NUMBERS_AT_ONCE = 2**24  # in vectors: 64 MB

LoadModel = Callable[[], tuple[AtriModel, AtriProcessor]]


@dataclass
class IndexSummary:
    """The figures of a run of `SoundIndex.add`.

    Args:
        num_sounds: sounds of what was added that are in the index now.
        num_encoded: sounds that this run encoded.
        num_moved: files that got the vectors of a file of the same content, because it was moved.
        num_dropped: sounds that were removed because their files are gone.
        hours: hours of sound that this run encoded.
        seconds: duration of the run.
        failures: the paths of the files that could not be read, and of the folders and links that could not be
            searched, each with the reason.
        other_files: number of files that were passed over because their suffix is not that of a sound, by suffix.
    """

    num_sounds: int = 0
    num_encoded: int = 0
    num_moved: int = 0
    num_dropped: int = 0
    hours: float = 0.0
    seconds: float = 0.0
    failures: dict[str, str] = field(default_factory=dict)
    other_files: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class EncodeOptions:
    """How sounds are encoded; see `encode_audio`."""

    batch_size: int = 16
    num_workers: int | None = None
    pad_short: bool = False
    on_error: Literal["raise", "skip"] = "skip"
    progress: bool = False


def add_folder(
    tables: IndexTables, load: LoadModel, plan: WindowPlan, folder: str | PathLike, options: EncodeOptions
) -> IndexSummary:
    """Make an index fit a folder: new and changed files are encoded, and sounds whose files are gone are removed.

    Args:
        tables: of the index.
        load: returns model and processor. It is not called if nothing must be encoded.
        plan: the windows of the index.
        folder: it is searched with all folders below it, see [`~audio_io.find_sounds`].
        options: of encoding.

    Raises:
        ValueError: there is no such folder or no sound file in it, or another process writes to the index; with
            `on_error="raise"`, a file cannot be read.
    """
    began = time.perf_counter()
    root = os.path.abspath(os.path.expanduser(folder))
    search = search_folder(root)
    if search.problems and options.on_error == "raise":
        raise ValueError("{}: {}".format(*next(iter(search.problems.items()))))
    summary = IndexSummary(failures=dict(search.problems), other_files=dict(search.other_files))
    failures = {path: Failure(reason) for path, reason in search.problems.items()}
    with tables.writing():
        changes = compare_folder(tables.files(), root, search, plan.window_s, options.num_workers, options.progress)
        tables.transfer(changes.moves)
        tables.delete(changes.gone)
        summary.num_moved = changes.num_moved
        summary.num_dropped = len(changes.gone)
        files = {path: search.sounds[path] for path in changes.to_encode}
        sounds = _encoded(load, plan, root, files, changes.contents, failures, options) if files else iter(())
        for batch in written(tables, sounds, changes.replaced):
            summary.num_encoded += len(batch)
            summary.hours += sum(sound.duration_s for sound in batch) / 3600
            tables.set_failures(root, failures)
        tables.set_failures(root, failures)
        tables.delete([key for key in changes.replaced if key.path in failures])
        summary.num_sounds = tables.count_sounds(of_folder(root))
    summary.failures = {path: failure.reason for path, failure in failures.items()}
    summary.seconds = time.perf_counter() - began
    return summary


def written(
    tables: IndexTables, sounds: Iterable[IndexedSound], present: Collection[SoundKey]
) -> Iterator[list[IndexedSound]]:
    """Write sounds to the tables, and yield those of each commit once it is made.

    Args:
        tables: of the index.
        sounds: any number of sounds; memory holds those of one commit.
        present: those that may be in the index already. They are replaced.
    """
    batch: list[IndexedSound] = []
    num_values, began = 0, time.monotonic()
    for sound in sounds:
        batch.append(sound)
        num_values += sound.vectors.size
        is_late = time.monotonic() - began >= SECONDS_AT_ONCE
        if len(batch) >= FILES_AT_ONCE or num_values >= NUMBERS_AT_ONCE or is_late:
            _write(tables, batch, present)
            yield batch
            batch, num_values, began = [], 0, time.monotonic()
    if batch:
        _write(tables, batch, present)
        yield batch


def _write(tables: IndexTables, batch: list[IndexedSound], present: Collection[SoundKey]) -> None:
    if any(sound.key in present for sound in batch):
        tables.replace(batch)
    else:
        tables.append(batch)


def _encoded(
    load: LoadModel,
    plan: WindowPlan,
    root: str,
    files: Mapping[str, FoundSound],
    contents: Mapping[str, str],
    failures: dict[str, Failure],
    options: EncodeOptions,
) -> Iterator[IndexedSound]:
    """Encode files in order. Those that cannot be read go to `failures`."""
    model, processor = load()
    results = encode_windows(
        model,
        processor,
        [found.path for found in files.values()],
        plan,
        names=list(files),
        batch_size=options.batch_size,
        num_workers=options.num_workers,
        pad_short=options.pad_short,
        on_error=options.on_error,
    )
    with tqdm(total=len(files), desc="files", disable=not options.progress) as bar:
        for (path, found), result in zip(files.items(), results, strict=True):
            bar.update()
            if isinstance(result, AudioFailure):
                failures[path] = Failure(result.reason, found.size, found.mtime_ns)
                continue
            content = digest_if_unchanged(found, contents.get(path))
            if content is None:
                failures[path] = Failure(CHANGED_WHILE_READ, found.size, found.mtime_ns)
                continue
            yield IndexedSound(
                path,
                root,
                result.duration_s,
                result.spans,
                result.vectors,
                result.whole,
                found.size,
                found.mtime_ns,
                content,
            )
