"""What changed below a folder since it was indexed: which files must be encoded, and which rows can stay or move."""

import os
import posixpath
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from tqdm.auto import tqdm

from modeling_atri.audio_io.discovery import FoundSound, SoundSearch
from modeling_atri.files import content_digest, existing_path
from modeling_atri.threads_atri import default_num_workers

from .tables import CLIP, SoundKey, Transfer


CHANGED_WHILE_READ = "The file was changed while it was read. The next run tries again."
_TOLERANCE_S = 0.05  # a sound that is longer than a window by less may have one window, because of rounding


class _Stored(NamedTuple):
    """What the index knows about a file. A fact that is not known is None."""

    kind: str
    duration_s: float | None
    size: int | None
    mtime_ns: int | None
    content: str | None

    @property
    def state(self) -> tuple[int | None, int | None]:
        """Size and time of change."""
        return self.size, self.mtime_ns


@dataclass
class FolderChanges:
    """What to do so that an index fits a folder again. All moves happen at once, so two files can change places.

    Args:
        folder: the folder that was compared, as the index calls it.
        sounds: all files that were found, by path relative to the folder.
        num_current: files whose rows are right.
        num_unseen: files that were not found, but whose rows stay, because a folder above them cannot be searched.
        moves: sounds whose rows get another place, and those that were touched only: their source is their target.
        gone: sounds whose rows are removed.
        to_encode: files that must be encoded, sorted.
        replaced: those of them that have rows, which the new rows replace.
        contents: digests that were computed on the way, by path.
    """

    folder: str
    sounds: Mapping[str, FoundSound]
    num_current: int = 0
    num_unseen: int = 0
    moves: list[Transfer] = field(default_factory=list)
    gone: list[SoundKey] = field(default_factory=list)
    to_encode: list[str] = field(default_factory=list)
    replaced: set[SoundKey] = field(default_factory=set)
    contents: dict[str, str] = field(default_factory=dict)

    def moves_apart(self) -> tuple[list[Transfer], list[Transfer]]:
        """The moves of files that changed places, or took the place of a file that was moved too; and the others.

        The former must be done at once, and the others can be done one after another.
        """
        sources, targets = {move.source for move in self.moves}, {move.target for move in self.moves}
        linked: list[Transfer] = []
        free: list[Transfer] = []
        for move in self.moves:
            is_linked = move.source != move.target and (move.source in targets or move.target in sources)
            (linked if is_linked else free).append(move)
        return linked, free

    @property
    def num_moved(self) -> int:
        """The number of files that got the rows of another file, because they were moved."""
        return sum(move.source != move.target for move in self.moves)


def digest_if_unchanged(sound: FoundSound, known: str | None = None) -> str | None:
    """The digest of a file, or `known` if it was computed already; None if the file has changed since it was found.

    Call it after the file was read for its embedding, which is that of this content then.
    """
    try:
        content = known or content_digest(sound.path)
        status = sound.path.stat()
    except OSError:
        return None
    return content if (status.st_size, status.st_mtime_ns) == (sound.size, sound.mtime_ns) else None


def compare_folder(
    files: pa.Table,
    folder: str,
    search: SoundSearch,
    window_s: float,
    num_workers: int | None = None,
    progress: bool = False,
) -> FolderChanges:
    """Compare the sounds of an index with the files below a folder.

    A file with the size and the time of change that its rows have is not read. Rows are free if their file is gone or
    has another size or time of change, in this folder or in another one of the index. A new or changed file that has
    the size of a free row is read, though not decoded: with equal content, the rows are moved to it. If several files
    have that content, one of them takes the rows. A copy of a file that is still there is encoded as any other file.

    Rows of stored embeddings have no digest, and often no folder. They are moved to the file with their path, size and
    time of change. If it is longer than a window, it is encoded nevertheless, because its rows have no windows. Rows
    without a folder whose path is that of a changed file are removed, if other such rows belong to this folder.

    Args:
        files: the files of the index, a row for each, with the columns `FILE_COLUMNS`; those of all folders.
        folder: the absolute path under which the index has the files of the folder.
        search: what `search_folder` found there.
        window_s: length of a window in seconds.
        num_workers: threads that read files whose content must be compared. Default: one for each core except one.
        progress: show a progress bar while they read.
    """
    stored = _by_key(files)
    changes = FolderChanges(folder, search.sounds)
    candidates, replaced = _compare_times(stored, search, window_s, changes)
    own = [key for key in stored if key.folder == folder]
    missing = [key for key in own if key.path not in search.sounds]
    gone = [key for key in missing if not search.misses(key.path)]
    changes.num_unseen = len(missing) - len(gone)

    sizes = {search.sounds[path].size for path in candidates}
    changed = [key for key in map(partial(SoundKey, folder), candidates) if key in stored]
    gone += replaced
    free = [*gone, *changed, *_missing_elsewhere(stored, folder, sizes)]
    free = sorted(key for key in free if stored[key].content is not None)
    free_sizes = {stored[key].size for key in free}
    to_read = {path: search.sounds[path].path for path in candidates if search.sounds[path].size in free_sizes}
    changes.contents = _digests(to_read, num_workers, progress)
    sources = _assign({key: stored[key].content for key in free}, folder, changes.contents)

    changes.moves += [_move(source, folder, search.sounds[path], path) for path, source in sources.items()]
    changes.gone = sorted({*gone} - {*sources.values()})
    changes.to_encode = sorted({*changes.to_encode, *candidates} - sources.keys())
    present = (stored.keys() - {move.source for move in changes.moves}) | {move.target for move in changes.moves}
    changes.replaced = present & {SoundKey(folder, path) for path in changes.to_encode}
    return changes


