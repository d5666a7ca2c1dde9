"""A data set of the Hub, or of `datasets`' own files, by naming its columns.

Its sounds are inside it, so they are written out as files. Rows of one id are one clip: many data sets have a row for
each caption.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import datasets

from modeling_atri.sources import check_source

from ..rows.bad_rows import EMPTY_CAPTION, MISSING_LANGUAGE, MISSING_RECORDING, UNEQUAL_CAPTIONS, WRONG_ID, BadRow
from .clips import OTHER_CLIP, Clip, Corpus
from .source_ids import source_id


def open_dataset(name: str, split: str | None = None, subset: str | None = None) -> datasets.Dataset:
    """A data set of the Hub (`owner/name`), a folder of its files, or one that `save_to_disk` wrote.

    Of several splits only the one that is named is fetched.

    Raises:
        ValueError: it cannot be had, or has several splits or configurations and none, or another, was named.
    """
    check_source(name, needs_owner=False)
    is_saved = any((Path(name) / file).exists() for file in ("dataset_info.json", "dataset_dict.json"))
    try:
        loaded = datasets.load_from_disk(name) if is_saved else datasets.load_dataset(name, subset, split=split)
    except (FileNotFoundError, ConnectionError) as error:
        raise ValueError(f"{name!r} is no data set, neither here nor on the Hub: {error}") from error
    except ValueError as error:
        option = "split" if "split" in str(error) else "subset" if "onfig" in str(error) else None
        if option is None:
            raise
        value = {"split": split, "subset": subset}[option]
        raise ValueError(f"{name!r}: please name another `{option}` (got {value!r}): {error}") from error
    if isinstance(loaded, datasets.Dataset):
        if is_saved and split is not None:
            raise ValueError(f"{name!r} has no splits: please leave `split` out (got {split!r}).")
        return loaded
    if split is None and len(loaded) == 1:
        return next(iter(loaded.values()))
    if split not in loaded:
        raise ValueError(f"{name!r} has the splits {', '.join(loaded)}: please name one as `split` (got {split!r}).")
    return loaded[split]


def read_columns(
    dataset: datasets.Dataset,
    captions: Mapping[str, Sequence[str]],
    audio_column: str = "audio",
    id_column: str | None = None,
    source: str | None = None,
    name: str = "data set",
) -> Corpus:
    """Reads captions and sounds; of a sound only the undecoded file.

    Args:
        dataset: with a column of sounds and columns of captions, each a string or a list of strings.
        captions: the columns of each language, by FLORES-200 code, as many in each and in the same order.
        audio_column: sounds, or the paths of files.
        id_column (*optional*): what a clip is called; rows of the same id are put together if their sound is the same.
            By default the row's number.
        source (*optional*): what the ids are of (`youtube`, `freesound`), to compare them with other corpora.
        name: of the corpus.

    Raises:
        ValueError: a column that is not there or of another type, or languages with unequal numbers of columns.
    """
    columns = [column for of_language in captions.values() for column in of_language]
    wanted = [audio_column, *columns, *([] if id_column is None else [id_column])]
    if missing := [column for column in wanted if column not in dataset.column_names]:
        raise ValueError(f"There is no column {', '.join(missing)}; there are {', '.join(dataset.column_names)}.")
    _check_types(dataset.features, columns, audio_column, id_column)
    if len({len(of_language) for of_language in captions.values()}) > 1:
        counts = ", ".join(f"{language} {len(of_language)}" for language, of_language in captions.items())
        raise ValueError(f"Captions are parallel, so every language needs as many columns; there are: {counts}.")
    dataset = dataset.select_columns(list(dict.fromkeys(wanted))).cast_column(
        audio_column, datasets.Audio(decode=False)
    )
    clips: dict[str, Clip] = {}
    digests: dict[str, bytes] = {}
    left_out, lost = [], []
    for index, row in enumerate(dataset):
        place, clip_id = f"row {index}", f"{index:07d}" if id_column is None else str(row[id_column])
        if id_column is not None and row[id_column] is None:
            left_out.append(BadRow(place, None, WRONG_ID, f"its `{id_column}` is null"))
            continue
        sound = row[audio_column] or {}
        if not sound.get("bytes") and not sound.get("path"):
            left_out.append(BadRow(place, clip_id, MISSING_RECORDING, "it holds no sound"))
            continue
        digest = hashlib.blake2b(sound.get("bytes") or sound["path"].encode(), digest_size=16).digest()
        if digests.setdefault(clip_id, digest) != digest:
            left_out.append(BadRow(place, clip_id, OTHER_CLIP, f"a row before has the id {clip_id!r}, not the sound"))
            continue
        texts, problems = _parallel_texts(row, captions)
        lost += [BadRow(place, clip_id, *problem) for problem in problems]
        if clip_id not in clips:
            source_ids = (source_id(source, clip_id),) if source and id_column is not None else ()
            # Read again when it is written: all of them together may be larger than memory.
            content = partial(_content, dataset, audio_column, index) if sound.get("bytes") else Path(sound["path"])
            clips[clip_id] = Clip(clip_id, content, {language: [] for language in captions}, source_ids)
        for language, found in texts.items():
            clips[clip_id].captions[language].extend(found)
    for clip_id in [clip_id for clip_id, clip in clips.items() if not any(clip.captions.values())]:
        del clips[clip_id]
        left_out.append(BadRow(None, clip_id, MISSING_LANGUAGE, "no caption is there in every language"))
    made_from = {"captions": {language: list(names) for language, names in captions.items()}, "audio": audio_column}
    return Corpus(name, list(clips.values()), left_out, lost, made_from | {"id": id_column, "source": source})


def _check_types(
    features: datasets.Features, columns: Sequence[str], audio_column: str, id_column: str | None
) -> None:
    """Raise a ValueError unless each column holds what it is named for."""
    audio = features[audio_column]
    is_file = isinstance(audio, dict) and bool(audio.keys() & {"bytes", "path", "array"})
    if not (isinstance(audio, datasets.Audio) or is_file or _is_value(audio, {"string", "binary", "large_binary"})):
        raise ValueError(
            f"The column {audio_column!r} is of type {_type(audio)}, but recordings are Audio, paths (string) or "
            '{"bytes", "path"}: please name another as `audio_column`.'
        )
    texts = {"string", "large_string", "null"}
    for column in columns:
        feature = features[column]
        if not _is_value(feature, texts) and not _is_value(getattr(feature, "feature", None), texts):
            raise ValueError(
                f"The column {column!r} is of type {_type(feature)}, but captions are strings or lists of strings: "
                "please name other columns as `captions`."
            )
    names = {"string", "large_string", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))}
    if id_column is not None and not _is_value(features[id_column], names):
        raise ValueError(
            f"The column {id_column!r} is of type {_type(features[id_column])}, but ids are strings or whole numbers: "
            "please name another as `id_column`, or none."
        )


def _is_value(feature: Any, dtypes: set[str]) -> bool:
    return isinstance(feature, datasets.Value) and feature.dtype in dtypes


def _type(feature: Any) -> str:
    return feature.dtype if isinstance(feature, datasets.Value) else f"{feature!r:.200}"


def _content(dataset: datasets.Dataset, column: str, index: int) -> bytes:
    return dataset[index][column]["bytes"]


def _parallel_texts(
    row: Mapping[str, Any], captions: Mapping[str, Sequence[str]]
) -> tuple[dict[str, list[str]], list[tuple[str, str]]]:
    """The captions of a row that every language has, and what is wrong with the others."""
    texts = {language: list(_texts(row, columns)) for language, columns in captions.items()}
    if len({len(found) for found in texts.values()}) > 1:
        counts = ", ".join(f"{language} {len(found)}" for language, found in texts.items())
        return {}, [(UNEQUAL_CAPTIONS, f"captions are parallel, so every language needs as many; there are: {counts}")]
    problems, kept = [], []
    for number in range(len(next(iter(texts.values())))):
        empty = [language for language, found in texts.items() if not found[number].strip()]
        if empty:
            problems.append((EMPTY_CAPTION, f"caption {number} is empty in {', '.join(empty)}"))
        else:
            kept.append(number)
    return {language: [found[number].strip() for number in kept] for language, found in texts.items()}, problems


def _texts(row: Mapping[str, Any], columns: Sequence[str]) -> Iterator[str]:
    for column in columns:
        value = row[column]
        yield from (text or "" for text in value) if isinstance(value, list) else [value or ""]
