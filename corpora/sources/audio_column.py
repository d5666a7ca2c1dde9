"""The column of recordings in a data set: the names it may have, and the forms that recordings may have in it."""

import io
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets.table import ConcatenationTable

from .layout import ALL_SOUND_SUFFIXES, NAME_COLUMNS


# Names of the column, the first of which goes before the others. Data sets in the form of WebDataset name it by the
# suffix of the files.
AUDIO_COLUMNS = (*NAME_COLUMNS, *(suffix.removeprefix(".") for suffix in ALL_SOUND_SUFFIXES))
NO_AUDIO = ""  # instead of the name of a column: recordings are not used
FORMS = 'recordings are Audio, paths (string), contents of files (binary) or {"bytes", "path"}'

AUDIO_FIELDS = frozenset({"bytes", "path", "array"})  # a column with one of them holds recordings
_NAMES = {"string", "large_string", "string_view"}
_CONTENTS = {"binary", "large_binary", "binary_view"}
# Types, as Polars writes them, that `datasets` does not cast to Audio.
_CAST_FIRST = {"large_string": "string", "string_view": "string", "binary_view": "binary"}


def audio_name(row: Mapping[str, Any]) -> str | None:
    """The name of the recording in a row of a file: the first of `AUDIO_COLUMNS` that is text; None without one."""
    values = (row.get(column) for column in AUDIO_COLUMNS)
    return next((value for value in values if isinstance(value, str) and value), None)


def find_audio_column(features: Mapping[str, Any]) -> str | None:
    """The column of recordings among `features`; None if there is none. Embedded recordings go before names."""
    forms = {column: _form(features[column]) for column in AUDIO_COLUMNS if column in features}
    for wanted in ("embedded", "name"):
        if found := [column for column, form in forms.items() if form == wanted]:
            return found[0]
    return None


def holds_audio(feature: Any) -> bool:
    """Whether a column of this type can hold recordings."""
    return _form(feature) is not None


def undecoded(dataset: datasets.Dataset, column: str, folders: Sequence[Path] = ()) -> datasets.Dataset:
    """Return a data set whose recordings in a column of any form are `datasets.Audio(decode=False)`.

    Embedded files are neither decoded nor copied. Only samples (`{"array", "sampling_rate"}`) are written as WAV.

    Args:
        dataset: Its column fulfils `holds_audio`.
        column: Name of the column.
        folders: Relative paths are below the first of these folders that has the first of them. Without folders, they
            stay as they are.
    """
    feature = dataset.features[column]
    if isinstance(feature, datasets.Audio) and not feature.decode:
        return _below(dataset, column, folders) if folders else dataset
    if isinstance(feature, dict) and "array" in feature:
        features = datasets.Features(dataset.features | {column: _STRUCT})
        dataset = dataset.map(partial(_samples_to_wav, column), features=features, desc="samples to WAV")
    elif isinstance(feature, datasets.Value) and feature.dtype in _CAST_FIRST:
        dataset = dataset.cast_column(column, datasets.Value(_CAST_FIRST[feature.dtype]))
    dataset = dataset.cast_column(column, datasets.Audio(decode=False))
    return _below(dataset, column, folders) if folders else dataset


def audio_alone(dataset: datasets.Dataset, column: str) -> datasets.Dataset:
    """Return a data set with nothing but a column of recordings, which is called `audio` and is undecoded."""
    return undecoded(columns_alone(dataset, [column]), column).rename_columns({column: "audio"})


def columns_alone(dataset: datasets.Dataset, columns: Sequence[str]) -> datasets.Dataset:
    """Return a data set with nothing but some columns, which can be joined with others.

    `select_columns` leaves empty parts in a table that was joined of several columns (`add_column`), and such a table
    cannot be joined again.
    """
    if isinstance(dataset.data, ConcatenationTable):
        # Joining applies the order that `select` and `shuffle` only note.
        numbers = datasets.Dataset.from_dict({"__number__": range(len(dataset))})
        table = datasets.concatenate_datasets([dataset, numbers], axis=1).data.select(list(columns))
        parts = [[part for part in group if part.num_columns] for group in table.blocks]
        features = datasets.Features({column: dataset.features[column] for column in columns})
        dataset = datasets.Dataset(ConcatenationTable.from_blocks(parts), datasets.DatasetInfo(features=features))
    return dataset.select_columns(list(columns))


_STRUCT = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}


def _form(feature: Any) -> str | None:
    if isinstance(feature, datasets.Audio):
        return "embedded"
    if isinstance(feature, dict):
        return "embedded" if feature.keys() & AUDIO_FIELDS else None
    dtype = feature.dtype if isinstance(feature, datasets.Value) else None
    return "name" if dtype in _NAMES else "embedded" if dtype in _CONTENTS else None


def _samples_to_wav(column: str, row: dict[str, Any]) -> dict[str, Any]:
    import soundfile

    sound = row[column]
    if sound is None or sound.get("array") is None:
        return {column: {"bytes": None, "path": (sound or {}).get("path")}}
    samples = np.asarray(sound["array"], dtype=np.float32)
    file = io.BytesIO()
    # Several channels come as (channels, samples), and files have (samples, channels).
    soundfile.write(file, samples.T, int(sound["sampling_rate"]), format="WAV", subtype="FLOAT")
    return {column: {"bytes": file.getvalue(), "path": sound.get("path")}}


def _below(dataset: datasets.Dataset, column: str, folders: Sequence[Path]) -> datasets.Dataset:
    """Put the folder before relative paths of recordings that are not embedded."""
    audio = dataset.select_columns(column).with_format("arrow")[:].column(column)
    is_relative = [_is_relative(chunk) for chunk in audio.chunks]
    named = pa.chunked_array(
        [chunk.field("path").filter(mask) for chunk, mask in zip(audio.chunks, is_relative, strict=True)]
    )
    if len(named) == 0:
        return dataset
    first = named[0].as_py()
    folder = next((folder for folder in folders if (folder / first).exists()), folders[0])
    chunks = []
    for chunk, mask in zip(audio.chunks, is_relative, strict=True):
        paths = chunk.field("path")
        absolute = pc.binary_join_element_wise(pa.scalar(str(folder)), paths, os.sep)
        fields = [chunk.field("bytes"), pc.if_else(mask, absolute, paths)]
        chunks.append(pa.StructArray.from_arrays(fields, ["bytes", "path"], mask=chunk.is_null()))
    resolved = datasets.Dataset(pa.table({column: pa.chunked_array(chunks)}))
    resolved = resolved.cast_column(column, datasets.Audio(decode=False))
    return datasets.concatenate_datasets([dataset.remove_columns(column), resolved], axis=1)


def _is_relative(audio: pa.StructArray) -> pa.Array:
    """Which recordings are given by a relative path alone. URLs are not."""
    paths = audio.field("path")
    is_elsewhere = pc.or_(pc.starts_with(paths, "/"), pc.match_substring(paths, "://"))
    is_relative = pc.and_(pc.invert(is_elsewhere), pc.is_null(audio.field("bytes")))
    return pc.fill_null(pc.and_(is_relative, pc.not_equal(paths, "")), False)
