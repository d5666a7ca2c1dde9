"""Captions in the forms in which people have them."""

import math

import numpy as np
import pandas
import pytest

from modeling_atri.corpora.rows.bad_rows import BadRowError
from modeling_atri.corpora.rows.captions import (
    caption_columns,
    captions_of,
    clean_caption,
    clean_captions,
    resolve_captions,
    unequal,
    unescape_entities,
)


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("A dog barks.", "A dog barks."),
        ("R&B plays at AT&T; rock & roll", "R&B plays at AT&T; rock & roll"),
        ("R&amp;B", "R&B"),
        ("he says &quot;stop&quot;", 'he says "stop"'),
        ("it&#39;s, it&#x27;s and it&apos;s", "it's, it's and it's"),
        ("&amp;quot;twice&amp;quot; &amp;amp;#39;thrice", '"twice" \'thrice'),
        ("un caf&eacute;&nbsp;froid", "un café froid"),
        ("&lt;br&gt; &unknown; &notit; &copy 5 < 6", "<br> &unknown; &notit; &copy 5 < 6"),
        ("\ufeff  a dog\r\n barks\t twice \n", "a dog barks twice"),
        ("un chien\u00a0!", "un chien !"),
        ("犬が\u3000吠える", "犬が 吠える"),
        ("a  dog", "a  dog"),  # plain spaces are the tokenizer's business
        ("a\x00 d\x07og\x9f ba\u00adrks", "a dog barks"),
        ("می\u200cرود", "می\u200cرود"),  # a joiner is part of the word
        ("\u200b\ufeff\u00a0", ""),
        ("&nbsp; \x00", ""),
        ("☃", "☃"),
    ],
)
def test_clean_captions(text, clean):
    assert clean_caption(text) == clean
    assert clean_caption(clean) == clean


def test_entities_alone():
    assert unescape_entities(" it&amp;#39;s\x00 ") == " it's\x00 "


FORMS = {
    "string": "a dog",
    "list": ["a dog"],
    "tuple": ("a dog",),
    "numpy string": np.str_("a dog"),
    "numpy strings": np.array(["a dog"]),
    "numpy objects": np.array(["a dog"], dtype=object),
    "numpy scalar": np.array("a dog"),
    "pandas": pandas.Series(["a dog"]),
    "missing in every language": ["a dog", None],
    "not a number": [math.nan, "a dog"],
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["eng_Latn", "en", "English", "en-US"])
def test_forms_of_captions(form, name):
    row = {"captions": {name: FORMS[form], "fr": None, "de": math.nan}}
    problems = []
    assert list(resolve_captions(row, None, problems)) == ["eng_Latn"]
    found = captions_of(row, ["eng_Latn"], "x")
    assert found == {"eng_Latn": ["a dog"]} and type(found["eng_Latn"][0]) in (str, np.str_)
    assert problems == []


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (
            {"a dog"},
            "wrong captions",
            "the captions in eng_Latn must be a string or a list of strings, but are {'a dog'}",
        ),
        (b"a dog", "wrong captions", "must be a string or a list of strings, but are b'a dog'"),
        (3, "wrong captions", "but are 3"),
        ([["a dog"]], "wrong captions", "but are [['a dog']]"),
        (["a", " "], "empty caption", "caption 1 in eng_Latn is empty"),
        ([None], "empty caption", "there is no caption in the list of eng_Latn"),
    ],
)
def test_what_is_no_caption(value, kind, text):
    with pytest.raises(BadRowError) as error:
        captions_of({"captions": {"en": value}}, ["eng_Latn"], "dog")
    assert error.value.kind == kind
    assert str(error.value).startswith("Row 'dog': ") and text in str(error.value)


def test_places_without_a_caption_stay_parallel():
    problems = []
    both = clean_captions({"eng_Latn": ["a", None, "c"], "fra_Latn": ["x", None, "z"]}, problems)
    assert (both, problems) == ({"eng_Latn": ["a", "c"], "fra_Latn": ["x", "z"]}, [])
    clean_captions({"eng_Latn": ["a", None, "c"], "fra_Latn": ["x", "y", None]}, problems)
    assert [problem.text for problem in problems] == [
        "caption 1 in eng_Latn is empty",
        "caption 2 in fra_Latn is empty",
    ]


def test_different_numbers_of_captions():
    assert unequal({"eng_Latn": 2, "fra_Latn": 2}) is None
    assert unequal({"eng_Latn": 2, "fra_Latn": 1}).startswith(
        "the languages have different numbers of captions: 2 in eng_Latn, 1 in fra_Latn. The first caption must say"
    )


