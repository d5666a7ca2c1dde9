"""The language of a question: as it is given, or found in its text among the languages that a model knows.

Languages are found with py3langid, a small and pure Python library (4.6 MB), after all languages have been left out
that are not written in the script of the text. Among the eight languages of the ATRI paper, it finds that of every
caption of the generated sounds, of 87 % of their bare queries ("a dog barks"), and of 65 % of single nouns ("dog",
"pluie"). lingua, which is twenty times as large, finds 91 % and 71 %. With more languages to choose from, short
queries are less certain: of bare queries, 73 % with the 120 languages that SONAR and py3langid share.
"""

import copy
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from modeling_atri.corpora.translation.writing_systems import has_its_letters, is_wrong_script, script_words
from modeling_atri.languages_atri import find_language, is_language_code, iso_code, resolve_language


if TYPE_CHECKING:
    from modeling_atri import AtriProcessor


# Another language than the default one must be this many times as likely. In the eight languages, the share of English
# nouns that are found rises from 50 to 83 %, and the mean over the languages falls from 68 to 65 %.
_MIN_RATIO = 2.0
_LABELS = {"nob_Latn": "no", "grn_Latn": "gug"}  # py3langid's codes where they differ from ISO 639
_SHOWN_LANGUAGES = 20


class QuestionLanguage(NamedTuple):
    """A FLORES-200 code, or None for a model that needs no language; and whether it was found in the text."""

    code: str | None
    is_found: bool


def model_languages(processor: "AtriProcessor") -> list[str]:
    """The FLORES-200 codes that a processor's tokenizer knows; none if the model needs no language."""
    if not processor.uses_language_codes:
        return []
    return list(filter(is_language_code, processor.tokenizer.all_special_tokens))


def language_of_question(
    text: str, processor: "AtriProcessor", language: str | None = None, among: Sequence[str] | None = None
) -> QuestionLanguage:
    """Return the language that a question is encoded in.

    Args:
        text (`str`): the question.
        processor (`AtriProcessor`): the processor of the model.
        language (`str`, *optional*): the language, in any form that `resolve_language` takes. Default: it is found in
            the text, among the languages of the model. The processor's default language is returned if the text does
            not show another one. In a question of a few words, that may be wrong.
        among (sequence of `str`, *optional*): codes of the languages that are considered first. The others that the
            model knows are considered if the text is in the script of none of these. Default: all that the model
            knows.

    Raises:
        ValueError: the language is unknown, or the model does not know it; or it is to be found, and no language of
            the model is written in the script of the text.
        ImportError: the language is to be found, but py3langid is not installed.
    """
    known = model_languages(processor)
    if language is not None:
        return QuestionLanguage(_checked(language, processor, known), False)
    if not known:
        return QuestionLanguage(None, False)
    default = resolve_language(processor.default_language)
    languages = list(among or known)
    if script_words(text) and not any(has_its_letters(text, code) for code in languages):
        languages = known
    return QuestionLanguage(find_language_of_text(text, languages, default), True)


def _checked(language: str, processor: "AtriProcessor", known: Sequence[str]) -> str:
    """The code of a language that is given. A model without languages takes every language that exists."""
    try:
        code = resolve_language(language)
    except ValueError as error:
        raise ValueError(f"{error} {_describe(known)}".rstrip()) from None
    if known and code not in known:
        raise ValueError(f"The model does not know the language {language!r} ({code}). {_describe(known)}")
    return code


def _describe(known: Sequence[str]) -> str:
    """A sentence with the languages of a model; empty if it needs none."""
    if not known:
        return ""
    names = [f"{iso_code(code)} ({find_language(code).name})" for code in known[:_SHOWN_LANGUAGES]]
    more = f" and {len(known) - len(names)} more" if len(known) > len(names) else ""
    return f"It knows {', '.join(names)}{more}."


def find_language_of_text(text: str, languages: Sequence[str], default: str) -> str:
    """Return the most likely language of a text.

    Args:
        text (`str`): any text.
        languages (sequence of `str`): FLORES-200 codes of the languages that are considered. Those that py3langid does
            not know are only found by their script.
        default (`str`): the language of texts that show none, such as numbers, and of those for which no other
            language is at least twice as likely.

    Raises:
        ValueError: none of the languages is written in the script of the text.
        ImportError: py3langid is needed and not installed.
    """
    words = script_words(text)
    candidates = [code for code in languages if not is_wrong_script(text, code)] if words else []
    if words and not candidates:  # such as traditional Chinese where the model knows the simplified script only
        candidates = [code for code in languages if has_its_letters(text, code)]
        if not candidates:
            raise ValueError(
                f"The question {text!r} is not in the script of any language of the model. {_describe(languages)} "
                "Ask in one of them, or name the language in which the text is to be encoded."
            )
    if words["HIRAGANA"] + words["KATAKANA"]:  # a few kana among Chinese characters are Japanese
        candidates = [code for code in candidates if code.endswith("Jpan")] or candidates
    if len(candidates) < 2:
        return candidates[0] if candidates else default
    likelihoods = _likelihoods(text, candidates)
    if not likelihoods:
        return default if default in candidates else candidates[0]
    best = max(likelihoods, key=lambda code: (likelihoods[code], code == default))
    return best if likelihoods[best] >= _MIN_RATIO * likelihoods.get(default, 0.0) else default


def _likelihoods(text: str, candidates: Sequence[str]) -> Mapping[str, float]:
    """How likely each language is that py3langid knows. Their sum is 1, if each has another label."""
    identifier = copy.copy(begin_loading().result())  # because restricting it changes it, and threads may share it
    known = set(identifier.labels)
    labels = {code: label for code in candidates if (label := _label(code, known)) is not None}
    if not labels:
        return {}
    identifier.set_languages(sorted(set(labels.values())))
    likelihood_of = dict(identifier.rank(text))
    return {code: likelihood_of[label] for code, label in labels.items()}


def _label(code: str, known: Collection[str]) -> str | None:
    """What py3langid calls a language; None if it does not know it."""
    names = (_LABELS.get(code), iso_code(code), code.partition("_")[0])
    return next((name for name in names if name in known), None)


@cache
def begin_loading() -> "Future[Any]":
    """The languages of py3langid, which a thread loads. That takes a second, in which a model can be loaded too."""
    executor = ThreadPoolExecutor(1)
    loading = executor.submit(_load)
    executor.shutdown(wait=False)
    return loading


def _load() -> Any:
    try:
        from py3langid import langid
    except ImportError as error:
        raise ImportError(
            "To find the language of a question, the extra `search` is needed (py3langid is missing): "
            "pip install 'modeling_atri[search]'. Or name the language."
        ) from error
    return langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE, norm_probs=True)
