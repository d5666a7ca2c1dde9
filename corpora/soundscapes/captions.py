"""Captions of soundscapes in eight languages, put together from finished forms.

`captions.json` beside this file holds
    sources     for each source, count and language hand-written forms: a clause, a nominal phrase and what else the
                language needs (German and Dutch verb and rest for other word orders, a German dative, a Japanese stem)
    forms       for each language and distance how these become the forms that templates use
    templates   for each relation and language the paraphrases; the same index says the same in every language
No form is inflected here: a template only ever takes in phrases that are right as they stand.
"""

import json
from functools import cache
from importlib import resources
from typing import Any

from .combinations import Combination, Sound


CAPTION_LANGUAGES = ("eng_Latn", "fra_Latn", "deu_Latn", "spa_Latn", "nld_Latn", "cat_Latn", "jpn_Jpan", "zho_Hans")
NUM_CAPTIONS = 5


def scene_captions(combination: Combination) -> dict[str, list[str]]:
    """The captions of a combination.

    Returns:
        {language: five texts} for the eight `CAPTION_LANGUAGES`; texts of equal index mean the same. No two
        combinations share a text.
    """
    return {language: _captions(combination, language) for language in CAPTION_LANGUAGES}


def _captions(combination: Combination, language: str) -> list[str]:
    forms = {name: _forms(sound, language) for name, sound in zip("ab", combination.sounds, strict=False)}
    templates = _tables()["templates"][combination.relation][language]
    return [_capitalized(template.format(**forms)) for template in templates]


@cache
def _forms(sound: Sound, language: str) -> dict[str, str]:
    words = _tables()["sources"][sound.source][sound.count][language]
    return {form: pattern.format(**words) for form, pattern in _tables()["forms"][language][sound.distance].items()}


def _capitalized(text: str) -> str:
    return text[0].upper() + text[1:]


@cache
def _tables() -> dict[str, Any]:
    return json.loads(resources.files(__package__).joinpath("captions.json").read_text(encoding="utf-8"))


__all__ = ["CAPTION_LANGUAGES", "NUM_CAPTIONS", "scene_captions"]
