"""The loop of `SoundIndex.add`: what is new is encoded and written, some files in each commit."""

import os
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tqdm.auto import tqdm

from modeling_atri.audio_io.discovery import FoundSound, search_folder
from modeling_atri.processes import own_share, process_rank, told_by_all, told_by_main

from ..object_storage import folder_location, is_address, search_address, stored_sounds
from ..windows import WindowPlan
from .folder_changes import CHANGED_WHILE_READ, FolderChanges, compare_folder, digest_if_unchanged
from .side_files import SideColumns, differing_values, read_side_files
from .tables import (
    Failure,
    IndexedSound,
    IndexTables,
    SoundKey,
    Transfer,
    folders_and_paths,
    of_folder,
    of_sounds,
)


if TYPE_CHECKING:  # torch and transformers take seconds to import, and a run that finds nothing new needs neither
    from modeling_atri import AtriModel, AtriProcessor

# A commit is made when one of these is reached. A process that is killed loses what it has not committed.
FILES_AT_ONCE = 500
SECONDS_AT_ONCE = 30.0
NUMBERS_AT_ONCE = 2**24  # in vectors: 64 MB
MOVES_AT_ONCE = 10_000  # files whose rows get another place

GROWING = "The file is being written. It is indexed when it is complete."

LoadModel = Callable[[], "tuple[AtriModel, AtriProcessor]"]


@dataclass
class IndexSummary:
    """The figures of a run of `SoundIndex.add`.

    Args:
        num_sounds: sounds of what was added that are in the index now.
        num_encoded: sounds that this run encoded.
        num_moved: files that got the vectors of a file of the same content, because it was moved.
        num_dropped: sounds that were removed because their files are gone.
        num_updated: sounds that were in the index and got other values from side files.
        hours: hours of sound that this run encoded.
        seconds: duration of the run.
        failures: the paths of the files that could not be read, and of the folders and links that could not be
            searched, each with the reason.
        other_files: number of files that were passed over because their suffix is not that of a sound, by suffix.
        notes: sentences about rows and columns of side files that were not taken as they are.
    """

    num_sounds: int = 0
    num_encoded: int = 0
    num_moved: int = 0
    num_dropped: int = 0
    num_updated: int = 0
    hours: float = 0.0
    seconds: float = 0.0
    failures: dict[str, str] = field(default_factory=dict)
    other_files: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class EncodeOptions:
    """How sounds are encoded; see `encode_audio`."""

    batch_size: int = 16
    num_workers: int | None = None
    pad_short: bool = False
    on_error: Literal["raise", "skip"] = "skip"
    progress: bool = False


@dataclass
class FolderWork:
    """What is left to encode below a folder.

    Args:
        folder: absolute path or address of the folder.
        files: the files, by path below the folder.
        columns: values from side files, by path and column.
        replaced: those of the files that are in the index, with other content.
        failures: what could not be searched.
        summary: the figures so far.
    """

    folder: str
    files: Mapping[str, FoundSound]
    columns: Mapping[str, Mapping[str, Any]]
    replaced: Collection[SoundKey] = ()
    failures: Mapping[str, Failure] = field(default_factory=dict)
    summary: IndexSummary = field(default_factory=IndexSummary)


@dataclass
class FolderResult:
    """What became of files that were to be encoded."""

    num_encoded: int = 0
    hours: float = 0.0
    failures: dict[str, Failure] = field(default_factory=dict)

    def count(self, sounds: Iterable[IndexedSound]) -> None:
        """Count sounds that were written."""
        for sound in sounds:
            self.num_encoded += 1
            self.hours += sound.duration_s / 3600


# Encodes and writes the files of a folder: takes tables, what loads the model, the windows, the work and the options.
WriteFiles = Callable[[IndexTables, LoadModel, WindowPlan, FolderWork, EncodeOptions], FolderResult]


