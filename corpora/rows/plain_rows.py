"""Rows that are not in a file or a `datasets.Dataset`: lists of dicts, generators, data frames, data sets of torch."""

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, overload

import datasets
import soundfile

from modeling_atri.audio_inputs_atri import path_of, read_sound, unpack_sound

from ..sources.audio_column import audio_name
from .bad_rows import BadRow
from .checks.checked_row import CheckedRow
from .checks.row_checker import RowChecker


class CheckedRows(Sequence[dict[str, Any]]):
    """Checked rows, with clean captions and ids. Each recording is taken from the source when its row is used.

    Args:
        source: The rows as they were given.
        kept: Those of them that can be used.
        columns: Their columns `audio_id`, `captions` and `group_id`.
    """

    def __init__(self, source: Any, kept: Sequence[CheckedRow], columns: Mapping[str, Sequence[Any]]):
        self._source, self._kept = source, kept
        self.without_audio = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def __len__(self) -> int:
        return len(self._kept)

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, index: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        if isinstance(index, slice):
            return [self[number] for number in range(len(self))[index]]
        row = self._kept[index]
        sound = row.path if row.path is not None else sound_of(self._source[row.number])
        return ({} if sound is None else {"audio": sound}) | self.without_audio[index] | row.vectors

    def has_vectors(self, column: str) -> bool:
        """Whether any row has vectors in a column, such as `teacher_embedding`."""
        return any(column in row.vectors for row in self._kept)

    def count_longer(self, seconds: float) -> int:
        """Count the recordings that are longer than `seconds`."""
        return sum(row.seconds is not None and row.seconds > seconds for row in self._kept)

    def as_dataset(self) -> datasets.Dataset:
        """The rows as `load_rows` returns them. Samples become WAV files in memory, without loss for 32-bit floats."""
        rows = list(self)
        names = dict.fromkeys(name for row in rows for name in row)
        columns = {name: [row.get(name) for row in rows] for name in names}
        if "audio" not in columns:
            return datasets.Dataset.from_dict(columns)
        columns["audio"] = [None if sound is None else as_undecoded(sound) for sound in columns["audio"]]
        return datasets.Dataset.from_dict(columns).cast_column("audio", datasets.Audio(decode=False))


def check_plain_rows(rows: Any, checker: RowChecker, skip: bool) -> tuple[CheckedRows, list[BadRow]]:
    """Check rows that are not in a `datasets.Dataset`, without copying their recordings.

    Args:
        rows: A sequence or an iterable of dicts, or a pandas `DataFrame`.
        checker: Checks each of them.
        skip: Leave wrong rows out instead of raising.

    Returns:
        The rows that can be used, and those that are left out.

    Raises:
        ValueError: if `rows` is something else, or rows are wrong.
    """
    source = as_sequence(rows)
    for number in range(len(source)):
        row = source[number]
        if isinstance(row, Mapping):
            checker.check(f"row {number}", row, sound_of(row))
        else:
            checker.report_line(f"row {number}", f"a row must be a dict, but this is a {type(row).__name__}")
    kept, bad_rows = checker.finish("the list of rows", skip)
    return CheckedRows(source, kept, checker.columns(kept)), bad_rows


def sound_of(row: Mapping[str, Any]) -> Any:
    """The recording of a row: its `audio`, or else the file that `file_name` or a similar column names."""
    return row.get("audio") if row.get("audio") is not None else audio_name(row)


def as_sequence(rows: Any) -> Any:
    """Rows of any kind as something that can be looked up by number.

    Raises:
        ValueError: if they are a stream, or no rows.
    """
    if any(base.__name__ == "IterableDataset" for base in type(rows).__mro__):
        raise ValueError(
            "Rows are looked up in random order, which a streamed data set does not allow. Load it without "
            "`streaming=True`, or write what you need of it to disk first: "
            "`datasets.Dataset.from_generator(lambda: iter(stream.take(10_000)), features=stream.features)`."
        )
    if hasattr(rows, "to_dict") and hasattr(rows, "columns"):  # a pandas DataFrame
        return rows.to_dict("records")
    if isinstance(rows, (str, bytes, Mapping)) or not (isinstance(rows, Iterable) or hasattr(rows, "__getitem__")):
        raise ValueError(
            "Rows are a path, the id of a data set on the Hub, a `datasets.Dataset` or `DatasetDict`, a list or "
            f"another iterable of dicts, or a pandas DataFrame, but this is a {type(rows).__name__}."
        )
    return rows if hasattr(rows, "__len__") and hasattr(rows, "__getitem__") else list(rows)


def as_undecoded(sound: Any) -> dict[str, Any]:
    """A recording in the form of `datasets.Audio(decode=False)`."""
    if isinstance(sound, Mapping) and sound.get("array") is None and sound.get("raw") is None:
        return {"path": path_of(sound), "bytes": sound.get("bytes")}
    content, rate, name = unpack_sound(sound)
    if rate is not None:
        file = io.BytesIO()
        soundfile.write(file, read_sound(content, rate, rate, name), rate, format="WAV", subtype="FLOAT")
        content = file.getvalue()
    elif not isinstance(content, (bytes, bytearray)):
        if path := path_of(content) if not hasattr(content, "read") else None:
            return {"path": path, "bytes": None}
        content.seek(0)
        content = content.read()
    return {"path": path_of(sound), "bytes": bytes(content)}
