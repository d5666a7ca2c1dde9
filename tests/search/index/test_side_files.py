"""Columns of sounds from side files."""

import json
import unicodedata
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modeling_atri.audio_io.discovery import search_folder
from modeling_atri.search.index.side_files import differing_values, read_side_files
from modeling_atri.search.index.tables import SoundKey


@pytest.fixture
def folder(tmp_path):
    for name in ["a.wav", "b/c.wav", "b/d.wav", "b/deep/e.wav", unicodedata.normalize("NFD", "é 'x'.wav")]:
        path = tmp_path / "sounds" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"sound")
    return tmp_path / "sounds"


def write_lines(path: Path, *rows) -> Path:
    path.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows), encoding="utf-8")
    return path


def read(folder, columns=None, stored=None):
    return read_side_files(folder, search_folder(folder).sounds, columns, stored)


def test_a_folder_without_side_files_has_no_columns(folder):
    assert read(folder) is None


def test_lines_name_sounds_and_give_typed_columns(folder):
    write_lines(
        folder / "metadata.jsonl",
        {"file_name": "a.wav", "tags": ["rain", "dog"], "licence": "cc0", "year": 2001, "captions": {"en": ["x"]}},
        {"file_name": "./b/c.wav", "licence": "by", "year": None, "day": "2024-05-01", "place": {"lat": 1}},
        {"file_name": "é 'x'.wav", "tags": "single", "loud": True},
        {"file_name": "b\\d.wav", "year": 1999.5},
    )  # fmt: skip
    side = read(folder)
    assert side.types == {
        "tags": pa.list_(pa.string()),
        "licence": pa.string(),
        "year": pa.float64(),
        "day": pa.date32(),
        "place": pa.string(),
        "loud": pa.bool_(),
    }
    assert side.values == {
        "a.wav": {"tags": ["rain", "dog"], "licence": "cc0", "year": 2001.0},
        "b/c.wav": {"licence": "by", "day": date(2024, 5, 1), "place": '{"lat": 1}'},
        "é 'x'.wav": {"tags": ["single"], "loud": True},
        "b/d.wav": {"year": 1999.5},
    }
    assert (side.notes, side.files, side.num_unmatched) == ([], ["metadata.jsonl"], 0)
    assert side.of("b/deep/e.wav") == {}


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_csv(folder, separator):
    lines = ["file_name,licence,year,", "a.wav,cc0,2001,0", "b/c.wav,,,1"]
    (folder / "metadata.csv").write_text("﻿" + "\n".join(lines).replace(",", separator), encoding="utf-8")
    side = read(folder)
    assert side.types == {"licence": pa.string(), "year": pa.int64()}  # a column without a name is left out
    assert side.values == {"a.wav": {"licence": "cc0", "year": 2001}}


def test_the_nearest_file_that_names_a_sound_counts(folder):
    write_lines(
        folder / "metadata.jsonl",
        *({"file_name": name, "of": "top", "top": 1} for name in ["a.wav", "b/c.wav", "b/d.wav", "b/deep/e.wav"]),
    )
    (folder / "b" / "metadata.csv").write_text("file_name,of\nc.wav,b\ndeep/e.wav,b\n")
    write_lines(folder / "b" / "deep" / "metadata.jsonl", {"file_name": "e.wav", "of": "deep"})
    side = read(folder)
    assert {path: values["of"] for path, values in side.values.items()} == {
        "a.wav": "top",
        "b/c.wav": "b",
        "b/d.wav": "top",
        "b/deep/e.wav": "deep",
    }
    assert side.values["b/c.wav"] == {"of": "b"}
    assert side.files == ["metadata.jsonl", "b/metadata.csv", "b/deep/metadata.jsonl"]


def test_a_file_in_a_folder_that_holds_only_folders_is_found(folder):
    (folder / "b" / "deep" / "deeper").mkdir()
    (folder / "b" / "deep" / "deeper" / "f.wav").write_bytes(b"")
    for name in ["c.wav", "d.wav", "deep/e.wav"]:
        (folder / "b" / name).unlink()
    write_lines(folder / "b" / "metadata.jsonl", {"file_name": "deep/deeper/f.wav", "x": 1})
    assert read(folder).values == {"b/deep/deeper/f.wav": {"x": 1}}


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".tsv", ".parquet"])
@pytest.mark.parametrize("inside", [True, False])
def test_a_file_that_is_named(folder, tmp_path, suffix, inside):
    path = (folder / "b" if inside else tmp_path / "elsewhere") / f"table{suffix}"
    path.parent.mkdir(exist_ok=True)
    rows = [{"filename": "c.wav" if inside else "b/c.wav", "n": 1}, {"filename": "b/d.wav", "n": 2}]
    rows.append({"filename": str(folder / "a.wav"), "n": 3})
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif suffix == ".json":
        path.write_text(json.dumps(rows))
    elif suffix == ".jsonl":
        write_lines(path, *rows)
    else:
        separator = {".csv": ",", ".tsv": "\t"}[suffix]
        path.write_text("\n".join([f"filename{separator}n", *(f"{r['filename']}{separator}{r['n']}" for r in rows)]))
    write_lines(folder / "metadata.jsonl", {"file_name": "a.wav", "not": "read"})
    side = read(folder, columns=path)
    assert side.values == {"b/c.wav": {"n": 1}, "b/d.wav": {"n": 2}, "a.wav": {"n": 3}}


