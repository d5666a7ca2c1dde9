"""Recordings of rows, judged by their headers: how long they are, and whether the model can use them."""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modeling_atri.audio_inputs_atri import MIN_NUM_SAMPLES, path_of, read_sound, unpack_sound
from modeling_atri.audio_io import SAMPLING_RATE, audio_length, too_short

from .bad_rows import MISSING_RECORDING, SHORT_RECORDING, UNREADABLE_RECORDING, BadRowError
from .captions import is_unicode
from .kept.facts import facts_of
from .kept.lengths import KNOWN_LENGTHS, FileStates


# Names of which `pathlib` would change something.
_ODD_NAME = r"^\.|//|/\.|/$|^$"
_URL_BEGINNINGS = ("http://", "https://")
_DIGESTED_BYTES = 2**16  # at the beginning and the end of a recording without a name


def recording_length(sound: Any) -> float:
    """Return the length of a recording in seconds, from the header if it is a file.

    Args:
        sound: A recording in any form that `load_audio` takes and that carries its own rate. `bytes` in a dict may
            also be a binary file object.

    Raises:
        ValueError: if the header or the samples are wrong.
        OSError: if there is no such file, or it cannot be accessed.
    """
    path = file_of(sound)
    if path is not None and not is_url(path):
        return KNOWN_LENGTHS.length_of(path, audio_length) / SAMPLING_RATE
    content, rate, name = unpack_sound(sound)
    if rate is not None:
        return len(read_sound(content, rate, rate, name)) / rate  # at its own rate, which is fast
    return audio_length(sound) / SAMPLING_RATE


def usable_samples(paths: Sequence[str], states: FileStates, file: Path | None = None) -> np.ndarray:
    """The numbers of samples at 16 kHz of sound files that the model can use, as far as their headers show.

    Args:
        paths, states: The files.
        file (*optional*): Where their lengths are kept for later runs.

    Returns:
        `(files,)`, int64; -1 for files that `usable_length` refuses.
    """
    samples = KNOWN_LENGTHS.lengths_of(paths, states, _length_of_file, file)
    return np.where(samples < MIN_NUM_SAMPLES, -1, samples)


def _length_of_file(path: str) -> int:
    if not Path(path).is_file():  # or it may not be looked at, which is a PermissionError
        raise FileNotFoundError(path)
    return audio_length(path)


def usable_length(sound: Any) -> float:
    """Return the length in seconds of a recording that the model can use, as far as its header shows.

    Args:
        sound: As for `recording_length`.

    Raises:
        BadRowError: if the recording is missing, unreadable or too short.
    """
    path = file_of(sound)
    try:
        is_there = path is None or (is_unicode(path) and Path(path).is_file())
        seconds = recording_length(sound) if is_there else None
    except OSError as error:  # for example a name that is too long, or a folder without permission
        kind = UNREADABLE_RECORDING if isinstance(error, PermissionError) else MISSING_RECORDING
        raise BadRowError(f"there is no file {path!r} that can be read: {error.strerror}", kind) from error
    except ValueError as error:
        raise BadRowError(str(error), UNREADABLE_RECORDING) from error
    if seconds is None:
        raise BadRowError(f"there is no file {path!r}", MISSING_RECORDING)
    name = path_of(sound)
    if fault := too_short(repr(name) if name else "the recording", round(seconds * SAMPLING_RATE)):
        raise BadRowError(fault, SHORT_RECORDING)
    return seconds


def file_of(sound: Any) -> str | None:
    """The path, or the URL, of a recording that is nothing but a file; None for samples, bytes and decoders."""
    if isinstance(sound, Mapping):
        if any_sound(sound):
            return None
        sound = sound.get("path")
    return str(sound) if isinstance(sound, (str, os.PathLike)) else None


def any_sound(sound: Mapping[str, Any]) -> bool:
    """Whether the dict of a recording holds samples or bytes."""
    return any(sound.get(key) is not None for key in ("array", "raw", "bytes"))


def is_url(path: str) -> bool:
    """Whether a recording has to be fetched. Its header is not looked at before the recording is used."""
    return path.startswith(_URL_BEGINNINGS)


def are_urls(names: pa.ChunkedArray) -> np.ndarray:
    """Which names of recordings are URLs, `(rows,)`, bool; none that are null."""
    found = pc.or_(*(pc.starts_with(names, beginning) for beginning in _URL_BEGINNINGS))
    return np.asarray(pc.fill_null(found, False))


def joined_paths(folder: str, names: pa.ChunkedArray) -> pa.ChunkedArray:
    """The path of each recording that a file of rows in a folder names: `Path(folder) / name`, or a URL as it is.

    Args:
        folder: The folder.
        names: Strings; null without a recording.

    Returns:
        Large strings; empty where a name is null.
    """
    names = names.cast(pa.large_string())
    are_remote = are_urls(names)
    if os.name == "nt" or folder in (".", "/"):
        is_odd = np.asarray(names.is_valid())
    else:
        is_odd = np.asarray(pc.fill_null(pc.match_substring_regex(names, _ODD_NAME), False))
    is_odd &= ~are_remote
    is_whole = pc.or_(pc.starts_with(names, "/"), pa.array(are_remote))
    parent, separator = (pa.scalar(text, pa.large_string()) for text in (folder, "/"))
    below = pc.binary_join_element_wise(parent, names, separator)
    paths = pc.fill_null(pc.if_else(is_whole, names, below), "")
    if not is_odd.any():
        return paths
    odd = [str(Path(folder) / name) for name in names.filter(pa.array(is_odd)).to_pylist()]
    whole = pc.replace_with_mask(paths.combine_chunks(), pa.array(is_odd), pa.array(odd, pa.large_string()))
    return pa.chunked_array([whole])


def id_of_content(sound: Any) -> str:
    """A name for a recording that has none: a digest of its length, its beginning and its end.

    It is the same in every process and place of the data, and reads little of a file that is on disk.

    Raises:
        ValueError: if the recording is not in a form that `load_audio` takes.
    """
    content, rate, _ = unpack_sound(sound)
    if rate is not None:
        content = np.asarray(content).tobytes() + str(rate).encode()
    if isinstance(content, (bytes, bytearray)):
        parts = [content[:_DIGESTED_BYTES], content[-_DIGESTED_BYTES:], str(len(content)).encode()]
    else:
        length = content.seek(0, os.SEEK_END)
        parts = [str(length).encode()]
        for start in (0, max(0, length - _DIGESTED_BYTES)):
            content.seek(start)
            parts.insert(-1, content.read(_DIGESTED_BYTES))
        content.seek(0)
    return f"sound-{hashlib.blake2b(b''.join(parts), digest_size=8).hexdigest()}"


def audio_sources(audio: datasets.Dataset) -> Iterator[dict[str, Any]]:
    """Yield the recordings of the column `audio`. `bytes` are file objects, so that embedded files are not copied."""
    for table in audio.with_format("arrow").iter(batch_size=100):
        for column in table["audio"].chunks:
            for path, content in zip(column.field("path"), column.field("bytes"), strict=True):
                file = pa.BufferReader(content.as_buffer()) if content.is_valid else None
                yield {"path": path.as_py(), "bytes": file}


def count_longer(rows: datasets.Dataset, seconds: float) -> int:
    """Count the recordings of rows from `load_rows` that are longer than `seconds`, by their headers."""
    if "audio" not in rows.column_names:
        return 0
    facts = facts_of(rows)
    if facts is not None and (known := facts.count_longer(seconds)) is not None:
        return known
    return sum(recording_length(sound) > seconds for sound in audio_sources(rows))