def add_folder(
    tables: IndexTables,
    load: LoadModel,
    plan: WindowPlan,
    folder: str | PathLike[str],
    options: EncodeOptions,
    columns: str | PathLike[str] | None = None,
    write: WriteFiles | None = None,
    growing: Collection[str] = (),
) -> IndexSummary:
    """Make an index fit a folder: new and changed files are encoded, and sounds whose files are gone are removed.

    If several processes work together (see `modeling_atri.processes`), each of them calls this function. The main
    process compares the folder with the index, and every process encodes and writes its share of the files.

    Args:
        tables: of the index.
        load: returns model and processor. It is not called if nothing must be encoded.
        plan: the windows of the index.
        folder: it is searched with all folders below it, see [`~audio_io.find_sounds`]; or an address on object
            storage.
        options: of encoding.
        columns (*optional*): file with the columns of the sounds, see [`~side_files.read_side_files`]. Default: the
            side files below the folder. If there are none, columns stay as they are.
        write (*optional*): encodes and writes the files. Default: [`write_files`], in this process.
        growing (*optional*): paths of files that are left for a later run, because they are being written.

    Raises:
        ValueError: there is no such folder or no sound file in it, another process writes to the index, or a side file
            is refused; with `on_error="raise"`, a file cannot be read.
    """
    began = time.perf_counter()
    rank = process_rank()
    with ExitStack() as stack:
        work = told_by_main(lambda: _begin(tables, plan, folder, options, columns, growing, stack))
        if rank != 0:
            stack.enter_context(tables.writing(rank))
        share = replace(work, files={path: work.files[path] for path in own_share(list(work.files))})
        options = replace(options, progress=options.progress and rank == 0)
        results = told_by_all((write or write_files)(tables, load, plan, share, options))
        summary = told_by_main(lambda: _end(tables, work, results))
    summary.seconds = time.perf_counter() - began
    return summary


def _begin(
    tables: IndexTables,
    plan: WindowPlan,
    folder: str | PathLike[str],
    options: EncodeOptions,
    columns: str | PathLike[str] | None,
    growing: Collection[str],
    stack: ExitStack,
) -> FolderWork:
    """Compare a folder with the index, write all that needs no encoding, and say what is left to encode."""
    root = folder_location(folder)
    search = (
        search_address(root, tables.storage_options)
        if is_address(root)
        else search_folder(root, None if is_address(tables.path) else tables.path)
    )
    if search.problems and options.on_error == "raise":
        raise ValueError("{}: {}".format(*next(iter(search.problems.items()))))
    for path in search.sounds.keys() & set(growing):
        del search.sounds[path]
        search.problems[path] = GROWING
    stack.enter_context(tables.writing())
    side = read_side_files(root, search.sounds, columns, tables.columns) or SideColumns()
    changes = compare_folder(tables.files(), root, search, plan.window_s, options.num_workers, options.progress)
    _move_and_drop(tables, changes)
    summary = IndexSummary(
        num_moved=changes.num_moved,
        num_dropped=len(changes.gone),
        num_updated=_update_columns(tables, root, side, changes.replaced) if side.files else 0,
        other_files=_passed_over(search.other_files, side.files),
        notes=side.notes,
    )
    files = {path: search.sounds[path] for path in changes.to_encode}
    failures = {path: Failure(reason) for path, reason in search.problems.items()}
    values = {path: side.of(path) for path in files}
    return FolderWork(root, files, values, changes.replaced, failures, summary)


def _passed_over(other_files: Counter[str], side_files: Iterable[str]) -> dict[str, int]:
    """The number of files that are neither sounds nor side files, by suffix."""
    below = [path for path in map(Path, side_files) if not path.is_absolute()]
    return dict(other_files - Counter(path.suffix.lower() for path in below))


def _move_and_drop(tables: IndexTables, changes: FolderChanges) -> None:
    """Write what changed without encoding anything."""
    linked, free = changes.moves_apart()
    tables.transfer(linked)
    for moves in _moves_at_once(tables, free):
        tables.transfer(moves)
    tables.delete(changes.gone)
    for folder in {move.source.folder for move in changes.moves} - {"", changes.folder}:
        if not is_address(folder) and not os.path.isdir(folder):  # renamed, and its failures are those of the new one
            tables.set_failures(folder, {})


