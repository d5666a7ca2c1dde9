"""Ids of rows in columns equal those of `ids_of_files`."""

import random

import pyarrow as pa
import pytest

from modeling_atri.corpora.rows.checks.ids import ids_of_file_column, ids_of_files


PARTS = [
    "a",
    "b",
    "a.wav",
    "b.flac",
    "b.wav",
    ".hid.wav",
    "x.y.ogg",
    "..",
    ".",
    "",
    "é.wav",
    "e\u0301.wav",
    "d\\e.wav",
]


@pytest.mark.parametrize("begin", ["", "/data/", "mixed"])
def test_ids_in_columns(begin):
    rng = random.Random(0)
    for _ in range(200):
        names = ["/".join(rng.choices(PARTS, k=rng.randint(1, 3))) for _ in range(rng.randint(1, 8))]
        names = [(rng.choice(["", "/data/", "/"]) if begin == "mixed" else begin) + name for name in names if name]
        column = pa.chunked_array([pa.array(names, pa.large_string())])
        assert ids_of_file_column(column).to_pylist() == ids_of_files(names), names


def test_two_names_that_differ_in_their_suffix():
    names = ["sounds/a.wav", "sounds/a.flac", "sounds/b.wav"]
    assert ids_of_file_column(pa.chunked_array([names])).to_pylist() == ["sounds/a.wav", "sounds/a.flac", "sounds/b"]
