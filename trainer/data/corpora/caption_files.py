"""Files of captions, one for each language, and what is parallel in them."""

import csv
import json
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from modeling_atri.languages_atri import resolve_language

from ..bad_rows import EMPTY_CAPTION, MISSING_LANGUAGE, BadRow
from .clips import OTHER_CLIP


class Caption(NamedTuple):
    """One caption in one language.

    Args:
        clip: key of the clip that it is of.
        text: as it stands in the file.
    """

    clip: Hashable
    text: str


def read_csv(
    path: str | Path, columns: Sequence[str], fallback_encoding: str | None = None
) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of a CSV file, each with its place (`"line 2"`).

    Args:
        path: of the file, in UTF-8.
        columns: that it must have.
        fallback_encoding (*optional*): read a file that is not UTF-8 in this encoding.

    Raises:
        ValueError: there is no such file, it lacks one of `columns`, it is not UTF-8, or a row has too few cells.
    """
    _check_file(path)
    with open(path, encoding=_encoding(path, fallback_encoding), newline="") as file:
        reader = csv.DictReader(file)
        try:
            missing = [column for column in columns if column not in (reader.fieldnames or ())]
            if missing:
                raise ValueError(
                    f"{path} must have the columns {', '.join(columns)}, but lacks {', '.join(missing)}; it has "
                    f"{', '.join(reader.fieldnames or ()) or 'none'}."
                )
            for row in reader:
                if any(row[column] is None for column in columns):
                    raise ValueError(f"{path}, line {reader.line_num}: it has too few cells: {row}.")
                yield f"line {reader.line_num}", row
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"{path} cannot be read as CSV in UTF-8: {error}") from error


def _encoding(path: str | Path, fallback: str | None) -> str:
    if fallback is not None:
        try:
            Path(path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            return fallback
    return "utf-8-sig"


def read_items(path: str | Path) -> list[dict[str, Any]]:
    """The objects under `data` of a JSON file, as WavCaps and ml-clap have them.

    Raises:
        ValueError: there is no such file, or it holds something else.
    """
    _check_file(path)
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except ValueError as error:  # wrong JSON or wrong UTF-8
        raise ValueError(f"{path} is not JSON: {error}") from error
    items = content.get("data") if isinstance(content, dict) else None
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise ValueError(f'{path} must hold {{"data": [{{...}}, ...]}}, one object a clip.')
    return items


def seconds_of(item: dict[str, Any]) -> float | None:
    """How long a clip lasts by the `duration` of its object."""
    duration = item.get("duration")
    return float(duration) if isinstance(duration, (int, float)) else None


def _check_file(path: str | Path) -> None:
    if not Path(path).is_file():
        raise ValueError(f"There is no file {str(path)!r}.")


def parse_files(words: Sequence[str]) -> dict[str, str]:
    """`["eng_Latn=test.csv", "ja=ja/test.csv"]` to `{"eng_Latn": "test.csv", "jpn_Jpan": "ja/test.csv"}`.

    Raises:
        ValueError: a word without a language, an unknown language, or one that is there twice.
    """
    files: dict[str, str] = {}
    for word in words:
        name, equals, path = word.partition("=")
        if not equals or not path:
            raise ValueError(f"Captions are given as LANGUAGE=FILE, such as eng_Latn=test.csv, but this is {word!r}.")
        code = resolve_language(name)
        if code in files:
            raise ValueError(f"The language {code} is given twice, as {files[code]!r} and {path!r}.")
        files[code] = path
    return files


def join_languages(
    captions: dict[str, dict[Hashable, Caption]],
) -> tuple[dict[Hashable, dict[str, list[str]]], dict[Hashable, list[BadRow]]]:
    """Keeps the captions that every language has.

    Args:
        captions: by language, then by a key that is the same for what says the same.

    Returns:
        the parallel captions `{clip: {language: [text, ...]}}` of every clip, in the order of the first language, with
        empty lists where nothing is left; and what was lost, by clip.

    Raises:
        ValueError: a language has nothing in common with the first.
    """
    first, *others = captions
    for language in others:
        if not captions[first].keys() & captions[language].keys():
            raise ValueError(
                f"No caption in {language} is parallel to one in {first}: are these files of the same split?"
            )
    joined: dict[Hashable, dict[str, list[str]]] = {}
    lost: dict[Hashable, list[BadRow]] = {}
    for key in dict.fromkeys(key for of_language in captions.values() for key in of_language):
        found = {language: of_language[key] for language, of_language in captions.items() if key in of_language}
        clip = next(iter(found.values())).clip
        texts = joined.setdefault(clip, {language: [] for language in captions})
        problem = _problem(found, captions)
        if problem is None:
            for language, caption in found.items():
                texts[language].append(caption.text.strip())
        else:
            lost.setdefault(clip, []).append(BadRow(f"caption {_name(key)}", None, *problem))
    return joined, lost


def _problem(found: dict[str, Caption], captions: dict[str, Any]) -> tuple[str, str] | None:
    """Kind and reason where a caption cannot be had in every language."""
    if missing := [language for language in captions if language not in found]:
        return MISSING_LANGUAGE, f"it is missing in {', '.join(missing)}"
    if len({caption.clip for caption in found.values()}) > 1:
        clips = ", ".join(f"{_name(caption.clip)} in {language}" for language, caption in found.items())
        return OTHER_CLIP, f"it is of {clips}"
    if empty := [language for language, caption in found.items() if not caption.text.strip()]:
        return EMPTY_CAPTION, f"it is empty in {', '.join(empty)}"
    return None


def _name(key: Hashable) -> str:
    return " ".join(map(str, key)) if isinstance(key, tuple) else str(key)
