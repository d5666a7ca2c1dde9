"""A question of a visitor, its limits, and its answer."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..hits import Hit
from ..question_language import model_languages
from .filters import IndexFilters, where_of


if TYPE_CHECKING:
    from ..sound_index import SoundIndex

MAX_QUERY = 500  # characters of a question
MAX_HITS = 100
MAX_LANGUAGES = 24  # of one question that are compared


@dataclass(frozen=True)
class PageQuestion:
    """What a visitor asks for: words, a sound, or both.

    Args:
        query (`str`): the question in words.
        language (`str`): its language; empty to find it.
        without (`str`): what should not be heard.
        sound (*optional*): the path of an uploaded file, or a hit, to find similar sounds.
        filters: values of filters by column, see `where_of`.
        by: whether to find files or moments.
        top_k (`int`): number of hits, at most 100.
    """

    query: str = ""
    language: str = ""
    without: str = ""
    sound: str | Hit | None = None
    filters: Mapping[str, Any] = field(default_factory=dict)
    by: Literal["file", "moment"] = "file"
    top_k: int = 10


@dataclass(frozen=True)
class PageAnswer:
    """The hits of a question, and how it was answered.

    Args:
        hits: best first.
        language (`str`, *optional*): the code of the language of its words; None without words, and for a model that
            needs no language.
        language_was_found (`bool`): whether the language was found in the words.
        seconds (`float`): how long it took.
    """

    hits: list[Hit]
    language: str | None
    language_was_found: bool
    seconds: float


def ask(index: "SoundIndex", filters: IndexFilters, question: PageQuestion) -> PageAnswer:
    """Answer a question.

    Raises:
        ValueError: nothing is asked for, a text or a number is out of bounds, the uploaded file is no sound, or a
            filter cannot be used.
    """
    query, without = checked_text(question.query), checked_text(question.without)
    if not query and question.sound is None:
        raise ValueError("Write a question, or give a sound.")
    if question.by not in ("file", "moment"):
        raise ValueError(f"`by` is 'file' or 'moment', got {question.by!r}.")
    if isinstance(question.top_k, bool) or not isinstance(question.top_k, int) or not 1 <= question.top_k <= MAX_HITS:
        raise ValueError(f"From 1 to {MAX_HITS} sounds can be shown, got {question.top_k!r}.")
    where = where_of(filters.now(), question.filters) if question.filters else None
    start = time.perf_counter()
    try:
        made = index.question(query or None, question.language or None, without or None, question.sound)
        hits = index.search(made, top_k=question.top_k, where=where, by=question.by)
    except ValueError as error:
        if isinstance(question.sound, str) and question.sound in str(error):  # its place on the server is not told
            raise ValueError(str(error).replace(question.sound, Path(question.sound).name)) from error
        raise
    return PageAnswer(hits, made.language, made.language_was_found, time.perf_counter() - start)


def checked_text(text: Any) -> str:
    """A text of a visitor without space around it.

    Raises:
        ValueError: it is no text, or too long.
    """
    if not isinstance(text, str):
        raise ValueError(f"A question is a text, got {text!r}.")
    stripped: str = text.strip()
    if len(stripped) > MAX_QUERY:
        raise ValueError(
            f"A question has at most {MAX_QUERY} characters, and this one has {len(stripped)}. Shorten it."
        )
    return stripped


def page_languages(index: "SoundIndex") -> list[str]:
    """The languages that the page offers: those that the index notes, or else all that its model knows."""
    return list(index.tables.facts.languages) or model_languages(index.model.load()[1])
