"""One pass over a file of rows, which goes on where it was stopped, and whose result is kept beside the file."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..checks.row_checker import RowChecker, warn_of_languages_left_out
from ..kept.entries import locked, note_use
from ..kept.places import cache_folder
from ..kept.stored_rows import LoadedRows, entry_folder, load_stored, source_state
from ..progress import progress_bar
from .block_checks import check_block, has_embeddings, names_a_recording
from .joining import join_parts
from .keeping import Keeper
from .part import forget_parts
from .row_files import RowBlock, counts_bytes, noun_of, read_blocks


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
    folder = entry_folder(cache, path.name, {"languages": languages, "group_column": checker.group_column})
    with locked(folder) as may_write:  # of several processes, the others wait for the result of the first
        source = source_state(path)
        stored = load_stored(folder, source, checker.needs_sound, skip)
        if stored is None:
            return _check(path, checker, skip, folder if may_write else None, source)
        if may_write:
            note_use(folder)
            forget_parts(folder)  # of a pass that was killed when it had only to remove them
    warn_of_languages_left_out(str(path), stored.other_languages)
    return stored


def _check(
    path: Path, checker: RowChecker, skip: bool, folder: Path | None, source: dict[str, Any]
) -> LoadedRows | None:
    if not checker.needs_sound and _is_soundless(path):
        return None
    keeper = Keeper(folder, source)
    parts = keeper.parts
    for part in parts:
        checker.languages = part.languages
        checker.note_languages(part.seen)
    position, start = sum(part.num_rows for part in parts), parts[-1].end if parts else (0, 0)
    for block in _with_progress(read_blocks(path, start), path, start[0]):
        if has_embeddings(block):
            return None
        part = check_block(block, path.parent, checker, position, keeper.lengths_file)
        position += part.num_rows
        keeper.add(part)
    joined = join_parts(parts, checker, noun_of(path), str(path.parent), str(path), skip)
    return keeper.finish(joined, checker, skip)


def _with_progress(blocks: Iterator[RowBlock], path: Path, offset: int) -> Iterator[RowBlock]:
    """Blocks of a file from an offset on, with a bar of the bytes that were read, or of the rows."""
    in_bytes = counts_bytes(path)
    total, unit = (path.stat().st_size, "B") if in_bytes else (None, " rows")
    with progress_bar(f"checking {path.name}", total, unit) as bar:
        if in_bytes:
            bar.update(offset)
        for block in blocks:
            yield block
            bar.update(block.end[0] - offset if in_bytes else len(block.table))
            offset = block.end[0]


def _is_soundless(path: Path) -> bool:
    has_sound = False
    for block in read_blocks(path):
        if has_embeddings(block):
            return True
        has_sound = has_sound or names_a_recording(block)
    return not has_sound
