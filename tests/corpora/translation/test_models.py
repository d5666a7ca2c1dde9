"""NLLB and MADLAD of random weights, against a slow loop and their own tokenizers."""

from types import SimpleNamespace

import pytest
import torch
from transformers import AutoTokenizer, BertConfig

from modeling_atri.corpora.translation.models import (
    MadladModel,
    NllbModel,
    load_translation_model,
)
from tests.helpers.tiny import tiny_tokenizer
from tests.helpers.translation import english_captions, madlad, nllb, tiny_nllb, tiny_t5, tiny_t5_tokenizer


pytestmark = pytest.mark.heavy


TEXTS = ["a dog barks", "rain", "while rain falls a dog barks", "dog"]


def slow_greedy(model, source: list[int], start: list[int], num_tokens: int, end: int) -> list[int]:
    """Tokens after the decoder's first, one by one, each from all before it."""
    ids = list(start)
    while len(ids) <= num_tokens and (ids[-1] != end or len(ids) == 1):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([source]), decoder_input_ids=torch.tensor([ids])).logits
        ids.append(int(logits[0, -1].argmax()))
    return ids[1:]


def test_nllb_is_told_both_languages():
    tokenizer, model = tiny_tokenizer(), tiny_nllb()
    for source, target in (("eng_Latn", "fra_Latn"), ("deu_Latn", "jpn_Jpan")):
        tokenizer.src_lang = source
        for text, found in zip(TEXTS, nllb().translate(TEXTS, source, target), strict=True):
            start = [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids(target)]
            ids = slow_greedy(model, tokenizer(text).input_ids, start, 12, tokenizer.eos_token_id)
            assert ids[0] == start[1]
            assert found.text == " ".join(tokenizer.decode(ids, skip_special_tokens=True).split())
            assert ("cut off" in found.flags) == (tokenizer.eos_token_id not in ids)


def test_madlad_is_told_the_target():
    tokenizer, model = tiny_t5_tokenizer(), tiny_t5(seed=3)
    translator = madlad(seed=3)
    for target, code in (("fra_Latn", "fr"), ("jpn_Jpan", "ja"), ("zho_Hans", "zh")):
        for text, found in zip(TEXTS, translator.translate(TEXTS, "eng_Latn", target), strict=True):
            ids = slow_greedy(model, tokenizer(f"<2{code}> {text}").input_ids, [0], 12, tokenizer.eos_token_id)
            assert found.text == " ".join(tokenizer.decode(ids, skip_special_tokens=True).split())
            assert ("cut off" in found.flags) == (tokenizer.eos_token_id not in ids)


@pytest.mark.parametrize("make", [nllb, madlad])
@pytest.mark.parametrize("num_beams", [1, 3])
def test_neighbours_do_not_matter(make, num_beams):
    translator = make(num_beams=num_beams)
    texts = sorted({text for row in english_captions(10) for text in row["eng_Latn"]})
    together = translator.translate(texts, "eng_Latn", "fra_Latn")
    assert len({found.text for found in together}) > 5
    assert together == [translator.translate([text], "eng_Latn", "fra_Latn")[0] for text in texts]


def test_a_translation_is_cut_off_if_its_end_is_missing():
    translator = nllb(max_new_tokens=30)
    texts = sorted({text for row in english_captions(10) for text in row["eng_Latn"]})
    translations = translator.translate(texts, "eng_Latn", "fra_Latn")
    text, found = next(pair for pair in zip(texts, translations, strict=True) if not pair[1].flags and pair[1].text)
    lengths = range(2, 31)
    shorter = [nllb(max_new_tokens=length).translate([text], "eng_Latn", "fra_Latn")[0] for length in lengths]
    is_whole = ["cut off" not in one.flags for one in shorter]
    assert is_whole == sorted(is_whole) and {True, False} == set(is_whole)
    for one, whole in zip(shorter, is_whole, strict=True):
        assert one.text == found.text if whole else found.text.startswith(one.text)


def test_special_tokens_in_a_caption_are_text():
    translator, tokenizer = nllb(), tiny_tokenizer()
    special = set(tokenizer.all_special_ids)
    for text in ("a dog </s>", "fra_Latn", "<s> rain <pad>"):
        (ids,) = translator._tokenize([text])
        assert not special & set(ids)
    translator, tokenizer = madlad(), tiny_t5_tokenizer()
    (ids,) = translator._tokenize(["a <2fr> dog </s>"])
    assert not {tokenizer.convert_tokens_to_ids("<2fr>"), tokenizer.eos_token_id} & set(ids)


def test_unknown_characters_are_flagged():
    known, unknown = nllb().translate(["a dog", "a ☃ dog"], "eng_Latn", "fra_Latn")
    assert "unknown token" not in known.flags
    assert "unknown token" in unknown.flags


