"""Answers from the tables of an index: files and moments, equal to plain loops over all vectors."""

import numpy as np
import pytest

from modeling_atri.search.answers import answer, mean_vector, stored_vector
from modeling_atri.search.hits import Hit, merge_windows
from modeling_atri.search.index.tables import IndexedSound, IndexFacts, IndexTables
from modeling_atri.search.questions import ABSENCE_WEIGHT, Question


DIM, NUM_FILES = 6, 12


def unit(*seed: int) -> np.ndarray:
    vector = np.random.default_rng(seed).normal(size=DIM).astype(np.float32)
    return vector / np.linalg.norm(vector)


def sounds() -> list[IndexedSound]:
    """Sounds of one to six windows of 10 s with half overlap, with a column."""
    found = []
    for number in range(NUM_FILES):
        spans = [(5.0 * place, 5.0 * place + 10.0) for place in range(1 + number % 6)]
        vectors = np.stack([unit(number, place) for place in range(len(spans))])
        whole = vectors[0] if len(spans) == 1 else unit(number, 99)
        columns = {"licence": "cc0" if number % 2 else "by"}
        path = f"{number:02}.wav"
        found.append(IndexedSound(path, "/sounds", spans[-1][1], spans, vectors, whole, columns=columns))
    return found


SOUNDS = sounds()


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    import pyarrow as pa

    tables = IndexTables.create(tmp_path_factory.mktemp("answers") / "index", IndexFacts(None, "f", DIM))
    tables.ensure_columns({"licence": pa.string()})
    tables.append(SOUNDS)
    return tables


def slow_files(question: np.ndarray) -> list[tuple[str, float]]:
    return sorted(((one.path, float(one.whole @ question)) for one in SOUNDS), key=lambda pair: (-pair[1], pair[0]))


@pytest.mark.parametrize("seed", range(3))
def test_files_are_those_of_a_plain_loop(tables, seed):
    question = unit(seed, 1000)
    hits = answer(tables, [Question(question)], top_k=5)[0]
    expected = slow_files(question)[:5]
    assert [hit.path for hit in hits] == [path for path, _ in expected]
    assert [hit.score for hit in hits] == pytest.approx([score for _, score in expected], abs=1e-6)
    best = SOUNDS[int(hits[0].path[:2])]
    assert (hits[0].start_s, hits[0].end_s) == (0.0, best.duration_s) and hits[0].folder == "/sounds"
    assert hits[0].metadata == best.columns


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("top_k, moments_per_file", [(1, 1), (4, 1), (20, 1), (7, 3)])
def test_moments_are_those_of_a_plain_loop(tables, seed, top_k, moments_per_file):
    question = unit(seed, 2000)
    expected = [
        (one.path, moment)
        for one in SOUNDS
        for moment in merge_windows(one.spans, (one.vectors @ question).tolist(), moments_per_file)
    ]
    expected.sort(key=lambda pair: (-pair[1].score, pair[0]))
    hits = answer(tables, [Question(question)], top_k, by="moment", moments_per_file=moments_per_file)[0]
    assert [(hit.path, hit.start_s, hit.end_s) for hit in hits] == [
        (path, moment.start_s, moment.end_s) for path, moment in expected[:top_k]
    ]
    assert [hit.score for hit in hits] == pytest.approx([moment.score for _, moment in expected[:top_k]], abs=1e-6)


def test_more_windows_are_asked_for_until_there_are_enough_files(tmp_path):
    """One file has the 30 best windows, so its windows alone fill the first answers."""
    tables = IndexTables.create(tmp_path / "index", IndexFacts(None, "f", DIM))
    question = unit(5)
    spans = [(5.0 * place, 5.0 * place + 10.0) for place in range(30)]
    long = IndexedSound("long.wav", "/s", 155.0, spans, np.tile(question, (30, 1)), question)
    short = [IndexedSound(f"{n}.wav", "/s", 1.0, [(0.0, 1.0)], unit(n)[None], unit(n)) for n in range(6, 9)]
    tables.append([long, *short])
    hits = answer(tables, [Question(question)], top_k=3, by="moment")[0]
    assert hits[0].path == "long.wav" and (hits[0].start_s, hits[0].end_s) == (0.0, 155.0)
    assert len({hit.path for hit in hits}) == 3


