"""The nearest rows of an index: exact search in memory and from storage, and the vector index."""

import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from modeling_atri.search.index import nearest
from modeling_atri.search.index.nearest import searching
from modeling_atri.search.index.nearest.kept import kept
from modeling_atri.search.index.tables import IndexedSound, IndexFacts, IndexTables, SoundKey


pytest.importorskip("lancedb")
DIM = 16
FACTS = IndexFacts(model=None, fingerprint="f", projection_dim=DIM)


def unit(values: np.ndarray) -> np.ndarray:
    return (values / np.linalg.norm(values, axis=-1, keepdims=True)).astype(np.float32)


def sounds(numbers: range, seed: int = 0, windows: int = 1) -> list[IndexedSound]:
    """Sounds of one window or of several, with a column `number`."""
    vectors = unit(np.random.default_rng(seed).standard_normal((len(numbers), windows + 1, DIM)))
    return [
        IndexedSound(
            f"{number:05d}.wav",
            "/sounds",
            10.0 * windows,
            [(10.0 * place, 10.0 * place + 10) for place in range(windows)],
            of_sound[1:],
            of_sound[0],
            columns={"number": number},
        )
        for number, of_sound in zip(numbers, vectors, strict=True)
    ]


def make_tables(folder, listed: list[IndexedSound]) -> IndexTables:
    tables = IndexTables.create(folder, FACTS)
    tables.ensure_columns({"number": pa.int64()})
    tables.append(listed)
    return tables


def by_loop(tables: IndexTables, question: np.ndarray, k: int, kinds: tuple[str, ...], keep=lambda row: True):
    """The slow way: every row is read, compared alone, and sorted."""
    scored = [
        (-float(np.dot(np.float64(row["vector"]), np.float64(question))), row["id"])
        for row in tables.rows().to_pylist()
        if row["kind"] in kinds and keep(row)
    ]
    return [(name, -score) for score, name in sorted(scored)[:k]]


def check(found: list[dict], expected: list[tuple[str, float]]) -> None:
    assert [row["id"] for row in found] == [name for name, _ in expected]
    np.testing.assert_allclose([row["score"] for row in found], [score for _, score in expected], atol=1e-6)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> IndexTables:
    """60 short sounds, and 20 of three windows each."""
    return make_tables(tmp_path_factory.mktemp("mixed") / "index", sounds(range(60)) + sounds(range(60, 80), 1, 3))


QUESTIONS = unit(np.random.default_rng(9).standard_normal((5, DIM)))


@pytest.fixture(params=["memory", "storage"])
def exact_way(request, monkeypatch):
    """Exact search with the vectors in memory, or read from storage for each question."""
    if request.param == "storage":
        monkeypatch.setattr(searching, "MEMORY_BYTES", 0)


@pytest.mark.parametrize(("by", "kinds"), [("file", ("clip", "whole")), ("moment", ("clip", "window"))])
@pytest.mark.parametrize("k", [1, 7, 1000])
@pytest.mark.usefixtures("exact_way")
def test_exact_search_equals_a_loop_over_all_rows(mixed, by, kinds, k):
    found = nearest.search(mixed, QUESTIONS, k, by)
    for question, rows in zip(QUESTIONS, found, strict=True):
        check(rows, by_loop(mixed, question, k, kinds))
        assert all(row["kind"] in kinds for row in rows)


@pytest.mark.usefixtures("exact_way")
def test_a_row_has_all_columns_but_the_vector(mixed):
    row = nearest.search(mixed, QUESTIONS[:1], 1)[0][0]
    assert set(row) == {*mixed.windows.schema.names, "score"} - {"vector"}
    assert isinstance(row["score"], float)


@pytest.mark.usefixtures("exact_way")
def test_a_row_has_the_columns_that_are_named(mixed):
    row, whole = (nearest.search(mixed, QUESTIONS[:1], 1, **options)[0][0] for options in ({"columns": ["path"]}, {}))
    assert row == {name: whole[name] for name in ("id", "path", "score")}


@pytest.mark.usefixtures("exact_way")
def test_a_filter_is_applied_before_the_best_are_chosen(mixed):
    found = nearest.search(mixed, QUESTIONS, 5, where="number >= 50 AND number < 70")
    for question, rows in zip(QUESTIONS, found, strict=True):
        check(rows, by_loop(mixed, question, 5, ("clip", "whole"), lambda row: 50 <= row["number"] < 70))


@pytest.mark.usefixtures("exact_way")
def test_a_filter_that_nothing_meets_finds_nothing(mixed):
    assert nearest.search(mixed, QUESTIONS[:2], 5, where="number > 1000") == [[], []]


@pytest.mark.usefixtures("exact_way")
def test_an_empty_index_finds_nothing(tmp_path):
    assert nearest.search(IndexTables.create(tmp_path / "index", FACTS), QUESTIONS[:1], 5) == [[]]


