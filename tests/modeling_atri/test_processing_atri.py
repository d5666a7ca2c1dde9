import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoFeatureExtractor, AutoProcessor, AutoTokenizer, ByT5Tokenizer, PreTrainedTokenizerFast

from modeling_atri import AtriFeatureExtractor, AtriProcessor
from modeling_atri.processing_atri import normalize_caption
from modeling_atri.trainer.scratch.tokenizer import train_tokenizer
from tests.helpers.tiny import CAPTIONS, tiny_processor, tiny_tokenizer


LANGUAGES = list(CAPTIONS)
LONG_CAPTION = "a dog barks while rain falls " * 30


@pytest.fixture(scope="module")
def processor() -> AtriProcessor:
    return tiny_processor()


def bert_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer as BERT's, without language codes."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "dog", "barks", "un", "chien", "aboie", "[", "]", "cl", "##s"]
    tokenizer = Tokenizer(models.WordPiece({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


def noise(num_samples: int) -> np.ndarray:
    return (0.1 * np.random.randn(num_samples)).astype(np.float32)


# Languages


@pytest.mark.parametrize("padding_side", ["right", "left"])
def test_languages_of_one_batch_equal_a_call_per_language(processor, padding_side):
    captions = [*CAPTIONS.values(), "rain", LONG_CAPTION]
    languages = [*CAPTIONS, "eng_Latn", "deu_Latn"]
    batch = processor(text=captions, language=languages, padding_side=padding_side, max_length=30)
    width = batch["input_ids"].shape[1]
    assert width == 30
    for row, (caption, language) in enumerate(zip(captions, languages, strict=True)):
        tokenizer = tiny_tokenizer()
        tokenizer.src_lang = language
        tokenizer.padding_side = padding_side
        expected = tokenizer(caption, padding="max_length", truncation=True, max_length=width, return_tensors="pt")
        assert torch.equal(batch["input_ids"][row], expected["input_ids"][0])
        assert torch.equal(batch["attention_mask"][row], expected["attention_mask"][0])


def test_any_writing_of_a_language(processor):
    codes = processor(text=["a dog"] * 5, language=["fra_Latn", "fr", "French", "fra", "FR"])["input_ids"][:, 0]
    assert set(codes.tolist()) == {processor.tokenizer.convert_tokens_to_ids("fra_Latn")}
    assert processor.language_id("de") == processor.tokenizer.convert_tokens_to_ids("deu_Latn")


def test_one_language_for_all_and_the_default(processor):
    captions = ["a dog", "rain"]
    in_french = processor(text=captions, language="fr")["input_ids"]
    assert torch.equal(in_french, processor(text=captions, language=["fr", "fr"])["input_ids"])
    default = processor(text=captions)["input_ids"]
    assert torch.equal(default, processor(text=captions, language="eng_Latn")["input_ids"])
    assert not torch.equal(default, in_french)


def test_default_language_does_not_depend_on_what_was_set_later(tmp_path):
    processor = tiny_processor()
    processor.tokenizer.src_lang = "spa_Latn"
    assert processor.default_language == "eng_Latn"
    expected = processor(text="un perro", language="en")["input_ids"]
    assert torch.equal(processor(text="un perro")["input_ids"], expected)
    tiny_processor().save_pretrained(tmp_path)
    spanish = AtriProcessor.from_pretrained(tmp_path, src_lang="spa_Latn")
    assert spanish.default_language == "spa_Latn"
    expected = processor(text="un perro", language="es")["input_ids"]
    assert torch.equal(spanish(text="un perro")["input_ids"], expected)


def test_the_default_language_of_a_tokenizer_without_english():
    tokenizer = train_tokenizer(["ur c'hi", "ein Hund"] * 2, ["br", "de"], vocab_size=300)
    processor = AtriProcessor(AtriFeatureExtractor(), tokenizer)
    assert processor.default_language == "bre_Latn"
    assert processor(text="ur c'hi")["input_ids"][0, 0] == tokenizer.convert_tokens_to_ids("bre_Latn")


@pytest.mark.parametrize("language", ["br", "Breton", "bre", "bre-Latn"])
def test_a_language_outside_flores_that_the_tokenizer_has(language):
    tokenizer = train_tokenizer(["ur c'hi", "a dog", "chien"] * 2, ["en", "br", "frr_Latn"], vocab_size=300)
    processor = AtriProcessor(AtriFeatureExtractor(), tokenizer)
    ids = processor(text=["ur c'hi", "a dog"], language=[language, "frr_Latn"])["input_ids"][:, 0].tolist()
    assert ids == tokenizer.convert_tokens_to_ids(["bre_Latn", "frr_Latn"])
    with pytest.raises(ValueError, match=r"no code for 'la' \(lat_Latn\). It has: eng_Latn, bre_Latn, frr_Latn"):
        processor(text="canis", language="la")


def test_the_tokenizers_language_is_never_changed(processor):
    processor(text=["a", "b"], language=["fr", "zh"])
    processor(text="a", language="ja")
    assert processor.tokenizer.src_lang == "eng_Latn"
    assert processor.tokenizer("a").input_ids[0] == processor.language_id("eng_Latn")


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"language": "fra_Latm"}, r"Unknown language 'fra_Latm'. Did you mean fra_Latn \(French\)"),
        ({"language": ["fr", "Germann"]}, "Unknown language 'Germann'. Did you mean .*deu_Latn"),
        ({"language": "klingon"}, "Unknown language 'klingon'"),
        ({"language": "it"}, r"The tokenizer has no code for 'it' \(ita_Latn\). It has: eng_Latn, fra_Latn, deu_Latn"),
        ({"language": "frr_Latn"}, r"no code for 'frr_Latn' \(frr_Latn\). Did you mean fra_Latn\? It has: eng_Latn"),
        ({"language": "en,fr"}, "'en,fr' names several languages"),
        ({"language": ["fr"]}, "1 languages were given for 2 captions"),
        ({"language": ["fr", None]}, "None is a NoneType"),
        ({"language": ["fr", "de", "es"]}, "3 languages were given for 2 captions"),
    ],
)
def test_languages_that_do_not_fit(processor, arguments, message):
    with pytest.raises(ValueError, match=message):
        processor(text=["a dog", "rain"], **arguments)


