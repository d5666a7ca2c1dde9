"""Example questions in the languages of a model, from the captions of this package."""

from collections.abc import Iterable

from modeling_atri.corpora.soundscapes.captions import CAPTION_LANGUAGES, bare_captions
from modeling_atri.hub_cards.example_captions import EXAMPLE_CAPTIONS


_MAX_EXAMPLES = 8
# Each language asks for another sound.
_SOUNDS = ("dog", "rain", "bell", "waves", "clock", "thunder", "bird", "whistle")
_SOURCES = dict(zip(CAPTION_LANGUAGES, _SOUNDS, strict=True))
_CLAUSE = 1  # of the four short texts of a source, the one that is a clause


def example_questions(languages: Iterable[str]) -> dict[str, str]:
    """A question in each of up to eight languages, each for another sound where the package has captions for it."""
    found = {}
    for language in _ordered(languages):
        if language in _SOURCES:
            found[language] = bare_captions(_SOURCES[language])[language][_CLAUSE]
        elif language in EXAMPLE_CAPTIONS:
            found[language] = EXAMPLE_CAPTIONS[language]
    return dict(list(found.items())[:_MAX_EXAMPLES])


def parallel_questions(languages: Iterable[str]) -> dict[str, str]:
    """The same question in up to eight languages, to compare what they find. A language without a caption is empty."""
    return {language: EXAMPLE_CAPTIONS.get(language, "") for language in _ordered(languages)[:_MAX_EXAMPLES]}


def _ordered(languages: Iterable[str]) -> list[str]:
    """The languages of the captions first, and then the others."""
    given = list(languages)
    return [*(code for code in CAPTION_LANGUAGES if code in given), *(code for code in given if code not in _SOURCES)]
