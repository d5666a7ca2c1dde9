"""Keep the parts of a pass while it runs, and its rows when it is over."""

from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa

from ..checks.row_checker import RowChecker
from ..kept.entries import remove_old, remove_unfinished, warn_not_kept
from ..kept.facts import CheckedFacts, note_checked
from ..kept.joined import Joined, record_batches
from ..kept.stored_rows import (
    LENGTHS_NAME,
    LoadedRows,
    is_same_source,
    is_unchanged,
    load_stored,
    source_of,
    store_rows,
)
from .part import Part, forget_parts, has_parts, part_path, read_part


class Keeper:
    """Keeps what a pass finds: on disk, or in memory if there is no folder or it cannot be written.

    Args:
        folder: The folder of the checked rows, which this process has locked; None to keep nothing.
        source: The state of the source, as `source_state` returns it.

    Attributes:
        parts (`list[Part]`): The parts that are known, at first those of a pass that was stopped.
    """

    def __init__(self, folder: Path | None, source: dict[str, Any]):
        self._folder, self._source = folder, source
        self.parts: list[Part] = []
        if folder is None:
            return
        while part := read_part(part_path(folder, len(self.parts)), source):
            if not part.holds(source["folder"]):
                break  # a sound file was changed since
            self.parts.append(part)
        self._num_written = len(self.parts)
        try:
            part_path(folder, 0).parent.mkdir(parents=True, exist_ok=True)
            remove_unfinished(folder)
        except OSError as error:
            self._give_up(error)

    @property
    def lengths_file(self) -> Path | None:
        """Where the lengths of recordings are kept."""
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
        """Keep the rows, remove what they replace, and return them."""
        languages, others = checker.languages or [], checker.other_languages
        if self._folder is not None:
            try:
                store_rows(self._folder, self._source, joined, languages, others, checker.needs_sound)
                forget_parts(self._folder)
                remove_old(self._folder, self._is_current)
            except OSError as error:
                self._give_up(error)
            else:
                stored = load_stored(self._folder, self._source, checker.needs_sound, skip, is_checked=True)
                if stored is not None:
                    return stored
        batches = [batch for table in joined.tables() for batch in record_batches(table)]
        rows = datasets.Dataset(pa.Table.from_batches(batches, joined.schema))
        note_checked(rows, CheckedFacts(tuple(languages), True, joined.states))
        return LoadedRows(rows, joined.bad_rows, others, joined.beside)

    def _is_current(self, folder: Path) -> bool:
        found = source_of(folder)
        if found is None:
            return has_parts(folder, self._source)
        # Rows of several files are kept under the name of the first, and those of that file alone are, too.
        return is_same_source(found, self._source) or is_unchanged(found)

    def _give_up(self, error: OSError) -> None:
        warn_not_kept(self._folder, error)
        self._folder = None
