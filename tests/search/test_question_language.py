"""The language of a question: given in any form, or found in the text."""

import pytest

from modeling_atri.corpora.soundscapes.captions import bare_captions, scene_captions
from modeling_atri.corpora.soundscapes.combinations import all_combinations
from modeling_atri.languages_atri import ATRI_LANGUAGES
from modeling_atri.search.question_language import (
    QuestionLanguage,
    find_language_of_text,
    language_of_question,
    model_languages,
)
from tests.helpers.tiny import tiny_processor


MANY = ("eng_Latn", "fra_Latn", "jpn_Jpan", "zho_Hans", "kor_Hang", "rus_Cyrl", "ukr_Cyrl", "ell_Grek", "min_Latn")


@pytest.fixture(scope="module")
def processor():
    return tiny_processor()


@pytest.mark.parametrize("language", ATRI_LANGUAGES)
def test_the_language_of_a_caption_is_found(language):
    captions = [text for scene in all_combinations()[::90] for text in scene_captions(scene)[language]]
    found = [find_language_of_text(text, ATRI_LANGUAGES, "eng_Latn") for text in captions]
    assert found.count(language) >= 0.98 * len(captions) and len(captions) > 80


def test_the_language_of_most_bare_queries_is_found():
    right = [
        find_language_of_text(text, ATRI_LANGUAGES, "eng_Latn") == language
        for source in ("dog", "rain", "bell", "engine")
        for language, texts in bare_captions(source).items()
        for text in texts
    ]
    assert sum(right) >= 0.75 * len(right)


@pytest.mark.parametrize(
    "text, language",
    [
        ("犬が吠えている", "jpn_Jpan"),
        ("風鈴の音", "jpn_Jpan"),  # mostly Chinese characters
        ("狗在雨中吠叫", "zho_Hans"),
        ("개가 짖는다", "kor_Hang"),
        ("лает собака", "rus_Cyrl"),
        ("гавкає собака, йде дощ і чути грім", "ukr_Cyrl"),
        ("γαβγίζει", "ell_Grek"),
    ],
)
def test_the_script_decides_first(text, language):
    assert find_language_of_text(text, MANY, "eng_Latn") == language


@pytest.mark.parametrize("text", ["สุนัขเห่า", "лает собака", "개가 짖는다", "ABBA играет громко"])
def test_a_script_of_no_language_of_the_model_is_refused(processor, text):
    with pytest.raises(ValueError, match=f"'{text}' is not in the script of any language.*It knows .*fr \\(French\\)"):
        language_of_question(text, processor)
    assert language_of_question(text, processor, "en") == QuestionLanguage("eng_Latn", False)


def test_a_script_that_only_other_languages_of_the_model_have_is_found_among_them(processor):
    assert language_of_question("犬が吠える", processor, among=["eng_Latn", "fra_Latn"]).code == "jpn_Jpan"


@pytest.mark.parametrize(
    "text, languages, language",
    [
        ("狗對著飛機叫，風聲很響", ATRI_LANGUAGES, "zho_Hans"),  # in traditional characters
        ("狗在雨中对着车吠叫", ["eng_Latn", "jpn_Jpan"], "jpn_Jpan"),
    ],
)
def test_chinese_characters_are_no_other_script(text, languages, language):
    assert find_language_of_text(text, languages, "eng_Latn") == language


@pytest.mark.parametrize("text", ["", "440", "!?", "12:30", "♪♫"])
@pytest.mark.parametrize("default", ["eng_Latn", "jpn_Jpan"])
def test_a_text_without_letters_is_in_the_default_language(text, default):
    assert find_language_of_text(text, MANY, default) == default


def test_the_default_language_has_the_benefit_of_the_doubt():
    # "wind" is a word of English, German and Dutch.
    assert find_language_of_text("wind", ["deu_Latn", "eng_Latn", "nld_Latn"], "eng_Latn") == "eng_Latn"
    assert find_language_of_text("un chien aboie", ATRI_LANGUAGES, "eng_Latn") == "fra_Latn"


def test_languages_that_the_library_does_not_know_are_never_found_in_their_place():
    assert find_language_of_text("a dog barks in the rain", ["min_Latn", "eng_Latn"], "eng_Latn") == "eng_Latn"
    assert find_language_of_text("a dog barks", ["min_Latn", "ban_Latn"], "ban_Latn") == "ban_Latn"


@pytest.mark.parametrize("name", ["fr", "fra_Latn", "French", "FR", "fr-CA", "fre"])
def test_a_language_may_be_given_in_any_form(processor, name):
    assert language_of_question("a dog barks", processor, name) == QuestionLanguage("fra_Latn", False)


def test_a_language_is_found_among_those_of_the_model_or_those_that_are_named(processor):
    assert set(model_languages(processor)) == set(ATRI_LANGUAGES)
    assert language_of_question("un chien aboie", processor) == QuestionLanguage("fra_Latn", True)
    assert language_of_question("un chien aboie", processor, among=["eng_Latn", "spa_Latn"]).code != "fra_Latn"


@pytest.mark.parametrize("name", ["Klingon", "xx", "sv"])
def test_another_language_is_refused_with_those_of_the_model(processor, name):
    with pytest.raises(ValueError, match=f"{name}.*It knows .*fr \\(French\\).*ja \\(Japanese\\)"):
        language_of_question("a dog barks", processor, name)


def test_a_model_that_needs_no_language_looks_for_none(processor, monkeypatch):
    monkeypatch.setattr(type(processor), "uses_language_codes", False)
    assert language_of_question("un chien aboie", processor) == QuestionLanguage(None, False)
    assert language_of_question("un chien aboie", processor, "fr") == QuestionLanguage("fra_Latn", False)
    with pytest.raises(ValueError, match="Unknown language 'xx'"):
        language_of_question("un chien aboie", processor, "xx")


def test_without_the_library_the_message_says_what_to_do(processor, monkeypatch):
    from modeling_atri.search import question_language

    question_language.begin_loading.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "py3langid", None)
    with pytest.raises(ImportError, match=r"modeling_atri\[search\].*Or name the language"):
        language_of_question("un chien aboie", processor)
    assert language_of_question("un chien aboie", processor, "fr").code == "fra_Latn"
    question_language.begin_loading.cache_clear()
