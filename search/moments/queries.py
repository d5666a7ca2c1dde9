"""Reader of queries with their relevant windows, in the files of CASTELLA, Lighthouse and QVHighlights."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modeling_atri.bounds import is_number
from modeling_atri.corpora.sources.metadata import read_file_rows
from modeling_atri.languages_atri import resolve_language


ROUNDING_S = 1.0  # CASTELLA's times are in whole seconds, and durations are rounded down


@dataclass(frozen=True)
class MomentQuery:
    """A text in one language, and the spans of a recording that it fits.

    Args:
        text: The query.
        language: Its language, as a FLORES-200 code.
        vid: Name of the recording, as the file has it.
        windows: Start and end of each relevant span, in seconds.
        qid: Id of the query. Queries of the same meaning in several languages, or in several wordings, may share it.
        place: Where the query is in the file, such as `line 3`, for messages.
    """

    text: str
    language: str
    vid: str
    windows: tuple[tuple[float, float], ...]
    qid: str
    place: str


def read_moment_queries(path: str | os.PathLike[str], language: str = "eng_Latn") -> list[MomentQuery]:
    """Read queries with their relevant windows.

    A `.jsonl` file has an object on each line, as the files of Lighthouse for CASTELLA, Clotho-Moment and others:

        {"qid": "a_1", "query": "A car horn blares", "vid": "a", "duration": 299, "relevant_windows": [[27, 28]]}

    `query` may also be a list of texts that mean the same, or a mapping of languages to texts or such lists. A line
    may name the `language` of its query. `qid` and `duration` are optional, and other keys are ignored. A `.json` file
    holds a list of such objects, or of the recordings of CASTELLA's own files (`yid` and `moments` with
    `local_caption` and `timestamps`).

    Args:
        path: The file.
        language: Language of queries whose line does not name it, as a code or name.

    Returns:
        list of [`MomentQuery`]: One for each text, in the order of the file.

    Raises:
        ValueError: There is no such file, or it has no query, or a line is wrong; the message names the line. What
            CASTELLA's files have is allowed: a window that ends after `duration`, or begins less than a second after
            it, and one without a length, which no prediction can find.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(
            f"There is no file {str(path)!r}. Name a file of lines such as "
            '{"query": "a dog barks", "vid": "garden", "relevant_windows": [[12.5, 18]]}.'
        )
    default = resolve_language(language)
    queries: list[MomentQuery] = []
    for place, row, problem in read_file_rows(path):
        try:
            if problem:
                raise ValueError(f"{problem}.")
            for index, item in enumerate(_plain_items(row)):
                queries += _queries_of(item, default, place, str(item.get("qid", f"{place} {index}")))
        except ValueError as error:
            raise ValueError(f"{path}, {place}: {error}") from error
    if not queries:
        raise ValueError(f"{path} has no queries.")
    return queries


def _plain_items(row: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The row itself, or the moments of a recording in CASTELLA's own files as such rows."""
    if "moments" not in row:
        yield row
        return
    if not isinstance(row["moments"], list):
        raise ValueError(f"`moments` must be a list, but is a {type(row['moments']).__name__}.")
    for number, moment in enumerate(row["moments"], start=1):
        if not isinstance(moment, dict):
            raise ValueError(f"moment {number} must be an object, but is a {type(moment).__name__}.")
        names = {"query": "local_caption", "relevant_windows": "timestamps"}
        found = {name: moment[key] for name, key in names.items() if key in moment}
        facts = {"vid": row.get("yid"), "duration": row.get("duration"), "qid": f"{row.get('yid')}_{number}"}
        yield {key: value for key, value in {**facts, **found}.items() if value is not None}


def _queries_of(item: Mapping[str, Any], default: str, place: str, qid: str) -> Iterator[MomentQuery]:
    if missing := [name for name in ("query", "vid", "relevant_windows") if item.get(name) in (None, "", [], {})]:
        raise ValueError(f"{' and '.join(f'`{name}`' for name in missing)} must be there, and not be empty.")
    vid, duration_s = item["vid"], item.get("duration")
    if not isinstance(vid, str):
        raise ValueError(f"`vid` must be the name of a recording, but is {vid!r}.")
    if duration_s is not None and not (is_number(duration_s) and duration_s > 0):
        raise ValueError(f"`duration` must be a positive number of seconds, but is {duration_s!r}.")
    windows = _windows(item["relevant_windows"], duration_s)
    language = resolve_language(item["language"]) if item.get("language") is not None else default
    for code, text in _texts(item["query"], language):
        yield MomentQuery(text, code, vid, windows, qid, place)


def _windows(values: Any, duration_s: float | None) -> tuple[tuple[float, float], ...]:
    if not isinstance(values, list):
        raise ValueError(f"`relevant_windows` must be a list of [start, end], but is {values!r}.")
    for value in values:
        if not (isinstance(value, list) and len(value) == 2 and all(map(is_number, value))):
            raise ValueError(f"`relevant_windows` must be a list of [start, end] in seconds, but has {value!r}.")
        start, end = value
        if not 0 <= start <= end < float("inf"):
            raise ValueError(f"a window must have 0 <= start <= end, but is {value!r}.")
        if duration_s is not None and start > duration_s + ROUNDING_S:
            raise ValueError(f"the window {value!r} begins after the recording of {duration_s} s has ended.")
    return tuple((float(start), float(end)) for start, end in values)


def _texts(query: Any, language: str) -> Iterator[tuple[str, str]]:
    """Each text of a query with its language."""
    if isinstance(query, Mapping):
        for name, texts in query.items():
            yield from _texts_of(texts, resolve_language(name))
    else:
        yield from _texts_of(query, language)


def _texts_of(texts: str | Sequence[Any] | Any, language: str) -> Iterator[tuple[str, str]]:
    listed = [texts] if isinstance(texts, str) else texts
    if (
        not isinstance(listed, list)
        or not listed
        or not all(isinstance(text, str) and text.strip() for text in listed)
    ):
        raise ValueError(
            "`query` must be a text, a list of texts, or a mapping of languages to these, none of them empty; got "
            f"{texts!r}."
        )
    for text in listed:
        yield language, text
