"""Batches of texts: how texts are put into batches, and how a batch is translated, scored and checked."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch

from .journal import Entry, hash_text
from .models import Translation
from .quality import Scorer, rule_flags


class Translator(Protocol):
    """What `translate_captions` needs of a model; see `TranslationModel`."""

    settings: dict[str, Any]

    @property
    def device(self) -> torch.device: ...

    def check_languages(self, languages: Sequence[str]) -> None: ...

    def count_tokens(self, texts: Sequence[str]) -> list[int]: ...

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[Translation]: ...


def plan_batches(
    texts: Sequence[str], lengths: Sequence[int], missing: Sequence[bool], batch_size: int, batch_tokens: int
) -> Iterator[list[int]]:
    """Put the missing texts into batches of similar length, the longest first, so that too little memory shows early.

    Batches are planned for all texts, so that neither batches nor rounding errors depend on where a run was stopped.
    A batch of which only a part is missing, because texts or sizes have changed, is planned anew.

    Args:
        texts: All texts, each once.
        lengths: Lengths of the texts, in tokens.
        missing: Whether each text is to be translated.
        batch_size, batch_tokens: Largest number of texts, and of tokens with padding, in a batch. A text that is
            longer is a batch of its own.

    Yields the places of a batch's texts.
    """
    order = sorted(range(len(texts)), key=lambda index: (-lengths[index], texts[index]))
    rest = []
    for batch in _cut(order, lengths, batch_size, batch_tokens):
        left = [index for index in batch if missing[index]]
        if len(left) == len(batch):
            yield batch
        else:
            rest += left
    yield from _cut(rest, lengths, batch_size, batch_tokens)


def _cut(order: list[int], lengths: Sequence[int], batch_size: int, batch_tokens: int) -> Iterator[list[int]]:
    start = 0
    while start < len(order):
        stop = start + max(1, min(batch_size, batch_tokens // max(lengths[order[start]], 1)))
        yield order[start:stop]
        start = stop


def translate_batch(
    model: Translator, scorer: Scorer | None, texts: list[str], source: str, language: str, made: dict[str, Any]
) -> list[Entry]:
    """Translate texts from `source` into `language` as one batch, score and check them. `made` is that of an `Entry`.

    Raises:
        ValueError: if there is too little memory for the batch.
    """
    try:
        translations = model.translate(texts, source, language)
        scores = _scores(scorer, texts, translations, source, language)
    except torch.OutOfMemoryError as error:
        raise ValueError(
            f"There is too little memory for a batch of {len(texts)} captions. Finished translations are kept: "
            "continue with a smaller `batch_size` or `batch_tokens`."
        ) from error
    entries = []
    for text, found, score in zip(texts, translations, scores, strict=True):
        flags = dict.fromkeys([*found.flags, *rule_flags(text, found.text, source, language)])
        entries.append(Entry(language, hash_text(text), found.text, score, tuple(flags), made))
    return entries


def _scores(
    scorer: Scorer | None, texts: list[str], translations: list[Translation], source: str, language: str
) -> list[float | None]:
    """Score the translations that are not empty."""
    scores: list[float | None] = [None] * len(texts)
    there = [index for index, found in enumerate(translations) if found.text]
    if scorer is not None and there:
        pair = [texts[index] for index in there], [translations[index].text for index in there]
        for index, score in zip(there, scorer(*pair, source, language), strict=True):
            scores[index] = round(score, 4)
    return scores
