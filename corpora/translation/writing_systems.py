"""Whether a text is written in the script that the FLORES-200 code of its language names."""

import unicodedata
from collections import Counter

from modeling_atri.languages_atri import find_language


_KANA = {"HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"}
_HAN = {"CJK", "IDEOGRAPHIC"}
# First words of the Unicode names of a script's letters, by ISO 15924 code. Python does not know the script of a
# character, but its name begins with the script.
_LETTERS = {
    "Arab": {"ARABIC"},
    "Armn": {"ARMENIAN"},
    "Beng": {"BENGALI"},
    "Cans": {"CANADIAN"},
    "Cher": {"CHEROKEE"},
    "Cyrl": {"CYRILLIC"},
    "Deva": {"DEVANAGARI"},
    "Ethi": {"ETHIOPIC"},
    "Geor": {"GEORGIAN"},
    "Grek": {"GREEK"},
    "Gujr": {"GUJARATI"},
    "Guru": {"GURMUKHI"},
    "Hang": {"HANGUL"},
    "Hans": _HAN,
    "Hant": _HAN,
    "Hebr": {"HEBREW"},
    "Jpan": _KANA | _HAN,
    "Khmr": {"KHMER"},
    "Knda": {"KANNADA"},
    "Laoo": {"LAO"},
    "Latn": {"LATIN"},
    "Mlym": {"MALAYALAM"},
    "Mong": {"MONGOLIAN"},
    "Mymr": {"MYANMAR"},
    "Nkoo": {"NKO"},
    "Olck": {"OL"},
    "Orya": {"ORIYA"},
    "Sinh": {"SINHALA"},
    "Taml": {"TAMIL"},
    "Telu": {"TELUGU"},
    "Tfng": {"TIFINAGH"},
    "Thaa": {"THAANA"},
    "Thai": {"THAI"},
    "Tibt": {"TIBETAN"},
}
_LETTERS_OF_LANGUAGE = {"sat_Beng": {"OL"}}  # NLLB's code says Bengali, but its text is in Ol Chiki

# Written without spaces between words.
UNSPACED_SCRIPTS = {"Hans", "Hant", "Jpan", "Khmr", "Laoo", "Mymr", "Thai", "Tibt"}

# Common characters that were simplified, each followed by its traditional form. Neither is used in the other script.
_SIMPLIFIED_AND_TRADITIONAL = (
    "个個们們这這来來时時会會说說对對发發声聲车車马馬鸟鳥风風鸡雞门門开開关關电電话話铃鈴钟鐘响響乐樂飞飛机機动動间間听聽远遠"
    "处處边邊过過还還进進讲講婴嬰儿兒猫貓击擊轰轟鸣鳴轮輪铁鐵阵陣雾霧闪閃东東长長学學气氣摇搖战戰枪槍弹彈吗嗎叹嘆唤喚鸭鴨鹅鵝"
    "猪豬驴驢龙龍鱼魚场場厅廳锅鍋锤錘锯鋸键鍵盘盤顶頂颗顆题題经經继繼续續绕繞终終线線细細纸紙练練组組语語论論读讀谁誰请請谈談"
    "连連运運轻輕转轉阳陽难難"
)
_ONLY_IN = {"Hans": set(_SIMPLIFIED_AND_TRADITIONAL[0::2]), "Hant": set(_SIMPLIFIED_AND_TRADITIONAL[1::2])}

_MIN_RIGHT_LETTERS = 0.5  # share of the letters; names and abbreviations are often left in Latin letters
_MIN_LETTERS_FOR_KANA = 6  # a Japanese word may have Chinese characters only, a sentence does not


def script_words(text: str) -> Counter[str]:
    """Count the letters of a text by the first word of their Unicode name, such as `LATIN`. Modifiers are ignored."""
    letters = (char for char in unicodedata.normalize("NFKC", text) if unicodedata.category(char).startswith("L"))
    words = (unicodedata.name(letter, "").partition(" ")[0] for letter in letters)
    return Counter(word for word in words if word != "MODIFIER")


def has_its_letters(text: str, language: str) -> bool:
    """Whether at least half of the letters of a text belong to the script of a language.

    Chinese characters belong to Chinese of both scripts, and to Japanese. If this file does not know the script of the
    language, it is taken to have them.

    Raises:
        ValueError: if the language is unknown.
    """
    found = script_words(text)
    code, script = find_language(language).code, find_language(language).script
    letters = _LETTERS_OF_LANGUAGE.get(code, _LETTERS.get(script))
    return letters is None or sum(found[word] for word in letters) >= _MIN_RIGHT_LETTERS * found.total()


def is_wrong_script(text: str, language: str) -> bool:
    """Whether a text is not in the script of a language.

    It is not if fewer than half of its letters are in the script. In Japanese, it is not either if it has at least six
    letters and no kana. Chinese texts are in the other of the two scripts if they have more characters that only the
    other one has (of 96 common pairs) than of their own. A text without letters is in no wrong script, and neither is
    one in a language whose script this file does not know.

    Args:
        text (`str`): The text.
        language (`str`): Language, in any spelling that `resolve_language` accepts.

    Raises:
        ValueError: if the language is unknown.
    """
    script = find_language(language).script
    found = script_words(text)
    num_letters = found.total()
    if not has_its_letters(text, language):
        return True
    if script == "Jpan" and num_letters >= _MIN_LETTERS_FOR_KANA:
        return not any(found[word] for word in _KANA)
    if script in _ONLY_IN:
        other = "Hant" if script == "Hans" else "Hans"
        return sum(char in _ONLY_IN[other] for char in text) > sum(char in _ONLY_IN[script] for char in text)
    return False
