"""Stored embeddings of any origin: the same rows and ids through every door, and errors that say what is wrong."""

import json
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modeling_atri.embedding_store import load_embeddings, open_vectors
from modeling_atri.embedding_store.store import Clip, EmbeddingStore
from modeling_atri.embedding_store.vectors import are_unit, lengths_of


IDS = ["dog", "café", "雨", "bird"]
VECTORS = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)


def parquet(path, kind=None, ids=IDS, vectors=VECTORS, **others):
    kind = kind or pa.list_(pa.float32())
    columns = {"clip": ids, "v": pa.array([None if row is None else list(row) for row in vectors], kind)}
    pq.write_table(pa.table(columns | others), path)
    return path


def npy(path, ids_name="x.ids.json", ids=IDS, vectors=VECTORS):
    np.save(path, vectors)
    file = path.with_name(ids_name)
    if ids_name.endswith(".json"):
        file.write_text(json.dumps(ids))
    elif ids_name.endswith(".txt"):
        file.write_text("".join(f"{name}\n" for name in ids), encoding="utf-8")
    else:
        np.save(file, np.array(ids))
    return path


def encoded(folder, model="a model", fingerprint="abc"):
    with EmbeddingStore(folder, model, fingerprint, 3) as store:
        for number, name in enumerate(IDS):
            store.add([Clip(name, 1, 2, 0.5)], VECTORS[number : number + 1])
    return folder


STORES = {
    "encoded": lambda tmp: encoded(tmp / "out"),
    "gathered": lambda tmp: [load_embeddings(encoded(tmp / "out"), out=tmp / "x.npy"), tmp / "x.npy"][1],
    "parquet": lambda tmp: parquet(tmp / "x.parquet"),
    "fixed size": lambda tmp: parquet(tmp / "x.parquet", pa.list_(pa.float32(), 3)),
    "double": lambda tmp: parquet(tmp / "x.parquet", pa.large_list(pa.float64())),
    "half": lambda tmp: parquet(tmp / "x.parquet", pa.list_(pa.float16(), 3), vectors=VECTORS.astype(np.float16)),
    "npy, list": lambda tmp: npy(tmp / "x.npy"),
    "npy, lines": lambda tmp: npy(tmp / "x.npy", "ids.txt"),
    "npy, array": lambda tmp: npy(tmp / "x.npy", "x.ids.npy"),
    "npy, double": lambda tmp: npy(tmp / "x.npy", vectors=VECTORS.astype(np.float64)),
    "npy, Fortran": lambda tmp: npy(tmp / "x.npy", vectors=np.asfortranarray(VECTORS)),
    "folder": lambda tmp: npy(tmp / "x.npy").parent,
}


@pytest.mark.parametrize("name", STORES)
def test_rows_are_found_by_number_and_by_id(name, tmp_path):
    store = open_vectors(STORES[name](tmp_path))
    expected = VECTORS.astype(np.float16 if name == "half" else np.float32).astype(np.float32)
    assert len(store) == 4
    assert store.width == 3
    assert sorted(store.ids) == sorted(IDS)
    rows = store.find([*IDS, "cat", None])
    assert rows[4:].tolist() == [-1, -1]
    found = store[rows[:4]]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(store[int(rows[2])], expected[2])
    np.testing.assert_allclose(store.lengths(rows[[2, 0, 2]]), np.linalg.norm(expected[[2, 0, 2]], axis=1), rtol=1e-6)
    again = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(again[:], store[:])


def test_names_are_found_in_any_unicode_form(tmp_path):
    store = open_vectors(parquet(tmp_path / "x.parquet"))
    assert store.find(["cafe\u0301"]).tolist() == [1]


def test_whole_numbers_are_ids(tmp_path):
    store = open_vectors(npy(tmp_path / "x.npy", ids=[4, 3, 2, 1]))
    assert store.ids == ["4", "3", "2", "1"]


def test_facts_are_those_of_the_model(tmp_path):
    encoded(tmp_path / "out")
    load_embeddings(tmp_path / "out", out=tmp_path / "x.npy")
    for path in (tmp_path / "out", tmp_path / "x.npy", tmp_path / "out" / "embeddings" / "00000.parquet"):
        assert open_vectors(path).facts == ("a model", "abc")
    assert open_vectors(parquet(tmp_path / "y.parquet")).facts == (None, None)


def test_parquet_is_copied_once_and_again_when_it_changes(tmp_path):
    path = parquet(tmp_path / "x.parquet")
    open_vectors(path)
    (copy,) = tmp_path.glob(".*.npy")
    before = copy.stat().st_mtime_ns
    open_vectors(path)
    assert copy.stat().st_mtime_ns == before
    parquet(path, vectors=VECTORS[::-1], ids=IDS[::-1])
    np.testing.assert_array_equal(open_vectors(path)[:], VECTORS[::-1])
    assert len(list(tmp_path.glob(".*.npy"))) == 1


def test_several_files_are_one_store(tmp_path):
    for number in range(4):
        parquet(tmp_path / f"{number}.parquet", ids=IDS[number : number + 1], vectors=VECTORS[number : number + 1])
    for path in (tmp_path, tmp_path / "*.parquet"):
        store = open_vectors(path)
        assert store.ids == IDS
        np.testing.assert_array_equal(store[:], VECTORS)


