"""Rows in lists, generators, data frames and data sets of torch."""

import io
import json
import unicodedata
from pathlib import Path

import datasets
import numpy as np
import pandas
import pytest
import soundfile
import torch

from modeling_atri.audio_io import load_audio
from modeling_atri.corpora.rows.load import check_rows, load_rows
from tests.helpers.rows import sound


CAPTIONS = {"en": "A dog barks.", "fr": ["Un chien aboie."]}
CLEAN = {"eng_Latn": ["A dog barks."], "fra_Latn": ["Un chien aboie."]}
SAMPLES = np.random.default_rng(0).uniform(-1, 1, 9_600).astype(np.float32)


class MapStyle(torch.utils.data.Dataset):
    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]


def make_list(folder: Path) -> list[dict]:
    for name in "ab":
        (folder / f"{name}.wav").write_bytes(sound())
    return [{"audio": str(folder / f"{name}.wav"), "captions": CAPTIONS} for name in "ab"]


KINDS = {
    "list": lambda rows: rows,
    "tuple": tuple,
    "generator": lambda rows: (row for row in rows),
    "DataFrame": pandas.DataFrame,
    "torch": MapStyle,
    "Dataset": datasets.Dataset.from_list,
    "numpy format": lambda rows: datasets.Dataset.from_list(rows).with_format("numpy"),
    "DatasetDict": lambda rows: datasets.DatasetDict(train=datasets.Dataset.from_list(rows)),
    "parquet": lambda rows: pandas.DataFrame(datasets.Dataset.from_list(rows).data.to_pandas()),
}


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_every_kind_are_checked(tmp_path, kind):
    rows = make_list(tmp_path)
    if kind in ("Dataset", "numpy format", "DatasetDict", "parquet"):
        rows = [row | {"captions": {"en": ["A dog barks."], "fr": row["captions"]["fr"]}} for row in rows]
    found = load_rows(KINDS[kind](rows))
    assert found.column_names == ["audio", "audio_id", "captions", "group_id"]
    assert found.features["audio"] == datasets.Audio(decode=False)
    assert found["audio_id"][:] == found["group_id"][:] == ["a", "b"]
    assert found["captions"][:] == [CLEAN] * 2
    checked = check_rows(KINDS[kind](rows), ["eng_Latn"])
    assert [row["captions"] for row in checked] == [{"eng_Latn": ["A dog barks."]}] * 2
    assert [row["audio_id"] for row in checked] == ["a", "b"]


@pytest.mark.parametrize(
    "form", ["path", "Path", "bytes", "bytearray", "file", "dict of bytes", "array", "raw", "torch", "channels"]
)
def test_recordings_in_every_form(tmp_path, form):
    file = io.BytesIO()
    soundfile.write(file, SAMPLES, 48_000, format="WAV", subtype="FLOAT")
    (tmp_path / "a.wav").write_bytes(file.getvalue())
    audio = {
        "path": str(tmp_path / "a.wav"),
        "Path": tmp_path / "a.wav",
        "bytes": file.getvalue(),
        "bytearray": bytearray(file.getvalue()),
        "file": file,
        "dict of bytes": {"path": "other.wav", "bytes": file.getvalue()},
        "array": {"array": SAMPLES, "sampling_rate": 48_000},
        "raw": {"raw": SAMPLES.tolist(), "sampling_rate": 48_000},
        "torch": {"array": torch.from_numpy(SAMPLES), "sampling_rate": 48_000, "path": None},
        "channels": {"array": np.stack([SAMPLES, SAMPLES]), "sampling_rate": 48_000},
    }[form]
    rows = [{"audio": audio, "caption": "a dog"}]
    expected = load_audio({"array": SAMPLES, "sampling_rate": 48_000})
    (found,) = load_rows(rows)
    np.testing.assert_array_equal(load_audio(found["audio"]), expected)
    (checked,) = check_rows(rows, ["en"])
    np.testing.assert_array_equal(load_audio(checked["audio"]), expected)
    assert checked["audio_id"] == found["audio_id"]
    assert checked.keys() == found.keys()


def test_ids_of_recordings_without_a_name():
    rows = [{"audio": audio, "caption": "x"} for audio in (sound(3_000), sound(4_000), sound(3_000))]
    rows.append({"audio": {"array": SAMPLES, "sampling_rate": 16_000}, "caption": "x"})
    ids = load_rows(rows)["audio_id"][:]
    assert len(set(ids)) == 4 and ids[2] == f"{ids[0]}-2"
    assert [row["audio_id"] for row in check_rows(rows, ["en"])] == ids
    assert load_rows(rows[::-1])["audio_id"][:] == [ids[3], ids[0], ids[1], ids[2]], "they do not depend on the place"
    embedded = datasets.Dataset.from_list([{"audio": row["audio"], "caption": "x"} for row in rows[:3]])
    assert load_rows(embedded)["audio_id"][:] == ids[:3]
    assert load_rows([rows[0] | {"audio_id": np.int64(3), "group_id": "cafe\u0301"}])[0]["group_id"] == "caf\u00e9"


