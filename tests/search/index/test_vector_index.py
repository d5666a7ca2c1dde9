"""The vector index of large tables: building, new rows, recall, and filters."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest

from modeling_atri.search.index import nearest
from modeling_atri.search.index.nearest import recall, searching, upkeep
from modeling_atri.search.index.nearest.kept import kept
from modeling_atri.search.index.nearest.vector_index import Effort, VectorIndex
from modeling_atri.search.index.tables import IndexedSound, IndexFacts, IndexTables, SoundKey


pytest.importorskip("lancedb")
pytestmark = pytest.mark.heavy
DIM = 16
LARGE = 300  # rows above which the tests have a vector index


@pytest.fixture(scope="module", autouse=True)
def _small() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(searching, "EXACT_ROWS", LARGE)
        patch.setattr(upkeep, "EXACT_ROWS", LARGE)
        patch.setattr(upkeep, "_NEW_ROWS", 40)
        patch.setattr(recall, "NUM_QUESTIONS", 12)
        yield


def vectors_near(number: int, seed: int, dim: int = DIM) -> np.ndarray:
    """Unit vectors around twenty centres."""
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((20, dim))
    values = centres[generator.integers(20, size=number)] + 0.6 * generator.standard_normal((number, dim))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def clips(numbers: range, seed: int, dim: int = DIM) -> list[IndexedSound]:
    return [
        IndexedSound(f"{number:05d}", "/sounds", 5.0, [(0.0, 5.0)], vector[None], vector, columns={"number": number})
        for number, vector in zip(numbers, vectors_near(len(numbers), seed, dim), strict=True)
    ]


def make_tables(folder, sounds: list[IndexedSound], dim: int = DIM) -> IndexTables:
    tables = IndexTables.create(folder, IndexFacts(model=None, fingerprint="f", projection_dim=dim))
    tables.ensure_columns({"number": pa.int64()})
    tables.append(sounds)
    return tables


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> IndexTables:
    tables = make_tables(tmp_path_factory.mktemp("large") / "index", clips(range(2000), 1))
    nearest.refresh(tables)
    return tables


QUESTIONS = vectors_near(20, 7)


def part_found(tables: IndexTables, k: int, questions: np.ndarray = QUESTIONS, **options) -> float:
    """The part of the true nearest rows that a search finds. What it finds must have the right scores."""
    parts = []
    found = nearest.search(tables, questions, k, **options)
    truth = nearest.search(tables, questions, 5000, **{**options, "exact": True})
    for of_question, all_rows in zip(found, truth, strict=True):
        scores = {row["id"]: row["score"] for row in all_rows}
        best = [row["id"] for row in all_rows[:k]]
        assert [row["score"] for row in of_question] == [scores[row["id"]] for row in of_question]
        assert of_question == sorted(of_question, key=lambda row: (-row["score"], row["id"]))
        parts.append(len({row["id"] for row in of_question} & set(best)) / len(best))
    return float(np.mean(parts))


def test_a_large_table_is_searched_with_the_vector_index(large, monkeypatch):
    def run(self, vector, effort, *arguments, **options):
        used.append(effort)
        return real(self, vector, effort, *arguments, **options)

    used: list[Effort] = []
    real = VectorIndex.run
    monkeypatch.setattr(VectorIndex, "run", run)
    assert part_found(large, 10) >= 0.9
    assert len(used) == len(QUESTIONS)
    assert used[0].groups < kept(large).state().index.num_groups
    nearest.search(large, QUESTIONS, 10, exact=True)
    assert len(used) == len(QUESTIONS)


def test_figures_tell_the_vector_index_and_its_recall(large):
    figures = nearest.figures(IndexTables.open(large.path))
    assert (figures.is_indexed, figures.num_groups, figures.num_indexed, figures.num_new) == (True, 45, 2000, 0)
    assert 0 < figures.index_bytes < 2000 * DIM * 4
    assert [effort.k for effort in figures.efforts["file"]] == [10, 100]
    assert all(effort.recall >= 0.95 for effort in figures.efforts["file"])


def test_the_recall_is_that_of_a_count_over_all_rows(large):
    index = kept(large).state().index
    questions = recall.sample_questions(large, None, 12)
    stored = np.stack(large.rows(columns=["vector"])["vector"].to_pylist()).astype(np.float32)
    names = large.rows(columns=["id"])["id"].to_pylist()
    effort = index.efforts["file"][0]
    parts = []
    for question in questions:
        best = {names[place] for place in np.argsort(-(stored @ question), kind="stable")[:10]}
        parts.append(len(best & set(index.run(question, effort, None, ["id"])["id"].to_pylist())) / 10)
    assert effort.recall == pytest.approx(np.mean(parts), abs=1e-6)


def test_questions_of_the_measurement_lie_at_a_distance_from_stored_vectors(large):
    questions = recall.sample_questions(large, None, 50)
    stored = np.stack(large.rows(columns=["vector"])["vector"].to_pylist()).astype(np.float32)
    np.testing.assert_allclose(np.linalg.norm(questions, axis=1), 1, atol=1e-6)
    assert 0.5 < np.median((questions @ stored.T).max(axis=1)) < 0.95
    np.testing.assert_array_equal(questions, recall.sample_questions(large, None, 50))


@pytest.mark.parametrize(
    ("where", "number"),
    [("number < 1500", 1500), ("number < 400", 400), ("number % 100 = 0", 20), ("number < 0", 0)],
)
@pytest.mark.parametrize("exact", [None, False])
def test_filters_leave_the_nearest_of_those_that_meet_them(large, where, number, exact):
    found = nearest.search(large, QUESTIONS, 15, where=where, exact=exact)
    assert all(len(rows) == min(15, number) for rows in found)
    if number:
        assert part_found(large, 10, where=where, exact=exact) >= (1 if exact is None and number <= LARGE else 0.9)


@pytest.mark.parametrize("k", [100, 1000, 3000])
def test_many_rows_are_found(large, k):
    assert [len(rows) for rows in nearest.search(large, QUESTIONS[:3], k, exact=False)] == [min(k, 2000)] * 3
    assert part_found(large, k, QUESTIONS[:3], exact=False) >= 0.9


def test_moments_and_files_are_searched_in_one_vector_index(tmp_path):
    vectors = vectors_near(1200, 3).reshape(300, 4, DIM)
    spans = [(0.0, 10.0), (5.0, 15.0), (10.0, 20.0)]
    sounds = [
        IndexedSound(f"{number:05d}", "/long", 20.0, spans, of_sound[1:], of_sound[0], columns={"number": number})
        for number, of_sound in enumerate(vectors)
    ]
    tables = make_tables(tmp_path / "index", sounds)
    nearest.refresh(tables)
    # 900 windows are above the limit, and 300 whole sounds are not.
    assert list(nearest.figures(tables).efforts) == ["moment"]
    assert part_found(tables, 10, by="moment") >= 0.9
    assert part_found(tables, 10, by="file") == 1
    kinds = {row["kind"] for rows in nearest.search(tables, QUESTIONS, 20, "moment") for row in rows}
    assert kinds == {"window"}
    assert indexed_columns(tables) == ["kind", "path", "vector"]


def indexed_columns(tables: IndexTables) -> list[str]:
    return sorted(name for index in tables.windows.list_indices() for name in index.columns)


def test_columns_of_an_older_index_are_indexed_by_the_next_run(tmp_path):
    tables = make_tables(tmp_path / "index", clips(range(400), 1))
    nearest.refresh(tables)
    tables.windows.drop_index(next(one.name for one in tables.windows.list_indices() if one.columns == ["path"]))
    nearest.refresh(tables)
    assert indexed_columns(tables) == ["kind", "path", "vector"]
    tables.append(clips(range(400, 410), 2))  # these are in no index yet
    assert tables.count_sounds("path IN ('00007', '00405', 'none')") == 2


def test_a_search_reads_the_columns_that_are_named(large):
    rows = nearest.search(large, QUESTIONS[:1], 3, exact=False, columns=["number"])[0]
    whole = nearest.search(large, QUESTIONS[:1], 3, exact=False)[0]
    assert rows == [{name: row[name] for name in ("id", "number", "score")} for row in whole]


def test_a_vector_index_keeps_up_with_its_table(tmp_path, monkeypatch):
    tables = make_tables(tmp_path / "index", clips(range(400), 1))
    nearest.refresh(tables)
    built: list[int] = []
    build = upkeep.build
    monkeypatch.setattr(upkeep, "build", lambda tables: built.append(tables.windows.count_rows()) or build(tables))

    def state() -> tuple[int, int]:
        figures = nearest.figures(tables)
        return figures.num_indexed, figures.num_new

    # A few new rows are found though they are not in the vector index.
    new = clips(range(400, 430), 2)
    tables.append(new)
    nearest.refresh(tables)
    assert state() == (400, 30)
    own = np.stack([sound.whole for sound in new])
    assert [rows[0]["number"] for rows in nearest.search(tables, own, 1, exact=False)] == list(range(400, 430))

    # More of them are taken in.
    tables.append(clips(range(430, 460), 3))
    nearest.refresh(tables)
    assert state() == (460, 0)
    assert [rows[0]["number"] for rows in nearest.search(tables, own, 1)] == list(range(400, 430))

    # What is changed or removed is not found as it was.
    tables.replace(clips(range(400, 410), 9))
    tables.delete([SoundKey("/sounds", f"{number:05d}") for number in range(410, 415)])
    found = [rows[0] for rows in nearest.search(tables, own[:15], 1)]
    assert all(row["score"] < 0.9999 for row in found)
    nearest.refresh(tables, is_thorough=True)
    assert state() == (455, 0)
    assert part_found(tables, 10) >= 0.9
    assert built == []

    # At twice the rows it is built anew, and where few are left it is removed.
    tables.append(clips(range(1000, 1400), 4))
    nearest.refresh(tables)
    assert built == [855]
    assert state() == (855, 0)
    tables.delete_where("number >= 200")
    nearest.refresh(tables)
    assert not nearest.figures(tables).is_indexed
    assert part_found(tables, 10) == 1


def test_a_vector_index_that_finds_too_little_is_built_anew(tmp_path, monkeypatch):
    tables = make_tables(tmp_path / "index", clips(range(400), 1))
    nearest.refresh(tables)
    measured = iter([0.5, 0.97])
    monkeypatch.setattr(upkeep, "measure_recall", lambda *_: [Effort(10, 3, 5, next(measured))])
    tables.append(clips(range(400, 450), 2))
    nearest.refresh(tables)
    assert kept(tables).state().index.num_rows_trained == 450
    assert nearest.figures(tables).efforts["file"] == [Effort(10, 3, 5, 0.97)]


@pytest.mark.parametrize("dim", [12, 24])
def test_vectors_of_any_width_have_a_vector_index(tmp_path, dim):
    tables = make_tables(tmp_path / "index", clips(range(320), 1, dim), dim)
    nearest.refresh(tables)
    question = vectors_near(1, 7, dim)
    assert nearest.figures(tables).is_indexed
    assert nearest.search(tables, question, 5) == nearest.search(tables, question, 5, exact=True)


def test_a_vector_index_that_was_not_measured_yet_is_used(tmp_path):
    tables = make_tables(tmp_path / "index", clips(range(400), 1))
    nearest.refresh(tables)
    tables.notes.write("vector_index", {})
    assert part_found(tables, 10, exact=False) > 0.5
    nearest.refresh(tables)
    assert nearest.figures(tables).efforts["file"][0].recall >= 0.95
