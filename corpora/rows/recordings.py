"""Recordings of rows, judged by their headers: how long they are, and whether the model can use them."""

import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import datasets
import pyarrow

from modeling_atri.audio_io import SAMPLING_RATE, audio_length, too_short

from .bad_rows import MISSING_RECORDING, SHORT_RECORDING, UNREADABLE_RECORDING, BadRowError
from .metadata import is_unicode


def recording_length(path: str | None, content: BinaryIO | None = None) -> float:
    """Return the length of a recording in seconds, from the header of the file at `path` or in `content`.

    Raises:
        ValueError: if the header is wrong.
        OSError: if there is no such file, or it cannot be accessed.
    """
    if content is not None:
        return audio_length({"path": path, "bytes": content}) / SAMPLING_RATE
    status = os.stat(str(path))
    return _length_of_file(str(path), status.st_size, status.st_mtime_ns) / SAMPLING_RATE


@lru_cache(maxsize=1_000_000)
def _length_of_file(path: str, size: int, mtime_ns: int) -> int:
    # The Trainer checks rows again that `load_rows` has checked, so lengths are cached until the file changes.
    return audio_length(path)


def usable_length(path: str | None, content: BinaryIO | None = None) -> float:
    """Return the length in seconds of a recording that the model can use, as far as its header shows.

    Raises:
        BadRowError: if the recording is missing, unreadable or too short.
    """
    try:
        is_there = content is not None or (path and is_unicode(path) and Path(path).is_file())
        seconds = recording_length(path, content) if is_there else None
    except OSError as error:  # for example a name that is too long, or a folder without permission
        kind = UNREADABLE_RECORDING if isinstance(error, PermissionError) else MISSING_RECORDING
        raise BadRowError(f"there is no file {path!r} that can be read: {error.strerror}", kind) from error
    except ValueError as error:
        raise BadRowError(str(error), UNREADABLE_RECORDING) from error
    if seconds is None:
        raise BadRowError(f"there is no file {path!r}", MISSING_RECORDING)
    if fault := too_short(repr(path) if path else "the recording", round(seconds * SAMPLING_RATE)):
        raise BadRowError(fault, SHORT_RECORDING)
    return seconds


def audio_sources(audio: datasets.Dataset) -> Iterator[tuple[str | None, BinaryIO | None]]:
    """Yield path and embedded file of each row of the column `audio`, without copying the files."""
    for table in audio.with_format("arrow").iter(batch_size=100):
        for column in table["audio"].chunks:
            for path, content in zip(column.field("path"), column.field("bytes"), strict=True):
                yield path.as_py(), pyarrow.BufferReader(content.as_buffer()) if content.is_valid else None


def count_longer(rows: datasets.Dataset, seconds: float) -> int:
    """Count the recordings of rows from `load_rows` that are longer than `seconds`, by their headers."""
    return sum(recording_length(path, content) > seconds for path, content in audio_sources(rows))