@pytest.mark.parametrize(
    ("audio", "reason"),
    [
        (None, "it names no recording"),
        ({}, "it names no recording"),
        ("", "it names no recording"),
        (5, "Audio must be a path.* but this is a int"),
        (np.zeros(9_000), "it is a waveform without its sampling rate"),
        ({"array": np.full(9_000, np.nan), "sampling_rate": 16_000}, "it holds NaN"),
        ({"array": np.zeros((9_000, 2)), "sampling_rate": 16_000}, "Transpose it first"),
        ({"array": np.zeros(100), "sampling_rate": 16_000}, "it is too short"),
        (b"no sound", "Cannot decode"),
        ("missing.wav", "there is no file 'missing.wav'"),
    ],
)
def test_recordings_that_cannot_be_used(audio, reason):
    rows = [{"audio": sound(), "caption": "x"}, {"audio": audio, "caption": "x"}]
    with pytest.raises(ValueError, match=f"the list of rows: 1 wrong row, 1 problem:\n  row 1: .*{reason}"):
        load_rows(rows)
    left_out = []
    assert len(check_rows(rows, ["en"], left_out=left_out)) == 1
    assert [row.place for row in left_out] == ["row 1"]


def test_recordings_stay_where_they_are():
    waves = [{"array": SAMPLES, "sampling_rate": 16_000}, {"array": SAMPLES[:3_000], "sampling_rate": 16_000}]
    rows = check_rows([{"audio": wave, "caption": "x", "other": 1} for wave in waves], ["en"])
    assert rows[1]["audio"] is waves[1] and rows[-1]["audio"] is waves[1]
    assert [row["audio"] is wave for row, wave in zip(rows[:2], waves, strict=True)] == [True, True]
    assert rows.without_audio[0].keys() == {"audio_id", "captions", "group_id"}
    assert rows.count_longer(0.5) == 1
    assert check_rows(rows, ["en"]) is rows


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"audio": ["a.wav"], "captions": ["x"]}, "Rows are a path, .*, but this is a dict"),
        (3, "but this is a int"),
        ([("a.wav", "x")], "row 0: a row must be a dict, but this is a tuple"),
        ([], "the list of rows holds no rows|no rows"),
        (datasets.Dataset.from_list([{"audio": "a"}]).to_iterable_dataset(), "Load it without `streaming=True`"),
    ],
)
def test_what_is_no_rows(rows, message):
    with pytest.raises(ValueError, match=message):
        load_rows(rows)
    with pytest.raises(ValueError, match="Only data sets have splits"):
        load_rows([], "train")


def test_one_recording_in_two_rows_for_two_languages(tmp_path):
    rows = make_list(tmp_path)
    rows = [rows[0] | {"captions": captions} for captions in ({"en": "a", "fr": None}, {"fr": "b"})]
    with pytest.raises(ValueError) as error:
        load_rows(rows, languages=["en", "fr"])
    assert "row 0: captions are missing in fra_Latn" in str(error.value)
    assert "make them one row if they are one recording, with the captions of all languages" in str(error.value)


@pytest.mark.parametrize("written", ["NFC", "NFD"])
@pytest.mark.parametrize("kind", ["list", "Dataset", "metadata.jsonl"])
def test_names_in_another_unicode_form(tmp_path, written, kind):
    asked = {"NFC": "NFD", "NFD": "NFC"}[written]
    path = tmp_path / unicodedata.normalize(written, "café.wav")
    path.write_bytes(sound())
    name = unicodedata.normalize(asked, "café.wav")
    rows = [{"audio": str(tmp_path / name), "captions": {"en": ["x"]}}]
    if kind == "metadata.jsonl":
        datasets.Dataset.from_dict({"file_name": [name], "caption": ["x"]}).to_json(tmp_path / "metadata.jsonl")
        rows = tmp_path
    (row,) = load_rows(datasets.Dataset.from_list(rows) if kind == "Dataset" else rows)
    assert Path(row["audio"]["path"]).samefile(path)
    assert row["audio_id"] == "caf\u00e9"
    if kind != "metadata.jsonl":
        with pytest.raises(ValueError, match="the `audio_id` 'caf\u00e9' is that of row 0 already"):
            load_rows([rows[0] | {"audio_id": unicodedata.normalize(form, "café")} for form in ("NFC", "NFD")])


CAPTIONS_ONLY = [
    {"captions": {"eng_Latn": ["a dog"], "fra_Latn": ["un chien"]}, "teacher_embedding": [0.6, 0.8]},
    {"captions": {"eng_Latn": ["rain"], "fra_Latn": ["la pluie"]}, "teacher_embedding": [1.0, 0.0]},
]


@pytest.mark.parametrize("form", ["rows", "dataset", "file"])
def test_rows_without_sounds(form, tmp_path):
    """They are taken where a run needs no sound; vectors stay, also when the rows are checked again."""
    rows = CAPTIONS_ONLY
    if form == "dataset":
        rows = datasets.Dataset.from_list(CAPTIONS_ONLY)
    elif form == "file":
        rows = tmp_path / "captions.jsonl"
        rows.write_text("".join(json.dumps(row) + "\n" for row in CAPTIONS_ONLY))
    with pytest.raises(ValueError, match="no recording|no column audio"):
        check_rows(rows, ["en", "fr"])
    checked = check_rows(rows, ["en", "fr"], needs_sound=False)
    again = check_rows(checked, ["en", "fr"], needs_sound=False)
    for found in (checked, again, load_rows(checked, languages=["en", "fr"], needs_sound=False)):
        assert [set(row) for row in found] == [{"audio_id", "group_id", "captions", "teacher_embedding"}] * 2
        assert [row["captions"] for row in found] == [row["captions"] for row in CAPTIONS_ONLY]
        assert [np.ravel(row["teacher_embedding"]).tolist() for row in found] == [[0.6, 0.8], [1.0, 0.0]]
        assert len({row["audio_id"] for row in found}) == 2