def test_faulty_rows_are_counted_and_named(folder):
    (folder / "metadata.jsonl").write_text(
        '{"file_name": "a.wav", "x": 1}\nno json\n{"x": 2}\n{"file_name": "gone.wav", "x": 3}\n'
        '{"file_name": "../outside.wav", "x": 3}\n{"file_name": "a.wav", "x": 4}\n[1]\n'
    )
    side = read(folder)
    assert side.values == {"a.wav": {"x": 4}}
    assert side.num_unmatched == 2
    assert side.notes == [
        "metadata.jsonl: 3 of 7 rows cannot be used. line 2: this is not JSON (Expecting value: line 1 column 1 (char "
        "0)); line 3: it has no `file_name`; line 7: a row must be a JSON object, but this is a list.",
        "metadata.jsonl: 2 of 7 rows name sounds that are not below the folder: 'gone.wav' (line 4); '../outside.wav' "
        "(line 5).",
        "metadata.jsonl: sounds are named more than once, and the last row counts: 'a.wav' (line 6).",
    ]


def test_names_that_the_index_cannot_use_are_changed(folder):
    write_lines(folder / "metadata.jsonl", {"file_name": "a.wav", "id": 7, "geo.lat": 1.5, "_x": "y", "day of": "z"})
    side = read(folder)
    assert side.values == {"a.wav": {"metadata_id": 7, "geo_lat": 1.5, "metadata_x": "y", "day of": "z"}}
    assert side.notes == [
        "The column `id` of metadata.jsonl is indexed as `metadata_id`.",
        "The column `geo.lat` of metadata.jsonl is indexed as `geo_lat`.",
        "The column `_x` of metadata.jsonl is indexed as `metadata_x`.",
    ]
    write_lines(folder / "metadata.jsonl", {"file_name": "a.wav", "geo.lat": 1, "geo_lat": 2})
    with pytest.raises(ValueError, match="`geo.lat` and `geo_lat` of metadata.jsonl would both be called `geo_lat`"):
        read(folder)


def test_what_is_refused(folder, tmp_path):
    with pytest.raises(ValueError, match="There is no file '.*none.csv' of columns"):
        read(folder, columns=tmp_path / "none.csv")
    (tmp_path / "x.xlsx").write_bytes(b"")
    with pytest.raises(ValueError, match=r"Columns are read from .jsonl, .csv, .* files"):
        read(folder, columns=tmp_path / "x.xlsx")
    other = write_lines(tmp_path / "other.jsonl", {"file_name": "z.wav"}, {"name": "a.wav"})
    with pytest.raises(ValueError, match=r"No row of '.*' names a sound below .*'z.wav' \(line 1\)"):
        read(folder, columns=other)
    write_lines(folder / "metadata.jsonl", {"file_name": "a.wav", "year": "unknown"})
    with pytest.raises(ValueError, match=r"metadata.jsonl, line 1: the column `year` holds 'unknown', but the index"):
        read(folder, stored={"year": pa.int64()})


def test_only_values_that_differ_are_written(folder):
    write_lines(
        folder / "metadata.jsonl",
        {"file_name": "a.wav", "same": "s", "tags": ["x"], "new": 1},
        {"file_name": "b/c.wav", "same": "s", "tags": ["x"]},
        {"file_name": "b/d.wav", "same": "other"},
    )
    stored = pa.table(
        {
            "folder": [str(folder)] * 4 + ["elsewhere"],
            "path": ["a.wav", "b/c.wav", "b/d.wav", "b/deep/e.wav", "a.wav"],
            "same": ["s", "s", "s", None, "s"],
            "tags": [["x"], ["x"], ["x"], None, None],
            "vanished": [None, 1, None, None, 1],
        }
    )
    assert differing_values(stored, str(folder), read(folder)) == {
        SoundKey(str(folder), "a.wav"): {"new": 1},
        SoundKey(str(folder), "b/c.wav"): {"vanished": None},
        SoundKey(str(folder), "b/d.wav"): {"same": "other", "tags": None},
    }
