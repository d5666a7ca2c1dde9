import io
import json

import datasets
import pytest
import soundfile

from modeling_atri.corpora.clips.clip import OTHER_CLIP
from modeling_atri.corpora.folders.writing import write_corpus
from modeling_atri.corpora.readers.hub_columns import read_columns
from modeling_atri.corpora.rows.bad_rows import (
    EMPTY_CAPTION,
    MISSING_RECORDING,
    UNEQUAL_CAPTIONS,
    WRONG_CAPTIONS,
    WRONG_ID,
)
from modeling_atri.corpora.rows.load import load_rows
from tests.helpers.corpora import noise


def sound(seed: int, format: str = "FLAC") -> dict:
    file = io.BytesIO()
    soundfile.write(file, noise(seed, 0.3), 16_000, format=format)
    return {"path": f"{seed}.flac", "bytes": file.getvalue()}


def dataset(**columns) -> datasets.Dataset:
    return datasets.Dataset.from_dict(columns)


def test_columns_of_strings_and_of_lists(tmp_path):
    rows = dataset(
        audio=[sound(0), sound(1, "WAV")], en=["a", "b"], en2=["c", "d"], fr=[["A", "C"], ["B", "D"]], fr2=[[], []]
    )
    captions = {"eng_Latn": ["en", "en2"], "fra_Latn": ["fr", "fr2"]}
    report = write_corpus(read_columns(rows, captions, name="owner/name"), tmp_path)
    assert report["captions"] == {"eng_Latn": 4, "fra_Latn": 4}
    loaded = load_rows(tmp_path)
    assert loaded[1]["captions"] == {"eng_Latn": ["b", "d"], "fra_Latn": ["B", "D"]}
    assert [row["audio"]["path"] for row in loaded] == [
        str(tmp_path / "sounds" / name) for name in ("0000000.flac", "0000001.wav")
    ]
    assert (tmp_path / "sounds" / "0000000.flac").read_bytes() == rows[0]["audio"]["bytes"]


def test_rows_of_one_id_are_one_clip(tmp_path):
    rows = dataset(
        clip=["x", "y", "x", "x"], sound=[sound(0), sound(1), sound(0), sound(2)], caption=["a", "b", "c", "d"]
    )
    corpus = read_columns(rows, {"eng_Latn": ["caption"]}, "sound", "clip", "freesound")
    assert [(clip.audio_id, clip.captions["eng_Latn"], clip.source_ids) for clip in corpus.clips] == [
        ("x", ["a", "c"], ("freesound:x",)),
        ("y", ["b"], ("freesound:y",)),
    ]
    assert [(row.place, row.kind) for row in corpus.left_out] == [("row 3", OTHER_CLIP)]


def test_ids_are_those_that_other_corpora_have():
    rows = dataset(clip=["Yabcdefghijk.wav", None], audio=[sound(0), sound(1)], en=["a", "b"])
    corpus = read_columns(rows, {"eng_Latn": ["en"]}, id_column="clip", source="youtube")
    assert [(clip.audio_id, clip.source_ids) for clip in corpus.clips] == [
        ("Yabcdefghijk.wav", ("youtube:abcdefghijk",))
    ]
    assert [(row.place, row.kind) for row in corpus.left_out] == [("row 1", WRONG_ID)]


@pytest.mark.parametrize(
    "names, message",
    [
        ({"audio_column": "number"}, "'number' is of type int64, but recordings are Audio, .* `audio_column`"),
        ({"audio_column": "en_lists"}, "'en_lists' is of type List.*, but recordings are"),
        ({"audio_column": "image"}, "'image' is of type Image.*, but recordings are"),
        ({"column": "number"}, "'number' is of type int64, but captions are strings or lists of .* `captions`"),
        ({"column": "numbers"}, r"'numbers' is of type List\(Value\('int64'\)\), but captions are"),
        ({"column": "label"}, "'label' is of type ClassLabel.*, but captions are"),
        ({"column": "audio"}, "'audio' is of type .*, but captions are"),
        ({"id_column": "en_lists"}, "'en_lists' is of type List.*, but ids are strings or whole .* `id_column`"),
        ({"id_column": "share"}, "'share' is of type float64, but ids are"),
    ],
)
def test_columns_of_other_types(names, message):
    rows = dataset(
        audio=[sound(0)],
        image=[sound(0)],
        en=["a"],
        en_lists=[["a"]],
        number=[1],
        numbers=[[1]],
        label=[0],
        share=[0.5],
    )
    rows = rows.cast_column("label", datasets.ClassLabel(names=["x"])).cast_column("image", datasets.Image())
    with pytest.raises(ValueError, match=message):
        read_columns(rows, {"eng_Latn": [names.pop("column", "en")]}, **names)


def test_what_is_missing_is_left_out_in_all_languages():
    rows = dataset(
        audio=[sound(0), {"path": None, "bytes": None}, sound(2)],
        en=[["a", "b"], ["c"], ["d", "e"]],
        fr=[["A", None], ["C"], ["D"]],
    )
    corpus = read_columns(rows, {"eng_Latn": ["en"], "fra_Latn": ["fr"]})
    assert [clip.captions for clip in corpus.clips] == [{"eng_Latn": ["a"], "fra_Latn": ["A"]}]
    assert [(row.place, row.kind) for row in corpus.lost_captions] == [
        ("row 0", EMPTY_CAPTION),
        ("row 2", UNEQUAL_CAPTIONS),
    ]
    assert corpus.left_out[0].kind == MISSING_RECORDING


def test_faulty_columns():
    rows = dataset(audio=[sound(0)], en=["a"], fr=["b"])
    with pytest.raises(ValueError, match="There is no column caption; there are audio, en, fr"):
        read_columns(rows, {"eng_Latn": ["caption"]})
    with pytest.raises(ValueError, match="needs as many columns; there are: eng_Latn 2, fra_Latn 1"):
        read_columns(rows, {"eng_Latn": ["en", "en"], "fra_Latn": ["fr"]})


@pytest.mark.parametrize("form", ["dict", "dict of lists", "json"])
def test_columns_of_captions_by_language(form):
    rows = [{"en": f"a {name}", "fr-FR": f"un {name}", "de": None} for name in ("dog", "bell")]
    if form == "dict of lists":
        rows = [{name: text and [text] for name, text in captions.items()} for captions in rows]
    values = [json.dumps(captions) for captions in rows] if form == "json" else rows
    table = dataset(audio=[sound(0), sound(1)], captions=values)
    corpus = read_columns(table, {"eng_Latn": ["captions"], "fra_Latn": ["captions"]})
    assert [clip.captions for clip in corpus.clips] == [
        {"eng_Latn": ["a dog"], "fra_Latn": ["un dog"]},
        {"eng_Latn": ["a bell"], "fra_Latn": ["un bell"]},
    ]


def test_a_language_that_captions_by_language_lack():
    rows = dataset(audio=[sound(0)], captions=[{"en": "a dog", "fr": "un chien"}])
    with pytest.raises(ValueError, match="'captions' has no captions in deu_Latn, but en, fr: please name another"):
        read_columns(rows, {"deu_Latn": ["captions"]})


def test_captions_that_were_written_as_text_but_not_as_json():
    rows = dataset(audio=[sound(0), sound(1)], captions=["{'en': 'a dog'}", '{"en": "a bell"}'])
    corpus = read_columns(rows, {"eng_Latn": ["captions"]})
    assert [clip.captions for clip in corpus.clips] == [{"eng_Latn": ["a bell"]}]
    assert [(row.place, row.kind) for row in corpus.lost_captions] == [("row 0", WRONG_CAPTIONS)]