# Captions


@pytest.mark.parametrize("caption", ["a dog </s> barks", "fra_Latn", "<s><pad><unk> rain", "deu_Latn a dog</s>"])
def test_names_of_special_tokens_are_text(processor, caption):
    ids = processor(text=caption)["input_ids"][0].tolist()
    special = set(processor.tokenizer.all_special_ids) - {processor.tokenizer.unk_token_id}
    assert ids[0] == processor.language_id("en")
    assert ids[-1] == processor.tokenizer.eos_token_id
    assert not special & set(ids[1:-1])
    text = processor.tokenizer.convert_tokens_to_string(processor.tokenizer.convert_ids_to_tokens(ids[1:-1]))
    assert text.strip() == caption


def test_truncation_keeps_the_end_token(processor):
    whole = processor(text=LONG_CAPTION, language="fr")["input_ids"][0].tolist()
    for max_length in (3, 4, 20):
        ids = processor(text=LONG_CAPTION, language="fr", max_length=max_length)["input_ids"][0].tolist()
        assert ids == whole[: max_length - 1] + [processor.tokenizer.eos_token_id]
    limited = tiny_processor(max_text_length=10)(text=[LONG_CAPTION, "rain"])
    assert limited["input_ids"].shape == (2, 10)
    assert limited["input_ids"][0, -1] == processor.tokenizer.eos_token_id


def test_default_limit_is_the_smaller_one_of_processor_and_tokenizer(processor):
    caption = LONG_CAPTION * 10
    assert processor.max_text_length == 514
    assert processor(text=caption)["input_ids"].shape == (1, 512)  # the tokenizer's
    assert tiny_processor(max_text_length=100)(text=caption)["input_ids"].shape == (1, 100)


def test_padding(processor):
    batch = processor(text=["rain", LONG_CAPTION], max_length=12)
    length = int(batch["attention_mask"][0].sum())
    assert batch["attention_mask"][0].tolist() == [1] * length + [0] * (12 - length)
    assert (batch["input_ids"][0, length:] == processor.tokenizer.pad_token_id).all()
    assert processor(text="rain", padding="max_length", max_length=9)["input_ids"].shape == (1, 9)
    assert processor(text="rain", pad_to_multiple_of=8)["input_ids"].shape[1] % 8 == 0


