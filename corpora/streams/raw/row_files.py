"""Rows in `.jsonl`, `.json`, `.csv` and `.tsv` files, which may be compressed. Each file is a shard."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

from ...rows.recordings import is_url
from ...sources.archives.files import check_content
from ...sources.audio_column import audio_name
from ...sources.layout import suffix_of
from ...sources.metadata import FileRow, open_rows, parse_line, read_file_rows
from .blocks import RawBlock, RawRow, in_lists, relative_name
from .shard_files import ShardFiles


_LINES_AT_ONCE = 256


class RowFileShards:
    """Files of rows as `RawShards`. A `.jsonl` file is read line by line, and others are read whole.

    Args:
        files: The files. Their rows name recordings by paths relative to them.
    """

    num_rows = None

    def __init__(self, files: ShardFiles) -> None:
        self._files, self.name, self.num_shards = files, files.name, len(files.names)
        self.version, self.times = files.version(), files.times()

    def label(self, shard: int) -> str:
        """The name of a shard in messages."""
        return self._files.names[shard]

    def blocks(self, shard: int, start: Sequence[int] | None = None) -> Iterator[RawBlock]:
        """Read a shard from the start of a block: its first row, the lines before it, and their bytes."""
        with self._files.open(shard) as path:
            check_content(path)
            is_lines = suffix_of(path.name) in (".jsonl", ".jsonl.gz")
            yield from (self._line_blocks if is_lines else self._other_blocks)(path, shard, *(start or (0, 0, 0)))

    def _line_blocks(self, path: Path, shard: int, first: int, num_lines: int, offset: int) -> Iterator[RawBlock]:
        with open_rows(path) as file:
            file.seek(offset)
            for lines in in_lists(iter(file), _LINES_AT_ONCE):
                start = [first, num_lines, offset]
                numbered = [(number, line) for number, line in enumerate(lines, num_lines + 1) if line.strip()]
                yield RawBlock(start, first, len(numbered), partial(self._line_at, path, shard, numbered))
                first, num_lines = first + len(numbered), num_lines + len(lines)
                offset += sum(map(len, lines))

    def _other_blocks(self, path: Path, shard: int, first: int, *_: int) -> Iterator[RawBlock]:
        rows = islice(read_file_rows(path), first, None)
        for found in in_lists(rows, _LINES_AT_ONCE):
            yield RawBlock([first, 0, 0], first, len(found), partial(self._row_at, path, shard, found))
            first += len(found)

    def _line_at(self, path: Path, shard: int, lines: Sequence[tuple[int, bytes]], number: int) -> RawRow:
        return self._raw(path, shard, parse_line(*lines[number]))

    def _row_at(self, path: Path, shard: int, rows: Sequence[FileRow], number: int) -> RawRow:
        return self._raw(path, shard, rows[number])

    def _raw(self, path: Path, shard: int, row: FileRow) -> RawRow:
        place = f"{self.label(shard)}, {row.place}"
        name = audio_name(row.row)
        if row.problem is not None or name is None:
            return RawRow(place, row.row, problem=row.problem)
        sound = name if is_url(name) else str(path.parent / name)
        problem = None
        if self._files.folder is None and not is_url(name):
            problem = (
                f"it names the recording {name!r} by a path, which cannot be fetched from the Hub while the rows are "
                "streamed. Leave out `streaming`, or stream shards that hold the recordings (.parquet or .tar)"
            )
        return RawRow(place, row.row, lambda: sound, relative_name(name, [path.parent.absolute()]), problem)
