"""Rules and scores of translations, against values computed by hand."""

import json

import numpy as np
import pytest

from modeling_atri.corpora.translation.models import Translation
from modeling_atri.corpora.translation.quality import (
    EmbeddingScorer,
    RoundTripScorer,
    chrf,
    is_copied,
    is_repetitive,
    length_ratio,
    longest_repeat,
    rule_flags,
    split_units,
)
from tests.helpers.tiny import CAPTIONS


ENGLISH, FRENCH, JAPANESE, CHINESE = "eng_Latn", "fra_Latn", "jpn_Jpan", "zho_Hans"


@pytest.mark.parametrize("language", list(CAPTIONS)[1:])
def test_good_translations_have_no_flags(language):
    assert rule_flags(CAPTIONS[ENGLISH], CAPTIONS[language], ENGLISH, language) == []
    assert rule_flags(CAPTIONS[language], CAPTIONS[ENGLISH], language, ENGLISH) == []


@pytest.mark.slow
def test_thousands_of_good_translations_have_no_flags(shared_dir):
    lines = (shared_dir / "esc10" / "dev" / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    pairs = {
        (english, text, language)
        for captions in (json.loads(line)["captions"] for line in lines)
        for language, texts in captions.items()
        for english, text in zip(captions[ENGLISH], texts, strict=True)
        if language != ENGLISH
    }
    assert len(pairs) > 1000
    assert [pair for pair in pairs if rule_flags(*pair[:2], ENGLISH, pair[2])] == []
    assert all("copied source" in rule_flags(english, english, ENGLISH, language) for english, _, language in pairs)


def test_flags_come_together_and_in_order():
    text = "a dog barks " * 20
    assert rule_flags("A dog barks.", text, ENGLISH, JAPANESE) == [
        "copied source",
        "wrong script",
        "repetition",
        "length",
    ]
    assert rule_flags("A dog barks.", " ... ", ENGLISH, JAPANESE) == ["empty"]
    assert rule_flags("A dog barks.", "", ENGLISH, FRENCH) == ["empty"]


@pytest.mark.parametrize(
    "source, text, languages, copied",
    [
        ("A dog barks.", "a DOG barks", (ENGLISH, FRENCH), True),
        ("Piano", "Piano", (ENGLISH, FRENCH), False),
        ("Piano solo.", "piano solo", (ENGLISH, FRENCH), False),
        ("The dog barks at me", "The dog barks at moi", (ENGLISH, FRENCH), True),  # four of five words
        ("The dog barks at it", "Le dog barks at ça", (ENGLISH, FRENCH), False),  # three of five
        ("A dog barks", "barks dog A", (ENGLISH, FRENCH), False),  # one in order
        ("狗在雨中吠叫", "狗在雨中吠叫", (CHINESE, FRENCH), True),
        ("狗在雨中吠", "狗在雨中吠", (CHINESE, JAPANESE), False),
        ("狗在雨中吠叫", "狗在雨中吠叫", (CHINESE, "zho_Hant"), False),
    ],
)
def test_copied(source, text, languages, copied):
    assert is_copied(source, text, *languages) == copied


@pytest.mark.parametrize(
    "units, expected",
    [
        ([], (0, 0)),
        (["a"], (1, 0)),
        (["a", "b"], (1, 0)),
        ("aab", (2, 2)),
        ("xababab", (3, 6)),
        ("abababx", (3, 6)),
        ("ababa", (2, 4)),
        ("aaaa", (4, 4)),
        (["the", "dog"] * 3 + ["the"], (3, 18)),
        ("aabbb", (3, 3)),
    ],
)
def test_the_longest_repeat(units, expected):
    assert longest_repeat(units) == expected


@pytest.mark.parametrize(
    "source, text, language, repetitive",
    [
        ("A dog", "un chien un chien un chien un chien", FRENCH, True),
        ("A dog", "un chien un chien un chien", FRENCH, False),
        ("ha ha ha ha", "ha ha ha ha", FRENCH, False),
        ("laughter", "ha ha ha ha", FRENCH, True),
        ("laughter", "haha haha haha", FRENCH, False),
        ("laughter", "ha" * 11, FRENCH, False),
        ("laughter", "ha" * 12, FRENCH, True),
        ("laughter", "哈哈哈哈", CHINESE, False),
        ("laughter", "哈哈哈哈哈哈哈哈", CHINESE, True),
        ("a dog", "狗叫狗叫狗叫狗叫", CHINESE, True),
    ],
)
def test_repetition(source, text, language, repetitive):
    assert is_repetitive(source, text, ENGLISH, language) == repetitive


def test_length_ratio():
    assert length_ratio("A dog barks.", "Un chien aboie !", ENGLISH, FRENCH) == (10 + 12) / (10 + 9)
    assert length_ratio("A dog barks.", "狗叫。", ENGLISH, CHINESE) == (10 + 3 * 2) / (10 + 9)
    assert length_ratio("A dog barks.", "犬が吠える", ENGLISH, JAPANESE) == (10 + 2 * 5) / (10 + 9)
    twenty_words = "dog " * 20  # 60 letters
    assert rule_flags(twenty_words, "chien noir tout", ENGLISH, FRENCH) == ["length"]  # 23 to 70
    assert rule_flags(twenty_words, "chien noir tout là", ENGLISH, FRENCH) == []  # 25 to 70


def test_units():
    assert split_units("A Dog's bark, 2x!", ENGLISH) == ["a", "dog", "s", "bark", "2x"]
    assert split_units("कुत्ता भौंकता है।", "hin_Deva") == ["कुत्ता", "भौंकता", "है"]
    assert split_units("犬が、吠える。", JAPANESE) == list("犬が吠える")


# Scores


@pytest.mark.parametrize(
    "hypothesis, reference, expected",
    [
        ("A dog barks.", "a dog  BARKS.", 1.0),
        ("abc", "abd", (2 / 3 + 1 / 2 + 0) / 3),  # precision and recall are the same
        ("ab", "abcd", 5 * 1 * (5 / 12) / (4 * 1 + 5 / 12)),  # 1 and 1; 2/4 and 1/3; no trigram in "ab"
        ("abcd", "ab", 5 * (5 / 12) * 1 / (4 * (5 / 12) + 1)),
        ("aab", "ab", 5 * (7 / 12) * 1 / (4 * (7 / 12) + 1)),  # 2/3 and 1/2 of it; all of "ab"
        ("xyz", "abc", 0.0),
        ("", "abc", 0.0),
        ("", "", 0.0),
    ],
)
def test_chrf(hypothesis, reference, expected):
    assert chrf(hypothesis, reference) == pytest.approx(expected, abs=1e-12)


def test_chrf_against_a_slow_one():
    def shares(text, other, order):
        """Share of the n-grams of a text that the other has, each as often at most."""
        grams = [text[i : i + order] for i in range(len(text) - order + 1)]
        left = [other[i : i + order] for i in range(len(other) - order + 1)]
        if not grams or not left:
            return None
        count = 0
        for gram in grams:
            if gram in left:
                left.remove(gram)
                count += 1
        return count / len(grams)

    for hypothesis, reference in (("einhundbelltimregen", "derhundbelltindemregen"), ("aaaaabaaaab", "abaaaabaab")):
        pairs = [(shares(hypothesis, reference, n), shares(reference, hypothesis, n)) for n in range(1, 7)]
        precision, recall = np.mean([pair for pair in pairs if pair[0] is not None], axis=0)
        assert chrf(hypothesis, reference) == pytest.approx(5 * precision * recall / (4 * precision + recall))


def test_the_round_trip_goes_back():
    class Back:
        def translate(self, texts, source, target):
            assert (source, target) == (FRENCH, ENGLISH)
            return [Translation({"un": "abc", "deux": ""}[text]) for text in texts]

    scorer = RoundTripScorer(Back())
    assert scorer(["abd", "two"], ["un", "deux"], ENGLISH, FRENCH) == pytest.approx([7 / 18, 0.0])
    assert scorer.settings == {"method": "round_trip"}


def test_embeddings_are_compared_by_their_angle():
    vectors = {"a": [3, 4], "b": [0, 0], "c": [1, 0], "d": [4, 3], "e": [1, 1], "f": [-2, 0]}

    def encode(texts, language):
        assert language == (ENGLISH if texts[0] == "a" else FRENCH)
        return np.array([vectors[text] for text in texts], dtype=np.float32)

    scorer = EmbeddingScorer(encode, "it", "0f")
    assert scorer(["a", "b", "c"], ["d", "e", "f"], ENGLISH, FRENCH) == pytest.approx([24 / 25, 0, -1])
    assert scorer.settings == {"method": "embedding", "model": "it", "fingerprint": "0f"}
