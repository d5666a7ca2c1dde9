"""Stored embeddings are added to an index."""

import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from modeling_atri import encode_audio
from modeling_atri.embedding_store import load_embeddings, open_vectors
from modeling_atri.encode import audio_fingerprint, encode_folder
from modeling_atri.search import SoundIndex
from modeling_atri.search.index.from_store import is_store
from tests.helpers.embedded import embedding_processor, without_tower
from tests.helpers.tiny import tiny_model, tiny_processor


pytest.importorskip("lancedb")
DURATIONS_S = {"a.wav": 0.5, "b/c.wav": 0.6, "b/long.wav": 12.0}


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def processor():
    return tiny_processor()


@pytest.fixture(scope="module")
def encoded_once(tmp_path_factory, model, processor):
    """A folder of sounds and its store, which tests must not change."""
    root = tmp_path_factory.mktemp("encoded")
    for seed, (name, duration_s) in enumerate(DURATIONS_S.items()):
        path = root / "sounds" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        samples = np.random.default_rng(seed).normal(scale=0.1, size=round(16000 * duration_s))
        soundfile.write(path, samples, 16000)
    encode_folder(model, processor, root / "sounds", root / "store", "tiny", part_size=2)
    return root / "sounds", root / "store"


@pytest.fixture
def index(tmp_path, model, processor):
    return SoundIndex.open(tmp_path / "index", model, processor)


@pytest.fixture
def not_encoding(monkeypatch):
    def refuse(*args, **options):
        raise AssertionError("a sound is encoded")

    monkeypatch.setattr("modeling_atri.search.windows.encode_windows", refuse)


def rows(index) -> dict[tuple[str, str], dict]:
    found = index.tables.rows().to_pylist()
    return {(row["folder"], row["id"].removeprefix(row["folder"])): row for row in found}


def write_npy(path, ids, vectors, **facts):
    path.parent.mkdir(exist_ok=True)
    np.save(path, vectors)
    path.with_suffix(".ids.json").write_text(json.dumps({"ids": list(ids), **facts}))
    return path


def test_a_store_of_a_folder_is_taken_over_without_encoding(encoded_once, index, not_encoding):
    sounds, store = encoded_once
    summary = index.add(store)
    assert (summary.num_sounds, summary.num_encoded, summary.failures, summary.notes) == (3, 0, {}, [])
    ids, vectors = load_embeddings(store)
    found = rows(index)
    assert list(found) == [("", f"/{name}#0") for name in DURATIONS_S]
    for name, vector in zip(ids, vectors, strict=True):
        row = found["", f"/{name}#0"]
        np.testing.assert_allclose(row["vector"], vector, atol=1e-7)
        assert (row["kind"], row["start_s"], row["end_s"], row["content"]) == ("clip", 0.0, DURATIONS_S[name], None)
        status = (sounds / name).stat()
        assert (row["size"], row["mtime_ns"]) == (status.st_size, status.st_mtime_ns)
    assert index.add(store).num_sounds == 3  # again
    assert len(rows(index)) == 3


def test_the_folder_of_a_store_encodes_only_sounds_that_need_windows(encoded_once, index, model, processor):
    sounds, store = encoded_once
    index.add(store)
    summary = index.add(sounds)
    assert (summary.num_sounds, summary.num_encoded, summary.num_moved) == (3, 1, 3)
    found = rows(index)
    assert {folder for folder, _ in found} == {str(sounds)}
    assert sorted(name for _, name in found if "long" in name) == ["/b/long.wav#-1", "/b/long.wav#0", "/b/long.wav#1"]
    files = [row for row in found.values() if row["kind"] != "window"]
    expected = encode_audio(model, processor, [f"{row['folder']}/{row['path']}" for row in files])
    np.testing.assert_allclose(np.stack([row["vector"] for row in files]), expected, atol=1e-5)
    again = index.add(sounds)
    assert (again.num_encoded, again.num_moved) == (0, 0)
    late = index.add(store)
    assert (late.num_sounds, len(rows(index))) == (0, len(found))
    expected_note = "3 ids of {!r} were left out, because the index has sounds of these paths below a folder."
    assert late.notes == [expected_note.format(str(store))]