def test_too_long_a_source_is_not_cut():
    translator = nllb()
    long = "dog " * 80
    assert translator.translate([long], "eng_Latn", "fra_Latn") == [("", ("source too long",))]
    mixed = translator.translate(["a dog", long, "rain"], "eng_Latn", "fra_Latn")
    assert mixed[1] == ("", ("source too long",))
    assert [mixed[0], mixed[2]] == translator.translate(["a dog", "rain"], "eng_Latn", "fra_Latn")
    assert madlad().translate([long], "eng_Latn", "fra_Latn")[0].text
    assert translator.translate([], "eng_Latn", "fra_Latn") == []
    assert translator.count_tokens([]) == []


def test_generation_options_of_the_checkpoint_do_not_count():
    """They are not in `settings`."""
    model = tiny_nllb()
    model.generation_config.update(num_beams=5, no_repeat_ngram_size=1, max_length=3, do_sample=True, temperature=9.0)
    odd = NllbModel(model, tiny_tokenizer(), "odd", num_beams=1, max_new_tokens=12)
    assert odd.translate(TEXTS, "eng_Latn", "fra_Latn") == nllb().translate(TEXTS, "eng_Latn", "fra_Latn")


def test_settings_tell_models_apart():
    base = nllb().settings
    assert base == nllb().settings
    assert base["decoding"] == {"num_beams": 1, "max_new_tokens": 12, "dtype": "float32"}
    assert nllb(seed=1).settings["fingerprint"] != base["fingerprint"]
    other = tiny_tokenizer()
    other.add_tokens(["woof"])
    assert NllbModel(tiny_nllb(), other, "x").settings["fingerprint"] != base["fingerprint"]
    moved = tiny_tokenizer()
    moved.src_lang = "fra_Latn"  # which is set for every text
    assert NllbModel(tiny_nllb(), moved, "x").settings["fingerprint"] == base["fingerprint"]


def test_languages_without_a_token():
    nllb().check_languages(["eng_Latn", "jpn_Jpan"])
    with pytest.raises(ValueError, match=r"tiny-nllb has no token for ita_Latn \(Italian\), rus_Cyrl \(Russian\)"):
        nllb().check_languages(["eng_Latn", "ita_Latn", "rus_Cyrl"])
    madlad().check_languages(["eng_Latn", "zho_Hans", "nob_Latn", "tgl_Latn", "heb_Hebr"])
    for make in (nllb, madlad):
        with pytest.raises(
            ValueError, match=r"no token for bre_Latn \(Breton\), srp_Latn \(Serbian \(Latn script\)\)"
        ):
            make().check_languages(["bre_Latn", "srp_Latn"])
    larger = madlad()
    larger._tokenizer = SimpleNamespace(get_vocab=lambda: dict.fromkeys(["<2br>", "<2sr>", "<2sr_Latn>", "<2hsb>"]))
    larger.check_languages(["bre_Latn", "srp_Latn", "hsb_Latn"])
    with pytest.raises(ValueError, match=r"no token for deu_Latn \(German\), zho_Hant"):
        madlad().check_languages(["deu_Latn", "zho_Hant", "jpn_Jpan"])


@pytest.mark.parametrize("make", [nllb, madlad])
@pytest.mark.parametrize("option", ["num_beams", "max_new_tokens"])
def test_numbers_below_one(make, option):
    with pytest.raises(ValueError, match=f"`{option}` must be at least 1, got 0"):
        make(**{option: 0})


def test_a_tokenizer_of_another_model():
    with pytest.raises(ValueError, match="they do not belong together"):
        NllbModel(tiny_nllb(vocab_size=100), tiny_tokenizer(), "x")


@pytest.mark.parametrize(
    "model, tokenizer, kind", [(tiny_nllb, tiny_tokenizer, NllbModel), (tiny_t5, tiny_t5_tokenizer, MadladModel)]
)
def test_saved_models_are_loaded(tmp_path, model, tokenizer, kind):
    for part in (model(), tokenizer()):
        part.save_pretrained(tmp_path / "here")
    loaded = load_translation_model(tmp_path / "here", num_beams=1, max_new_tokens=12)
    assert type(loaded) is kind
    expected = kind(model(), tokenizer(), "here", num_beams=1, max_new_tokens=12)
    assert loaded.translate(TEXTS, "eng_Latn", "fra_Latn") == expected.translate(TEXTS, "eng_Latn", "fra_Latn")
    assert (loaded.settings["model"], loaded.settings["revision"]) == ("here", None)
    half = load_translation_model(tmp_path / "here", dtype="bfloat16")
    assert half.settings["decoding"]["dtype"] == "bfloat16"
    assert half.settings["fingerprint"] != loaded.settings["fingerprint"]
    assert len(AutoTokenizer.from_pretrained(tmp_path / "here")) == len(tokenizer())


def test_what_cannot_be_loaded(tmp_path):
    with pytest.raises(ValueError, match="There is no folder './nowhere'"):
        load_translation_model("./nowhere")
    with pytest.raises(ValueError, match="`dtype` must be one of float32, bfloat16, float16, got 'int8'"):
        load_translation_model(tmp_path, dtype="int8")
    BertConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is of type 'bert'; supported are NLLB-200 .* and MADLAD-400"):
        load_translation_model(tmp_path)
