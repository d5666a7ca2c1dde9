import pytest
from transformers.models.nllb.tokenization_nllb import FAIRSEQ_LANGUAGE_CODES

from modeling_atri.languages_atri import (
    ATRI_LANGUAGES,
    LANGUAGES,
    find_language,
    iso_code,
    language_name,
    resolve_language,
    resolve_languages,
)


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


# Spellings by the language that they mean.
SPELLINGS = {
    "eng_Latn": "en EN en-US en_GB EN_us en-001 en_US.UTF-8 English eng_latn en-Latn-US en-GB-oxendict en-x-mine",
    "fra_Latn": "fr fra fre French fr-CA fre-FR Fra-Latn",
    "deu_Latn": "de ger German de-CH-1996 de-AT",
    "nld_Latn": "dut nl-BE Flemish",
    "por_Latn": "pt-BR pt_PT por-BR",
    "spa_Latn": "es-419 es-MX Castilian",
    "cat_Latn": "ca-ES-valencia ca-valencia Valencian",
    "zho_Hans": "zh zho chi cmn zh-CN zh_CN zh-SG zh-Hans zh-Hans-CN ZH-hans-cn cmn_Hans zh-cmn-Hans-CN Chinese",
    "zho_Hant": "zh-TW zh_TW zh-HK zh-MO zh-Hant zh_Hant_HK cmn-Hant zho-TW zh-cmn-Hant",
    "yue_Hant": "yue zh-yue zh-yue-HK yue-HK Cantonese",
    "nob_Latn": "no NO nor nb nb-NO no-NO Norwegian Bokmål bokmal",
    "heb_Hebr": "he iw",
    "ind_Latn": "id in",
    "ydd_Hebr": "yi ji yid",
    "jav_Latn": "jv jw",
    "ron_Latn": "ro rum mo mol Moldavian",
    "srp_Cyrl": "sr sr-RS sr-Cyrl sr-Cyrl-BA scc sh-Cyrl",
    "pes_Arab": "fa per fas Farsi fa-IR",
    "prs_Arab": "fa-AF Dari",
    "ckb_Arab": "ku-Arab ku-IQ kur_Arab Sorani",
    "azb_Arab": "az-IR aze-Arab",
    "arb_Arab": "ar ara ar-EG ara_Arab ar-u-nu-latn",
    "arz_Arab": "arz ar-arz",
    "zsm_Latn": "ms msa may Malay ms-MY",
    "lvs_Latn": "lv lav Latvian",
    "swh_Latn": "sw swa Swahili",
    "est_Latn": "et est ekk ekk_Latn",
    "tgl_Latn": "tl fil Filipino fil-PH",
    "kor_Hang": "ko ko-KR ko-Kore",
    "jpn_Jpan": "ja ja-JP ja-Jpan-JP",
    "urd_Arab": "ur-Aran ur-PK",
    "twi_Latn": "tw twi_Latn_akua1239",
    "sat_Beng": "sat sat_Olck",
    # Outside FLORES-200
    "bre_Latn": "br bre bre_Latn br-FR Breton",
    "lat_Latn": "la lat LAT_latn Latin",
    "fry_Latn": "fy fry Frisian",
    "hsb_Latn": "hsb hsb-Latn-DE",
    "div_Thaa": "dv Dhivehi",
    "srp_Latn": "sr-Latn srp_Latn sr_Latn_RS sr-ME",
    "uzn_Cyrl": "uz-Cyrl uzb_Cyrl",
    "pnb_Arab": "pa-PK pa-Arab pnb",
    "frr_Latn": "frr_Latn frr-Latn frr-Latn-DE",
}


@pytest.mark.parametrize("code", SPELLINGS)
def test_spellings(code):
    for name in SPELLINGS[code].split():
        assert resolve_language(name) == code, name


@pytest.mark.parametrize(
    "name, code",
    [
        (" FR ", "fra_Latn"),
        ("zh Hant", "zho_Hant"),
        ("pt BR", "por_Latn"),
        ("haitian creole", "hat_Latn"),
        ("Chinese, Simplified", "zho_Hans"),
        ("Traditional Chinese", "zho_Hant"),
        ("Norwegian (Bokmål)", "nob_Latn"),
        ("Ta’izzi-Adeni Arabic", "acq_Arab"),
        (False, "nob_Latn"),  # YAML's `no`
    ],
)
def test_names_of_several_words_and_what_yaml_makes_of_no(name, code):
    assert resolve_language(name) == code


