"""Files of captions: CSV, and JSON as WavCaps and ml-clap have it."""

import json
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from modeling_atri.languages_atri import resolve_language

from ..sources.csv_rows import read_csv_rows


Name = TypeVar("Name", bound=Hashable)


class Caption(NamedTuple, Generic[Name]):
    """One caption in one language, as it is in the file, with the name of the clip that it belongs to."""

    clip: Name
    text: str


def read_csv(
    path: str | Path, columns: Sequence[str], fallback_encoding: str | None = None
) -> Iterator[tuple[str, dict[str, str]]]:
    """Read the rows of a CSV file, each with its place (`"line 2"`).

    A missing quote can cut a caption at its comma, or join several lines to one cell. Both are errors, because the
    caption that was meant cannot be recovered.

    Args:
        path: The file, in UTF-8.
        columns: Columns that it must have. Spaces around the names in its first line are ignored.
        fallback_encoding (*optional*): Encoding for a file that is not UTF-8.

    Raises:
        ValueError: if there is no such file, it lacks one of `columns`, it is not UTF-8 or CSV, a row has too few or
            too many cells, or a cell has several lines.
    """
    _check_file(path)
    names, rows = read_csv_rows(path, _encoding(path, fallback_encoding))
    if missing := [column for column in columns if column not in names]:
        raise ValueError(
            f"{path} must have the columns {', '.join(columns)}, but lacks {', '.join(missing)}; it has "
            f"{', '.join(names) or 'none'}."
        )
    for place, cells, problem in rows:
        if problem is None and any(column not in cells for column in columns):
            found = list(cells.values())
            problem = f"it has too few cells, {len(found)} for the columns {', '.join(names)}: {found}"
        if problem is not None:
            raise ValueError(f"{path}, {place}: {problem}.")
        yield place, cells


def _encoding(path: str | Path, fallback: str | None) -> str:
    if fallback is not None:
        try:
            Path(path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            return fallback
    return "utf-8-sig"


def read_items(path: str | Path) -> list[dict[str, Any]]:
    """Read the objects under `data` of a JSON file, as WavCaps and ml-clap have them.

    Raises:
        ValueError: if there is no such file, or it holds something else.
    """
    _check_file(path)
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:  # wrong JSON, wrong UTF-8, or too many open brackets
        raise ValueError(f"{path} is not JSON: {error}") from error
    items = content.get("data") if isinstance(content, dict) else None
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise ValueError(f'{path} must hold {{"data": [{{...}}, ...]}}, one object a clip.')
    return items


def seconds_of(item: dict[str, Any]) -> float | None:
    """Return the length of a clip according to the `duration` of its object."""
    duration = item.get("duration")
    return float(duration) if isinstance(duration, (int, float)) else None


def _check_file(path: str | Path) -> None:
    if not Path(path).is_file():
        raise ValueError(f"There is no file {str(path)!r}.")


def parse_files(words: Sequence[str]) -> dict[str, str]:
    """Parse `["eng_Latn=test.csv", "ja=ja/test.csv"]` to `{"eng_Latn": "test.csv", "jpn_Jpan": "ja/test.csv"}`.

    Raises:
        ValueError: if a word has no language or file, or a language is unknown or given twice.
    """
    files: dict[str, str] = {}
    for word in words:
        name, equals, path = word.partition("=")
        if not equals or not path:
            raise ValueError(f"Captions are given as LANGUAGE=FILE, such as eng_Latn=test.csv; got {word!r}.")
        code = resolve_language(name)
        if code in files:
            raise ValueError(f"The language {code} is given twice, as {files[code]!r} and {path!r}.")
        files[code] = path
    return files


def made_from(captions: Mapping[str, str | Path], audio: str | Path) -> dict[str, Any]:
    """Name the caption files of all languages and the folder of recordings, for the report."""
    return {"captions": {language: str(path) for language, path in captions.items()}, "audio": str(audio)}