def test_normalize_text():
    plain, normalizing = tiny_processor(), tiny_processor(normalize_text=True)
    caption = "A dog barks, then a MAN speaks ."
    assert torch.equal(normalizing(text=caption)["input_ids"], plain(text=normalize_caption(caption))["input_ids"])
    assert not torch.equal(normalizing(text=caption)["input_ids"], plain(text=caption)["input_ids"])


@pytest.mark.parametrize(
    "caption, expected",
    [
        ("Rain falls; thunder rumbles!", "rain falls thunder rumbles "),
        ("A dog barks .", "a dog barks "),
        ("It's a re-run: 3.5 s", "it's a re-run 3 5 s"),
        ("   spaced   out   ", " spaced out "),
        ("人が話す。", "人が話す "),
        ("", ""),
    ],
)
def test_normalize_caption(caption, expected):
    assert normalize_caption(caption) == expected


def test_normalize_caption_equals_the_public_code(shared_dir):
    table = json.loads((shared_dir / "reference" / "text_preprocess.json").read_text(encoding="utf-8"))
    assert table
    for caption, expected in table:
        assert normalize_caption(caption) == expected


@pytest.mark.parametrize(
    "text, message",
    [
        ([], "No caption was given"),
        (["a", None], "Caption 1 is a NoneType, not a string: None"),
        ([["a", "b"]], "Caption 0 is a list, not a string"),
    ],
)
def test_captions_that_do_not_fit(processor, text, message):
    with pytest.raises(ValueError, match=message):
        processor(text=text)


# Both


def test_audio_and_text_in_one_batch(processor):
    clips = [noise(4000), noise(16000)]
    batch = processor(text=["a dog", "chien"], language=["en", "fr"], audio=clips, sampling_rate=16000)
    assert list(batch) == ["input_features", "input_features_mask", "input_ids", "attention_mask"]
    assert list(batch) == processor.model_input_names
    alone = processor.feature_extractor(clips, sampling_rate=16000, return_tensors="pt")
    assert torch.equal(batch["input_features"], alone["input_features"])
    assert torch.equal(batch["input_features_mask"], alone["input_features_mask"])
    assert list(processor(audio=clips, sampling_rate=16000)) == ["input_features", "input_features_mask"]
    assert list(processor(text="a dog")) == ["input_ids", "attention_mask"]
    assert processor(audio=noise(100), sampling_rate=16000, pad_short=True)["input_features"].shape == (1, 16, 64)


@pytest.mark.parametrize("return_tensors, kind", [("pt", torch.Tensor), (None, torch.Tensor), ("np", np.ndarray)])
def test_all_values_are_of_one_kind(processor, return_tensors, kind):
    batch = processor(text="a dog", audio=noise(4000), sampling_rate=16000, return_tensors=return_tensors)
    assert all(isinstance(value, kind) for value in batch.values())


def test_arguments_by_kind(processor):
    clips, text = [noise(4000)], ["a dog", "un chien aboie"]
    expected = processor(text, clips, "fr", sampling_rate=16000, max_length=6, return_tensors="np")
    batch = processor(
        text=text,
        audio=clips,
        language="fr",
        text_kwargs={"max_length": 6, "padding": True, "truncation": "longest_first"},
        audio_kwargs={"sampling_rate": 16000, "padding": True},
        images_kwargs={},
        videos_kwargs={},
        common_kwargs={"return_tensors": "np"},
    )
    assert list(batch) == list(expected)
    for key, value in expected.items():
        np.testing.assert_array_equal(batch[key], value)


def test_arguments_of_one_kind_stay_there(processor):
    kinds = {"text_kwargs": {"padding": "max_length", "max_length": 9}, "audio_kwargs": {"sampling_rate": 16000}}
    batch = processor(text="rain", audio=noise(4000), **kinds)
    assert batch["input_ids"].shape == (1, 9)
    assert batch["input_features"].shape == (1, 26, 64)


def test_what_the_tokenizer_was_made_with_is_the_default(tmp_path):
    tiny_processor(max_text_length=30).save_pretrained(tmp_path)
    assert AtriProcessor.from_pretrained(tmp_path)(text="rain")["input_ids"].shape[1] < 9
    loaded = AtriProcessor.from_pretrained(tmp_path, max_length=9, padding="max_length")
    assert loaded(text="rain")["input_ids"].shape == loaded(text=LONG_CAPTION)["input_ids"].shape == (1, 9)
    assert loaded(text="rain", max_length=7)["input_ids"].shape == (1, 7)
    assert loaded(text="rain", padding=True)["input_ids"].shape[1] < 9
    longer = AtriProcessor.from_pretrained(tmp_path, max_length=1000)  # the text tower's limit stays
    assert longer(text=LONG_CAPTION * 9)["input_ids"].shape == (1, 30)