def test_bibliographic_codes_of_iso_639_2():
    pairs = (
        "alb sqi arm hye baq eus bur mya chi zho cze ces dut nld fre fra geo kat ger deu gre ell ice isl mac mkd "
        "mao mri may msa per fas rum ron slo slk tib bod wel cym"
    )
    codes = pairs.split()
    assert len(codes) == 40
    for bibliographic, terminologic in zip(codes[::2], codes[1::2], strict=True):
        assert resolve_language(bibliographic) == resolve_language(terminologic)


@pytest.mark.parametrize(
    "name, short, english",
    [
        ("br", "br", "Breton"),
        ("hsb", "hsb", "Upper Sorbian"),
        ("sr-Latn", "sr", "Serbian (Latn script)"),
        ("zh-Latn", "zh", "Chinese (Latn script)"),
        ("frr-Latn", "frr", "frr_Latn"),
    ],
)
def test_languages_outside_flores(name, short, english):
    assert resolve_language(name) not in LANGUAGES
    assert (iso_code(name), language_name(name)) == (short, english)
    assert find_language(name).code == resolve_language(resolve_language(name))


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


def test_names_are_in_one_line():
    assert all(find_language(code).name == find_language(code).name.strip() for code in [*LANGUAGES, "zza_Latn"])


def test_unknown_language_without_near_ones_names_those_of_atri():
    with pytest.raises(ValueError, match="eng_Latn, fra_Latn"):
        resolve_language("qqqqqqqqqq")


@pytest.mark.parametrize("name", ["frr", "germn", "englsh", "frn", "spa_Lant", "fr-Latin", "en-usa", "zh-min"])
def test_typos_are_not_guessed(name):
    with pytest.raises(ValueError, match=f"Unknown language '{name}'. Did you mean .*_"):
        resolve_language(name)


@pytest.mark.parametrize("name", ["und", "mul", "zxx", "und-Latn", "xx", "xx-Latn", "日本語", "-"])
def test_names_of_no_language(name):
    with pytest.raises(ValueError, match="Unknown language"):
        resolve_language(name)


@pytest.mark.parametrize(
    "name, choices",
    [
        ("ks", "kas_Arab or kas_Deva"),
        ("knc", "knc_Arab or knc_Latn"),
        ("kau", "knc_Arab or knc_Latn"),
        ("tmh", "taq_Latn or taq_Tfng"),
        ("nan", "nan_Hant or nan_Latn"),
        ("sh", "bos_Latn or hrv_Latn or srp_Cyrl"),
        ("sh-Latn", "bos_Latn or hrv_Latn"),
    ],
)
def test_ambiguous_names_are_not_guessed(name, choices):
    with pytest.raises(ValueError, match=f"leaves open .* Pass {choices}"):
        resolve_language(name)


@pytest.mark.parametrize("name", ["en,fr", "en fr", "en;fr", "en fr de", "English, French", "it is"])
def test_several_languages_where_one_is_expected(name):
    with pytest.raises(ValueError, match="names several languages"):
        resolve_language(name)


@pytest.mark.parametrize(
    "names, codes",
    [
        ("en", "eng_Latn"),
        ("en,fr", "eng_Latn fra_Latn"),
        ("en, fr;de", "eng_Latn fra_Latn deu_Latn"),
        ("en fr ja", "eng_Latn fra_Latn jpn_Jpan"),
        ("English, Haitian Creole", "eng_Latn hat_Latn"),
        ("zh Hant,zh-CN", "zho_Hant zho_Hans"),
        (["en,", "fr"], "eng_Latn fra_Latn"),
        (["en,fr", "pt-BR"], "eng_Latn fra_Latn por_Latn"),
        (("fr", False), "fra_Latn nob_Latn"),
        ({"en": 1, "br": 2}, "eng_Latn bre_Latn"),
        ((name for name in ["ja", "en"]), "jpn_Jpan eng_Latn"),
    ],
)
def test_several_languages(names, codes):
    assert resolve_languages(names) == codes.split()


@pytest.mark.parametrize(
    "names, message",
    [
        ("nope,en", "Unknown language 'nope'"),
        ("", "Unknown language ''"),
        ("pt BR", r"one language of a region \('pt-BR'\) or two languages \('pt,br'\)"),
        (["en", None], "None is a NoneType"),
    ],
)
def test_several_languages_that_do_not_fit(names, message):
    with pytest.raises(ValueError, match=message):
        resolve_languages(names)


@pytest.mark.parametrize("name", [True, None])
def test_other_values_of_yaml_are_no_language(name):
    with pytest.raises(ValueError, match="must be a string"):
        resolve_language(name)


@pytest.mark.parametrize("name", [None, 3, ["fr"]])
def test_a_language_is_a_string(name):
    with pytest.raises(ValueError, match="must be a string"):
        resolve_language(name)


def test_empty_name_is_unknown():
    with pytest.raises(ValueError, match="Unknown language ''"):
        resolve_language("")