def test_a_moment_may_be_best_in_a_file_whose_best_window_is_not(tmp_path):
    """The score of a moment is a mean of windows, so the files are not in the order of their best windows."""
    tables = IndexTables.create(tmp_path / "index", IndexFacts(None, "f", 2))
    spans = [(0.0, 10.0), (0.0, 10.0)]
    for path, cosines in {"spike.wav": (1.0, 0.0), "even.wav": (0.9, 0.9), "low.wav": (0.1, 0.1)}.items():
        vectors = np.array([[cosine, (1 - cosine**2) ** 0.5] for cosine in cosines], dtype=np.float32)
        tables.append([IndexedSound(path, "/s", 10.0, spans, vectors, vectors[0])])
    hits = answer(tables, [Question(np.array([1, 0], dtype=np.float32))], top_k=1, by="moment")[0]
    assert [hit.path for hit in hits] == ["even.wav"]


def test_the_windows_of_a_file_are_read_once(tmp_path, monkeypatch):
    tables = IndexTables.create(tmp_path / "index", IndexFacts(None, "f", 2))
    for number in range(8):  # a good window beside a bad one makes no good moment, so more files are read
        cosines = np.array([0.9 - number / 100, -1.0])
        vectors = np.stack([cosines, np.sqrt(1 - cosines**2)], axis=1).astype(np.float32)
        tables.append([IndexedSound(f"{number}.wav", "/s", 10.0, [(0.0, 10.0)] * 2, vectors, vectors[0])])
    read: list[str] = []
    rows = IndexTables.rows

    def counted(self, where=None, columns=None):
        found = rows(self, where, columns)
        read.extend(found["id"].to_pylist())
        return found

    monkeypatch.setattr(IndexTables, "rows", counted)
    question = Question(np.array([1, 0], dtype=np.float32))
    hits = answer(tables, [question], top_k=2, by="moment")[0]
    assert [hit.path for hit in hits] == ["0.wav", "1.wav"]
    assert len(read) == len(set(read)) == 8 * 2


@pytest.mark.parametrize("folder", ["", "/", "/a#b/c", "s3://bucket/a b"])
@pytest.mark.parametrize("path", ["1.wav", "x#0/1#2.wav"])
def test_a_hit_knows_its_folder(tmp_path, folder, path):
    tables = IndexTables.create(tmp_path / "index", IndexFacts(None, "f", DIM))
    tables.append([IndexedSound(path, folder, 1.0, [(0.0, 1.0)], unit(1)[None], unit(1))])
    for by in ("file", "moment"):
        (hit,) = answer(tables, [Question(unit(1))], by=by)[0]
        assert (hit.folder, hit.path, hit.start_s, hit.end_s) == (folder, path, 0.0, 1.0)


def test_the_filter_holds_for_files_and_moments(tables):
    for by in ("file", "moment"):
        hits = answer(tables, [Question(unit(1))], 100, by, where="licence = 'cc0' AND duration_s < 30")[0]
        assert {hit.metadata["licence"] for hit in hits} == {"cc0"} and len(hits) == 4
    hits = answer(tables, [Question(unit(1))], 100, "moment", where="start_s >= 10")[0]
    assert hits and all(hit.start_s >= 10 for hit in hits)
    assert answer(tables, [Question(unit(1))], where="duration_s > 1000") == [[]]


def test_several_questions_are_answered_as_each_alone(tables):
    questions = [Question(unit(seed)) for seed in range(4)]
    for hits, question in zip(answer(tables, questions, 3), questions, strict=True):
        alone = answer(tables, [question], 3)[0]
        assert [hit.path for hit in hits] == [hit.path for hit in alone]
        assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in alone], abs=1e-6)


