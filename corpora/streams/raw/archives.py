"""Rows in archives and folders of sounds: shards of a WebDataset, and sounds with a metadata file."""

import posixpath
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from ...sources.archives.files import Archive, FolderFiles
from ...sources.archives.rows import KEY, Member, archive_members, first_stem, sound_members
from ...sources.raw_rows import PROBLEM_COLUMN
from .blocks import RawBlock, RawRow, in_lists
from .shard_files import ShardFiles


_ROWS_AT_ONCE = 64  # whose captions are read at once; recordings are read one by one


class ArchiveShards:
    """Tar and zip files as `RawShards`. Each is a shard, of which only the names of its files are in memory.

    A compressed tar file is written to a temporary file while it is read.

    Args:
        files: The archives.
        splits: A split within each archive; None for all rows.
    """

    num_rows = None

    def __init__(self, files: ShardFiles, splits: Sequence[str] | None = None) -> None:
        self._files, self._splits = files, splits
        self.name, self.num_shards = files.name, len(files.names)
        self.version, self.times = files.version(), files.times()

    def label(self, shard: int) -> str:
        """The name of a shard in messages."""
        return self._files.names[shard]

    def blocks(self, shard: int, start: int | None = None) -> Iterator[RawBlock]:
        """Read a shard from the number of one of its rows."""
        with self._files.open(shard) as path, Archive(path, keep_beginning=True) as archive:
            members = archive_members(archive, None if self._splits is None else self._splits[shard])
            end = start or 0
            for block in _blocks(archive, members, self.label(shard), self._prefix(shard), end):
                yield block
                end = block.first + block.size
            if archive.damage is not None:
                raise ValueError(archive.damage)

    def _prefix(self, shard: int) -> str:
        """What goes before the ids of rows: shards of a WebDataset often have the same keys."""
        return "" if len(set(self._files.names)) == 1 else f"{first_stem(posixpath.basename(self.label(shard)))}/"


class FolderShards:
    """Sounds in a folder without metadata as `RawShards`, with captions beside them. They are one shard."""

    num_rows, num_shards = None, 1

    def __init__(self, files: ShardFiles) -> None:
        self._files, self.name = files, files.name
        self.version, self.times = files.version(), files.times()

    def label(self, shard: int) -> str:
        """The name of a shard in messages."""
        return self.name

    def blocks(self, shard: int, start: int | None = None) -> Iterator[RawBlock]:
        """Read the folder from the number of one of its rows."""
        folder = FolderFiles((self._files.folder or Path()).absolute(), self._files.names)
        yield from _blocks(folder, sound_members(folder, self._files.names), self.name, "", start or 0)


def _blocks(
    files: Archive | FolderFiles, members: Iterator[Member], label: str, prefix: str, first: int
) -> Iterator[RawBlock]:
    rows = islice(members, first, None)
    for found in in_lists(rows, _ROWS_AT_ONCE):
        yield _block(files, found, label, prefix, first)
        first += len(found)


def _block(files: Archive | FolderFiles, members: list[Member], label: str, prefix: str, first: int) -> RawBlock:
    def row_at(number: int) -> RawRow:
        member = members[number]
        row = dict(member.row)
        key, problem = row.pop(KEY, None), row.pop(PROBLEM_COLUMN, None)
        if row.get("audio_id") is None and key is not None and (prefix or "audio_id" in row):
            row["audio_id"] = f"{prefix}{key}"
        place = f"{label}, row {first + number}"
        if member.file is None:
            missing = member.name
            return RawRow(place, row, None if missing is None else lambda: missing, missing, problem)
        return RawRow(place, row, lambda: _sound(files, member.file or ""), member.file, problem)

    return RawBlock(first, first, len(members), row_at)


def _sound(files: Archive | FolderFiles, name: str) -> Any:
    if isinstance(files, FolderFiles):
        return str(files.path / name)
    return {"bytes": files.read(name), "path": name}
