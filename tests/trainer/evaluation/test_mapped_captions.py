"""Evaluation sets of rows that are mapped from disk are those of the same rows in memory."""

import datasets
import numpy as np
import pyarrow as pa
import pytest
import torch

from modeling_atri.corpora.rows.bad_rows import UNREADABLE_RECORDING, BadRowError, Problem
from modeling_atri.corpora.rows.load import load_rows
from modeling_atri.trainer.data.unknown_captions import warn_of_unknown_captions
from modeling_atri.trainer.evaluation import mapped_captions
from modeling_atri.trainer.evaluation.mapped_captions import MappedTexts
from modeling_atri.trainer.evaluation.retrieval import (
    RetrievalEmbeddings,
    RetrievalSet,
    embed_retrieval_set,
    leave_out_unreadable,
)
from tests.helpers.rows import make_row, write_folder
from tests.helpers.tiny import tiny_model, tiny_processor


def rows_in(folder, **changes):
    rows = [make_row(name) for name in "abcde"]
    rows[1] |= {"group_id": "g", "captions": {"eng_Latn": ["R&B"], "fra_Latn": ["du R&amp;B"]}}
    rows[3] |= {"group_id": "g"}
    rows[4]["captions"] |= changes
    return load_rows(write_folder(folder, rows))


def as_lists(found):
    captions = {code: list(texts) for code, texts in found.captions.items()}
    audios = [audio["path"] for audio in found.audios]
    return captions, found.positives, list(found.audio_ids), [int(owner) for owner in found.owners], audios


@pytest.mark.parametrize("languages", [["en", "fr"], ["fr"]])
@pytest.mark.parametrize("changes", [{}, {"eng_Latn": ["&am\u00adp;", "x"]}], ids=["", "an entity appears"])
def test_sets_of_mapped_rows_equal_those_of_lists(languages, changes, tmp_path):
    rows = rows_in(tmp_path, **changes)
    found, expected = (RetrievalSet.from_rows(kind, languages) for kind in (rows, rows.to_list()))
    assert as_lists(found) == as_lists(expected)
    assert isinstance(found.captions["fra_Latn"], MappedTexts)
    assert isinstance(expected.captions["fra_Latn"], list)


def test_clips_that_cannot_be_read_are_left_out(tmp_path):
    rows = rows_in(tmp_path)
    smaller = []
    for kind in (rows, rows.to_list()):
        found = RetrievalSet.from_rows(kind, ["en", "fr"])
        text = {code: np.arange(len(texts))[:, None] for code, texts in found.captions.items()}
        unreadable = dict.fromkeys((1, 4), Problem(UNREADABLE_RECORDING, "no sound"))
        embeddings = RetrievalEmbeddings(np.arange(5)[:, None], text, unreadable)
        left, embedded, bad_rows = leave_out_unreadable(found, embeddings)
        smaller.append((as_lists(left), embedded.text["eng_Latn"].tolist(), bad_rows))
    assert smaller[0] == smaller[1]


@pytest.mark.parametrize("part", [(0, 1), (1, 2)])
def test_embeddings_are_those_of_lists(part, tmp_path):
    rows = rows_in(tmp_path)
    found, expected = (
        embed_retrieval_set(tiny_model(), tiny_processor(), RetrievalSet.from_rows(kind, ["en", "fr"]), part=part)
        for kind in (rows, rows.to_list())
    )
    assert torch.equal(torch.tensor(found.audio), torch.tensor(expected.audio))
    for code, text in expected.text.items():
        np.testing.assert_array_equal(found.text[code], text)


def test_texts_in_a_column():
    texts = ["a", "b", "a", "c", "b", "d", "a"]
    found = MappedTexts(pa.chunked_array([texts[:3], texts[3:3], texts[3:]], pa.string()))
    assert list(found) == texts
    assert [found[place] for place in (0, 3, -1)] == ["a", "c", "a"]
    for piece in (slice(2, 5), slice(None), slice(1, None, 3), slice(5, 2), slice(None, None, -2)):
        assert list(found[piece]) == texts[piece]
    assert list(found.select([6, 3])) == ["a", "c"]
    assert list(found.different()) == ["a", "b", "c", "d"]


