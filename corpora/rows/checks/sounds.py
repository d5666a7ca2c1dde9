"""The recordings of a block of rows, which are files, are contained in the rows, or have to be fetched."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from ..bad_rows import BadRowError
from ..kept.lengths import FileStates, file_states
from ..recordings import is_url, usable_length, usable_samples


class Sounds(NamedTuple):
    """Recordings of successive rows.

    Args:
        paths: the path of each, or the name of one that its row contains; None without one.
        contents: the contents of those that rows contain, which are not copied.
        are_usable: whether the model can use them, as far as their headers show, `(rows,)`, bool. Those that have to
            be fetched are not looked at and count as usable.
        states: sizes, times of the last change and numbers of samples of the files, `(rows, 3)`, int64; -1 where they
            are not known.
    """

    paths: list[str | None]
    contents: list[pa.Buffer | None]
    are_usable: np.ndarray
    states: np.ndarray

    @property
    def has_contents(self) -> bool:
        """Whether rows contain recordings."""
        return any(content is not None for content in self.contents)

    def source(self, number: int) -> dict[str, Any]:
        """A recording as `usable_length` takes it."""
        content = self.contents[number]
        return {"path": self.paths[number], "bytes": None if content is None else pa.BufferReader(content)}


def look_at(audio: pa.ChunkedArray | None, size: int, lengths_file: Path | None = None) -> Sounds:
    """Look at the recordings of `size` rows.

    Args:
        audio: a column of `{"bytes", "path"}`; None if there is none.
        lengths_file (*optional*): where the lengths of files are kept for later runs.
    """
    paths, contents = _parts_of(audio, size)
    states, samples = _judged(paths, contents, lengths_file)
    known = np.where([path is not None and is_url(path) for path in paths], -1, samples)
    return Sounds(paths, contents, samples >= 0, np.column_stack([*states, known]))


def _parts_of(audio: pa.ChunkedArray | None, size: int) -> tuple[list[str | None], list[pa.Buffer | None]]:
    """The path of each recording, and the content of each that is in the rows."""
    if audio is None:
        return [None] * size, [None] * size
    paths: list[str | None] = []
    contents: list[pa.Buffer | None] = []
    for chunk in audio.chunks:
        paths += chunk.field("path").to_pylist()
        of_chunk = chunk.field("bytes")
        if of_chunk.null_count == len(of_chunk):
            contents += [None] * len(of_chunk)
        else:
            contents += [content.as_buffer() if content.is_valid else None for content in of_chunk]
    return paths, contents


def _judged(
    paths: Sequence[str | None], contents: Sequence[pa.Buffer | None], lengths_file: Path | None
) -> tuple[FileStates, np.ndarray]:
    """States of files, and numbers of samples; -1 for recordings that cannot be used. URLs are not looked at."""
    sizes, times, samples = (np.full(len(paths), -1, dtype=np.int64) for _ in range(3))
    is_file = [bool(path) and content is None for path, content in zip(paths, contents, strict=True)]
    places = [place for place, is_one in enumerate(is_file) if is_one and not is_url(paths[place] or "")]
    chosen = [paths[place] or "" for place in places]
    states = file_states(chosen)
    sizes[places], times[places] = states
    samples[places] = usable_samples(chosen, states, lengths_file)
    for place, (path, content) in enumerate(zip(paths, contents, strict=True)):
        if content is not None:
            samples[place] = _samples_of_content(path, content)
        elif path and is_url(path):
            samples[place] = 0
    return FileStates(sizes, times), samples


def _samples_of_content(path: str | None, content: pa.Buffer) -> int:
    try:
        return round(usable_length({"path": path, "bytes": pa.BufferReader(content)}) * 16_000)
    except BadRowError:
        return -1
