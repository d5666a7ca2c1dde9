"""An index that follows its folder: changes are indexed within seconds, as long as the process runs."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from os import PathLike
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple

from modeling_atri.audio_io.discovery import search_folder
from modeling_atri.corpora.sources.layout import ALL_SOUND_SUFFIXES, METADATA_FILES
from modeling_atri.files import printable

from ..object_storage import is_address
from . import nearest
from .indexing import GROWING, EncodeOptions, LoadModel, add_folder
from .side_files import files_beside
from .tables import OF_FILES, IndexInUseError, IndexTables, all_of, of_folder


SETTLE_S = 2.0  # a file that has not changed for so long is complete
POLL_S, NETWORK_POLL_S = 60.0, 10.0  # between two searches of the folder, in which no change was announced
_MOST_SEARCHING = 0.1  # share of the time that searches of a folder may take
# File systems on which other machines make changes that are not announced here.
_NETWORK = ("nfs", "cifs", "smb", "afs", "fuse", "9p", "ceph", "gluster", "lustre", "virtiofs", "vboxsf", "drvfs")

State = tuple[int, int]  # size and time of change of a file


class Change(NamedTuple):
    """A change that was made to an index: `kind` is added, changed, moved, updated, removed or failed."""

    kind: str
    path: str
    detail: str = ""  # the former path, or the reason

    def __str__(self) -> str:
        path, detail = printable(self.path), printable(self.detail)
        if self.kind == "moved":
            return f"moved    {detail} -> {path}"
        return f"{self.kind:<8} {path}{f': {detail}' if detail else ''}"


@dataclass
class WatchSummary:
    """What a watch did.

    Args:
        num_changes: the changes that were made, by kind.
        seconds: duration of the watch.
    """

    num_changes: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0


def watch_folder(
    tables: IndexTables,
    load: LoadModel,
    plan: Any,
    folder: str | PathLike[str],
    options: EncodeOptions,
    columns: str | PathLike[str] | None = None,
    report: Callable[[Change], None] = print,
    tell: Callable[[str], None] = print,
    stop: Event | None = None,
    settle_s: float = SETTLE_S,
    poll_s: float | None = None,
) -> WatchSummary:
    """Keep an index up to date with a folder until the user interrupts it (Ctrl-C).

    The operating system announces changes. In addition, the folder is searched from time to time, because changes
    that other machines make on a network disk are not announced. A file is indexed when its size and time of change
    have been the same for `settle_s` seconds, so that one that is being copied is not read half.

    A folder that is missing or holds no sounds any more, as when its disk is removed, changes nothing. If another
    process writes to the index, this one waits.

    Args:
        tables, load, plan, folder, options, columns: see `add_folder`.
        report: called with each change that was made.
        tell: called with a sentence about what hinders the watch.
        stop (*optional*): ends the watch when it is set.
        settle_s: seconds.
        poll_s: seconds between two searches without an announced change. Default: 10 on network disks, otherwise 60.

    Raises:
        ValueError: there is no such folder, or no sound in it, when the watch begins.
    """
    began, stop = time.monotonic(), stop or Event()
    root = os.path.abspath(os.path.expanduser(folder))
    own = None if is_address(tables.path) else tables.path
    summary, seen = WatchSummary(), _Watched(root, columns, own)
    seen.look()
    poll_s = poll_s or (NETWORK_POLL_S if _is_network(root) else POLL_S)

    def add(growing: frozenset[str]) -> None:
        before = _stored(tables, root)
        with tables.writing():
            add_folder(tables, load, plan, root, options, columns, growing=growing)
            nearest.refresh(tables)
        for change in _changes(before, _stored(tables, root)):
            summary.num_changes[change.kind] = summary.num_changes.get(change.kind, 0) + 1
            report(change)

    try:
        tell_once = _Once(tell)
        for _ in _wake_ups(root, own, poll_s, stop, tell):
            while not stop.is_set():
                try:
                    growing = seen.settle(settle_s, stop)
                    if seen.is_new(growing):
                        add(growing)
                        seen.note(growing)
                    tell_once.forget()
                except IndexInUseError:
                    tell_once("Another process is writing to the index. Waiting until it has ended.")
                    stop.wait(max(settle_s, 0.1))
                    continue
                except (ValueError, OSError) as error:  # the folder is gone or empty, or a side file is faulty
                    tell_once(f"{error} The index stays as it is.")
                    break
                if not growing:
                    break
    except KeyboardInterrupt:
        pass
    summary.seconds = time.monotonic() - began
    return summary


class _Once:
    """Tells a sentence that is not the one before."""

    def __init__(self, tell: Callable[[str], None]):
        self._tell, self._last = tell, ""

    def __call__(self, sentence: str) -> None:
        if sentence != self._last:
            self._tell(sentence)
        self._last = sentence

    def forget(self) -> None:
        """Let the sentence be told again."""
        self._last = ""


class _Watched:
    """The states of the sounds and side files of a folder: those that were indexed, and those of the last look."""

    def __init__(self, root: str, columns: str | PathLike[str] | None, index: str | None):
        self._root, self._columns, self._index = root, columns, index
        self._noted: dict[str, State] | None = None  # None before the first run
        self._found: dict[str, State] = {}
        self._seconds = 0.0  # that the last look took

    def look(self) -> dict[str, State]:
        """Search the folder."""
        began = time.monotonic()
        sounds = search_folder(self._root, self._index).sounds
        found = {path: (sound.size, sound.mtime_ns) for path, sound in sounds.items()}
        root = Path(self._root)
        sides = [Path(self._columns)] if self._columns else [path for path, _ in files_beside(root, sounds)]
        for path in sides:
            status = path.stat()
            found[f"{path}/"] = status.st_size, status.st_mtime_ns  # no sound ends with a slash
        self._seconds = time.monotonic() - began
        return found

    def settle(self, settle_s: float, stop: Event) -> frozenset[str]:
        """Look twice, and return the paths of the files that changed in between."""
        before = self.look()
        if before == self._noted:
            self._found = before
            return frozenset()
        stop.wait(max(settle_s, self._seconds / _MOST_SEARCHING))
        self._found = self.look()
        return frozenset(path for path, state in self._found.items() if before.get(path) != state)

    def is_new(self, growing: frozenset[str]) -> bool:
        """Whether files that do not grow differ from those that were indexed."""
        return self._settled(growing) != self._noted

    def note(self, growing: frozenset[str]) -> None:
        """Note that the files of the last look were indexed, except those that grow."""
        self._noted = self._settled(growing)

    def _settled(self, growing: frozenset[str]) -> dict[str, State]:
        noted = self._noted or {}
        settled = {path: state for path, state in self._found.items() if path not in growing}
        return settled | {path: noted[path] for path in growing if path in noted}


def _wake_ups(root: str, index: str | None, poll_s: float, stop: Event, tell: Callable[[str], None]) -> Iterator[None]:
    """Yield at once, and then when a change is announced or the folder is to be searched again.

    Changes of the index itself are not announced.
    """
    yield
    try:
        from watchfiles import watch

        events = watch(
            root,
            watch_filter=partial(_is_of_interest, index),
            stop_event=stop,
            rust_timeout=max(50, round(poll_s * 1000)),
            yield_on_timeout=True,
            ignore_permission_denied=True,
        )
        for _ in events:
            yield
            while not os.path.isdir(root) and not stop.wait(poll_s):
                yield
        return
    except ImportError:
        reason = 'Changes are announced sooner after `pip install "modeling_atri[search]"`.'
    except (OSError, RuntimeError) as error:  # the system allows no more watches, or the folder is gone
        reason = f"The operating system does not announce changes ({error})."
    if not stop.is_set():
        tell(f"{reason} The folder is searched every {poll_s:g} seconds.")
    while not stop.wait(poll_s):
        yield


def _is_of_interest(index: str | None, change: object, path: str) -> bool:
    """Whether a file may be a sound or a side file, or a folder that was moved or removed, outside of the index."""
    if index is not None and Path(path).is_relative_to(index):
        return False
    name = os.path.basename(path)
    suffix = os.path.splitext(name)[1].lower()
    return not name.startswith(".") and (suffix in ALL_SOUND_SUFFIXES or name in METADATA_FILES or not suffix)


def _is_network(root: str, mounts: str = "/proc/self/mounts") -> bool:
    """Whether a folder is on a file system that other machines can change."""
    try:
        lines = Path(mounts).read_text(errors="replace").splitlines()
    except OSError:  # not on Linux
        return False
    real = os.path.realpath(root)
    kinds = {}
    for line in lines:
        _, place, kind, *_ = line.split(" ")
        place = place.replace("\\040", " ")
        if real == place or real.startswith(f"{place.rstrip('/')}/"):
            kinds[len(place)] = kind
    return bool(kinds) and kinds[max(kinds)].startswith(_NETWORK)


class _Stored(NamedTuple):
    sounds: Mapping[str, tuple[str | None, tuple[Any, ...]]]  # content, and the values of further columns
    failures: Mapping[str, str]


def _stored(tables: IndexTables, folder: str) -> _Stored:
    names = sorted(tables.columns)
    rows = tables.rows(all_of(OF_FILES, of_folder(folder)), ["path", "content", *names]).to_pylist()
    sounds = {
        row["path"]: (row["content"], tuple((name, row[name]) for name in names if row[name] is not None))
        for row in rows
    }
    failures = {key.path: failure.reason for key, failure in tables.failures(folder).items()}
    return _Stored(sounds, failures)


def _changes(before: _Stored, after: _Stored) -> Iterator[Change]:
    """What changed between two states of an index."""
    removed = {path: content for path, (content, _) in before.sounds.items() if path not in after.sounds}
    places = {content: path for path, content in removed.items() if content is not None}
    for path, (content, values) in sorted(after.sounds.items()):
        if path not in before.sounds:
            source = places.pop(content, None) if content is not None else None
            if source is not None:
                del removed[source]
                yield Change("moved", path, source)
            else:
                yield Change("added", path)
        elif before.sounds[path][0] != content:
            yield Change("changed", path)
        elif before.sounds[path][1] != values:
            yield Change("updated", path)
    for path in sorted(removed):
        yield Change("removed", path)
    for path, reason in sorted(after.failures.items()):
        if before.failures.get(path) != reason and reason != GROWING:
            yield Change("failed", path, reason)