def _by_key(files: pa.Table) -> dict[SoundKey, _Stored]:
    columns = (files[name].to_pylist() for name in ("folder", "path", *_Stored._fields))
    return {SoundKey(folder, path): _Stored(*facts) for folder, path, *facts in zip(*columns, strict=True)}


def _compare_times(
    stored: Mapping[SoundKey, _Stored], search: SoundSearch, window_s: float, changes: FolderChanges
) -> tuple[list[str], list[SoundKey]]:
    """Decide about the files whose size and time of change are known.

    Returns:
        The paths of the other files, and the sounds of no folder or of overlapping folders that they replace.
    """
    folder = changes.folder
    also_below = {other for other in {key.folder for key in stored} - {"", folder} if _overlap(other, folder)}
    same_file = {posixpath.join(*key): key for key in stored if key.folder in also_below}
    candidates: list[str] = []
    replaced: list[SoundKey] = []
    homeless: list[SoundKey] = []
    for path, sound in search.sounds.items():
        here, nowhere = SoundKey(folder, path), SoundKey("", path)
        elsewhere = same_file.get(posixpath.join(folder, path)) if same_file else None
        others = [key for key in (nowhere, elsewhere) if key is not None and key in stored]
        known = [here] if here in stored else others
        key = next((key for key in known if stored[key].state == sound[1:]), None)  # of this size and time of change
        if key is None:
            candidates.append(path)
            homeless += [key for key in known if key == nowhere]
            replaced += [key for key in known if key == elsewhere]
            continue
        if key != here:
            changes.moves.append(_move(key, folder, sound, path))
        if _lacks_windows(stored[key], window_s):
            changes.to_encode.append(path)
        elif key == here:
            changes.num_current += 1
    if any(not move.source.folder for move in changes.moves):
        replaced += homeless
    return candidates, replaced


def _move(source: SoundKey, folder: str, sound: FoundSound, path: str) -> Transfer:
    return Transfer(source, SoundKey(folder, path), sound.size, sound.mtime_ns)


def _lacks_windows(sound: _Stored, window_s: float) -> bool:
    """Whether this is a stored embedding of a sound that is longer than a window, or whose length is not known."""
    if sound.kind != CLIP or sound.content is not None:
        return False
    return not sound.duration_s or sound.duration_s > window_s + _TOLERANCE_S


def _missing_elsewhere(stored: Mapping[SoundKey, _Stored], folder: str, sizes: set[int]) -> list[SoundKey]:
    """The sounds of other folders, of files of these sizes, whose files do not exist any more."""
    return [key for key, sound in stored.items() if sound.size in sizes and key.folder != folder and _is_missing(key)]


def _overlap(one: str, other: str) -> bool:
    """Whether one folder contains the other."""
    first, second = (f"{folder.rstrip('/')}/" for folder in (one, other))
    return first.startswith(second) or second.startswith(first)


def _is_missing(key: SoundKey) -> bool:
    """Whether there is no such file here. One that cannot be looked for, for lack of rights, is not missing."""
    if not key.folder or "://" in key.folder:
        return False
    try:
        os.stat(existing_path(Path(key.folder, key.path)))
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _digests(paths: Mapping[str, Path], num_workers: int | None, progress: bool) -> dict[str, str]:
    """Digests of files, by name. Files that cannot be read are left out: the attempt to encode them says why."""

    def digest(name: str) -> str | None:
        try:
            return content_digest(paths[name])
        except OSError:
            return None

    workers = max(1, default_num_workers() if num_workers is None else num_workers)
    with (
        ThreadPoolExecutor(workers) as pool,
        tqdm(total=len(paths), desc="compared", disable=not (progress and paths)) as bar,
    ):
        contents = {}
        for name, content in zip(paths, pool.map(digest, paths), strict=True):
            bar.update()
            if content is not None:
                contents[name] = content
    return contents


def _assign(free: Mapping[SoundKey, str | None], folder: str, contents: Mapping[str, str]) -> dict[str, SoundKey]:
    """For each file with the content of a free sound that sound; each sound goes to one file at most.

    Of several sounds, a file prefers itself, then one of the same path, then one of the same name.

    Args:
        free: contents of the free sounds.
        folder: the folder of the files.
        contents: contents of the files, by path.
    """
    likeness: tuple[Callable[[SoundKey], Any], ...] = (
        lambda key: key,
        lambda key: key.path,
        lambda key: posixpath.basename(key.path),
        lambda key: None,
    )
    found: dict[str, SoundKey] = {}
    for part_of in likeness:
        used = set(found.values())
        places: dict[tuple[str | None, Any], deque[SoundKey]] = defaultdict(deque)
        for key, content in free.items():
            if key not in used:
                places[content, part_of(key)].append(key)
        for path, content in contents.items():
            if path not in found and (fitting := places[content, part_of(SoundKey(folder, path))]):
                found[path] = fitting.popleft()
    return found
