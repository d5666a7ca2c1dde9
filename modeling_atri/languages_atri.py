"""The languages of NLLB and SONAR: FLORES-200 codes, ISO 639 codes and English names.

Inside the package, a language is always its FLORES-200 code, such as `fra_Latn`. Public functions also accept the ISO
639-1 code (`fr`), the ISO 639-3 code (`fra`), either of them with a script (`zh-Hant`), or the English name
(`French`); `resolve_language` turns all of these into the FLORES-200 code.
"""

import difflib
from collections.abc import Sequence
from typing import NamedTuple


class Language(NamedTuple):
    """One language in one script.

    Attributes:
        code: FLORES-200 code as in NLLB's tokenizer: ISO 639-3 code, underscore, ISO 15924 script.
        iso_639_1: two-letter code of the language or else of its macrolanguage; empty if neither has one.
        name: English name, with the script if the language is listed in two scripts.
    """

    code: str
    iso_639_1: str
    name: str

    @property
    def iso_639_3(self) -> str:
        return self.code.partition("_")[0]

    @property
    def script(self) -> str:
        return self.code.partition("_")[2]


# The eight languages of the paper in its order. The captions were translated from the first.
ATRI_LANGUAGES = ("eng_Latn", "fra_Latn", "deu_Latn", "spa_Latn", "nld_Latn", "cat_Latn", "jpn_Jpan", "zho_Hans")

