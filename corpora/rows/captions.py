"""Captions of a row in the forms in which people have them, as clean lists of strings by FLORES-200 code."""

import html
import html.entities
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from modeling_atri.languages_atri import resolve_language

from .bad_rows import EMPTY_CAPTION, MISSING_LANGUAGE, UNEQUAL_CAPTIONS, WRONG_CAPTIONS, BadRowError, Problem


# How to give captions, for errors.
CAPTIONS_ADVICE = (
    'Captions go to `captions`, such as {"eng_Latn": ["a dog barks"]}, or to columns such as `caption` (in English, '
    "or in the only language of `languages`), `caption_fr` and `fr`: please rename yours"
)
DEFAULT_LANGUAGE = "eng_Latn"  # of captions whose language is not named

# Kinds of columns of captions, the most usual first: `caption`, `captions_fr`, `text_2`, `sentence_fra_Latn_2`.
_STEMS = ("caption", "text", "sentence")
_COLUMN = re.compile(rf"({'|'.join(_STEMS)})s?(?:[_-](?P<language>[^\W\d].*?))?(?:_?(?P<number>\d+))?", re.IGNORECASE)
# Languages whose codes are usual names of other columns, as all codes of three letters may be (`min`, `run`).
_OTHER_COLUMNS = {"hz", "id", "in", "is", "ms", "no", "sr", "to"}
_LIST_AS_TEXT = re.compile(r"\s*(\{\s*['\"].*\}|\[\s*['\"].*\])\s*", re.DOTALL)

_ENTITY = re.compile(r"&(#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_ODD_SPACES = re.compile(r"\s*[^\S ]\s*")  # line breaks, tabs, no-break and ideographic spaces
_CONTROLS = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u00ad\ufeff]")  # soft hyphen, byte order mark


def clean_caption(text: str) -> str:
    """A caption without traces of the files and web pages that it came from.

    HTML entities are replaced by what they stand for, also where they were escaped twice (`&amp;quot;`). They end with
    a semicolon, so that `R&B` stays. Line breaks, tabs and unusual spaces become one space. Control characters, byte
    order marks, soft hyphens and spaces at both ends are removed. A caption of which nothing visible remains is empty.
    """
    text = text.strip() if "&" not in text else unescape_entities(text).strip()
    if text.isprintable():
        return text
    text = _ODD_SPACES.sub(" ", _CONTROLS.sub("", text)).strip()
    return text if any(sign.isprintable() and sign != " " for sign in text) else ""


def unescape_entities(text: str) -> str:
    """Replace HTML entities by what they stand for, as `clean_caption` does."""
    while "&" in text and (unescaped := _ENTITY.sub(_unescape, text)) != text:
        text = unescaped
    return text


def _unescape(entity: re.Match[str]) -> str:
    if entity[1].startswith("#"):
        return html.unescape(entity[0])
    return html.entities.html5.get(f"{entity[1]};", entity[0])


