"""What a set of queries must fulfil, as a list of what does not hold."""

from collections.abc import Mapping, Sequence
from typing import Any

from .rules import Query, known_words, plain, shared_words, words


def ambiguous(queries: Sequence[Query]) -> list[str]:
    """Texts that stand for different right answers, and queries that are not parallel in all languages."""
    found = []
    meanings: dict[tuple[str, str], tuple[Any, ...]] = {}
    for query in queries:
        if len({len(texts) for texts in query.texts.values()}) != 1:
            found.append(f"{query.form} {query.has}: numbers of wordings differ between languages")
        for language, texts in query.texts.items():
            for text in texts:
                meaning = (tuple(sorted(query.has)) if query.relation is None else query.has, query.relation)
                meaning = (*meaning, query.lacks)
                if meanings.setdefault((language, plain(text)), meaning) != meaning:
                    found.append(f"{text!r} ({language}) stands for {meaning} and {meanings[language, plain(text)]}")
    return found


def wrong_answers(queries: Sequence[Query], triples: Sequence[str]) -> list[str]:
    """Queries with another number of right answers than they say, or not exactly one where a whole scene is asked."""
    found = []
    for query in queries:
        number = sum(map(query.fits, triples))
        if number != query.num_right or number < 1 or (query.relation is not None and number != 1):
            found.append(f"{query.form} {query.has}: {number} scenes are right, not {query.num_right}")
    return found


def seen_in_training(queries: Sequence[Query], training: Mapping[str, Sequence[str]]) -> list[str]:
    """Queries that are training captions, but for capital letters and punctuation. `training` is by language."""
    plain_texts = {language: set(map(plain, texts)) for language, texts in training.items()}
    return [
        f"{text!r} ({language}) is a training caption"
        for query in queries
        for language, texts in query.texts.items()
        for text in texts
        if plain(text) in plain_texts[language]
    ]


def words_of_training(training: Mapping[str, Sequence[str]]) -> list[str]:
    """Words of the paraphrases that training captions have, too."""
    found = []
    templates = words()["query_templates"]["paraphrase"]
    for language, captions in training.items():
        known = known_words(captions, language)
        texts = [text for of_class in words()["classes"].values() for text in of_class[language]["other"]]
        texts += [text for of_relation in templates.values() for text in of_relation[language]]
        found += [
            f"{word!r} of {text!r} ({language})"
            for text in texts
            for word in sorted(shared_words(text, language, known))
        ]
    return found
