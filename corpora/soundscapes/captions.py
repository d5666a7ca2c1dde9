"""Captions of soundscapes in eight languages, combined from hand-written phrases.

`captions.json` in this folder has
    sources     hand-written phrases for each source, count and language: a clause, a nominal phrase and others that
                the language needs (German and Dutch verb and rest for other word orders, a German dative, a Japanese
                stem)
    forms       for each language and distance, how phrases are combined to the forms that templates use
    templates   paraphrases for each relation and language; the same index says the same in every language
    bare        for each source and language four short texts, as people type them: the noun, a clause, a name of the
                sound, and the noun with what it does; the same index says the same in every language
Phrases are never inflected: templates insert them as they are.
"""

import json
from functools import cache
from importlib import resources
from typing import Any

from .combinations import Combination, Sound


CAPTION_LANGUAGES = ("eng_Latn", "fra_Latn", "deu_Latn", "spa_Latn", "nld_Latn", "cat_Latn", "jpn_Jpan", "zho_Hans")
NUM_CAPTIONS = 5


def scene_captions(combination: Combination) -> dict[str, list[str]]:
    """Make the captions of a combination.

    Returns:
        `dict`: Five texts for each of the eight `CAPTION_LANGUAGES`. Texts with the same index mean the same. No two
        combinations share a text.
    """
    return {language: _captions(combination, language) for language in CAPTION_LANGUAGES}


def bare_captions(source: str) -> dict[str, list[str]]:
    """Make the shortest captions of a source: "dog", "a dog barks", "bark of a dog", "barking dog".

    They name neither distance nor count, so they fit every scene of the source. They have no capital at the start and
    no full stop, as most people type a query.

    Returns:
        `dict`: Four texts for each of the eight `CAPTION_LANGUAGES`. Texts with the same index mean the same. No two
        sources share a text.
    """
    return {language: list(_tables()["bare"][source][language]) for language in CAPTION_LANGUAGES}


def written_out(text: str, language: str) -> str:
    """Write a text as a sentence: with a capital at its start and a full stop of the language at its end."""
    return f"{text[0].upper()}{text[1:]}{'。' if language in ('jpn_Jpan', 'zho_Hans') else '.'}"


def _captions(combination: Combination, language: str) -> list[str]:
    forms = {name: _forms(sound, language) for name, sound in zip("ab", combination.sounds, strict=False)}
    templates = _tables()["templates"][combination.relation][language]
    texts = [template.format(**forms) for template in templates]
    return [text[0].upper() + text[1:] for text in texts]


@cache
def _forms(sound: Sound, language: str) -> dict[str, str]:
    words = _tables()["sources"][sound.source][sound.count][language]
    return {form: pattern.format(**words) for form, pattern in _tables()["forms"][language][sound.distance].items()}


@cache
def _tables() -> dict[str, Any]:
    tables: dict[str, Any] = json.loads(
        resources.files(__package__).joinpath("captions.json").read_text(encoding="utf-8")
    )
    return tables