def is_unicode(text: str) -> bool:
    """Whether a text can be written as UTF-8. JSON escapes such as "\\ud800" are half a character and cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def not_unicode(text: str) -> str:
    """Say why a text is no text."""
    return f"is no valid Unicode, but {text!r}: half of a character is missing"


class CleanCaptions(dict[str, list[str]]):
    """Captions by FLORES-200 code that [`captions_of`] returned. They are not checked again."""


def captions_of(row: Mapping[str, Any], languages: Sequence[str], name: Any) -> dict[str, list[str]]:
    """The captions of the row `name` in some languages, all of which it must have.

    The row may be one that was not checked before. HTML entities are replaced, and otherwise texts are as they are.

    Raises:
        BadRowError: if a language is missing, or a caption is not as it should be.
    """
    known = row.get("captions")
    if isinstance(known, CleanCaptions) and known.keys() >= set(languages):
        return {code: known[code] for code in languages}
    problems: list[Problem] = []
    found = resolve_captions(row, languages, problems) or {}
    missing = [code for code in languages if code not in found or as_list(found[code]) == []]
    if missing and not problems:
        raise BadRowError(f"Row {name!r} has no caption in {', '.join(missing)}", MISSING_LANGUAGE)
    texts = {code: found[code] for code in languages if code in found}
    captions = clean_captions(texts, problems, clean=unescape_entities)
    if problems:
        raise BadRowError(f"Row {name!r}: {'; '.join(problem.text for problem in problems)}", problems[0].kind)
    return CleanCaptions(captions)


def resolve_captions(
    row: Mapping[str, Any], languages: Sequence[str] | None, problems: list[Problem]
) -> dict[str, Any] | None:
    """The captions of a row as they are, by FLORES-200 code. Languages without a caption (None) are left out.

    Args:
        row: A row with `captions` by language, or with columns of captions that `caption_columns` knows.
        languages: Languages that are wanted; None if all are.
        problems: What is wrong is added to this list.

    Returns:
        The captions, or None if the row has none.
    """
    captions = row.get("captions")
    try:
        captions = unwritten(captions, "captions")
    except ValueError as error:
        problems.append(Problem(WRONG_CAPTIONS, str(error)))
        return None
    if not isinstance(captions, Mapping):
        try:
            columns = caption_columns(tuple(map(str, row)), None if languages is None else tuple(languages))
        except ValueError as error:
            problems.append(Problem(WRONG_CAPTIONS, str(error)))
            return None
        if not columns:
            text = f"it has no captions but {', '.join(map(str, row)) or 'nothing'}. {CAPTIONS_ADVICE}"
            problems.append(Problem(WRONG_CAPTIONS, text))
            return None
        if is_missing(captions) and list(columns.values()) == [("captions",)]:
            text = f"`captions` must be lists of strings by language, but is {captions!r}"
            problems.append(Problem(WRONG_CAPTIONS, text))
            return None
        values = {**row, "captions": captions}
        try:
            found = {
                code: _joined([unwritten(values[name], name) for name in names]) for code, names in columns.items()
            }
        except ValueError as error:
            problems.append(Problem(WRONG_CAPTIONS, str(error)))
            return None
        return {code: texts for code, texts in found.items() if texts is not None}
    resolved: dict[str, Any] = {}
    names: dict[str, str] = {}
    for name, texts in captions.items():
        if is_missing(texts):
            continue
        try:
            code = resolve_language(name)
        except ValueError as error:
            problems.append(Problem(WRONG_CAPTIONS, str(error)))
            continue
        if code in resolved:
            text = f"the captions in {code} are there twice, as `{names[code]}` and as `{name}`: leave one of them out"
            problems.append(Problem(WRONG_CAPTIONS, text))
        resolved[code], names[code] = texts, name
    return resolved


def first_languages(rows: Iterable[Mapping[str, Any]]) -> list[str] | None:
    """The languages of the first row that has captions; None if no row has any."""
    return next((list(captions) for row in rows if (captions := resolve_captions(row, None, problems=[]))), None)


def unwritten(captions: Any, column: str) -> Any:
    """Captions as they were before they were written as JSON, such as in a cell of a CSV file; others as they are.

    Raises:
        ValueError: if a list or dict was written as text in another form.
    """
    if not isinstance(captions, str) or not _LIST_AS_TEXT.fullmatch(captions):
        return captions
    try:
        return json.loads(captions)
    except ValueError as error:
        text = f"`{column}` is a list or dict that was written as text, {captions!r:.200}, but not as JSON"
        raise ValueError(f"{text} ({error})") from error


def clean_captions(
    captions: Mapping[str, Any], problems: list[Problem], clean: Callable[[str], str] = clean_caption
) -> dict[str, list[str]]:
    """The captions of each language as a list of clean strings. A string is a list of one.

    A place of the lists at which no language has a caption is left out. What is wrong is added to `problems`.
    """
    lists: dict[str, list[Any]] = {}
    cleaned: dict[str, list[str]] = {language: [] for language in captions}
    for language, value in captions.items():
        texts = as_list(value)
        if texts == []:
            problems.append(Problem(EMPTY_CAPTION, f"there is no caption in the list of {language}"))
        elif texts is None or not all(isinstance(text, str) or is_missing(text) for text in texts):
            found = f"the captions in {language} must be a string or a list of strings, but are {value!r:.200}"
            problems.append(Problem(WRONG_CAPTIONS, found))
        else:
            lists[language] = texts
    counts = {language: len(texts) for language, texts in lists.items()}
    kept = list(range(min(counts.values(), default=0)))
    if text := unequal(counts):
        problems.append(Problem(UNEQUAL_CAPTIONS, text))
    else:
        kept = [index for index in kept if any(not is_missing(texts[index]) for texts in lists.values())]
    for language, texts in lists.items():
        cleaned[language] = _clean_list(language, texts, kept, problems, clean)
    return cleaned


def _clean_list(
    language: str, texts: Sequence[Any], kept: Sequence[int], problems: list[Problem], clean: Callable[[str], str]
) -> list[str]:
    """The captions at the places `kept`."""
    if not kept:
        problems.append(Problem(EMPTY_CAPTION, f"there is no caption in the list of {language}"))
    cleaned = []
    for index in kept:
        text = "" if is_missing(texts[index]) else clean(texts[index])
        if not text or text.isspace():
            problems.append(Problem(EMPTY_CAPTION, f"caption {index} in {language} is empty"))
        elif not (text.isascii() or is_unicode(text)):
            problems.append(Problem(WRONG_CAPTIONS, f"caption {index} in {language} {not_unicode(text)}"))
        cleaned.append(text)
    return cleaned


def unequal(counts: Mapping[str, int]) -> str | None:
    """Say that languages have different numbers of captions; None if they do not."""
    if len(set(counts.values())) < 2:
        return None
    numbers = ", ".join(f"{number} in {language}" for language, number in counts.items())
    return (
        f"the languages have different numbers of captions: {numbers}. The first caption must say the same in every "
        "language, and so must the second: add the translations that are missing, or remove the captions without one"
    )


def caption_columns(names: tuple[str, ...], languages: tuple[str, ...] | None = None) -> dict[str, tuple[str, ...]]:
    """Find the columns that hold captions, by FLORES-200 code of their language.

    These are `caption`, or else `text` or `sentence`, with a plural s or not, alone (in the only language of
    `languages`, or in English), with a language (`caption_fr`) and with a number (`caption_1`, `caption_fr_1`); and
    columns that are named after a language (`fr`, `fra_Latn`, `French`). `id`, `no`, `ms` and other usual names, and
    codes of three letters, count as languages only if `languages` has them.

    Args:
        names: All columns.
        languages: Languages that are wanted; None if all are.

    Raises:
        ValueError: if two columns hold the same captions.
    """
    columns, problem = _find_columns(names, languages)
    if problem is not None:
        raise ValueError(problem)
    return columns


@lru_cache(maxsize=1024)
def _find_columns(
    names: tuple[str, ...], languages: tuple[str, ...] | None
) -> tuple[dict[str, tuple[str, ...]], str | None]:
    """The columns of each language, or why they are not known."""
    matches = [match for name in names if (match := _COLUMN.fullmatch(name))]
    default = languages[0] if languages is not None and len(languages) == 1 else DEFAULT_LANGUAGE
    of_stems: dict[str, list[tuple[str, int, str]]] = {}
    for match in matches:
        if code := _language(match["language"], languages) if match["language"] else default:
            of_stems.setdefault(match[1].lower(), []).append((code, int(match["number"] or 0), match[0]))
    found = next((of_stems[stem] for stem in _STEMS if stem in of_stems), [])
    found += [(code, 0, name) for name in names if (code := _language(name, languages))]
    columns: dict[tuple[str, int], str] = {}
    for code, number, name in found:
        if other := columns.get((code, number)):
            return {}, (
                f"the columns `{other}` and `{name}` are both captions in {code}: rename one of them, or number them "
                f"as in `caption_1` and `caption_2`"
            )
        columns[code, number] = name
    return {
        language: tuple(columns[key] for key in sorted(columns) if key[0] == language)
        for language in dict.fromkeys(code for code, _ in columns)
    }, None


def _language(name: str, languages: Sequence[str] | None) -> str | None:
    """The language that a column is named after; None if it is of something else."""
    try:
        code = resolve_language(name)
    except ValueError:
        return None
    if languages is not None and code in languages:
        return code
    return None if name.lower() in _OTHER_COLUMNS or (len(name) == 3 and name.islower()) else code


def as_list(value: Any) -> list[Any] | None:
    """A caption or several as a list; None if it is neither."""
    if isinstance(value, str):
        return [value]
    if hasattr(value, "tolist"):  # numpy arrays, and those of pandas
        value = value.tolist()
        return value if isinstance(value, list) else as_list(value)
    return list(value) if isinstance(value, (list, tuple)) else None


def _joined(values: Sequence[Any]) -> Any:
    """The captions of all columns of a language, in which empty strings are missing; None if all are."""
    values = [
        None if is_missing(value) or (isinstance(value, str) and not value.strip()) else value for value in values
    ]
    if len(values) == 1 or all(value is None for value in values):
        return values[0]
    return [text for value in values for text in (as_list(value) if value is not None else None) or [value]]


def is_missing(value: Any) -> bool:
    """Whether a value stands for nothing: None, or NaN as in pandas."""
    return value is None or (isinstance(value, float) and math.isnan(value))
