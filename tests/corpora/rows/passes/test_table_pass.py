"""What was checked of tables and archives is kept beside them, until a file changes."""

import os
from dataclasses import replace

import datasets
import numpy as np
import pytest

from modeling_atri.corpora.rows import load, recordings
from modeling_atri.corpora.rows.kept.arrow_digest import arrow_digest
from modeling_atri.corpora.rows.kept.facts import facts_of
from modeling_atri.corpora.rows.kept.places import CACHE_VARIABLE
from modeling_atri.corpora.rows.load import check_rows, load_rows
from modeling_atri.corpora.rows.passes import table_pass
from tests.helpers import sources


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def checked(monkeypatch):
    """The number of rows of each data set that is checked."""
    sizes, check_columns = [], table_pass.check_columns
    monkeypatch.setattr(
        table_pass, "check_columns", lambda rows, *args: sizes.append(len(rows)) or check_columns(rows, *args)
    )
    return sizes


def with_faults(form, folder, bad):
    """Three clips, of which those in `bad` have a caption in one language only, in the form of a name."""
    folder.mkdir()
    columns = sources.columns(embedded=form != "paths")
    for number in bad:
        columns["captions"][number]["fra_Latn"] = []
    if form == "tar":
        import json

        files = {}
        for name, texts in zip(columns["audio_id"], columns["captions"], strict=True):
            files |= {f"{name}.flac": sources.sound(name), f"{name}.json": json.dumps({"captions": texts}).encode()}
        return sources.write_tar(folder / "set.tar", files)
    rows = datasets.Dataset.from_dict(columns)
    if form == "saved":
        rows.save_to_disk(str(folder))
        return folder
    sources.write_sounds(folder)
    rows.to_parquet(folder / "rows.parquet")
    return folder / "rows.parquet"


FORMS = ["embedded", "paths", "tar", "saved"]


@pytest.mark.parametrize("bad", [[], [1]])
@pytest.mark.parametrize("form", FORMS)
def test_rows_that_are_kept_equal_those_that_were_checked(form, bad, tmp_path, checked, monkeypatch):
    path = with_faults(form, tmp_path / "data", bad)
    left_out = [[], [], []]
    with monkeypatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, "off")
        expected = load_rows(path, left_out=left_out[0])
    assert checked == []
    found = [load_rows(path, left_out=more) for more in left_out[1:]]
    assert checked == [3]
    for rows, bad_rows in zip(found, left_out[1:], strict=True):
        assert rows.to_list() == expected.to_list()
        assert rows.features == expected.features
        assert bad_rows == left_out[0]
        facts, before = facts_of(rows), facts_of(expected)
        assert facts.digest == arrow_digest(expected.select_columns(["audio_id", "captions", "group_id"]))
        assert replace(facts, states=None, digest=None, place=None) == replace(before, states=None)
        np.testing.assert_array_equal(facts.states, before.states)
        assert check_rows(rows, ["en", "fr"]) is rows
    if bad:
        with pytest.raises(ValueError, match="row 1: there is no caption in the list of fra_Latn"):
            load_rows(path)
    assert (tmp_path / "data" / ".atri_rows").is_dir()


@pytest.mark.parametrize("form", FORMS)
def test_changed_files_are_checked_again(form, tmp_path, checked):
    path = with_faults(form, tmp_path / "data", [])
    load_rows(path)
    for file in [path] if path.is_file() else path.glob("*"):
        os.utime(file, ns=(1, 1))
    load_rows(path)
    assert checked == [3, 3]
    assert len(list((tmp_path / "data" / ".atri_rows").glob("*/facts.json"))) == 1
    load_rows(path, languages=["fr"])
    load_rows(path, "train[:2]" if form not in ("saved",) else None, languages=["fr"])
    assert checked[2:] == ([3, 2] if form != "saved" else [3])
    load_rows(path)
    assert len(checked) == 3 + (form != "saved")


def test_a_changed_sound_is_checked_again(tmp_path, checked, monkeypatch):
    path = with_faults("paths", tmp_path / "data", [])
    opened, audio_length = [], recordings.audio_length
    monkeypatch.setattr(recordings, "audio_length", lambda name: opened.append(name) or audio_length(name))
    load_rows(path)
    (path.parent / "rain.flac").write_bytes(sources.sound("longer"))
    assert load_rows(path)["audio_id"] == list(sources.NAMES)
    assert checked == [3, 3]
    (path.parent / "rain.flac").write_bytes(b"no sound")
    left_out = []
    for _ in range(2):
        assert load_rows(path, left_out=left_out)["audio_id"] == ["dog", "bell"]
    assert [row.kind for row in left_out] == ["unreadable recording"] * 2
    assert len(checked) == 3


def test_a_recording_in_the_rows_that_may_be_read_another_time(tmp_path, checked, monkeypatch):
    columns = sources.columns()
    columns["audio"][1]["bytes"] = b"of a decoder that is missing"
    datasets.Dataset.from_dict(columns).to_parquet(tmp_path / "rows.parquet")
    for _ in range(2):
        assert load_rows(tmp_path / "rows.parquet", left_out=[])["audio_id"] == ["dog", "bell"]
    assert checked == [3]
    monkeypatch.setattr(recordings, "audio_length", lambda sound: 16_000)
    assert load_rows(tmp_path / "rows.parquet", left_out=[])["audio_id"] == list(sources.NAMES)
    assert checked == [3, 3]


def test_several_processes_take_over_what_one_has_checked(tmp_path, checked, monkeypatch):
    path = with_faults("embedded", tmp_path / "data", [1])
    rows = load_rows(path, left_out=[])
    monkeypatch.setattr(load, "num_processes", lambda: 2)
    monkeypatch.setattr(load, "told_by_main", lambda ask: facts_of(rows).place)
    left_out = []
    assert load.load_rows_together(path, left_out=left_out).to_list() == rows.to_list()
    assert (checked, len(left_out)) == ([3], 1)
