"""Captions of soundscapes in eight languages, combined from hand-written phrases.

`captions.json` in this folder has
    sources     hand-written phrases for each source, count and language: a clause, a nominal phrase and others that
                the language needs (German and Dutch verb and rest for other word orders, a German dative, a Japanese
                stem)
    forms       for each language and distance, how phrases are combined to the forms that templates use
    templates   paraphrases for each relation and language; the same index says the same in every language
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
