"""Embeddings on disk: what is written can be read, parts are whole, and two models do not mix."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from modeling_atri.embedding_store import store as embedding_store
from modeling_atri.embedding_store.store import Clip, EmbeddingStore, load_embeddings


def some(names: str, seed: int = 0) -> tuple[list[Clip], np.ndarray]:
    clips = [Clip(f"{name}.wav", 100 + place, 10**18 + place, 0.5 + place) for place, name in enumerate(names)]
    return clips, np.random.default_rng(seed).normal(size=(len(clips), 3)).astype(np.float32)


@pytest.fixture
def store(tmp_path):
    with EmbeddingStore(tmp_path / "out", "a model", "abc", 3) as store:
        yield store


def test_what_is_written_can_be_read(store, tmp_path):
    (first, first_rows), (second, second_rows) = some("ca"), some("db", seed=1)
    store.add(first, first_rows)
    store.add(second, second_rows)
    ids, embeddings = load_embeddings(store.folder)
    assert ids == ["a.wav", "b.wav", "c.wav", "d.wav"]
    assert embeddings.dtype == np.float32
    np.testing.assert_array_equal(embeddings, [first_rows[1], second_rows[1], first_rows[0], second_rows[0]])
    assert store.clips() == {clip.id: clip for clip in [*first, *second]}
    on_disk = load_embeddings(store.folder, out=tmp_path / "all.npy")
    assert on_disk[0] == ids
    np.testing.assert_array_equal(np.load(tmp_path / "all.npy"), embeddings)
    np.testing.assert_array_equal(on_disk[1], embeddings)


def test_a_gathered_array_is_whole_or_not_there(store, tmp_path, monkeypatch):
    out = tmp_path / "all.npy"
    store.add(*some("ab"))
    load_embeddings(store.folder, out=out)
    store.add(*some("cd", seed=1))

    def full(path, ids):
        if path.stem == "00001":
            raise OSError("No space left on device")
        return rows(path, ids)

    rows = embedding_store._rows
    monkeypatch.setattr(embedding_store, "_rows", full)
    with pytest.raises(OSError, match="No space"):
        load_embeddings(store.folder, out=out)
    np.testing.assert_array_equal(np.load(out), some("ab")[1])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.npy", "out"]


def test_anybody_can_read_the_parts(store):
    clips, rows = some("ab")
    store.add(clips, rows)
    table = pq.read_table(store.folder / "embeddings")
    assert table.column_names == ["id", "embedding", "duration_s", "size", "mtime_ns"]
    np.testing.assert_array_equal(np.array(table["embedding"].to_pylist(), dtype=np.float32), rows)
    assert json.loads(table.schema.metadata[b"modeling_atri"]) == {"model": "a model", "fingerprint": "abc"}


def test_dropped_clips_are_gone_and_the_others_stay(store):
    store.add(*some("abc"))
    store.add(*some("de", seed=1))
    store.add(*some("fg", seed=2))
    untouched = store.folder / "embeddings" / "00002.parquet"
    before = untouched.stat().st_ino
    store.drop(["b.wav", "d.wav", "e.wav", "no such id"])
    ids, embeddings = load_embeddings(store.folder)
    assert ids == ["a.wav", "c.wav", "f.wav", "g.wav"]
    np.testing.assert_array_equal(embeddings, np.concatenate([some("abc")[1][[0, 2]], some("fg", seed=2)[1]]))
    assert untouched.stat().st_ino == before
    store.add(*some("h"))  # no number is used twice
    assert [path.stem for path in sorted(untouched.parent.iterdir())] == ["00000", "00002", "00003"]


def test_more_parts_than_their_numbers_have_digits(store):
    store.add(*some("a"))
    (store.folder / "embeddings" / "00000.parquet").rename(store.folder / "embeddings" / "99999.parquet")
    store.add(*some("b", seed=1))
    store.add(*some("c", seed=2))
    assert (store.folder / "embeddings" / "100001.parquet").exists()
    assert load_embeddings(store.folder)[0] == ["a.wav", "b.wav", "c.wav"]


def test_copies_of_parts_are_no_parts(store):
    store.add(*some("a"))
    part = store.folder / "embeddings" / "00000.parquet"
    (part.parent / "00000 (1).parquet").write_bytes(part.read_bytes())
    store.add(*some("b", seed=1))
    assert load_embeddings(store.folder)[0] == ["a.wav", "b.wav"]


def test_an_interrupted_write_leaves_nothing_that_is_read(store, monkeypatch):
    store.add(*some("a"))
    leftover = store.folder / "embeddings" / f".00001.parquet.{'0' * 32}.tmp"
    leftover.write_bytes(b"half a part")
    theirs = store.folder / "embeddings" / ".somebody_elses.tmp"
    theirs.touch()
    assert load_embeddings(store.folder)[0] == ["a.wav"]
    store.__exit__()
    with EmbeddingStore(store.folder, "a model", "abc", 3):
        assert not leftover.exists()
        assert theirs.exists()

    def full(*args):
        raise OSError("the disk is full")

    monkeypatch.setattr("pyarrow.parquet.write_table", full)
    with pytest.raises(OSError, match="full"):
        store.add(*some("b"))
    assert [path.name for path in sorted(theirs.parent.iterdir())] == [theirs.name, "00000.parquet"]


def test_another_model_is_refused(store):
    store.add(*some("a"))
    with pytest.raises(
        ValueError, match=r"of another model, 'a model' \(fingerprint abc\), .* with those of 'b' \(def\)"
    ):
        EmbeddingStore(store.folder, "b", "def", 3)
    EmbeddingStore(store.folder, "the same model, moved", "abc", 3)


def test_another_process_is_refused(store):
    with pytest.raises(ValueError, match="Another process is writing"):
        with EmbeddingStore(store.folder, "a model", "abc", 3):
            pass


def test_folders_that_do_not_fit(tmp_path):
    with pytest.raises(ValueError, match="There are no embeddings in"):
        load_embeddings(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is a file"):
        EmbeddingStore(tmp_path / "file", "m", "abc", 3)
    part = tmp_path / "out" / "embeddings" / "00000.parquet"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"not parquet")
    for read in (load_embeddings, lambda folder: EmbeddingStore(folder, "m", "abc", 3)):
        with pytest.raises(ValueError, match="00000.parquet' is not a part that modeling_atri has written"):
            read(tmp_path / "out")
