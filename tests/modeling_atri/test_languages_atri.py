import pytest
from transformers.models.nllb.tokenization_nllb import FAIRSEQ_LANGUAGE_CODES

from modeling_atri.languages_atri import ATRI_LANGUAGES, LANGUAGES, iso_code, language_name, resolve_language


def test_table_holds_exactly_the_languages_of_nllb():
    assert len(LANGUAGES) == 202
    assert set(LANGUAGES) == set(FAIRSEQ_LANGUAGE_CODES)
    assert list(LANGUAGES) == sorted(LANGUAGES)


def test_atri_languages_are_the_papers_in_its_order():
    assert [iso_code(code) for code in ATRI_LANGUAGES] == ["en", "fr", "de", "es", "nl", "ca", "ja", "zh"]
    assert [language_name(code) for code in ATRI_LANGUAGES[:3]] == ["English", "French", "German"]


@pytest.mark.parametrize("code", LANGUAGES)
def test_every_code_name_and_unambiguous_iso_code_resolves_to_its_language(code):
    language = LANGUAGES[code]
    assert resolve_language(code) == resolve_language(code.lower()) == resolve_language(language.name) == code
    assert resolve_language(f"{language.iso_639_3}-{language.script}") == code
    siblings = [other for other in LANGUAGES.values() if other.iso_639_3 == language.iso_639_3]
    if len(siblings) == 1:
        assert resolve_language(language.iso_639_3) == resolve_language(iso_code(code)) == code


def test_iso_639_1_codes_are_two_letters_and_shared_only_between_scripts():
    by_iso: dict[str, set[str]] = {}
    for language in LANGUAGES.values():
        assert language.iso_639_1 == "" or (len(language.iso_639_1) == 2 and language.iso_639_1.islower())
        if language.iso_639_1:
            by_iso.setdefault(language.iso_639_1, set()).add(language.iso_639_3)
    assert all(len(members) == 1 for members in by_iso.values())


@pytest.mark.parametrize(
    "name, code",
    [
        ("fr", "fra_Latn"),
        (" FR ", "fra_Latn"),
        ("French", "fra_Latn"),
        ("fra", "fra_Latn"),
        ("zh", "zho_Hans"),
        ("zho", "zho_Hans"),
        ("Chinese", "zho_Hans"),
        ("zh-Hant", "zho_Hant"),
        ("zh_TW", "zho_Hant"),
        ("zh-CN", "zho_Hans"),
        ("ar", "arb_Arab"),
        ("no", "nob_Latn"),
        ("haitian creole", "hat_Latn"),
        ("sat_Olck", "sat_Beng"),
    ],
)
def test_aliases(name, code):
    assert resolve_language(name) == code


def test_iso_code_falls_back_to_three_letters():
    assert iso_code("ast_Latn") == "ast"
    assert iso_code("zho_Hant") == "zh"


@pytest.mark.parametrize(
    "name, expected", [("frensh", "fra_Latn (French)"), ("fra_Latin", "fra_Latn"), ("jpn_Japn", "jpn_Jpan")]
)
def test_unknown_language_names_the_near_ones(name, expected):
    with pytest.raises(ValueError, match="Unknown language") as error:
        resolve_language(name)
    assert repr(name) in str(error.value)
    assert expected in str(error.value)
    assert "languages_atri.LANGUAGES" in str(error.value)


def test_unknown_language_without_near_ones_names_those_of_atri():
    with pytest.raises(ValueError, match="eng_Latn, fra_Latn"):
        resolve_language("qqqqqqqqqq")


def test_two_scripts_are_not_guessed():
    with pytest.raises(ValueError, match="kas_Arab or kas_Deva"):
        resolve_language("ks")


@pytest.mark.parametrize("name", [None, 3, ["fr"]])
def test_a_language_is_a_string(name):
    with pytest.raises(ValueError, match="must be a string"):
        resolve_language(name)


def test_empty_name_is_unknown():
    with pytest.raises(ValueError, match="Unknown language ''"):
        resolve_language("")