def test_columns_are_found_by_usual_names_or_given(tmp_path):
    others = {"id": ["a", "b", "c", "d"], "text_embedding": pa.array(VECTORS.tolist()[::-1], pa.list_(pa.float64()))}
    path = parquet(tmp_path / "x.parquet", **others)
    with pytest.raises(
        ValueError, match="several columns of lists.*v, text_embedding.*`vector_column`, or .*`embedding_columns`"
    ):
        open_vectors(path)
    assert open_vectors(path, vector_column="v").ids == ["a", "b", "c", "d"]
    store = open_vectors(path, id_column="clip", vector_column="text_embedding")
    assert store.ids == IDS
    np.testing.assert_array_equal(store[0], VECTORS[3])


def test_a_missing_vector_is_not_a_number(tmp_path):
    store = open_vectors(parquet(tmp_path / "x.parquet", vectors=[VECTORS[0], None, np.full(3, np.inf), VECTORS[3]]))
    assert np.isnan(store[1]).all()
    assert np.isnan(store.lengths()).tolist() == [False, True, True, False]


def test_rows_far_apart_are_measured_one_by_one(tmp_path):
    vectors = np.arange(3000, dtype=np.float32).reshape(1000, 3)
    store = open_vectors(npy(tmp_path / "x.npy", ids=list(range(1000)), vectors=vectors))
    rows = np.array([999, 0, 500])
    np.testing.assert_allclose(store.lengths(rows), lengths_of(vectors[rows]))
    np.testing.assert_allclose(store.lengths(), np.linalg.norm(vectors, axis=1), rtol=1e-6)


def test_unit_vectors_in_half_precision_are_unit_vectors():
    vectors = np.random.default_rng(0).normal(size=(100, 512))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert are_unit(lengths_of(unit.astype(np.float16))).all()
    assert not are_unit(lengths_of(1.01 * unit)).any()


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda tmp: tmp / "nothing", "no embedding store"),
        (lambda tmp: tmp / "nothing.npy", "no file"),
        (lambda tmp: tmp / "*.parquet", "No file matches"),
        (lambda tmp: tmp, "holds no embeddings"),
        (lambda tmp: npy(tmp / "x.npy", ids=IDS[:3]), "4 vectors but 3 ids"),
        (lambda tmp: npy(tmp / "x.npy", ids=["a", "b", "a", "c"]), "1 ids occur more than once: 'a'"),
        (lambda tmp: npy(tmp / "x.npy", ids=["a", None, "b", "c"]), "1 rows have no id, the first of them row 1"),
        (lambda tmp: npy(tmp / "x.npy", ids=["a", 1, "b", "c"]), "cannot be read"),
        (lambda tmp: npy(tmp / "x.npy", ids=[0.5, 1, 2, 3]), "must be strings or whole numbers, but are double"),
        (lambda tmp: npy(tmp / "x.npy", ids={"ids": "a"}), "holds no list of ids"),
        (lambda tmp: npy(tmp / "x.npy", "y.ids.txt"), "There are no ids for the rows.*x.ids.json"),
        (lambda tmp: npy(npy(tmp / "x.npy"), "x.ids.txt"), "several files of ids .* x.ids.json and x.ids.txt"),
        (lambda tmp: npy(tmp / "x.npy", vectors=np.arange(4)), "must hold floating-point numbers.*int64 of shape"),
        (lambda tmp: npy(tmp / "x.npy", vectors=VECTORS[0]), r"shape \(rows, width\)"),
        (lambda tmp: npy(tmp / "x.npy", ids=[], vectors=VECTORS[:0]), r"shape \(rows, width\)"),
        (lambda tmp: parquet(tmp / "x.parquet", vectors=[[1.0], [2.0, 3.0], None, None]), "row 1: the vector has 2"),
        (lambda tmp: parquet(tmp / "x.parquet", pa.list_(pa.int32()), vectors=[[1]] * 4), "no column of lists of flo"),
        (lambda tmp: parquet(tmp / "x.parquet", vectors=[None] * 4), "holds no vectors"),
        (lambda tmp: parquet(tmp / "x.parquet", ids=pa.array([], pa.string()), vectors=[]), "holds no vectors"),
    ],
)
def test_what_is_wrong_is_said(make, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        open_vectors(make(tmp_path))
    assert not list(tmp_path.glob(".*.npy"))


def test_files_that_are_cut_off_are_said(tmp_path):
    path = npy(tmp_path / "x.npy")
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match="x.npy' cannot be read"):
        open_vectors(path)
    other = parquet(tmp_path / "y.parquet")
    other.write_bytes(other.read_bytes()[:-4])
    with pytest.raises(ValueError, match="y.parquet' cannot be read as parquet"):
        open_vectors(other)


def test_models_are_not_mixed(tmp_path):
    encoded(tmp_path / "a")
    encoded(tmp_path / "b", "another", "def")
    with pytest.raises(ValueError, match="'a model' .fingerprint abc. and 'another' .fingerprint def."):
        open_vectors(tmp_path / "*" / "embeddings" / "*.parquet")


def test_columns_that_do_not_fit_are_said(tmp_path):
    path = parquet(tmp_path / "x.parquet")
    with pytest.raises(ValueError, match="The column `w` of .* does not exist.*clip .string., v .list"):
        open_vectors(path, vector_column="w")
    with pytest.raises(ValueError, match="The column `clip` of .* is of type string"):
        open_vectors(path, vector_column="clip")
    with pytest.raises(ValueError, match=r"no columns \['v'\]"):
        open_vectors(npy(tmp_path / "x.npy"), vector_column="v")
    parquet(tmp_path / "y.parquet", pa.list_(pa.int64()), vectors=[[1]] * 4)
    with pytest.raises(ValueError, match="is of type list<"):
        open_vectors(tmp_path / "[xy].parquet")