def test_saving_changes_nothing(tmp_path):
    processor = tiny_processor()
    before = processor.to_dict()
    processor.save_pretrained(tmp_path)
    assert "auto_map" in (tmp_path / "processor_config.json").read_text()
    after, loaded = processor.to_dict(), AtriProcessor.from_pretrained(tmp_path).to_dict()
    assert after == loaded
    assert after | {"feature_extractor": before["feature_extractor"]} == before


# Collators


@pytest.mark.parametrize("return_tensors", ["pt", "np"])
@pytest.mark.parametrize("options", [{}, {"padding": "max_length", "max_length": 16}, {"padding_side": "left"}])
def test_pad_stacks_what_was_processed_alone(processor, options, return_tensors):
    clips, captions = [noise(4000), noise(16000), noise(2400)], ["a dog", "rain falls while a dog barks", "chien"]
    rows = [
        processor(text=text, audio=clip, language="fr", sampling_rate=16000)
        for text, clip in zip(captions, clips, strict=True)
    ]
    expected = processor(text=captions, audio=clips, language="fr", sampling_rate=16000, **options)
    single = [{name: value[0] for name, value in row.items()} | {"label": 1} for row in rows]
    for given in (rows, single, {name: [row[name] for row in single] for name in single[0]}):
        batch = processor.pad(given, return_tensors=return_tensors, **options)
        assert list(batch) == [*processor.model_input_names, *([] if given is rows else ["label"])]
        for name, value in expected.items():
            np.testing.assert_array_equal(np.asarray(batch[name]), value)
    only_text = processor.pad([{"input_ids": row["input_ids"].tolist()} for row in rows])
    assert torch.equal(only_text["attention_mask"], processor(text=captions, language="fr")["attention_mask"])
    assert processor.pad(single[:2], pad_to_multiple_of=8)["input_ids"].shape[1] % 8 == 0
    assert list(processor.pad([{"input_features": row["input_features"]} for row in rows])) == list(expected)[:2]


def test_a_speech_collator_that_pads_both_apart(processor):
    rows = [
        processor(text=text, audio=noise(length), sampling_rate=16000) for text, length in (("a", 4000), ("b", 9000))
    ]
    audio = processor.feature_extractor.pad(
        [{"input_features": row["input_features"][0]} for row in rows], return_tensors="pt"
    )
    text = processor.tokenizer.pad([{"input_ids": row["input_ids"][0]} for row in rows], return_tensors="pt")
    assert {**audio, **text}.keys() == set(processor.model_input_names)
    assert audio["input_features_mask"].sum(dim=1).tolist() == [26, 57]


@pytest.mark.parametrize(
    "rows, options, message",
    [
        ([{"labels": 1}], {}, r"no `input_features` and `input_ids` to pad, only \['labels'\]"),
        ([], {}, "no `input_features` and `input_ids` to pad"),
        (
            [{"input_features": np.zeros((20, 64)), "attention_mask": [1] * 20}],
            {},
            "mask of clips is `input_features_mask`",
        ),
        ([{"input_ids": [1] * 9}], {"max_length": 8}, r"A caption has 9 tokens, more than `max_length` \(8\)"),
    ],
)
def test_what_cannot_be_padded(processor, rows, options, message):
    with pytest.raises(ValueError, match=message):
        processor.pad(rows, **options)


# Against the tokenizer's own truncation and padding


def python_tokenizer() -> ByT5Tokenizer:
    return ByT5Tokenizer(extra_ids=0)


def tokenizer_with_added_words():
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["woofwoof", "deu_Latn2"])
    return tokenizer


def tokenizer_with_gaps_between_ids() -> PreTrainedTokenizerFast:
    vocab = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "a": 4, "dog": 5, "barks": 40}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.add_tokens(["woof"])
    tokenizer = Tokenizer.from_str(tokenizer.to_str().replace('"id":7', '"id":50'))
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


