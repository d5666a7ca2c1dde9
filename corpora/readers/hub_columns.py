"""A data set of the Hub, or of files that `datasets` reads, by the names of its columns.

Its sounds are embedded, so they are written out as files. Rows with the same id are one clip, because many data sets
have a row for each caption.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import datasets

from modeling_atri.languages_atri import resolve_language

from ..clips.assembling import without_captions
from ..clips.clip import OTHER_CLIP, Clip, Corpus
from ..clips.source_ids import source_id
from ..rows.bad_rows import (
    EMPTY_CAPTION,
    MISSING_RECORDING,
    UNEQUAL_CAPTIONS,
    WRONG_CAPTIONS,
    WRONG_ID,
    WRONG_LINE,
    BadRow,
)
from ..rows.captions import clean_caption, unequal, unwritten
from ..sources.audio_column import AUDIO_FIELDS, FORMS, find_audio_column, holds_audio, undecoded
from ..sources.raw_rows import PROBLEM_COLUMN


_STRINGS = {"string", "large_string", "string_view"}
_TEXTS = _STRINGS | {"null"}
_IDS = {*_STRINGS, *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))}


def read_columns(
    dataset: datasets.Dataset,
    captions: Mapping[str, Sequence[str]],
    audio_column: str | None = None,
    id_column: str | None = None,
    source: str | None = None,
    name: str = "data set",
) -> Corpus:
    """Read captions and recordings. Recordings are not decoded.

    Args:
        dataset: Has a column of recordings and columns of captions, each a string, a list of strings, or one of these
            for each language.
        captions: The columns of each language, by FLORES-200 code. Every language has the same number of columns, in
            the same order. Of a column of captions by language, those in the language are taken.
        audio_column (*optional*): Column of recordings, or of paths of sound files. By default, `find_audio_column`
            finds it.
        id_column (*optional*): Column of the clips' names. Rows with the same name are one clip if their recordings
            are the same. By default, every row is a clip and its number is its name.
        source (*optional*): Source of the ids (`youtube`, `freesound`), to compare them with other corpora.
        name: Name of the corpus.

    Raises:
        ValueError: if a column is missing or has another type, or languages have different numbers of columns.
    """
    columns = [(language, column) for language, of_language in captions.items() for column in of_language]
    audio_column = audio_column or find_audio_column(dataset.features) or "audio"
    wanted = [audio_column, *(column for _, column in columns), *([] if id_column is None else [id_column])]
    if missing := [column for column in wanted if column not in dataset.column_names]:
        raise ValueError(f"There is no column {', '.join(missing)}; there are {', '.join(dataset.column_names)}.")
    _check_types(dataset.features, columns, audio_column, id_column)
    if len({len(of_language) for of_language in captions.values()}) > 1:
        counts = ", ".join(f"{language} {len(of_language)}" for language, of_language in captions.items())
        raise ValueError(f"Captions are parallel, so every language needs as many columns; there are: {counts}.")
    wanted += [PROBLEM_COLUMN] if PROBLEM_COLUMN in dataset.column_names else []
    dataset = undecoded(dataset.select_columns(list(dict.fromkeys(wanted))), audio_column)
    clips: dict[str, Clip] = {}
    digests: dict[str, bytes] = {}
    left_out, lost = [], []
    for index, row in enumerate(dataset):
        place, clip_id = f"row {index}", f"{index:07d}" if id_column is None else str(row[id_column])
        sound = row[audio_column] or {}
        if problem := _row_problem(row, sound, id_column, clip_id, digests):
            left_out.append(BadRow(place, None if problem[0] == WRONG_ID else clip_id, *problem))
            continue
        texts, problems = _parallel_texts(row, captions)
        lost += [BadRow(place, clip_id, *problem) for problem in problems]
        if clip_id not in clips:
            source_ids = (source_id(source, clip_id),) if source and id_column is not None else ()
            # Bytes are read again when they are written, because all of them together may not fit into memory.
            content = partial(_content, dataset, audio_column, index) if sound.get("bytes") else Path(sound["path"])
            clips[clip_id] = Clip(clip_id, content, {language: [] for language in captions}, source_ids)
        for language, found in texts.items():
            clips[clip_id].captions[language].extend(found)
    kept = [clip for clip in clips.values() if any(clip.captions.values())]
    left_out += [without_captions(clip_id) for clip_id, clip in clips.items() if not any(clip.captions.values())]
    made_from = {"captions": {language: list(names) for language, names in captions.items()}, "audio": audio_column}
    return Corpus(name, kept, left_out, lost, made_from | {"id": id_column, "source": source})


def _row_problem(
    row: Mapping[str, Any], sound: Mapping[str, Any], id_column: str | None, clip_id: str, digests: dict[str, bytes]
) -> tuple[str, str] | None:
    """Kind and reason why a row cannot be used. `digests` collects the recording of each clip."""
    if row.get(PROBLEM_COLUMN):
        return WRONG_LINE, row[PROBLEM_COLUMN]
    if id_column is not None and row[id_column] is None:
        return WRONG_ID, f"its `{id_column}` is null"
    if not sound.get("bytes") and not sound.get("path"):
        return MISSING_RECORDING, "it holds no sound"
    digest = hashlib.blake2b(sound.get("bytes") or sound["path"].encode(), digest_size=16).digest()
    if digests.setdefault(clip_id, digest) != digest:
        return OTHER_CLIP, f"a row before has the id {clip_id!r}, not the sound"
    return None


def _check_types(
    features: datasets.Features, columns: Sequence[tuple[str, str]], audio_column: str, id_column: str | None
) -> None:
    """Raise a ValueError unless each column has a type that fits its use."""
    if not holds_audio(features[audio_column]):
        raise _wrong_type(audio_column, features[audio_column], FORMS, "audio_column")
    for language, column in columns:
        feature = features[column]
        if isinstance(feature, Mapping) and not feature.keys() & AUDIO_FIELDS:
            feature = feature[_key_of(language, feature, column)]
        if not _is_value(feature, _TEXTS) and not _is_value(getattr(feature, "feature", None), _TEXTS):
            raise _wrong_type(column, feature, "captions are strings or lists of strings", "captions")
    if id_column is not None and not _is_value(features[id_column], _IDS):
        raise _wrong_type(id_column, features[id_column], "ids are strings or whole numbers", "id_column")


def _key_of(language: str, captions: Mapping[str, Any], column: str) -> str:
    """The name under which a column of captions by language has those in `language`."""
    for name in captions:
        with suppress(ValueError):
            if resolve_language(name) == language:
                return name
    raise ValueError(
        f"The column {column!r} has no captions in {language}, but {', '.join(captions)}: please name another "
        "language or another column as `captions`."
    )


def _is_value(feature: Any, dtypes: set[str]) -> bool:
    return isinstance(feature, datasets.Value) and feature.dtype in dtypes


def _wrong_type(column: str, feature: Any, expected: str, option: str) -> ValueError:
    found = feature.dtype if isinstance(feature, datasets.Value) else f"{feature!r:.200}"
    return ValueError(
        f"The column {column!r} is of type {found}, but {expected}: please name another column as `{option}`."
    )


def _content(dataset: datasets.Dataset, column: str, index: int) -> bytes:
    content: bytes = dataset[index][column]["bytes"]
    return content


def _parallel_texts(
    row: Mapping[str, Any], captions: Mapping[str, Sequence[str]]
) -> tuple[dict[str, list[str]], list[tuple[str, str]]]:
    """The captions of a row that every language has, and kind and reason of each that is left out."""
    try:
        texts = {language: list(_texts(row, language, columns)) for language, columns in captions.items()}
    except ValueError as error:
        return {}, [(WRONG_CAPTIONS, str(error))]
    if problem := unequal({language: len(found) for language, found in texts.items()}):
        return {}, [(UNEQUAL_CAPTIONS, problem)]
    problems, kept = [], []
    for number in range(len(next(iter(texts.values())))):
        empty = [language for language, found in texts.items() if not found[number]]
        if empty:
            problems.append((EMPTY_CAPTION, f"caption {number} is empty in {', '.join(empty)}"))
        else:
            kept.append(number)
    return {language: [found[number] for number in kept] for language, found in texts.items()}, problems


def _texts(row: Mapping[str, Any], language: str, columns: Sequence[str]) -> Iterator[str]:
    for column in columns:
        value = unwritten(row[column], column)
        if isinstance(value, Mapping):
            value = value[_key_of(language, value, column)]
        yield from (clean_caption(text or "") for text in (value if isinstance(value, list) else [value]))
