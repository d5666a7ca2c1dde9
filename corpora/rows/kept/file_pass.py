"""One pass over a file of rows, which goes on where it was stopped, and whose result is kept beside the file."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
from filelock import FileLock

from ..checks import RowChecker, warn_of_languages_left_out
from ..row_files import noun_of, read_blocks
from .block_checks import check_block, has_embeddings, names_a_recording
from .facts import CheckedFacts, note_checked
from .joining import Joined, join_parts, record_batches
from .part import Part, read_part
from .places import CACHE_VARIABLE, cache_folder
from .stored_rows import (
    LENGTHS_NAME,
    LoadedRows,
    entry_folder,
    forget_parts,
    load_stored,
    part_holds,
    part_path,
    source_state,
    store_rows,
)


logger = logging.getLogger(__name__)


def check_file(path: Path, checker: RowChecker, skip: bool) -> LoadedRows | None:
    """Check the rows of a file with their recordings, or take over what an earlier check kept.

    Args:
        path: File that `read_file_rows` reads.
        checker: Checks rows that are not known to be right.
        skip: Leave wrong rows out instead of raising.

    Returns:
        None if rows have embeddings, or, where no row needs a sound, all have captions alone.

    Raises:
        ValueError: as `RowChecker.finish` does.
    """
    cache = cache_folder(path)
    if cache is None:
        return _check(path, checker, skip, None, {})
    languages = None if checker.languages is None else list(checker.languages)
    folder = entry_folder(cache, path, {"languages": languages, "group_column": checker.group_column})
    with _locked(folder) as may_write:  # of several processes, the others wait for the result of the first
        source = source_state(path)
        stored = load_stored(folder, source, checker.needs_sound, skip)
        if stored is None:
            return _check(path, checker, skip, folder if may_write else None, source)
    warn_of_languages_left_out(str(path), stored.other_languages)
    return stored


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Lock what is kept in a folder. Yields False if it cannot be locked, such as one that another user has made."""
    lock = FileLock(f"{folder}.lock")
    try:
        lock.acquire()
    except (OSError, NotImplementedError) as error:
        _warn(folder, error)
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _check(
    path: Path, checker: RowChecker, skip: bool, folder: Path | None, source: dict[str, Any]
) -> LoadedRows | None:
    if not checker.needs_sound and _is_soundless(path):
        return None
    keeper = _Keeper(folder, source)
    parts = keeper.parts
    for part in parts:
        checker.languages = part.languages
        checker.note_languages(part.seen)
    position, start = sum(part.num_rows for part in parts), parts[-1].end if parts else (0, 0)
    for block in read_blocks(path, start):
        if has_embeddings(block):
            return None
        part = check_block(block, path.parent, checker, position, keeper.lengths_file)
        position += part.num_rows
        keeper.add(part)
    joined = join_parts(parts, checker, noun_of(path), str(path.parent), str(path), skip)
    return keeper.finish(joined, checker, skip)


def _is_soundless(path: Path) -> bool:
    has_sound = False
    for block in read_blocks(path):
        if has_embeddings(block):
            return True
        has_sound = has_sound or names_a_recording(block)
    return not has_sound


class _Keeper:
    """Keeps the parts of a pass: on disk, or in memory if there is no folder or it cannot be written."""

    def __init__(self, folder: Path | None, source: dict[str, Any]):
        self._folder, self._source = folder, source
        self.parts: list[Part] = []
        if folder is None:
            return
        while part := read_part(part_path(folder, len(self.parts)), source):
            if not part_holds(part, source["folder"]):
                break  # a sound file was changed since
            self.parts.append(part)
        self._num_written = len(self.parts)
        try:
            part_path(folder, 0).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            self._give_up(error)

    @property
    def lengths_file(self) -> Path | None:
        return None if self._folder is None else self._folder.parent / LENGTHS_NAME

    def add(self, part: Part) -> None:
        """Add a part. The last one is not written, because a small file has no other."""
        if self._folder is not None and len(self.parts) > self._num_written:
            number = len(self.parts) - 1
            path = part_path(self._folder, number)
            try:
                self.parts[number].write(path, self._source)
            except OSError as error:
                self._give_up(error)
            else:
                self.parts[number] = read_part(path, self._source) or self.parts[number]
                self._num_written += 1
        self.parts.append(part)

    def finish(self, joined: Joined, checker: RowChecker, skip: bool) -> LoadedRows:
        """Keep the rows, and return them."""
        languages, others = checker.languages or [], checker.other_languages
        if self._folder is not None:
            try:
                store_rows(self._folder, self._source, joined, languages, others, checker.needs_sound)
            except OSError as error:
                self._give_up(error)
            else:
                forget_parts(self._folder)
                stored = load_stored(self._folder, self._source, checker.needs_sound, skip, is_checked=True)
                if stored is not None:
                    return stored
        rows = datasets.Dataset(pa.Table.from_batches(record_batches(joined), joined.schema))
        note_checked(rows, CheckedFacts(tuple(languages), True, joined.states))
        return LoadedRows(rows, joined.bad_rows, others)

    def _give_up(self, error: OSError) -> None:
        _warn(self._folder, error)
        self._folder = None


def _warn(folder: Path | None, error: Exception) -> None:
    logger.warning(
        "The checked rows cannot be kept in %s (%s), so later runs will check them again. Set %s to a folder that can "
        "be written and has enough space, or to `off`.",
        *(folder, error, CACHE_VARIABLE),
    )
