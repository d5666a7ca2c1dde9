"""Languages: the FLORES-200 codes of NLLB and SONAR, codes of the same form for others, and how people write them.

Inside the package, a language is always a code such as `fra_Latn`: ISO 639-3 code, underscore, ISO 15924 script.
`resolve_language` turns everything else that names a language into that code: ISO 639 codes of two or three letters
(`fr`, `fra`, `fre`), language tags of BCP 47 (`en-US`, `zh-Hant-TW`), and English names (`French`). Sources of the
tables: ISO 639, ISO 15924, the IANA language subtag registry, and the likely subtags of the Unicode CLDR.
"""

import difflib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Language(NamedTuple):
    """One language in one script.

    Attributes:
        code: ISO 639-3 code, underscore, ISO 15924 script, as in NLLB's tokenizer.
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


# Languages outside FLORES-200 that are known without their script: those with an ISO 639-1 code, and others with many
# texts on the web. Any other one is accepted with its script, as `frr_Latn`.
_OTHER_TABLE = """\
aar_Latn aa Afar; abk_Cyrl ab Abkhaz; ady_Cyrl - Adyghe; arg_Latn an Aragonese; ava_Cyrl av Avar;
ave_Avst ae Avestan; bal_Arab - Baluchi; bar_Latn - Bavarian; bis_Latn bi Bislama; bre_Latn br Breton;
brx_Deva - Bodo; bua_Cyrl - Buryat; cak_Latn - Kaqchikel; cha_Latn ch Chamorro; che_Cyrl ce Chechen;
chr_Cher - Cherokee; chu_Cyrl cu Church Slavonic; chv_Cyrl cv Chuvash; cor_Latn kw Cornish; cos_Latn co Corsican;
cre_Cans cr Cree; csb_Latn - Kashubian; div_Thaa dv Dhivehi; doi_Deva - Dogri; dsb_Latn - Lower Sorbian;
frp_Latn - Arpitan; fry_Latn fy Western Frisian; glv_Latn gv Manx; gom_Deva - Goan Konkani; grc_Grek - Ancient Greek;
gsw_Latn - Swiss German; haw_Latn - Hawaiian; her_Latn hz Herero; hil_Latn - Hiligaynon; hmn_Latn - Hmong;
hmo_Latn ho Hiri Motu; hsb_Latn - Upper Sorbian; hyw_Armn - Western Armenian; ido_Latn io Ido;
iii_Yiii ii Sichuan Yi; iku_Cans iu Inuktitut; ile_Latn ie Interlingue; ina_Latn ia Interlingua; ipk_Latn ik Inupiaq;
kaa_Latn - Karakalpak; kal_Latn kl Kalaallisut; kbd_Cyrl - Kabardian; kha_Latn - Khasi; kok_Deva - Konkani;
kom_Cyrl kv Komi; krc_Cyrl - Karachay-Balkar; kua_Latn kj Kuanyama; lad_Latn - Ladino; lat_Latn la Latin;
lez_Cyrl - Lezghian; lfn_Latn - Lingua Franca Nova; lld_Latn - Ladin; lub_Latn lu Luba-Katanga;
lzh_Hant - Literary Chinese; mah_Latn mh Marshallese; mdf_Cyrl - Moksha; mhr_Cyrl - Eastern Mari;
mrj_Cyrl - Western Mari; mwl_Latn - Mirandese; myv_Cyrl - Erzya; mzn_Arab - Mazanderani; nan_Hant - Min Nan Chinese;
nan_Latn - Min Nan Chinese (Latin script); nap_Latn - Neapolitan; nau_Latn na Nauru; nav_Latn nv Navajo;
nbl_Latn nr South Ndebele; nde_Latn nd North Ndebele; ndo_Latn ng Ndonga; nds_Latn - Low German; new_Deva - Newari;
nqo_Nkoo - N'Ko; oji_Cans oj Ojibwa; oss_Cyrl os Ossetian; pam_Latn - Pampanga; pcm_Latn - Nigerian Pidgin;
pli_Latn pi Pali; pms_Latn - Piedmontese; pnb_Arab - Western Panjabi; quc_Latn - K'iche'; roh_Latn rm Romansh;
rom_Latn - Romany; rue_Cyrl - Rusyn; rup_Latn - Aromanian; sah_Cyrl - Yakut; sco_Latn - Scots; sgs_Latn - Samogitian;
skr_Arab - Saraiki; sme_Latn se Northern Sami; smn_Latn - Inari Sami; szy_Latn - Sakizaya; tah_Latn ty Tahitian;
tcy_Knda - Tulu; tet_Latn - Tetum; tok_Latn - Toki Pona; ton_Latn to Tongan; tyv_Cyrl - Tuvan; udm_Cyrl - Udmurt;
ven_Latn ve Venda; vep_Latn - Veps; vls_Latn - West Flemish; vmw_Latn - Makhuwa; vol_Latn vo Volapük;
vro_Latn - Võro; wln_Latn wa Walloon; wuu_Hans - Wu Chinese; xal_Cyrl - Kalmyk; xmf_Geor - Mingrelian;
yua_Latn - Yucatec Maya; zea_Latn - Zeelandic; zgh_Tfng - Standard Moroccan Tamazight; zha_Latn za Zhuang;
zza_Latn - Zaza
"""


def _read_table(entries: Iterable[str]) -> dict[str, Language]:
    fields = (entry.split(maxsplit=2) for entry in entries)
    return {code: Language(code, iso_639_1.replace("-", ""), name.strip()) for code, iso_639_1, name in fields}


# All 202 languages of FLORES-200 by code, in alphabetical order.
LANGUAGES = _read_table(_TABLE.splitlines())
_KNOWN = LANGUAGES | _read_table(_OTHER_TABLE.split(";"))

# Other names that are accepted: bibliographic codes of ISO 639-2 (`fre`), codes that were withdrawn (`iw`), for the
# members of macrolanguages the codes of the macrolanguage, common English names, and tags whose region or script
# decides about the language or the script. `zh` alone is Simplified Chinese.
_ALIASES = {
    "als_Latn": "sqi alb Albanian",
    "arb_Arab": "ara Arabic",
    "ayr_Latn": "aym Aymara",
    "azb_Arab": "az-Arab az-IR",
    "azj_Latn": "aze Azerbaijani Azeri",
    "ben_Beng": "Bangla",
    "bod_Tibt": "tib",
    "cat_Latn": "Valencian",
    "ces_Latn": "cze",
    "ckb_Arab": "ku-Arab ku-IQ ku-IR Sorani",
    "cym_Latn": "wel",
    "deu_Latn": "ger",
    "dik_Latn": "din Dinka",
    "div_Thaa": "Divehi Maldivian",
    "ell_Grek": "gre Modern-Greek",
    "est_Latn": "ekk",
    "eus_Latn": "baq",
    "fra_Latn": "fre",
    "fry_Latn": "Frisian",
    "fuv_Latn": "ful Fulfulde Fulah",
    "gaz_Latn": "orm Oromo",
    "gla_Latn": "Gaelic",
    "grn_Latn": "gug",
    "hat_Latn": "Haitian",
    "heb_Hebr": "iw",
    "hrv_Latn": "scr",
    "hye_Armn": "arm",
    "ind_Latn": "in",
    "isl_Latn": "ice",
    "jav_Latn": "jw",
    "kal_Latn": "Greenlandic",
    "kat_Geor": "geo",
    "kaz_Arab": "kk-CN",
    "khk_Cyrl": "mon Mongolian",
    "khk_Mong": "mn-CN",
    "khm_Khmr": "Central-Khmer Cambodian",
    "kir_Arab": "ky-CN",
    "kir_Cyrl": "Kirghiz",
    "kmr_Latn": "kur Kurdish Kurmanji",
    "kor_Hang": "ko-Kore",
    "lug_Latn": "Luganda",
    "lvs_Latn": "lav Latvian",
    "mkd_Cyrl": "mac",
    "mri_Latn": "mao",
    "mya_Mymr": "bur Myanmar",
    "nan_Hant": "zh-nan-Hant",
    "nan_Latn": "zh-nan-Latn",
    "nld_Latn": "dut Flemish",
    "nno_Latn": "Nynorsk",
    "nob_Latn": "no nor Norwegian Bokmål",
    "npi_Deva": "nep",
    "nso_Latn": "Sepedi",
    "nya_Latn": "Chichewa Chewa",
    "ory_Orya": "ori Oriya",
    "oss_Cyrl": "Ossetic",
    "pan_Guru": "Panjabi Punjabi",
    "pbt_Arab": "pus Pashto Pushto",
    "pes_Arab": "fas per Persian Farsi",
    "plt_Latn": "mlg Malagasy",
    "pnb_Arab": "pa-Arab pa-PK",
    "prs_Arab": "fa-AF",
    "quy_Latn": "que Quechua",
    "ron_Latn": "rum mo mol Moldovan Moldavian",
    "run_Latn": "Kirundi",
    "sah_Cyrl": "Sakha",
    "sat_Beng": "sat-Olck",
    "sin_Sinh": "Sinhalese",
    "slk_Latn": "slo",
    "slv_Latn": "Slovene",
    "sot_Latn": "Sesotho",
    "spa_Latn": "Castilian",
    "srp_Cyrl": "scc",
    "srp_Latn": "sr-ME",
    "swh_Latn": "swa",
    "tgl_Latn": "fil Filipino",
    "tsn_Latn": "Setswana",
    "uig_Arab": "Uighur",
    "uzn_Arab": "uz-AF",
    "uzn_Latn": "uzb Uzbek",
    "ydd_Hebr": "yid ji Yiddish",
    "yue_Hans": "yue-CN",
    "yue_Hant": "Cantonese",
    "zho_Hans": "zh zho chi cmn Chinese Mandarin Mandarin-Chinese Simplified-Chinese zh-CN zh-SG zh-MY",
    "zho_Hant": "zh-TW zh-HK zh-MO Traditional-Chinese",
    "zsm_Latn": "msa may Malay",
}
# Codes that stand for several languages.
_SEVERAL = {
    "bh bih": ("bho_Deva", "mag_Deva", "mai_Deva"),
    "kau": ("knc_Arab", "knc_Latn"),
    "sh hbs Serbo-Croatian": ("bos_Latn", "hrv_Latn", "srp_Cyrl"),
    "tmh": ("taq_Latn", "taq_Tfng"),
}

# Scripts of ISO 15924 that languages are written in.
_SCRIPT_TABLE = """\
Adlm Arab Armn Avst Bali Beng Bopo Brai Bugi Cakm Cans Cham Cher Copt Cyrl Deva Dsrt Egyp Ethi Geor Goth Grek Gujr Guru
Hang Hani Hans Hant Hebr Hira Hmng Hmnp Ital Java Jpan Kali Kana Khmr Knda Kthi Lana Laoo Latn Lepc Limb Lisu Mand Mlym
Mong Mroo Mtei Mymr Newa Nkoo Ogam Olck Orya Osge Phnx Plrd Rohg Runr Samr Saur Sidd Sinh Sora Sund Sylo Syrc Tagb Takr
Tale Talu Taml Telu Tfng Tglg Thaa Thai Tibt Tirh Tnsa Ugar Vaii Wara Wcho Xsux Yiii
"""
_SCRIPTS = frozenset(_SCRIPT_TABLE.split())
_SAME_SCRIPT = {"Aran": "Arab", "Cyrs": "Cyrl", "Kore": "Hang", "Latf": "Latn", "Latg": "Latn"}
_NO_LANGUAGE = {"mis", "mul", "und", "zxx"}  # codes of ISO 639 for texts in no, several or an unknown language

_CODE = re.compile(r"([a-z]{3})_([A-Z][a-z]{3})")
_TAG = re.compile(
    r"(?P<language>[a-z]{2,3})(?:-(?P<extended>[a-z]{3}))?(?:-(?P<script>[a-z]{4}))?(?:-(?P<region>[a-z]{2}|\d{3}))?"
    r"(?:-(?:\d[a-z\d]{3}|[a-z]+\d+|oxendict|polyton|tarask|valencia))*"  # variants, as in `ca-valencia`, `de-1996`
    r"(?:-[a-z\d](?:-[a-z\d]{2,8})+)*"  # extensions, as in `ar-u-nu-latn`
)
_EXTENDED = {"zh": {"cmn", "gan", "hak", "lzh", "nan", "wuu", "yue"}, "ar": {"acm", "apc", "arb", "ars", "ary", "arz"}}


def _key(name: str) -> str:
    """The form of a name in which case, accents, and signs between words do not matter."""
    plain = "".join(char for char in unicodedata.normalize("NFKD", name.casefold()) if not unicodedata.combining(char))
    return re.sub(r"[\W_]+", "-", plain).strip("-")


def _build_lookup() -> dict[str, tuple[str, ...]]:
    """Map every accepted name of a language to its code, or to several codes if the name leaves them open."""
    lookup: dict[str, tuple[str, ...]] = {}
    for language in _KNOWN.values():
        names = {language.code, language.name, language.iso_639_3}
        if language.iso_639_1:
            names |= {language.iso_639_1, f"{language.iso_639_1}-{language.script}"}
        for key in {_key(name) for name in names}:
            lookup[key] = (*lookup.get(key, ()), language.code)
    for code, aliases in _ALIASES.items():
        lookup.update({_key(name): (code,) for name in aliases.split()})
    for aliases, codes in _SEVERAL.items():
        lookup.update({_key(name): codes for name in aliases.split()})
    return lookup


_CODES_BY_KEY = _build_lookup()


def resolve_language(name: str) -> str:
    """Return the code of a language, such as `fra_Latn`.

    Case and accents do not matter, nor whether words are joined by a hyphen, an underscore or a space. A region is
    ignored (`pt-BR` is Portuguese) unless it decides about the script (`zh-TW`) or the language (`fa-AF`, Dari). The
    code of a macrolanguage is its standard member (`ar` is Modern Standard Arabic), and `zh` is Simplified Chinese.

    Args:
        name (`str`): a code with a script (`"fra_Latn"`), an ISO 639-1, 639-2 or 639-3 code (`"fr"`, `"fre"`,
            `"fra"`), a language tag of BCP 47 or a locale (`"zh-Hans-CN"`, `"en_US.UTF-8"`), or an English name
            (`"French"`). `False` is Norwegian, because YAML reads its code `no` as a boolean.

    Returns:
        `str`: a FLORES-200 code, which is a key of `LANGUAGES`, if FLORES-200 has the language in this script. For
        other languages a code of the same form: `"br"` gives `bre_Latn`, `"sr-Latn"` gives `srp_Latn`. A language
        that this package does not know is taken if it is written with its script, as `frr_Latn`.

    Raises:
        ValueError: the language is unknown (the message suggests similar ones), or the name leaves open which of
            several languages or scripts is meant.
    """
    if isinstance(name, str) and name in _KNOWN:
        return str(name)
    if name is False:
        name = "no"
    if not isinstance(name, str):
        raise ValueError(
            f"A language must be a string such as 'fra_Latn' or 'fr', but {name!r} is a {type(name).__name__}."
            + (" YAML reads `yes`, `on` and `true` as booleans; write a language in quotes." if name is True else "")
        )
    codes = _find_codes(name)
    if len(codes) == 1:
        return codes[0]
    if codes:
        raise ValueError(
            f"The language {name!r} leaves open which of these is meant: "
            f"{', '.join(find_language(code).name for code in codes)}. Pass {' or '.join(codes)}."
        )
    if len(several := _split(name)) > 1:
        raise ValueError(f"{name!r} names several languages ({', '.join(several)}), but one is expected here.")
    raise ValueError(
        f"Unknown language {name!r}. {_suggest(name)} Allowed are FLORES-200 codes (the keys of "
        "`modeling_atri.languages_atri.LANGUAGES`), ISO 639 codes, language tags such as 'pt-BR', and English names. "
        "Write a language that is not known by these as its ISO 639-3 code with its script, for example 'frr_Latn'."
    )


def resolve_languages(names: str | Iterable[str]) -> list[str]:
    """Return the codes of several languages, in their order.

    Args:
        names (`str` or iterable of `str`): languages as in `resolve_language`. A string may hold several, separated
            by commas or spaces: `"en,fr"`, `"en fr"`.

    Raises:
        ValueError: a language is unknown or ambiguous.
    """
    given = [names] if isinstance(names, (str, bool)) else names
    return [resolve_language(part) for name in given for part in (_split(name) if isinstance(name, str) else [name])]


def _split(name: str) -> list[str]:
    """The names of languages in a string: of one, or of several that commas or spaces separate."""
    parts = [part.strip() for part in re.split(r"[,;|/+]", name) if part.strip()]
    return [word for part in parts for word in _split_at_spaces(part)] or [name]


def _split_at_spaces(name: str) -> list[str]:
    words = name.split()
    if _key(name) in _CODES_BY_KEY or not all(map(_find_codes, words)):
        return [name]  # `Haitian Creole`, `zh Hant`
    if len(words) == 2 and words[0].islower() and re.fullmatch("[A-Z]{2}", words[1]):
        raise ValueError(
            f"{name!r} can be one language of a region ('{words[0]}-{words[1]}') or two languages "
            f"('{words[0]},{words[1].lower()}'). Write it in one of these ways."
        )
    return words


def _find_codes(name: str) -> tuple[str, ...]:
    """The code that a name stands for, several if it leaves them open, or none if it is unknown."""
    key = _key(name.partition(".")[0])  # without the encoding of a locale
    if key in _CODES_BY_KEY:
        return _CODES_BY_KEY[key]
    is_tag = re.fullmatch(r"\s*[A-Za-z\d]+([-_][A-Za-z\d]+|\s+([A-Z]{2}|[A-Z][a-z]{3}))*(\..*)?\s*", name)
    tag = _TAG.fullmatch(key) if is_tag else None
    if tag is None or tag["language"] in _NO_LANGUAGE:
        return ()
    language, script = tag["language"], (tag["script"] or "").title()
    bases = _CODES_BY_KEY.get(language, ())
    if tag["extended"]:
        if not any(tag["extended"] in _EXTENDED.get(prefix, ()) for prefix in _short_codes(language, bases)):
            return ()
        language, bases = tag["extended"], _CODES_BY_KEY.get(tag["extended"], ())
    if script:
        return _with_script(language, bases, _SAME_SCRIPT.get(script, script))
    regional = {_CODES_BY_KEY.get(f"{short}-{tag['region']}", ()) for short in _short_codes(language, bases)} - {()}
    return regional.pop() if len(regional) == 1 else bases


def _short_codes(language: str, bases: Sequence[str]) -> set[str]:
    return {language, *(_KNOWN[base].iso_639_1 for base in bases)}


def _with_script(language: str, bases: Sequence[str], script: str) -> tuple[str, ...]:
    """The codes of a language in a script. `bases` are its codes in the scripts that are known, if any."""
    if script not in _SCRIPTS:
        return ()
    special = {_CODES_BY_KEY.get(f"{short}-{script.lower()}", ()) for short in _short_codes(language, bases)} - {()}
    if len(special) == 1:
        return special.pop()
    found = tuple(base for base in bases if base.endswith(script))
    others = tuple(dict.fromkeys(f"{base[:3]}_{script}" for base in bases))
    return found or others or ((f"{language}_{script}",) if len(language) == 3 else ())


def _suggest(name: str) -> str:
    near_keys = difflib.get_close_matches(_key(name), _CODES_BY_KEY, n=5, cutoff=0.6)
    near_codes = list(dict.fromkeys(code for key in near_keys for code in _CODES_BY_KEY[key]))
    if near_codes:
        return f"Did you mean {', '.join(f'{code} ({find_language(code).name})' for code in near_codes)}?"
    return f"No known name is similar; the languages of the ATRI paper are {', '.join(ATRI_LANGUAGES)}."


def find_language(name: str) -> Language:
    """Code, ISO 639-1 code and English name of a language that `resolve_language` accepts.

    The name of a known language in another script has the code of the script (`Serbian (Latn script)`). A language
    that this package does not know has its code for a name.
    """
    code = resolve_language(name)
    if code in _KNOWN:
        return _KNOWN[code]
    iso_639_3, _, script = code.partition("_")
    known = next((language for language in _KNOWN.values() if language.iso_639_3 == iso_639_3), None)
    if known is None:
        return Language(code, "", code)
    return Language(code, known.iso_639_1, f"{known.name.partition(' (')[0]} ({script} script)")


def is_language_code(token: str) -> bool:
    """Whether a token of a tokenizer has the form of a language code, such as `fra_Latn`."""
    return _CODE.fullmatch(token) is not None


def iso_code(name: str) -> str:
    """The code for model and data set cards: ISO 639-1 if there is one, else ISO 639-3 (`fra_Latn` -> `fr`)."""
    language = find_language(name)
    return language.iso_639_1 or language.iso_639_3


def language_name(name: str) -> str:
    """The English name of a language for tables and figures (`fra_Latn` -> `French`)."""
    return find_language(name).name


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
    "find_language",
    "is_language_code",
    "iso_code",
    "language_name",
    "one_language_each",
    "resolve_language",
    "resolve_languages",
]