TOKENIZERS = {
    "nllb": tiny_tokenizer,
    "bert": bert_tokenizer,
    "python": python_tokenizer,
    "added": tokenizer_with_added_words,
    "gaps": tokenizer_with_gaps_between_ids,
}
TEXTS = ["a dog barks", "", "a woofwoof dog </s> fra_Latn [SEP] <pad>", "a dog " * 40, "un chien aboie woof"]


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("truncation_side", ["right", "left"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"max_length": 7},
        {"max_length": 7, "padding": "max_length"},
        {"max_length": 40, "padding": "max_length", "padding_side": "left"},
        {"padding_side": "left", "max_length": 21},
        {"padding": "longest", "pad_to_multiple_of": 8, "max_length": 32},
        {"padding": "max_length", "pad_to_multiple_of": 8, "max_length": 16, "padding_side": "left"},
    ],
)
def test_tokens_equal_the_tokenizers_own(name, truncation_side, settings):
    tokenizer, reference = TOKENIZERS[name](), TOKENIZERS[name]()
    tokenizer.truncation_side = reference.truncation_side = truncation_side
    processor = AtriProcessor(AtriFeatureExtractor(), tokenizer)
    for text in (TEXTS, TEXTS[0], TEXTS[3]):
        options = {"padding": True, "max_length": min(514, tokenizer.model_max_length)} | settings
        expected = reference(
            [text] if isinstance(text, str) else text,
            truncation=True,
            split_special_tokens=True,
            return_tensors="pt",
            **options,
        )
        found = processor(text=text, **settings)
        for key in ("input_ids", "attention_mask"):
            assert torch.equal(found[key], expected[key])


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"padding": False}, "The captions have from 4 to 5 tokens, which cannot be stacked without padding"),
        ({"padding": "longst"}, "longst is not a valid PaddingStrategy, please select one of"),
        ({"max_length": 30, "pad_to_multiple_of": 8}, r"`max_length` \(30\) must be a multiple of"),
        ({"padding_side": "up"}, "`padding_side` must be 'right' or 'left', got 'up'"),
        ({"max_length": 600}, "`max_length` is 600, but captions have at most 514 tokens"),
    ],
)
def test_padding_that_does_not_fit(settings, message):
    processor = AtriProcessor(AtriFeatureExtractor(), bert_tokenizer())
    with pytest.raises(ValueError, match=message):
        processor(text=["a dog", "a dog barks"], **settings)
    assert processor(text=["a dog", "un chien"], padding=False)["input_ids"].shape == (2, 4)
    longest = processor(text="a dog " * 999, pad_to_multiple_of=8)["input_ids"]
    assert longest.shape == (1, 512)  # not 520, which is more than `max_text_length`
    assert longest[0, -1] == processor.tokenizer.sep_token_id


def test_a_tokenizer_without_padding_token():
    tokenizer = bert_tokenizer()
    tokenizer.pad_token = None
    with pytest.raises(ValueError, match="no padding token. Set one"):
        AtriProcessor(AtriFeatureExtractor(), tokenizer)(text=["a dog", "a dog barks"])


# Threads


def state_of(tokenizer) -> tuple:
    backend = tokenizer.backend_tokenizer
    return backend.truncation, backend.padding, backend.encode_special_tokens, backend.to_str()


def test_a_call_neither_changes_the_tokenizer_nor_depends_on_its_state(processor):
    expected = processor(text=TEXTS, max_length=9)["input_ids"]
    processor.tokenizer(["a"], padding="max_length", truncation=True, max_length=4, padding_side="left")
    state = state_of(processor.tokenizer)
    assert state[0] is not None
    assert torch.equal(processor(text=TEXTS, max_length=9)["input_ids"], expected)
    processor(text="rain", language="fr", padding="max_length")
    assert state_of(processor.tokenizer) == state