def test_a_language_under_two_names():
    problems = []
    resolve_captions({"captions": {"en": ["a"], "fr": ["b"], "eng_Latn": ["c"]}}, None, problems)
    assert [problem.text for problem in problems] == [
        "the captions in eng_Latn are there twice, as `en` and as `eng_Latn`: leave one of them out"
    ]


@pytest.mark.parametrize(
    ("names", "languages", "columns"),
    [
        ("file_name caption", None, {"eng_Latn": ("caption",)}),
        ("file_name caption", ("fra_Latn",), {"fra_Latn": ("caption",)}),
        ("file_name caption", ("fra_Latn", "deu_Latn"), {"eng_Latn": ("caption",)}),
        ("audio text label", None, {"eng_Latn": ("text",)}),
        ("audio sentence sentence_id", None, {"eng_Latn": ("sentence",)}),
        ("captions", None, {"eng_Latn": ("captions",)}),
        ("caption text", None, {"eng_Latn": ("caption",)}),  # `text` may be a transcript
        ("caption caption_fr captions_jpn_Jpan", None, {
            "eng_Latn": ("caption",), "fra_Latn": ("caption_fr",), "jpn_Jpan": ("captions_jpn_Jpan",)
        }),
        ("caption_2 caption_1 caption_10", None, {"eng_Latn": ("caption_1", "caption_2", "caption_10")}),
        ("caption_en_1 caption_fr_1 caption_en_2", None, {
            "eng_Latn": ("caption_en_1", "caption_en_2"), "fra_Latn": ("caption_fr_1",)
        }),
        ("en fr id no run", None, {"eng_Latn": ("en",), "fra_Latn": ("fr",)}),
        ("en id", ("eng_Latn", "ind_Latn"), {"eng_Latn": ("en",), "ind_Latn": ("id",)}),
        ("fra_Latn English", None, {"fra_Latn": ("fra_Latn",), "eng_Latn": ("English",)}),
        ("caption_length text_id label path sampling_rate", None, {}),
    ],
)  # fmt: skip
def test_columns_of_captions(names, languages, columns):
    assert caption_columns(tuple(names.split()), languages) == columns


def test_two_columns_of_the_same_captions():
    with pytest.raises(ValueError, match="the columns `caption` and `caption_en` are both captions in eng_Latn"):
        caption_columns(("caption", "caption_en"))


@pytest.mark.parametrize(
    ("row", "captions"),
    [
        ({"caption": "a dog"}, {"eng_Latn": ["a dog"]}),
        ({"text": ["a dog", "a hound"]}, {"eng_Latn": ["a dog", "a hound"]}),
        ({"captions": ["a dog"], "captions_fr": "un chien"}, {"eng_Latn": ["a dog"], "fra_Latn": ["un chien"]}),
        ({"caption_1": "a dog", "caption_2": "", "caption_3": None}, {"eng_Latn": ["a dog"]}),
        ({"caption": "a dog", "fr": " "}, {"eng_Latn": ["a dog"]}),
        ({"captions": '{"en": ["a dog"], "fr": "un chien"}'}, {"eng_Latn": ["a dog"], "fra_Latn": ["un chien"]}),
        ({"captions": '["a dog", "a hound"]'}, {"eng_Latn": ["a dog", "a hound"]}),
        (
            {"caption": '["a dog", "a hound"]', "fr": '["un chien", "le chien"]'},
            {"eng_Latn": ["a dog", "a hound"], "fra_Latn": ["un chien", "le chien"]},
        ),
        ({"caption": "[music] {x}"}, {"eng_Latn": ["[music] {x}"]}),
        ({"captions": {"fr": "un chien"}, "caption": "ignored"}, {"fra_Latn": ["un chien"]}),
    ],
)
def test_captions_in_columns(row, captions):
    problems = []
    assert clean_captions(resolve_captions(row, None, problems), problems) == captions
    assert problems == []


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (
            {"audio": "a.wav", "label": 3},
            'it has no captions but audio, label. Captions go to `captions`, such as {"eng_',
        ),
        ({"captions": None}, "`captions` must be lists of strings by language, but is None"),
        ({"captions": "{'en': ['a dog']}"}, "that was written as text, \"{'en': ['a dog']}\", but not as JSON"),
        (
            {"caption": "['a dog']"},
            "`caption` is a list or dict that was written as text, \"['a dog']\", but not as JSON",
        ),
        ({"captions": {"frensh": "x"}}, "Unknown language 'frensh'"),
    ],
)
def test_rows_without_captions(row, text):
    problems = []
    resolve_captions(row, None, problems)
    assert text in problems[0].text