def _moves_at_once(tables: IndexTables, moves: Sequence[Transfer]) -> Iterator[list[Transfer]]:
    """Moves in parts that are committed at once, because memory can hold their rows."""
    most = max(1, NUMBERS_AT_ONCE // tables.facts.projection_dim)
    for start in range(0, len(moves), MOVES_AT_ONCE):
        several = moves[start : start + MOVES_AT_ONCE]
        rows = tables.rows(of_sounds({move.source for move in several}), ["folder", "path"])
        num_rows = Counter(map(SoundKey._make, folders_and_paths(rows)))
        part: list[Transfer] = []
        total = 0
        for move in several:
            if part and total + num_rows[move.source] > most:
                yield part
                part, total = [], 0
            part.append(move)
            total += num_rows[move.source]
        yield part


def _update_columns(tables: IndexTables, folder: str, side: SideColumns, but: Collection[SoundKey]) -> int:
    """Write the columns of sounds that are in the index, except some, and return the number of sounds that changed."""
    tables.ensure_columns(side.types)
    if not tables.columns:
        return 0
    differing = differing_values(tables.files(["folder", "path", *tables.columns]), folder, side)
    changed = [(key, values) for key, values in differing.items() if key not in but]
    for start in range(0, len(changed), FILES_AT_ONCE):
        tables.update_columns(dict(changed[start : start + FILES_AT_ONCE]))
    return len(changed)


def _end(tables: IndexTables, work: FolderWork, results: Iterable[FolderResult]) -> IndexSummary:
    """Write the failures of all processes, and complete the summary."""
    summary, failures = work.summary, dict(work.failures)
    for result in results:
        summary.num_encoded += result.num_encoded
        summary.hours += result.hours
        failures |= result.failures
    tables.set_failures(work.folder, failures)
    tables.delete([key for key in work.replaced if key.path in failures])
    summary.num_sounds = tables.count_sounds(of_folder(work.folder))
    summary.failures = {path: failure.reason for path, failure in failures.items()}
    return summary


def write_files(
    tables: IndexTables, load: LoadModel, plan: WindowPlan, work: FolderWork, options: EncodeOptions
) -> FolderResult:
    """Encode files in this process, and write some of them in each commit."""
    result = FolderResult()
    sounds = encoded_files(load, plan, work, tables.storage_options, result.failures, options)
    for batch in written(tables, sounds, work.replaced):
        result.count(batch)
        if process_rank() == 0:
            tables.set_failures(work.folder, {**work.failures, **result.failures})
    return result


def written(
    tables: IndexTables, sounds: Iterable[IndexedSound], present: Collection[SoundKey]
) -> Iterator[list[IndexedSound]]:
    """Write sounds to the tables, and yield those of each commit once it is made.

    Args:
        tables: of the index.
        sounds: any number of sounds; memory holds those of one commit.
        present: those that may be in the index already. They are replaced.
    """
    for batch in batches(sounds):
        write_batch(tables, batch, present)
        yield batch


def batches(sounds: Iterable[IndexedSound]) -> Iterator[list[IndexedSound]]:
    """Sounds in batches that are written at once."""
    batch: list[IndexedSound] = []
    num_values, began = 0, time.monotonic()
    for sound in sounds:
        batch.append(sound)
        num_values += sound.vectors.size
        is_late = time.monotonic() - began >= SECONDS_AT_ONCE
        if len(batch) >= FILES_AT_ONCE or num_values >= NUMBERS_AT_ONCE or is_late:
            yield batch
            batch, num_values, began = [], 0, time.monotonic()
    if batch:
        yield batch


def write_batch(tables: IndexTables, batch: list[IndexedSound], present: Collection[SoundKey]) -> None:
    """Write sounds in one commit. Those that are present are replaced."""
    if any(sound.key in present for sound in batch):
        tables.replace(batch)
    else:
        tables.append(batch)


def encoded_files(
    load: LoadModel,
    plan: WindowPlan,
    work: FolderWork,
    storage_options: Mapping[str, str] | None,
    failures: dict[str, Failure],
    options: EncodeOptions,
) -> Iterator[IndexedSound]:
    """Encode files in order. Those that cannot be read go to `failures`."""
    files, is_stored = work.files, is_address(work.folder)
    if not files:
        return
    from modeling_atri.encode.clip_reader import AudioFailure

    from ..windows import encode_windows

    model, processor = load()
    results = encode_windows(
        model,
        processor,
        _audios(work, storage_options),
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
            content = result.content if is_stored else digest_if_unchanged(found, result.content)
            if content is None:
                failures[path] = Failure(CHANGED_WHILE_READ, found.size, found.mtime_ns)
                continue
            yield IndexedSound(
                path,
                work.folder,
                result.duration_s,
                result.spans,
                result.vectors,
                result.whole,
                found.size,
                found.mtime_ns,
                content,
                work.columns[path],
            )


def _audios(work: FolderWork, storage_options: Mapping[str, str] | None) -> Iterable[Any]:
    """The files as `encode_windows` takes them."""
    if is_address(work.folder):
        return stored_sounds(work.folder, work.files.values(), storage_options)
    return [found.path for found in work.files.values()]
