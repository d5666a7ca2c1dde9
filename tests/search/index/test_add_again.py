"""A folder of sounds is added to an index again after changes: through `SoundIndex.add`, with a real model."""

import json
import os
from datetime import UTC, datetime

import numpy as np
import pytest
import soundfile

from modeling_atri import encode_audio
from modeling_atri.long_sounds_atri import read_or_scan
from modeling_atri.search import SoundIndex
from modeling_atri.search.index import indexing
from modeling_atri.search.windows import encode_windows
from tests.helpers.tiny import tiny_model, tiny_processor


pytest.importorskip("lancedb")
NAMES = ["a.wav", "b/c.wav", "b/d.wav", "e.wav"]


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def processor():
    return tiny_processor()


def write_sound(path, seed: int, num_samples: int = 8000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(seed).normal(scale=0.1, size=num_samples), 16000)


@pytest.fixture
def folder(tmp_path):
    for seed, name in enumerate(NAMES):
        write_sound(tmp_path / "sounds" / name, seed)
    return tmp_path / "sounds"


@pytest.fixture
def encoded(monkeypatch):
    """The paths that are encoded, in order."""
    paths = []

    def listening(model, processor, audios, *args, **options):
        paths.extend(options["names"])
        return encode_windows(model, processor, audios, *args, **options)

    monkeypatch.setattr("modeling_atri.search.windows.encode_windows", listening)
    return paths


@pytest.fixture
def index(tmp_path, model, processor):
    return SoundIndex.open(tmp_path / "index", model, processor)


def rows(index) -> dict[str, dict]:
    """The rows of whole files by path."""
    found = index.tables.rows("kind != 'window'").to_pylist()
    assert len({row["path"] for row in found}) == len(found)
    return {row["path"]: row for row in found}


def check_vectors(index, model, processor) -> None:
    """Every sound of the index has the embedding of its file."""
    found = rows(index)
    expected = encode_audio(model, processor, [f"{row['folder']}/{row['path']}" for row in found.values()])
    np.testing.assert_allclose(np.stack([row["vector"] for row in found.values()]), expected, atol=1e-5)


def test_each_kind_of_change(folder, index, encoded, model, processor):
    assert index.add(folder).num_encoded == 4
    assert index.add(folder).num_encoded == 0
    encoded.clear()
    write_sound(folder / "a.wav", 10, 9000)
    os.utime(folder / "b" / "c.wav")
    (folder / "b" / "d.wav").rename(folder / "moved 'é#1.wav")
    (folder / "e.wav").unlink()
    write_sound(folder / "new.wav", 11)
    summary = index.add(folder)
    assert sorted(encoded) == ["a.wav", "new.wav"]
    assert (summary.num_sounds, summary.num_encoded, summary.num_moved, summary.num_dropped) == (4, 2, 1, 1)
    assert sorted(rows(index)) == ["a.wav", "b/c.wav", "moved 'é#1.wav", "new.wav"]
    check_vectors(index, model, processor)
    encoded.clear()
    index.add(folder)
    assert encoded == []


@pytest.mark.parametrize("at_once", [{}, {"MOVES_AT_ONCE": 2}, {"NUMBERS_AT_ONCE": 1}])
def test_files_change_places_and_a_folder_is_renamed(
    folder, index, encoded, model, processor, tmp_path, monkeypatch, at_once
):
    for name, number in at_once.items():
        monkeypatch.setattr(indexing, name, number)
    index.add(folder)
    encoded.clear()
    (folder / "a.wav").rename(folder / "x.wav")
    (folder / "e.wav").rename(folder / "a.wav")
    (folder / "x.wav").rename(folder / "e.wav")
    index.add(folder)
    check_vectors(index, model, processor)
    (folder / "bad.wav").write_bytes(b"broken")
    index.add(folder)
    folder.rename(tmp_path / "renamed")
    with pytest.raises(ValueError, match="There is no folder"):
        index.add(folder)
    assert len(rows(index)) == 4
    summary = index.add(tmp_path / "renamed")
    assert encoded == ["bad.wav", "bad.wav"]
    assert (summary.num_sounds, summary.num_moved, summary.num_dropped) == (4, 4, 0)
    check_vectors(index, model, processor)
    assert [key.folder for key in index.tables.failures()] == [str(tmp_path / "renamed")]


def test_a_file_that_cannot_be_read_any_more_is_dropped_and_tried_again(folder, index, encoded):
    index.add(folder)
    before = (folder / "a.wav").read_bytes()
    (folder / "a.wav").write_bytes(b"broken")
    for _ in range(2):
        encoded.clear()
        summary = index.add(folder)
        assert (encoded, list(summary.failures), sorted(rows(index))) == (["a.wav"], ["a.wav"], NAMES[1:])
    (folder / "a.wav").write_bytes(before)
    summary = index.add(folder)
    assert (summary.failures, sorted(rows(index)), index.tables.failures()) == ({}, NAMES, {})


def test_a_file_that_changes_while_it_is_read_is_tried_again(folder, index, monkeypatch):
    def changing(model, processor, audios, *args, **options):
        for path, result in zip(audios, encode_windows(model, processor, audios, *args, **options), strict=True):
            if path.name == "c.wav":
                write_sound(path, 20, 8001)
            yield result

    with monkeypatch.context() as patch:
        patch.setattr("modeling_atri.search.windows.encode_windows", changing)
        summary = index.add(folder)
    assert summary.failures == {"b/c.wav": "The file was changed while it was read. The next run tries again."}
    assert sorted(rows(index)) == ["a.wav", "b/d.wav", "e.wav"]
    summary = index.add(folder)
    assert (summary.num_encoded, summary.failures, sorted(rows(index))) == (1, {}, NAMES)


