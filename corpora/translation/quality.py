"""Checks of translations: rules on the two texts, and scores of how much of the meaning is kept.

The rules find how translation models fail (copied source, loops, an early end). They do not find wrong words, nor
another language in the right script. A flag is a reason to look at a translation, not a proof that it is wrong.
"""

import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from difflib import SequenceMatcher
from typing import Any, Protocol

import numpy as np

from modeling_atri.languages_atri import find_language

from .writing_systems import UNSPACED_SCRIPTS, is_wrong_script


EMPTY = "empty"
CUT_OFF = "cut off"
SOURCE_TOO_LONG = "source too long"
UNKNOWN_TOKEN = "unknown token"
COPIED = "copied source"
WRONG_SCRIPT = "wrong script"
REPETITION = "repetition"
LENGTH = "length"
LOW_SCORE = "low score"

# A word or two may be the same in many languages ("piano solo"), a sentence is not.
_MIN_COPIED_WORDS, _MIN_COPIED_CHARACTERS = 3, 6
_COPIED_SHARE = 0.8
_CHINESE = {"zho_Hans", "zho_Hant", "yue_Hant"}  # in any two of them, a sentence may be the same
_MIN_REPEATS, _MAX_PERIOD = 4, 20
_MIN_REPEATED_CHARACTERS, _MIN_REPEATED_INSIDE_WORDS = 8, 24
# Number of letters of an alphabet that a character counts for.
_LETTERS_PER_CHARACTER = {"Hans": 3, "Hant": 3, "Jpan": 2, "Hang": 2}
_LENGTH_SLACK, _MAX_LENGTH_RATIO = 10, 3
_CHRF_ORDER, _CHRF_BETA = 6, 2


def rule_flags(source: str, text: str, source_language: str, language: str) -> list[str]:
    """Flag what looks wrong with a translation, judged by the two texts alone.

    Args:
        source, text (`str`): A caption and its translation.
        source_language, language (`str`): Their FLORES-200 codes.

    Returns:
        list of `str`: `EMPTY` alone if there is nothing but punctuation, else any of `COPIED`, `WRONG_SCRIPT`,
        `REPETITION` and `LENGTH`, in this order.
    """
    if not any(map(str.isalnum, text)):
        return [EMPTY]
    ratio = length_ratio(source, text, source_language, language)
    found = {
        COPIED: is_copied(source, text, source_language, language),
        WRONG_SCRIPT: is_wrong_script(text, language),
        REPETITION: is_repetitive(source, text, source_language, language),
        LENGTH: not 1 / _MAX_LENGTH_RATIO <= ratio <= _MAX_LENGTH_RATIO,
    }
    return [flag for flag, is_found in found.items() if is_found]


def is_copied(source: str, text: str, source_language: str, language: str) -> bool:
    """Whether at least four fifths of the source's words are in the translation, in the same order.

    Characters are compared in languages without spaces. Sources of less than three words, or six characters, may be
    copied, and so may Chinese that is translated into other Chinese.
    """
    if {source_language, language} <= _CHINESE:
        return False
    units, others = split_units(source, source_language), split_units(text, source_language)
    is_unspaced = find_language(source_language).script in UNSPACED_SCRIPTS
    if len(units) < (_MIN_COPIED_CHARACTERS if is_unspaced else _MIN_COPIED_WORDS):
        return False
    blocks = SequenceMatcher(None, units, others, autojunk=False).get_matching_blocks()
    return sum(block.size for block in blocks) >= _COPIED_SHARE * len(units)


def is_repetitive(source: str, text: str, source_language: str, language: str) -> bool:
    """Whether the same words, or characters, occur four times in a row or more, and more often than in the source.

    Together, they must have at least eight characters (「哈哈哈哈」 is no loop), or 24 characters inside the words of
    languages with spaces ("hahahaha" is no loop either).
    """
    units, before = split_units(text, language), split_units(source, source_language)
    is_unspaced = find_language(language).script in UNSPACED_SCRIPTS
    limits = [(units, before, _MIN_REPEATED_CHARACTERS)]
    limits += [] if is_unspaced else [(list("".join(units)), list("".join(before)), _MIN_REPEATED_INSIDE_WORDS)]
    for repeated, original, limit in limits:
        repeats, length = longest_repeat(repeated)
        if repeats >= _MIN_REPEATS and length >= limit and repeats > longest_repeat(original)[0]:
            return True
    return False