@pytest.mark.parametrize("make", [tiny_tokenizer, bert_tokenizer, python_tokenizer])
def test_threads_with_different_settings_get_their_own(make):
    processor = AtriProcessor(AtriFeatureExtractor(), make())
    settings = [
        {"max_length": 5, "language": "fr"},
        {"max_length": 12, "padding": "max_length", "language": "de"},
        {"padding_side": "left", "language": "en"},
        {"pad_to_multiple_of": 16, "language": "ja"},
    ]
    expected = [processor(text=TEXTS, **options)["input_ids"] for options in settings]

    def encode(number: int) -> bool:
        if number % 5 == 4:  # somebody else's use of the same tokenizer
            processor.tokenizer(TEXTS[0], padding="max_length", truncation=True, max_length=4)
            return True
        kind = number % 5
        return torch.equal(processor(text=TEXTS, **settings[kind])["input_ids"], expected[kind])

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(encode, range(500)))  # 2,000 rows


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({}, "Neither `text` nor `audio` was given"),
        ({"audio": np.zeros(4000, np.float32), "language": "fr"}, "`language` is the language of captions, but no"),
        ({"text": "a", "languages": "fr"}, r"Unknown arguments \['languages'\]; is it `language`"),
        ({"text": "a", "text_kwargs": {"src_lang": "fra_Latn"}}, r"Unknown arguments \['src_lang'\]"),
        ({"text": "a", "truncation": False}, "captions are always truncated"),
        (
            {"text": "a", "max_length": 6, "text_kwargs": {"max_length": 7}},
            r"\['max_length'\] came twice, alone and in `text_kwargs`",
        ),
        (
            {"audio": np.zeros(4000, np.float32), "sampling_rate": 1, "audio_kwargs": {"sampling_rate": 16000}},
            r"\['sampling_rate'\] came twice",
        ),
        ({"text": "a", "max_length": 2}, "`max_length` is 2, which leaves no token for the caption beside 2 special"),
        ({"text": "a", "max_length": 0}, "`max_length` is 0"),
        ({"text": "a", "max_length": 515}, "`max_length` is 515, but captions have at most 514 tokens"),
        ({"audio": np.zeros(4000, np.float32), "sampling_rate": 8000}, "8000 Hz, but the model was trained at 16000"),
        ({"audio": np.zeros((2, 4000), np.float32), "sampling_rate": 16000}, "several channels"),
    ],
)
def test_arguments_that_do_not_fit(processor, arguments, message):
    with pytest.raises(ValueError, match=message):
        processor(**arguments)


# Tokenizers without language codes


def test_tokenizer_without_language_codes():
    processor = AtriProcessor(AtriFeatureExtractor(), bert_tokenizer())
    assert not processor.uses_language_codes
    expected = [[2, 4, 5, 6, 3], [2, 7, 8, 9, 3]]
    for language in (None, "fr", ["en", "fr"], "br", ["frr_Latn", "la"]):
        batch = processor(text=["A dog barks", "un chien aboie"], language=language)
        assert list(batch) == ["input_ids", "attention_mask"]
        assert batch["input_ids"].tolist() == expected
    assert processor.language_id("fr") is None
    assert processor(text="a [CLS] dog")["input_ids"].tolist() == [[2, 4, 10, 12, 13, 11, 5, 3]]
    assert processor(text="a dog barks a dog", max_length=4)["input_ids"].tolist() == [[2, 4, 5, 3]]
    with pytest.raises(ValueError, match="Unknown language 'xx'"):
        processor(text="a dog", language="xx")


def test_language_code_must_come_first():
    tokenizer = tiny_tokenizer()
    tokenizer.legacy_behaviour = True
    with pytest.raises(ValueError, match="legacy_behaviour=True, which puts the language code last"):
        AtriProcessor(AtriFeatureExtractor(), tokenizer)


# Files


@pytest.mark.parametrize("settings", [{}, {"normalize_text": True, "max_text_length": 77}])
def test_save_and_load(settings, tmp_path):
    processor = tiny_processor(**settings)
    processor.save_pretrained(tmp_path)
    saved = (tmp_path / "processor_config.json").read_text()
    assert "mel_filters" not in saved
    assert "window" not in saved
    for loaded in (AtriProcessor.from_pretrained(tmp_path), AutoProcessor.from_pretrained(tmp_path)):
        assert type(loaded) is AtriProcessor
        assert loaded.normalize_text is settings.get("normalize_text", False)
        assert loaded.max_text_length == settings.get("max_text_length", 514)
        inputs = {"text": list(CAPTIONS.values()), "language": LANGUAGES, "audio": noise(4000), "sampling_rate": 16000}
        expected = processor(**inputs)
        for key, value in loaded(**inputs).items():
            assert torch.equal(value, expected[key])
    assert type(AutoFeatureExtractor.from_pretrained(tmp_path)) is AtriFeatureExtractor
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.get_vocab() == processor.tokenizer.get_vocab()
    assert tokenizer.src_lang == "eng_Latn"
