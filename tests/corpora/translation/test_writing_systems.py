"""Scripts of texts against those of languages."""

import pytest

from modeling_atri.corpora.translation.writing_systems import is_wrong_script, script_words
from modeling_atri.languages_atri import LANGUAGES
from tests.helpers.tiny import CAPTIONS


# What is written in none of the eight captions' scripts.
OTHERS = {
    "arb_Arab": "كلب ينبح تحت المطر.",
    "ben_Beng": "বৃষ্টিতে একটি কুকুর ঘেউ ঘেউ করছে।",
    "ell_Grek": "Ένας σκύλος γαβγίζει στη βροχή.",
    "hin_Deva": "बारिश में कुत्ता भौंक रहा है।",
    "kor_Hang": "비가 오는데 개가 짖는다.",
    "rus_Cyrl": "Собака лает под дождём.",
    "sat_Beng": "ᱥᱮᱛᱟ ᱵᱷᱩᱜᱮᱫᱟᱭ",
    "tha_Thai": "สุนัขเห่าในสายฝน",
    "zho_Hant": "狗在雨中吠叫,還有車聲。",
}


def test_letters_are_counted_by_the_first_word_of_their_names():
    assert script_words("Ab, 1 犬が吠える。々") == {"LATIN": 2, "CJK": 2, "HIRAGANA": 3, "IDEOGRAPHIC": 1}
    assert script_words("ラー") == {"KATAKANA": 1, "KATAKANA-HIRAGANA": 1}
    assert script_words("ＡＢＣ") == {"LATIN": 3}, "full width"
    assert script_words("कु") == {"DEVANAGARI": 1}, "a vowel sign is a mark"
    assert script_words("ʼ 3 !") == {}, "modifiers, digits and punctuation are no letters"


@pytest.mark.parametrize("code", [*CAPTIONS, *OTHERS])
def test_a_caption_is_right_in_its_own_script_and_wrong_in_others(code):
    texts = CAPTIONS | OTHERS
    assert not is_wrong_script(texts[code], code)
    for other, text in texts.items():
        if LANGUAGES[other].script != LANGUAGES[code].script and not {code, other} <= {"zho_Hans", "zho_Hant"}:
            if {code, other} != {"sat_Beng", "ben_Beng"} and (code, other) != ("jpn_Jpan", "zho_Hans"):
                assert is_wrong_script(text, code), (code, text)


def test_every_language_has_letters():
    for code in LANGUAGES:
        assert is_wrong_script("犬が" if LANGUAGES[code].script == "Latn" else "abc", code)


@pytest.mark.parametrize(
    "text, code, is_wrong",
    [
        ("ur c'hi o harzhal", "bre_Latn", False),
        ("собака", "bre_Latn", True),
        ("pas laje", "srp_Latn", False),
        ("ᎩᎵ ᎤᏒᎾ", "chr_Cher", False),
        ("a dog", "chr_Cher", True),
        ("anything", "got_Goth", False),  # a script that is not checked
    ],
)
def test_languages_outside_flores(text, code, is_wrong):
    assert is_wrong_script(text, code) is is_wrong


@pytest.mark.parametrize(
    "text, code, is_wrong",
    [
        ("DJ犬が", "jpn_Jpan", False),  # two letters of four
        ("DJs犬が", "jpn_Jpan", True),  # two of five
        ("狗在雨中吠", "jpn_Jpan", False),  # five characters may be a word
        ("狗在雨中吠叫", "jpn_Jpan", True),
        ("犬が雨の中で吠えている", "zho_Hans", True),  # four of eleven are Chinese characters
        ("这只猫", "zho_Hans", False),
        ("這隻貓", "zho_Hans", True),
        ("這隻貓", "zho_Hant", False),
        ("这只猫", "yue_Hant", True),
        ("这貓", "zho_Hans", False),  # one of each
        ("12.5 %", "eng_Latn", False),
    ],
)
def test_edges(text, code, is_wrong):
    assert is_wrong_script(text, code) == is_wrong


def test_languages_are_resolved():
    assert is_wrong_script("犬", "fr")
    with pytest.raises(ValueError, match="Unknown language 'klingon'"):
        is_wrong_script("x", "klingon")