def longest_repeat(units: Sequence[str]) -> tuple[int, int]:
    """The largest number of repetitions in a row of up to 20 units, and the number of characters of them all."""
    best = (min(len(units), 1), 0)
    for period in range(1, min(len(units) // 2, _MAX_PERIOD) + 1):
        same = "".join("=" if unit == later else " " for unit, later in zip(units, units[period:], strict=False))
        longest = max(map(len, same.split()), default=0)
        repeats = longest // period + 1
        if longest >= period and repeats > best[0]:
            end = same.index("=" * longest) + longest + period
            best = repeats, sum(map(len, units[end - repeats * period : end]))
    return best


def length_ratio(source: str, text: str, source_language: str, language: str) -> float:
    """Length of the translation divided by that of the source, in letters, with ten added to both.

    A Chinese character counts as three letters, a Japanese or Korean one as two.
    """
    return (_LENGTH_SLACK + _num_letters(text, language)) / (_LENGTH_SLACK + _num_letters(source, source_language))


def split_units(text: str, language: str) -> list[str]:
    """The words of a text, or its characters if the language has no spaces, without case and punctuation."""
    text = unicodedata.normalize("NFKC", text).casefold()
    words = "".join(char if unicodedata.category(char)[0] in "LMN" else " " for char in text).split()
    return list("".join(words)) if find_language(language).script in UNSPACED_SCRIPTS else words


def _num_letters(text: str, language: str) -> int:
    return sum(map(len, split_units(text, language))) * _LETTERS_PER_CHARACTER.get(find_language(language).script, 1)


# Scores


def chrf(hypothesis: str, reference: str) -> float:
    """Character n-gram F-score of a text against another, from 0 to 1.

    It is (1 + b^2) P R / (b^2 P + R) with b = 2. P is the share of the hypothesis' character n-grams that the
    reference has, and R the share of the reference's n-grams that the hypothesis has, both averaged over n = 1 to 6.
    White space is ignored, and so is any n for which one of the texts is too short (Popović, WMT 2015; sacrebleu's
    chrF2, which is in percent). Unlike there, case and the form of characters (NFKC) are ignored too.
    """
    texts = ["".join(unicodedata.normalize("NFKC", text).casefold().split()) for text in (hypothesis, reference)]
    precisions, recalls = [], []
    for order in range(1, _CHRF_ORDER + 1):
        found, wanted = (
            Counter(text[start : start + order] for start in range(len(text) - order + 1)) for text in texts
        )
        if found and wanted:
            num_common = (found & wanted).total()
            precisions.append(num_common / found.total())
            recalls.append(num_common / wanted.total())
    precision, recall = (sum(values) / max(len(values), 1) for values in (precisions, recalls))
    if precision + recall == 0:
        return 0.0
    return (1 + _CHRF_BETA**2) * precision * recall / (_CHRF_BETA**2 * precision + recall)


class Scorer(Protocol):
    """Scores translations. A higher score means that more of the meaning is kept.

    Attributes:
        settings: What must be equal for scores to be comparable: the method, a model and its fingerprint.
        min_score: Translations with a lower score are flagged, unless another limit is given.
    """

    settings: dict[str, Any]
    min_score: float

    def __call__(
        self, sources: Sequence[str], texts: Sequence[str], source_language: str, language: str
    ) -> list[float]:
        """Return a score for each translation. None of the texts is empty."""
        ...


class RoundTripScorer:
    """chrF of the source and its translation back by the same `TranslationModel`."""

    min_score = 0.3

    def __init__(self, model: Any):
        self.settings = {"method": "round_trip"}
        self._model = model

    def __call__(
        self, sources: Sequence[str], texts: Sequence[str], source_language: str, language: str
    ) -> list[float]:
        back = self._model.translate(texts, language, source_language)
        return [chrf(translation.text, source) for translation, source in zip(back, sources, strict=True)]


class EmbeddingScorer:
    """Cosine similarity of the embeddings of translation and source.

    Args:
        encode: Takes texts and the FLORES-200 code of their language, and returns embeddings `(len(texts), width)`.
        name (`str`): Name of the encoder.
        fingerprint (`str`): Fingerprint of the encoder.
    """

    min_score = 0.5

    def __init__(self, encode: Callable[[Sequence[str], str], np.ndarray], name: str, fingerprint: str):
        self.settings = {"method": "embedding", "model": name, "fingerprint": fingerprint}
        self._encode = encode

    def __call__(
        self, sources: Sequence[str], texts: Sequence[str], source_language: str, language: str
    ) -> list[float]:
        pair = [self._encode(sources, source_language), self._encode(texts, language)]
        first, second = (np.asarray(embeddings, dtype=np.float64) for embeddings in pair)
        lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
        scores: list[float] = ((first * second).sum(axis=1) / np.maximum(lengths, np.finfo(float).tiny)).tolist()
        return scores
