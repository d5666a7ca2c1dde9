"""Files of captions, one for each language, and what is parallel in them."""

import csv
import json
import re
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from modeling_atri.languages_atri import resolve_language

from ..rows.bad_rows import EMPTY_CAPTION, MISSING_LANGUAGE, BadRow
from .clips import OTHER_CLIP


_LINE_BREAK = re.compile(r"[\r\n]")


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

    What a missing quote can do to a row (cut a caption at its comma, make one of several lines) is an error: the text
    that is gone could not be told from what was written.

    Args:
        path: of the file, in UTF-8.
        columns: that it must have; spaces around the names in its first line do not matter.
        fallback_encoding (*optional*): read a file that is not UTF-8 in this encoding.

    Raises:
        ValueError: there is no such file, it lacks one of `columns`, it is not UTF-8 or CSV, or a row has too few or
            too many cells, or one of several lines.
    """
    _check_file(path)
    first = 1  # line of the row that is being read
    try:
        with open(path, encoding=_encoding(path, fallback_encoding), newline="") as file:
            reader = csv.reader(file, strict=True)
            names = [name.strip() for name in next(reader, [])]
            if missing := [column for column in columns if column not in names]:
                raise ValueError(
                    f"{path} must have the columns {', '.join(columns)}, but lacks {', '.join(missing)}; it has "
                    f"{', '.join(names) or 'none'}."
                )
            first = reader.line_num + 1
            for cells in reader:
                if cells:  # no empty line
                    _check_cells(cells, names, columns, f"{path}, line {first}")
                    yield f"line {first}", dict(zip(names, cells, strict=False))
                first = reader.line_num + 1
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} cannot be read as CSV in UTF-8: {error}") from error
    except csv.Error as error:
        raise ValueError(
            f"{path}, line {first}: this cannot be read as CSV ({error}). Close every quote, and write one inside a "
            'quoted caption twice: "A man says ""stop""".'
        ) from error


def _check_cells(cells: Sequence[str], names: Sequence[str], columns: Sequence[str], place: str) -> None:
    if any(column not in names[: len(cells)] for column in columns):
        raise ValueError(f"{place}: it has too few cells, {len(cells)} for the columns {', '.join(names)}: {cells}.")
    if len(cells) > len(names):
        raise ValueError(
            f"{place}: it has too many cells, {len(cells)} for the columns {', '.join(names)}: {cells}. Quote a "
            'caption that has a comma: "Rain falls, then thunder".'
        )
    for name, cell in zip(names, cells, strict=False):
        if _LINE_BREAK.search(cell.strip()):
            raise ValueError(
                f"{place}: `{name}` goes over several lines: {cell!r:.200}. Close the quote that it begins with, or "
                "write it in one line."
            )


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
