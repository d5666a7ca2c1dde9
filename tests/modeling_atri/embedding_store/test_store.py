"""Embeddings on disk: what is written can be read, parts are whole, and two models do not mix."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from modeling_atri.embedding_store import store as embedding_store
from modeling_atri.embedding_store.store import Clip, EmbeddingStore, load_embeddings, part_paths
from modeling_atri.embedding_store.vectors import open_vectors


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
    assert table.column_names == ["id", "embedding", "duration_s", "size", "mtime_ns", "content"]
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


def test_a_removed_row_does_not_write_its_part_again(store, tmp_path):
    """All readers pass over it, and the part is written when more than half of its rows are removed."""
    store.add(*some("abcdefg"))
    store.add(*some("hi", seed=1))
    rows = np.concatenate([some("abcdefg")[1], some("hi", seed=1)[1]])
    part = store.folder / "embeddings" / "00000.parquet"
    before = part.read_bytes()
    array = open_vectors(store.folder)
    assert len(array) == 9
    for gone in (["b.wav"], ["d.wav"], ["a.wav"]):
        store.drop(gone)
        assert part.read_bytes() == before
    left = ["c.wav", "e.wav", "f.wav", "g.wav", "h.wav", "i.wav"]
    ids, embeddings = load_embeddings(store.folder)
    assert ids == sorted(store.clips()) == left
    np.testing.assert_array_equal(embeddings, rows[[2, 4, 5, 6, 7, 8]])
    opened = open_vectors(store.folder)
    assert opened.ids == left
    np.testing.assert_array_equal(opened[:], embeddings)
    on_disk = load_embeddings(store.folder, out=tmp_path / "all.npy")
    assert on_disk[0] == left
    np.testing.assert_array_equal(on_disk[1], embeddings)
    store.drop(["c.wav"])
    assert pq.read_table(part)["id"].to_pylist() == ["e.wav", "f.wav", "g.wav"]
    assert load_embeddings(store.folder)[0] == left[1:]
    store.drop(["f.wav"])  # of the part as it is now
    assert load_embeddings(store.folder)[0] == ["e.wav", "g.wav", "h.wav", "i.wav"]
    store.add(*some("f", seed=3))
    np.testing.assert_array_equal(load_embeddings(store.folder)[1][1], some("f", seed=3)[1][0])


def test_the_number_of_a_part_with_removed_rows_is_not_used_again(store):
    store.add(*some("ab"))
    store.add(*some("cd"))
    store.drop(["c.wav"])
    store.drop(["d.wav"])
    assert [path.stem for path in part_paths(store.folder)] == ["00000"]
    store.add(*some("ef"))
    assert load_embeddings(store.folder)[0] == ["a.wav", "b.wav", "e.wav", "f.wav"]


@pytest.mark.parametrize("cut", [1, 10, 40])
def test_a_removal_that_was_cut_off_is_made_again(store, cut):
    store.add(*some("abcdef"))
    store.drop(["a.wav"])
    store.drop(["b.wav"])
    path = store.folder / ".dropped.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    assert load_embeddings(store.folder)[0][-4:] == ["c.wav", "d.wav", "e.wav", "f.wav"]
    store.drop(["b.wav"])
    assert load_embeddings(store.folder)[0] == ["c.wav", "d.wav", "e.wav", "f.wav"]


def test_one_removal_a_part_writes_little(store):
    for number in range(6):
        store.add([Clip(f"{number}{place}.wav", 1, 2, 3.0) for place in range(50)], np.ones((50, 3), np.float32))
    before = {path: path.stat().st_mtime_ns for path in part_paths(store.folder)}
    store.drop([f"{number}7.wav" for number in range(6)])
    assert {path: path.stat().st_mtime_ns for path in part_paths(store.folder)} == before
    assert (store.folder / ".dropped.jsonl").stat().st_size < 6 * 80
    assert len(load_embeddings(store.folder)[0]) == 294


def test_embeddings_are_given_to_other_clips(store):
    for names in ("abc", "def", "gh"):
        store.add(*some(names, seed=ord(names[0])))
    before = dict(zip(*load_embeddings(store.folder), strict=True))
    target = {f"{name}.wav": Clip(f"new/{name}.wav", 7, 8, 0.5, "0" * 32) for name in "abdfgh"}
    store.move(target, part_size=4)
    after = dict(zip(*load_embeddings(store.folder), strict=True))
    assert sorted(after) == ["c.wav", "e.wav", *(f"new/{name}.wav" for name in "abdfgh")]
    for name, row in after.items():
        np.testing.assert_array_equal(row, before[name.removeprefix("new/")])
    assert store.clips()["new/a.wav"] == target["a.wav"]


def test_parts_of_earlier_versions_are_read_and_added_to(store):
    clips, rows = some("abc")
    store.add(clips, rows)
    part = store.folder / "embeddings" / "00000.parquet"
    pq.write_table(pq.read_table(part).drop_columns("content"), part)
    assert store.clips() == {clip.id: clip for clip in clips}
    store.add(*some("d", seed=1))
    store.drop(["b.wav"])
    assert store.clips()["a.wav"].content is None
    assert open_vectors(store.folder).ids == load_embeddings(store.folder)[0] == ["a.wav", "c.wav", "d.wav"]


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