@pytest.mark.parametrize("change", ["shorter", "gone"])
def test_a_long_recording_that_changes_between_its_two_passes_is_tried_again(folder, index, monkeypatch, change):
    def read_and_change(extractor, path, *arguments):
        read = read_or_scan(extractor, path, *arguments)
        if path.name == "c.wav":
            path.unlink() if change == "gone" else write_sound(path, 20, 20_000)
        return read

    write_sound(folder / "b" / "c.wav", 20, 40_000)
    with monkeypatch.context() as patch:
        patch.setattr("modeling_atri.long_sounds_atri.LONG_SECONDS", 2)
        patch.setattr("modeling_atri.search.windows.reading.read_or_scan", read_and_change)
        summary = index.add(folder)
    assert list(summary.failures) == ["b/c.wav"]
    assert ("became shorter" if change == "shorter" else "no audio file") in summary.failures["b/c.wav"]
    assert sorted(rows(index)) == ["a.wav", "b/d.wav", "e.wav"]
    write_sound(folder / "b" / "c.wav", 20, 40_000)
    summary = index.add(folder)
    assert (summary.num_encoded, summary.failures, sorted(rows(index))) == (1, {}, NAMES)


def test_two_folders_do_not_disturb_each_other(folder, index, encoded, tmp_path, model, processor):
    write_sound(tmp_path / "other" / "a.wav", 30)
    index.add(folder)
    index.add(tmp_path / "other")
    (tmp_path / "other" / "a.wav").unlink()
    write_sound(tmp_path / "other" / "z.wav", 31)
    summary = index.add(tmp_path / "other")
    assert (summary.num_sounds, summary.num_dropped) == (1, 1)
    encoded.clear()
    index.add(folder)
    assert encoded == []
    assert sorted(rows(index)) == [*NAMES, "z.wav"]
    (folder / "e.wav").rename(tmp_path / "other" / "e.wav")
    assert index.add(tmp_path / "other").num_moved == 1
    assert encoded == []
    check_vectors(index, model, processor)


def test_side_files_give_columns_that_follow_them(folder, index, encoded):
    def write(*lines) -> None:
        (folder / "metadata.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))

    def columns(*names) -> dict[str, tuple]:
        return {path: tuple(row[name] for name in names) for path, row in rows(index).items()}

    write(
        {"file_name": "a.wav", "tags": ["rain", "dog"], "year": 2001, "at": "2024-05-01T12:00:00+02:00"},
        {"file_name": "b/c.wav", "year": 2002, "loud": True, "path": "its own"},
    )
    (folder / "notes.txt").touch()
    summary = index.add(folder)
    assert (summary.num_encoded, summary.num_updated) == (4, 0)
    assert summary.other_files == {".txt": 1}
    assert summary.notes == ["The column `path` of metadata.jsonl is indexed as `metadata_path`."]
    assert columns("tags", "year", "at", "loud", "metadata_path") == {
        "a.wav": (["rain", "dog"], 2001, datetime(2024, 5, 1, 10, tzinfo=UTC), None, None),
        "b/c.wav": (None, 2002, None, True, "its own"),
        "b/d.wav": (None,) * 5,
        "e.wav": (None,) * 5,
    }
    assert index.tables.count_sounds("array_has(tags, 'dog') AND year < 2002") == 1
    encoded.clear()
    assert index.add(folder).num_updated == 0

    write(
        {"file_name": "a.wav", "tags": ["rain"], "year": 2001.5, "new": "x"},
        {"file_name": "e.wav", "new": "y"},
        {"file_name": "gone.wav", "new": "z"},
    )
    (folder / "b" / "d.wav").rename(folder / "d.wav")
    summary = index.add(folder)
    assert (summary.num_encoded, summary.num_moved, summary.num_updated, encoded) == (0, 1, 3, [])
    assert columns("tags", "year", "at", "loud", "metadata_path", "new") == {
        "a.wav": (["rain"], 2001.5, None, None, None, "x"),
        "b/c.wav": (None,) * 6,
        "d.wav": (None,) * 6,
        "e.wav": (None, None, None, None, None, "y"),
    }
    assert "1 of 3 rows name sounds that are not below the folder: 'gone.wav' (line 3)" in summary.notes[0]

    (folder / "metadata.jsonl").unlink()  # without a side file, columns stay
    write_sound(folder / "f.wav", 40)
    assert index.add(folder).num_updated == 0
    assert columns("new")["a.wav"] == ("x",)
    write({"file_name": "a.wav", "year": "unknown"})
    with pytest.raises(ValueError, match="metadata.jsonl, line 1: the column `year` holds 'unknown'"):
        index.add(folder)
    assert columns("new")["a.wav"] == ("x",)


def test_a_file_of_columns(folder, index, tmp_path):
    (tmp_path / "facts.csv").write_text("file,licence\na.wav,cc0\nb/c.wav,by\n")
    index.add(folder, columns=tmp_path / "facts.csv")
    assert {path: row["licence"] for path, row in rows(index).items()} == {
        "a.wav": "cc0", "b/c.wav": "by", "b/d.wav": None, "e.wav": None,
    }  # fmt: skip


def test_an_index_inside_of_its_folder_is_not_searched(folder, model, processor):
    index = SoundIndex.open(folder / "index", model, processor)
    for _ in range(2):
        assert index.add(folder).other_files == {}