def test_the_same_scores_whatever_is_searched_with(mixed, monkeypatch):
    together = nearest.search(mixed, QUESTIONS, 5)
    assert [nearest.search(mixed, question[None], 5)[0] for question in QUESTIONS] == together
    monkeypatch.setattr(searching, "MEMORY_BYTES", 0)
    assert nearest.search(mixed, QUESTIONS, 5) == together


@pytest.mark.usefixtures("exact_way")
def test_rows_of_equal_vectors_come_in_the_order_of_their_ids(tmp_path):
    same = [replace(sound, whole=unit(np.ones(DIM))) for sound in sounds(range(40))]
    tables = make_tables(tmp_path / "index", same[::-1])
    found = nearest.search(tables, unit(np.ones((1, DIM))), 3)[0]
    assert [row["number"] for row in found] == [0, 1, 2]


@pytest.mark.parametrize("is_made_anew", [True, False])
def test_an_index_that_was_deleted_or_made_anew_gives_no_old_answers(tmp_path, is_made_anew):
    tables = make_tables(tmp_path / "index", sounds(range(5)))
    assert nearest.search(tables, QUESTIONS[:1], 5)[0]
    shutil.rmtree(tmp_path / "index")
    if is_made_anew:
        make_tables(tmp_path / "index", sounds(range(5, 10), 1))  # as many rows and commits
    with pytest.raises(ValueError, match="deleted or made anew since it was opened. Open it again"):
        nearest.search(tables, QUESTIONS[:1], 5)
    with pytest.raises(ValueError, match="made anew"):
        tables.writing()


def test_a_search_of_moments_leaves_the_vectors_of_files_in_memory(mixed, monkeypatch):
    nearest.search(mixed, QUESTIONS[:1], 5, "file")
    blocks = kept(mixed).vectors.blocks("file")
    monkeypatch.setattr(searching, "MEMORY_BYTES", 4 * DIM * 80)  # the 80 files, and not the 120 windows
    nearest.search(mixed, QUESTIONS[:1], 5, "moment")
    assert all(now is before for now, before in zip(kept(mixed).vectors.blocks("file"), blocks, strict=True))
    monkeypatch.setattr(searching, "MEMORY_BYTES", 0)
    nearest.search(mixed, QUESTIONS[:1], 5, "moment")
    assert kept(mixed).vectors.num_bytes == 0


def test_changes_of_the_table_are_seen_and_only_new_vectors_are_read(tmp_path, monkeypatch):
    tables = make_tables(tmp_path / "index", sounds(range(50)))
    nearest.search(tables, QUESTIONS[:1], 5)
    first = kept(tables).vectors.blocks("file")[0].vectors
    read = []
    take = type(tables.windows).take_row_ids
    monkeypatch.setattr(type(tables.windows), "take_row_ids", lambda self, ids: read.extend(ids) or take(self, ids))

    tables.append(sounds(range(50, 60), 3))
    tables.replace(sounds(range(3), 4))
    tables.delete([SoundKey("/sounds", "00010.wav")])
    for question in QUESTIONS:
        check(nearest.search(tables, question[None], 20)[0], by_loop(tables, question, 20, ("clip", "whole")))
    second = kept(tables).vectors.blocks("file")[0].vectors
    assert second.shape == (59, DIM)
    np.testing.assert_array_equal(second[:46], np.delete(first, [0, 1, 2, 10], axis=0))
    assert len(read) == 13

    tables.compact()
    for question in QUESTIONS:
        check(nearest.search(tables, question[None], 20)[0], by_loop(tables, question, 20, ("clip", "whole")))


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("numbr < 3", r"Did you mean 'number'.*number \(int64\)"),
        ("number <", "cannot be used"),
        ("number < 'a'", "cannot be used"),
        ("number < 3) OR (1 = 1", "no partner"),
    ],
)
@pytest.mark.usefixtures("exact_way")
def test_a_filter_that_is_no_condition_is_explained(mixed, where, message):
    with pytest.raises(ValueError, match=message):
        nearest.search(mixed, QUESTIONS[:1], 5, where=where)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vectors": QUESTIONS[0]}, r"shape \(number, 16\), got \(16,\)"),
        ({"vectors": QUESTIONS[:, :8]}, r"got \(5, 8\)"),
        ({"vectors": np.full((1, DIM), np.nan)}, "not finite"),
        ({"by": "sound"}, '"file" or "moment"'),
        ({"k": 0}, "at least 1"),
        ({"exact": False}, "has none"),
    ],
)
def test_what_cannot_be_searched_is_refused(mixed, options, message):
    with pytest.raises(ValueError, match=message):
        nearest.search(mixed, **{"vectors": QUESTIONS, "k": 5, **options})