def test_what_is_absent_counts_as_it_differs_from_the_mean_sound(tables):
    question, absent = unit(1), unit(2)
    mean = np.mean([vector for one in SOUNDS for vector in _rows(one)], axis=0)
    np.testing.assert_allclose(mean_vector(tables), mean, atol=1e-6)
    hits = answer(tables, [Question(question, absent)], top_k=NUM_FILES)[0]
    expected = {
        one.path: float(one.whole @ question - ABSENCE_WEIGHT * (one.whole @ absent - mean @ absent)) for one in SOUNDS
    }
    assert {hit.path: hit.score for hit in hits} == pytest.approx(expected, abs=1e-5)
    assert [hit.path for hit in hits] == sorted(expected, key=expected.__getitem__, reverse=True)


def _rows(sound: IndexedSound) -> list[np.ndarray]:
    return list(sound.vectors) + ([sound.whole] if len(sound.spans) > 1 else [])


@pytest.mark.parametrize("like", ["03.wav", "/sounds/03.wav"])
def test_a_sound_of_the_index_is_known_by_its_path(tables, like):
    np.testing.assert_array_equal(stored_vector(tables, like), SOUNDS[3].whole)


@pytest.mark.parametrize("like", ["nothing.wav", "/elsewhere/03.wav", "sounds/03.wav", "", "x' OR '1'='1"])
def test_other_paths_are_not_known(tables, like):
    assert stored_vector(tables, like) is None


def test_the_vector_of_a_moment_is_the_mean_of_its_windows(tables):
    sound = SOUNDS[5]  # six windows
    whole = Hit(sound.path, 0.0, sound.duration_s, 1.0, {}, sound.duration_s, "/sounds")
    np.testing.assert_array_equal(stored_vector(tables, whole), sound.whole)
    moment = Hit(sound.path, 5.0, 20.0, 1.0, {}, sound.duration_s, "/sounds")
    mean = sound.vectors[1:3].mean(axis=0)
    np.testing.assert_allclose(stored_vector(tables, moment), mean / np.linalg.norm(mean), atol=1e-6)
    short = Hit(sound.path, 10.5, 14.5, 1.0, {}, sound.duration_s, "/sounds")  # in the second and third window
    np.testing.assert_allclose(stored_vector(tables, short), mean / np.linalg.norm(mean), atol=1e-6)
    assert stored_vector(tables, Hit("gone.wav", 0.0, 1.0, 1.0, {}, 1.0, "/sounds")) is None


def test_a_path_in_several_folders_needs_its_folder(tmp_path):
    tables = IndexTables.create(tmp_path / "index", IndexFacts(None, "f", DIM))
    tables.append([IndexedSound("a.wav", folder, 1.0, [(0, 1)], unit(1)[None], unit(1)) for folder in ("/x", "/y")])
    with pytest.raises(ValueError, match="Several folders.*'/x', '/y'"):
        stored_vector(tables, "a.wav")
    assert stored_vector(tables, "/y/a.wav") is not None


@pytest.mark.parametrize(
    "options, message",
    [
        ({"top_k": 0}, "top_k"),
        ({"by": "second"}, "`by` must be"),
        ({"moments_per_file": 0}, "moments_per_file"),
        ({"where": "license = 'cc0'"}, "filter"),
    ],
)
def test_wrong_arguments_are_explained(tables, options, message):
    with pytest.raises(ValueError, match=message):
        answer(tables, [Question(unit(1))], **options)


def test_an_empty_index_has_no_hits(tmp_path):
    tables = IndexTables.create(tmp_path / "index", IndexFacts(None, "f", DIM))
    for by in ("file", "moment"):
        assert answer(tables, [Question(unit(1), unit(2))], by=by) == [[]]