# One language per line: code, ISO 639-1 (a dash if there is none), English name. NLLB writes Santali's script `Beng`.
_TABLE = """\
ace_Arab - Acehnese (Arabic script)
ace_Latn - Acehnese (Latin script)
acm_Arab - Mesopotamian Arabic
acq_Arab - Ta'izzi-Adeni Arabic
aeb_Arab - Tunisian Arabic
afr_Latn af Afrikaans
ajp_Arab - South Levantine Arabic
aka_Latn ak Akan
als_Latn sq Tosk Albanian
amh_Ethi am Amharic
apc_Arab - North Levantine Arabic
arb_Arab ar Modern Standard Arabic
ars_Arab - Najdi Arabic
ary_Arab - Moroccan Arabic
arz_Arab - Egyptian Arabic
asm_Beng as Assamese
ast_Latn - Asturian
awa_Deva - Awadhi
ayr_Latn ay Central Aymara
azb_Arab - South Azerbaijani
azj_Latn az North Azerbaijani
bak_Cyrl ba Bashkir
bam_Latn bm Bambara
ban_Latn - Balinese
bel_Cyrl be Belarusian
bem_Latn - Bemba
ben_Beng bn Bengali
bho_Deva - Bhojpuri
bjn_Arab - Banjar (Arabic script)
bjn_Latn - Banjar (Latin script)
bod_Tibt bo Tibetan
bos_Latn bs Bosnian
bug_Latn - Buginese
bul_Cyrl bg Bulgarian
cat_Latn ca Catalan
ceb_Latn - Cebuano
ces_Latn cs Czech
cjk_Latn - Chokwe
ckb_Arab - Central Kurdish
crh_Latn - Crimean Tatar
cym_Latn cy Welsh
dan_Latn da Danish
deu_Latn de German
dik_Latn - Southwestern Dinka
dyu_Latn - Dyula
dzo_Tibt dz Dzongkha
ell_Grek el Greek
eng_Latn en English
epo_Latn eo Esperanto
est_Latn et Estonian
eus_Latn eu Basque
ewe_Latn ee Ewe
fao_Latn fo Faroese
fij_Latn fj Fijian
fin_Latn fi Finnish
fon_Latn - Fon
fra_Latn fr French
fur_Latn - Friulian
fuv_Latn ff Nigerian Fulfulde
gaz_Latn om West Central Oromo
gla_Latn gd Scottish Gaelic
gle_Latn ga Irish
glg_Latn gl Galician
grn_Latn gn Guarani
guj_Gujr gu Gujarati
hat_Latn ht Haitian Creole
hau_Latn ha Hausa
heb_Hebr he Hebrew
hin_Deva hi Hindi
hne_Deva - Chhattisgarhi
hrv_Latn hr Croatian
hun_Latn hu Hungarian
hye_Armn hy Armenian
ibo_Latn ig Igbo
ilo_Latn - Ilocano
ind_Latn id Indonesian
isl_Latn is Icelandic
ita_Latn it Italian
jav_Latn jv Javanese
jpn_Jpan ja Japanese
kab_Latn - Kabyle
kac_Latn - Jingpho
kam_Latn - Kamba
kan_Knda kn Kannada
kas_Arab ks Kashmiri (Arabic script)
kas_Deva ks Kashmiri (Devanagari script)
kat_Geor ka Georgian
kaz_Cyrl kk Kazakh
kbp_Latn - Kabiye
kea_Latn - Kabuverdianu
khk_Cyrl mn Halh Mongolian
khm_Khmr km Khmer
kik_Latn ki Kikuyu
kin_Latn rw Kinyarwanda
kir_Cyrl ky Kyrgyz
kmb_Latn - Kimbundu
kmr_Latn ku Northern Kurdish
knc_Arab kr Central Kanuri (Arabic script)
knc_Latn kr Central Kanuri (Latin script)
kon_Latn kg Kikongo
kor_Hang ko Korean
lao_Laoo lo Lao
lij_Latn - Ligurian
lim_Latn li Limburgish
lin_Latn ln Lingala
lit_Latn lt Lithuanian
lmo_Latn - Lombard
ltg_Latn - Latgalian
ltz_Latn lb Luxembourgish
lua_Latn - Luba-Kasai
lug_Latn lg Ganda
luo_Latn - Luo
lus_Latn - Mizo
lvs_Latn lv Standard Latvian
mag_Deva - Magahi
mai_Deva - Maithili
mal_Mlym ml Malayalam
mar_Deva mr Marathi
min_Latn - Minangkabau
mkd_Cyrl mk Macedonian
mlt_Latn mt Maltese
mni_Beng - Meitei
mos_Latn - Mossi
mri_Latn mi Maori
mya_Mymr my Burmese
nld_Latn nl Dutch
nno_Latn nn Norwegian Nynorsk
nob_Latn nb Norwegian Bokmål
npi_Deva ne Nepali
nso_Latn - Northern Sotho
nus_Latn - Nuer
nya_Latn ny Nyanja
oci_Latn oc Occitan
ory_Orya or Odia
pag_Latn - Pangasinan
pan_Guru pa Eastern Panjabi
pap_Latn - Papiamento
pbt_Arab ps Southern Pashto
pes_Arab fa Western Persian
plt_Latn mg Plateau Malagasy
pol_Latn pl Polish
por_Latn pt Portuguese
prs_Arab - Dari
quy_Latn qu Ayacucho Quechua
ron_Latn ro Romanian
run_Latn rn Rundi
rus_Cyrl ru Russian
sag_Latn sg Sango
san_Deva sa Sanskrit
sat_Beng - Santali
scn_Latn - Sicilian
shn_Mymr - Shan
sin_Sinh si Sinhala
slk_Latn sk Slovak
slv_Latn sl Slovenian
smo_Latn sm Samoan
sna_Latn sn Shona
snd_Arab sd Sindhi
som_Latn so Somali
sot_Latn st Southern Sotho
spa_Latn es Spanish
srd_Latn sc Sardinian
srp_Cyrl sr Serbian
ssw_Latn ss Swati
sun_Latn su Sundanese
swe_Latn sv Swedish
swh_Latn sw Swahili
szl_Latn - Silesian
tam_Taml ta Tamil
taq_Latn - Tamasheq (Latin script)
taq_Tfng - Tamasheq (Tifinagh script)
tat_Cyrl tt Tatar
tel_Telu te Telugu
tgk_Cyrl tg Tajik
tgl_Latn tl Tagalog
tha_Thai th Thai
tir_Ethi ti Tigrinya
tpi_Latn - Tok Pisin
tsn_Latn tn Tswana
tso_Latn ts Tsonga
tuk_Latn tk Turkmen
tum_Latn - Tumbuka
tur_Latn tr Turkish
twi_Latn tw Twi
tzm_Tfng - Central Atlas Tamazight
uig_Arab ug Uyghur
ukr_Cyrl uk Ukrainian
umb_Latn - Umbundu
urd_Arab ur Urdu
uzn_Latn uz Northern Uzbek
vec_Latn - Venetian
vie_Latn vi Vietnamese
war_Latn - Waray
wol_Latn wo Wolof
xho_Latn xh Xhosa
ydd_Hebr yi Eastern Yiddish
yor_Latn yo Yoruba
yue_Hant - Yue Chinese
zho_Hans zh Chinese (Simplified)
zho_Hant zh Chinese (Traditional)
zsm_Latn ms Standard Malay
zul_Latn zu Zulu
"""


# All 202 languages by code, in alphabetical order.
LANGUAGES = {
    code: Language(code, iso_639_1.replace("-", ""), name)
    for code, iso_639_1, name in (line.split(" ", maxsplit=2) for line in _TABLE.splitlines())
}

