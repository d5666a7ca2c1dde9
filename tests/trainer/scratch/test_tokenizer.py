import subprocess
import sys
import unicodedata

import pytest
from transformers import AutoTokenizer, NllbTokenizer

from modeling_atri.languages_atri import ATRI_LANGUAGES
from modeling_atri.trainer.scratch.charsmap import nfkc_charsmap
from modeling_atri.trainer.scratch.tokenizer import train_tokenizer


CAPTIONS = [
    "A dog barks while rain falls.",
    "Un chien aboie pendant que la pluie tombe, près de l'hélicoptère.",
    "Ein Hund bellt, während Regen fällt.",
    "Un perro ladra mientras cae la lluvia; el niño ríe.",
    "Een hond blaft terwijl het regent.",
    "Un gos borda mentre plou: un so d'col·lisió.",
    "犬が吠えている間、ヘリコプターの轟音が聞こえる。",
    "狗在叫,同时下着雨。",
] * 5


@pytest.fixture(scope="module")
def tokenizer() -> NllbTokenizer:
    return train_tokenizer(CAPTIONS, vocab_size=900)


def test_layout(tokenizer):
    assert type(tokenizer) is NllbTokenizer
    assert tokenizer.convert_ids_to_tokens(range(4)) == ["<s>", "<pad>", "</s>", "<unk>"]
    assert len(tokenizer) <= 900
    assert sorted(tokenizer.get_vocab().values()) == list(range(len(tokenizer)))
    codes = tokenizer.convert_tokens_to_ids(list(ATRI_LANGUAGES))
    assert codes == list(range(codes[0], codes[0] + 8))
    assert tokenizer.src_lang == "eng_Latn"
    ids = tokenizer(CAPTIONS[0]).input_ids
    assert tokenizer.convert_ids_to_tokens([ids[0], ids[-1]]) == ["eng_Latn", "</s>"]


@pytest.mark.parametrize("caption", CAPTIONS[:8])
def test_captions_come_back_without_unknown_tokens(tokenizer, caption):
    ids = tokenizer(caption, add_special_tokens=False).input_ids
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids) == caption


def test_tokens_end_at_punctuation_and_changes_of_script(tokenizer):
    assert tokenizer.tokenize("pluie tombe,") == ["▁pluie", "▁tombe", ","]
    assert tokenizer.tokenize("l'hélicoptère") == ["▁l", "'", "hélicoptère"]
    assert tokenizer.tokenize("ヘリコプターの轟音が") == ["▁", "ヘリコプター", "の", "轟音", "が"]


def test_no_token_is_a_clause():
    tokenizer = train_tokenizer(["一架直升机在嗡嗡作响", "The helicopter"] * 50, ["zh", "en"], vocab_size=900)
    tokens = tokenizer.tokenize("一架直升机在嗡嗡作响")
    assert "".join(tokens) == "▁一架直升机在嗡嗡作响"
    assert max(map(len, tokens)) in (2, 3, 4)
    assert "▁helicopter" in tokenizer.get_vocab()


def test_letters_that_no_caption_has(tokenizer):
    ids = tokenizer("Zürich QUIZ 2026 ça œuvre ŝ ァヴァ # ~").input_ids
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.tokenize("A😀b") == ["▁A", "<unk>", "b"]


@pytest.mark.parametrize(
    "text, same",
    [
        ("un he\u0301licopte\u0300re", "un hélicoptère"),
        ("Ａ\u3000ｄｏｇ", "A dog"),
        ("a  dog\t\nbarks", "a dog barks"),
        ("ヘリコプタｰ", "ヘリコプター"),
        ("ra\u00adin\u200b", "rain"),
        ("狗在叫，", "狗在叫,"),
    ],
)
def test_equal_text_in_other_characters(tokenizer, text, same):
    assert tokenizer(text).input_ids == tokenizer(same).input_ids


def test_auto_tokenizer_loads_what_was_saved(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert type(loaded) is NllbTokenizer
    assert loaded.get_vocab() == tokenizer.get_vocab()
    assert loaded.model_max_length == tokenizer.model_max_length == 512
    texts = [*CAPTIONS[:8], "e\u0301 Ａ😀  ﬁn", "", "</s> fra_Latn"]
    for arguments in ({}, {"split_special_tokens": True}, {"max_length": 5, "truncation": True}):
        assert loaded(texts, **arguments).input_ids == tokenizer(texts, **arguments).input_ids
    loaded.src_lang = "jpn_Jpan"
    assert loaded.convert_ids_to_tokens(loaded(CAPTIONS[6]).input_ids[0]) == "jpn_Jpan"


def test_vocab_size_is_an_upper_limit():
    whole, cut = train_tokenizer(CAPTIONS, vocab_size=900), train_tokenizer(CAPTIONS, vocab_size=560)
    assert len(cut) == 560 < len(whole) < 900
    assert cut.decode(cut(CAPTIONS[1], add_special_tokens=False).input_ids) == CAPTIONS[1]


@pytest.mark.heavy
def test_the_same_captions_give_the_same_tokenizer_in_another_process():
    tokenizer = train_tokenizer(CAPTIONS, vocab_size=900)
    program = (
        "import sys; from modeling_atri.trainer.scratch.tokenizer import train_tokenizer;"
        f"print(train_tokenizer({CAPTIONS!r}, vocab_size=900).backend_tokenizer.to_str())"
    )
    other = subprocess.run([sys.executable, "-X", "utf8", "-c", program], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == tokenizer.backend_tokenizer.to_str()


def test_languages_by_alias_and_one_pass_over_the_captions():
    tokenizer = train_tokenizer(iter(CAPTIONS), ["fr", "Japanese"], vocab_size=900)
    assert tokenizer.src_lang == "fra_Latn"
    assert list(tokenizer.extra_special_tokens) == ["fra_Latn", "jpn_Jpan"]


@pytest.mark.parametrize(
    "captions, arguments, message",
    [
        ([], {}, "`captions` is empty"),
        (["a dog", None], {}, "caption 1 is a NoneType"),
        (CAPTIONS, {"vocab_size": 100}, "`vocab_size` is too small.*Raise it by at least"),
        (CAPTIONS, {"languages": []}, "at least one language"),
        (CAPTIONS, {"languages": ["fr", "fra_Latn"]}, "none twice"),
        (CAPTIONS, {"languages": ["frensh"]}, "Did you mean fra_Latn"),
    ],
)
def test_wrong_arguments(captions, arguments, message):
    with pytest.raises(ValueError, match=message):
        train_tokenizer(captions, **arguments)


@pytest.mark.heavy
def test_charsmap_is_nfkc_for_every_character():
    """Against unicodedata, character by character; white space and invisible characters are the tables' own."""
    from tokenizers import normalizers

    normalize = normalizers.Precompiled(nfkc_charsmap()).normalize_str
    for code in range(1, sys.maxunicode + 1):
        character = chr(code)
        if unicodedata.category(character) == "Cs" or character in "\u00ad\u200b\u2060\ufeff":
            continue
        expected = " " if character.isspace() else unicodedata.normalize("NFKC", character)
        assert normalize(character) == expected, hex(code)
    assert normalize("a\ufeffb\u00adc\u200bd\u2060e") == "abcde"