@pytest.mark.parametrize("form", ["npy", "parquet", "opened"])
def test_stores_of_any_origin(index, tmp_path, form, not_encoding):
    vectors = np.random.default_rng(0).normal(size=(50, 12)).astype(np.float16)
    vectors[3], vectors[4] = 0, np.nan
    ids = [f"it's/{number}é.wav" for number in range(50)]
    if form == "parquet":
        source = tmp_path / "x.parquet"
        columns = {"key": ids, "vector": pa.array(list(vectors.astype(np.float32)), pa.list_(pa.float32()))}
        pq.write_table(pa.table(columns), source)
    else:
        source = write_npy(tmp_path / "x.npy", ids, vectors)
    summary = index.add(open_vectors(source) if form == "opened" else source)
    assert summary.num_sounds == 48
    assert summary.failures == {
        ids[number]: "Its stored vector is zero, or holds NaN or infinity." for number in (3, 4)
    }
    assert len(summary.notes) == 1
    assert "does not say which model made its vectors" in summary.notes[0]
    values = vectors[7].astype(np.float64)
    np.testing.assert_allclose(rows(index)["", f"/{ids[7]}#0"]["vector"], values / np.linalg.norm(values), atol=1e-6)

    (tmp_path / "facts.csv").write_text(f"id,file_name,licence\n1,{ids[5]},cc0\n")
    other = write_npy(tmp_path / "other" / "x.npy", ids[5:7], np.ones((2, 12)))
    summary = index.add(other, columns=tmp_path / "facts.csv")
    found = rows(index)
    assert (summary.num_sounds, len(found)) == (2, 48)
    np.testing.assert_allclose(found["", f"/{ids[5]}#0"]["vector"], np.full(12, 12**-0.5), atol=1e-6)
    assert [found["", f"/{name}#0"]["licence"] for name in ids[5:7]] == ["cc0", None]


def test_other_models_and_widths_are_refused(encoded_once, index, tmp_path, model, processor):
    other = write_npy(tmp_path / "x.npy", ["a"], np.ones((1, 12)), model="some/clap", fingerprint="0" * 32)
    with pytest.raises(
        ValueError, match=f"another model, 'some/clap' .fingerprint 0+.*{index.tables.facts.fingerprint}"
    ):
        index.add(other)
    with pytest.raises(ValueError, match="have 7 numbers, but the model of the index, .*, takes 12"):
        index.add(write_npy(tmp_path / "y.npy", ["a"], np.ones((1, 7))))
    with pytest.raises(ValueError, match="There is no file"):
        index.add(tmp_path / "none.npy")
    assert rows(index) == {}


@pytest.mark.parametrize("has_audio_head", [True, False])
def test_models_that_take_stored_embeddings(tmp_path, model, processor, has_audio_head):
    width = 24 if has_audio_head else 12
    vectors = np.random.default_rng(1).normal(size=(5, width)).astype(np.float32)
    embedded = without_tower(model, has_audio_head, fingerprint="f" * 32, source="some/clap")
    taking = embedding_processor(embedded)
    index = SoundIndex.open(tmp_path / "index", embedded, taking)
    store = write_npy(tmp_path / "x.npy", "abcde", vectors, model="some/clap", fingerprint="f" * 32)
    assert index.add(store).num_sounds == 5
    expected = encode_audio(embedded, taking, list(vectors))
    np.testing.assert_allclose([row["vector"] for row in rows(index).values()], expected, atol=1e-6)
    wrong = write_npy(tmp_path / "y.npy", "abcde", vectors, fingerprint=audio_fingerprint(model, processor))
    with pytest.raises(ValueError, match="holds vectors of another model"):
        index.add(wrong)


def test_what_is_a_store(encoded_once, tmp_path):
    sounds, store = encoded_once
    assert (is_store(store), is_store(str(store)), is_store(sounds)) == (True, True, False)
    folder = tmp_path / "folder"
    write_npy(folder / "x.npy", ["a"], np.ones((1, 12)))
    assert is_store(folder)
    assert is_store(folder / "x.npy")
    (folder / "a.wav").write_bytes(b"")
    assert not is_store(folder)
    (folder / "x.npy").unlink(), (folder / "x.ids.json").unlink()
    os.rename(folder / "a.wav", folder / "metadata.parquet")
    assert not is_store(folder)
    assert not is_store([{"audio": "a.wav"}])