# Other names that are accepted: for the members of macrolanguages, the ISO 639-3 code of the macrolanguage and common
# names; and the code of FLORES-200 if it differs from NLLB's. `zh` alone is Simplified Chinese.
_ALIASES = {
    "als_Latn": ("sqi", "Albanian"),
    "arb_Arab": ("ara", "Arabic"),
    "ayr_Latn": ("aym", "Aymara"),
    "azj_Latn": ("aze", "Azerbaijani"),
    "dik_Latn": ("din", "Dinka"),
    "fuv_Latn": ("ful", "Fulfulde"),
    "gaz_Latn": ("orm", "Oromo"),
    "khk_Cyrl": ("mon", "Mongolian"),
    "kmr_Latn": ("kur", "Kurdish"),
    "lvs_Latn": ("lav", "Latvian"),
    "nob_Latn": ("no", "nor", "Norwegian", "Norwegian Bokmal"),
    "npi_Deva": ("nep",),
    "ory_Orya": ("ori", "Oriya"),
    "pan_Guru": ("Panjabi", "Punjabi"),
    "pbt_Arab": ("pus", "Pashto"),
    "pes_Arab": ("fas", "Persian", "Farsi"),
    "plt_Latn": ("mlg", "Malagasy"),
    "quy_Latn": ("que", "Quechua"),
    "sat_Beng": ("sat_Olck",),
    "swh_Latn": ("swa",),
    "tgl_Latn": ("fil", "Filipino"),
    "uzn_Latn": ("uzb", "Uzbek"),
    "ydd_Hebr": ("yid", "Yiddish"),
    "yue_Hant": ("Cantonese",),
    "zho_Hans": ("zh", "zho", "cmn", "Chinese", "Mandarin", "zh-CN", "zh-SG"),
    "zho_Hant": ("zh-TW", "zh-HK", "zh-MO"),
    "zsm_Latn": ("msa", "Malay"),
}


def _lookup_key(name: str) -> str:
    return name.strip().lower().replace("_", "-").replace(" ", "-")


def _build_lookup() -> dict[str, tuple[str, ...]]:
    """Map every accepted name of a language to its code, or to several codes if the name leaves the script open."""
    lookup: dict[str, tuple[str, ...]] = {}
    for language in LANGUAGES.values():
        names = {language.code, language.name, language.iso_639_3}
        if language.iso_639_1:
            names |= {language.iso_639_1, f"{language.iso_639_1}-{language.script}"}
        for key in {_lookup_key(name) for name in names}:
            lookup[key] = (*lookup.get(key, ()), language.code)
    for code, names in _ALIASES.items():
        lookup.update({_lookup_key(name): (code,) for name in names})
    return lookup


_CODES_BY_KEY = _build_lookup()


def resolve_language(name: str) -> str:
    """Return the FLORES-200 code of a language.

    Args:
        name (`str`): a FLORES-200 code (`"fra_Latn"`), an ISO 639-1 or 639-3 code with or without a script (`"fr"`,
            `"fra"`, `"zh-Hant"`), or an English name (`"French"`). Case, surrounding spaces, and whether words are
            joined by a hyphen, an underscore or a space do not matter.

    Returns:
        `str`: a key of `LANGUAGES`. `"zh"` gives Simplified Chinese, and the code of a macrolanguage its standard
        member (`"ar"` gives Modern Standard Arabic).

    Raises:
        ValueError: the language is unknown (the message suggests similar ones), or it is written in two scripts and
            the name leaves the script open.
    """
    if not isinstance(name, str):
        raise ValueError(
            f"A language must be a string such as 'fra_Latn' or 'fr', but {name!r} is a {type(name).__name__}."
        )
    codes = _CODES_BY_KEY.get(_lookup_key(name), ())
    if len(codes) == 1:
        return codes[0]
    if codes:
        raise ValueError(f"The language {name!r} is written in two scripts. Pass {' or '.join(codes)}.")
    raise ValueError(
        f"Unknown language {name!r}. {_suggest(name)} Allowed are FLORES-200 codes, ISO 639-1 and 639-3 codes and "
        "English names; `modeling_atri.languages_atri.LANGUAGES` lists all of them."
    )


def _suggest(name: str) -> str:
    near_keys = difflib.get_close_matches(_lookup_key(name), _CODES_BY_KEY, n=5, cutoff=0.6)
    near_codes = list(dict.fromkeys(code for key in near_keys for code in _CODES_BY_KEY[key]))
    if near_codes:
        return f"Did you mean {', '.join(f'{code} ({LANGUAGES[code].name})' for code in near_codes)}?"
    return f"No known name is similar; the languages of the ATRI paper are {', '.join(ATRI_LANGUAGES)}."


def iso_code(name: str) -> str:
    """The code for model and data set cards: ISO 639-1 if there is one, else ISO 639-3 (`fra_Latn` -> `fr`)."""
    language = LANGUAGES[resolve_language(name)]
    return language.iso_639_1 or language.iso_639_3


def language_name(name: str) -> str:
    """The English name of a language for tables and figures (`fra_Latn` -> `French`)."""
    return LANGUAGES[resolve_language(name)].name


def one_language_each(language: str | Sequence[str], num_texts: int, unit: str) -> list[str]:
    """One language for all texts, or one per text, as a list with one per text.

    Raises:
        ValueError: languages and texts differ in number. `unit` is what the message calls a text.
    """
    languages = [language] * num_texts if isinstance(language, str) else list(language)
    if len(languages) != num_texts:
        raise ValueError(
            f"{len(languages)} languages were given for {num_texts} {unit}s. Pass one language for all of them or one "
            f"per {unit}."
        )
    return languages


__all__ = [
    "ATRI_LANGUAGES",
    "LANGUAGES",
    "Language",
    "iso_code",
    "language_name",
    "one_language_each",
    "resolve_language",
]