def test_unknown_captions_are_named(tmp_path, caplog):
    rows = rows_in(tmp_path, eng_Latn=["\u0928\u092e\u0938\u094d\u0924\u0947", "x"])
    warn_of_unknown_captions(tiny_processor(), RetrievalSet.from_rows(rows, ["en"]).captions)
    assert "knows nothing of 1 of 9 different captions in eng_Latn" in caplog.text


ODD_FORMS = {
    "as they were loaded": {},
    "an entity": {"captions": {"eng_Latn": ["R&amp;B", "two"], "fra_Latn": ["un", "deux"]}},
    "spaces": {"captions": {"eng_Latn": [" a\u00a0dog\n", "two"], "fra_Latn": ["un", "deux"]}},
    "no names": {"audio_id": None, "group_id": None},
    "an id as a group": {"group_id": "clip 3"},
}


@pytest.mark.parametrize("form", ODD_FORMS)
@pytest.mark.parametrize("order", [None, [4, 1, 3]], ids=["all", "some"])
def test_sets_of_other_data_sets_equal_those_of_lists(monkeypatch, form, order):
    monkeypatch.setattr(mapped_captions, "_ROWS_AT_ONCE", 2)
    rows = [
        {
            "audio": {"path": f"{number}.wav", "bytes": None},
            "audio_id": f"clip {number}",
            "group_id": f"g {number % 3}",
        }
        | {"captions": {"eng_Latn": [f"{number}", "two"], "fra_Latn": [f"fr {number}", "deux"]}}
        for number in range(5)
    ]
    rows[1] |= ODD_FORMS[form]
    dataset = datasets.Dataset.from_list(rows).cast_column("audio", datasets.Audio(decode=False))
    if order is not None:
        dataset, rows = dataset.select(order), [rows[number] for number in order]
    found = RetrievalSet.from_rows(dataset, ["fr", "en"])
    assert as_lists(found) == as_lists(RetrievalSet.from_rows(rows, ["fr", "en"]))
    assert all(isinstance(texts, MappedTexts) for texts in found.captions.values())


@pytest.mark.parametrize(
    "columns",
    [
        {"caption": ["a dog", "rain"], "caption_fr": ["un chien", "la pluie"]},
        {"captions": [{"en": "a dog", "fr": "un chien"}, {"en": "rain", "fr": "la pluie"}]},
        {"en": [["a dog", "a cat"], ["rain"]], "fr": [["un chien", "un chat"], ["la pluie"]]},
    ],
    ids=["columns", "single texts", "columns of lists"],
)
def test_sets_of_data_sets_with_captions_in_other_forms(columns):
    dataset = datasets.Dataset.from_dict({"file_name": ["1.wav", "2.wav"], **columns})
    found, expected = (RetrievalSet.from_rows(rows, ["en", "fr"]) for rows in (dataset, dataset.to_list()))
    assert {code: list(texts) for code, texts in found.captions.items()} == expected.captions
    assert (found.positives, list(found.owners)) == (expected.positives, expected.owners)
    assert found.audio_ids == expected.audio_ids == [0, 1]


@pytest.mark.parametrize(
    "captions", [{"eng_Latn": ["a"], "fra_Latn": None}, {"eng_Latn": ["a"], "fra_Latn": ["a", "b"]}, None]
)
def test_faults_are_those_of_lists(captions):
    rows = [{"audio_id": "good", "captions": {"eng_Latn": ["a"], "fra_Latn": ["b"]}}]
    rows.append({"audio_id": "wrong", "captions": captions})
    said = []
    for kind in (rows, datasets.Dataset.from_list(rows)):
        with pytest.raises(BadRowError, match="Row 'wrong' cannot be evaluated in all languages") as error:
            RetrievalSet.from_rows(kind, ["en", "fr"])
        said.append((str(error.value), error.value.kind))
    assert said[0] == said[1]
