"""Columns of texts are cleaned as single texts are."""

import random

import numpy as np
import pyarrow as pa
import pytest

from modeling_atri.corpora.rows.captions import clean_caption
from modeling_atri.corpora.rows.checks.clean_texts import cleaned_texts


def slowly(texts):
    cleaned = [None if text is None else clean_caption(text) for text in texts]
    return cleaned, [bool(text) and not text.isspace() for text in cleaned]


def is_as_slowly(column):
    texts = column.to_pylist()
    found, ok = cleaned_texts(column)
    expected, is_caption = slowly(texts)
    assert ok.tolist() == is_caption
    assert [text for text, good in zip(found.to_pylist(), ok, strict=True) if good] == [
        text for text, good in zip(expected, is_caption, strict=True) if good
    ]


def test_every_sign():
    signs = [chr(code) for code in range(0x20000) if not 0xD800 <= code < 0xE000]
    unassigned_but_usual = {"\u0378", "\u0379", "\u9ffd", "\u9ffe", "\u9fff"}
    is_as_slowly(pa.array([f"a{sign}b" for sign in signs if sign not in unassigned_but_usual]))
    is_as_slowly(pa.array([sign for sign in signs if sign not in unassigned_but_usual]))


@pytest.mark.parametrize("seed", range(20))
def test_parts_of_columns(seed):
    rng = random.Random(seed)
    pieces = ["a dog", "é", " ", "&", "&amp;", "雨", "\u3000", "\t", "\u00ad", "犬が", "😀", "한", ""]
    texts = [None if rng.random() < 0.1 else "".join(rng.choices(pieces, k=rng.randint(0, 4))) for _ in range(30)]
    column = pa.array(texts, pa.string())
    is_as_slowly(column)
    is_as_slowly(column.slice(7, 11))
    is_as_slowly(pa.chunked_array([column, column]).combine_chunks().slice(29, 5))


@pytest.mark.parametrize("texts", [[], [None], [""], ["", None, ""], ["a"]])
def test_small_columns(texts):
    is_as_slowly(pa.array(texts, pa.string()))


def test_texts_that_are_not_utf8_are_an_error():
    content, ends = b"a dog \xc3", np.array([0, 7], dtype=np.int32)
    column = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(ends), pa.py_buffer(content)])
    with pytest.raises((pa.ArrowInvalid, UnicodeDecodeError)):
        cleaned_texts(column)
