"""Rows with embeddings in the place of recordings, or with captions alone."""

import json

import datasets
import numpy as np
import pyarrow as pa
import pytest

from modeling_atri.corpora.rows.checks.row_checker import RowChecker
from modeling_atri.corpora.rows.load import check_rows, load_rows
from modeling_atri.corpora.rows.lookup import embedding_facts
from modeling_atri.corpora.rows.plain_rows import check_plain_rows
from modeling_atri.embedding_store import open_vectors
from tests.helpers.rows import make_row, write_folder


VECTORS = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
NAMES = ["dog", "cat", "bird", "cow"]


def captions(name):
    return {"eng_Latn": [f"{name} one", f"{name} two"], "fra_Latn": [f"{name} un", f"{name} deux"]}


def a_row(number, **others):
    return {"audio_id": NAMES[number], "captions": captions(NAMES[number])} | others


def inline(**changes):
    return [
        a_row(number, audio_embedding=VECTORS[number].tolist()) | changes.get(NAMES[number], {}) for number in range(4)
    ]


@pytest.fixture
def store(tmp_path):
    np.save(tmp_path / "store.npy", VECTORS[::-1])
    (tmp_path / "store.ids.json").write_text(json.dumps(NAMES[::-1]))
    return tmp_path / "store.npy"


def write_lines(path, rows):
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


FORMS = {
    "list": lambda tmp, rows: rows,
    "dataset": lambda tmp, rows: datasets.Dataset.from_list(rows),
    "jsonl": lambda tmp, rows: write_lines(tmp / "rows.jsonl", rows),
    "parquet": lambda tmp, rows: [datasets.Dataset.from_list(rows).to_parquet(tmp / "r.parquet"), tmp / "r.parquet"][
        1
    ],
    "json files": lambda tmp, rows: (
        [write_lines(tmp / f"r{i}.jsonl", rows[i::2]) for i in (0, 1)] and tmp / "r?.jsonl"
    ),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["inline", "by audio_id", "by name"])
def test_every_form_gives_the_same_rows(form, kind, store, tmp_path):
    rows = {
        "inline": inline(),
        "by audio_id": [a_row(number) for number in range(4)],
        "by name": [a_row(number, audio_embedding=NAMES[number], audio_id=f"clip {number}") for number in range(4)],
    }[kind]
    loaded = load_rows(FORMS[form](tmp_path, rows), audio_embeddings=None if kind == "inline" else store)
    assert sorted(loaded.column_names) == ["audio_embedding", "audio_id", "captions", "group_id"]
    order = [0, 2, 1, 3] if form == "json files" else range(4)
    for row, number in zip(loaded, order, strict=True):
        np.testing.assert_array_equal(np.float32(row["audio_embedding"]), VECTORS[number])
        assert row["captions"] == captions(NAMES[number])
        assert row["audio_id"] == row["group_id"] == rows[number]["audio_id"]
    again = check_rows(loaded, ["fra_Latn"])
    np.testing.assert_array_equal(np.float32(again[1]["audio_embedding"]), VECTORS[order[1]])
    facts = embedding_facts(again)
    assert facts.width == 3
    assert facts.shortest == pytest.approx(np.linalg.norm(VECTORS, axis=1).min())


def test_rows_can_be_selected_and_mapped(store):
    rows = load_rows([a_row(number) for number in range(4)], audio_embeddings=store)
    np.testing.assert_array_equal(rows.select([2])[0]["audio_embedding"], VECTORS[2])
    np.testing.assert_array_equal(check_rows(rows.select([3, 1]), ["eng_Latn"])[0]["audio_embedding"], VECTORS[3])
    doubled = rows.map(lambda row: {"audio_embedding": 2 * row["audio_embedding"]}).with_format(None)
    np.testing.assert_allclose(doubled[1]["audio_embedding"], 2 * VECTORS[1])


def test_names_of_recordings_are_ids_in_the_store(tmp_path):
    folder = write_folder(tmp_path / "clips", [make_row("a/dog"), make_row("cat")])
    np.save(tmp_path / "s.npy", VECTORS[:2])
    (tmp_path / "s.ids.txt").write_text("cat.wav\na/dog.wav\n")
    (folder / "cat.wav").unlink()  # recordings are not read
    rows = load_rows(folder, audio_embeddings=tmp_path / "s.npy")
    assert rows["audio_id"][:] == ["a/dog", "cat"]
    np.testing.assert_array_equal(rows[0]["audio_embedding"], VECTORS[1])


WRONG = {
    "width": ({"cat": {"audio_embedding": [1.0, 2.0]}}, "has 2 numbers, but that of the first row has 3"),
    "infinite": ({"cat": {"audio_embedding": [1.0, 2.0, float("inf")]}}, "not finite"),
    "zero": ({"cat": {"audio_embedding": [0.0, 0.0, 0.0]}}, "a vector of zeros"),
    "missing": ({"cat": {"audio_embedding": None}}, "no `audio_embedding`"),
    "name": ({"cat": {"audio_embedding": "cat"}}, "must be a list of numbers, as in the first row, but is 'cat'"),
    "both": ({"cat": {"audio": "cat.wav"}}, "both a recording and an `audio_embedding`"),
    "id": ({"cat": {"audio_id": "dog"}}, "that of row 0 already"),
    "caption": ({"cat": {"captions": captions("a") | {"fra_Latn": ["", "b"]}}}, "caption 0 in fra_Latn is empty"),
    "language": ({"cat": {"captions": {"eng_Latn": ["a", "b"]}}}, "captions are missing in fra_Latn"),
    "number": ({"cat": {"captions": captions("a") | {"fra_Latn": ["b"]}}}, "different numbers of captions"),
    "no captions": ({"cat": {"captions": None}}, "captions"),
    "group": ({"cat": {"group_id": ""}}, "`group_id` must be a string"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_row_is_reported_or_left_out(name):
    changes, message = WRONG[name]
    with pytest.raises(ValueError, match=r"(?s)list of rows: . wrong row.*" + message):
        load_rows(inline(**changes))
    left_out = []
    rows = load_rows(inline(**changes), left_out=left_out)
    assert rows["audio_id"][:] == (["bird", "cow"] if name == "none" else [n for n in NAMES if n != "cat"])
    assert [row.place for row in left_out] == ["row 1"]
    assert message.split("\\")[0] in left_out[0].reason
    np.testing.assert_array_equal(np.float32(rows[1]["audio_embedding"]), VECTORS[2])


def test_ids_that_the_store_lacks_are_listed(store, tmp_path):
    rows = [a_row(0), a_row(1) | {"audio_id": "wolf"}, a_row(2), a_row(3) | {"audio_id": None}]
    left_out = []
    loaded = load_rows(write_lines(tmp_path / "rows.jsonl", rows), audio_embeddings=store, left_out=left_out)
    assert loaded["audio_id"][:] == ["dog", "bird"]
    assert [(row.place, row.kind) for row in left_out] == [(f"line {n}", "missing embedding") for n in (2, 4)]
    assert "has no embedding with the id 'wolf'" in left_out[0].reason
    assert "nor an `audio_id` to look" in left_out[1].reason


def test_faults_of_the_store_are_faults_of_rows(tmp_path):
    np.save(tmp_path / "s.npy", np.stack([VECTORS[0], 0 * VECTORS[0], np.inf * VECTORS[0], VECTORS[3]]))
    (tmp_path / "s.ids.json").write_text(json.dumps(NAMES))
    left_out = []
    loaded = load_rows([a_row(n) for n in range(4)], audio_embeddings=tmp_path / "s.npy", left_out=left_out)
    assert loaded["audio_id"][:] == ["dog", "cow"]
    assert [row.kind for row in left_out] == ["wrong embedding"] * 2


def test_a_name_needs_a_store():
    with pytest.raises(ValueError, match="audio_embeddings=..."):
        load_rows([a_row(0, audio_embedding="dog")])


def test_other_columns_are_no_embeddings():
    with pytest.raises(ValueError, match="list of numbers.* but the column is of type struct"):
        load_rows(datasets.Dataset.from_list([a_row(0, audio_embedding={"x": 1})]))


def test_captions_alone_are_rows_only_if_no_audio_is_needed(tmp_path):
    rows = [{"captions": captions(name)} for name in NAMES]
    for form in (rows, datasets.Dataset.from_list(rows), write_lines(tmp_path / "rows.jsonl", rows)):
        with pytest.raises(ValueError, match="names no recording|no column audio"):
            load_rows(form)
        loaded = load_rows(form, needs_sound=False)
        assert loaded.column_names == ["audio_id", "captions", "group_id"]
        assert loaded["audio_id"][:] == loaded["group_id"][:] == [f"row {number}" for number in range(4)]
        assert len(check_rows(loaded, ["eng_Latn"], needs_sound=False)) == 4


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("needs_sound", [True, False])
def test_sounds_that_begin_after_the_first_row_count(form, needs_sound, tmp_path):
    folder = write_folder(tmp_path / "clips", [make_row("cat"), make_row("cow")])
    sounds = [None, str(folder / "cat.wav"), None, str(folder / "cow.wav")]
    rows = [a_row(number, file_name=sound) for number, sound in enumerate(sounds)]
    source = FORMS[form](tmp_path, rows)
    message = "it names no recording.* has no `audio_embedding` in its place" if needs_sound else "but other rows do"
    with pytest.raises(ValueError, match=f"2 wrong rows.*(?s:.*){message}"):
        load_rows(source, needs_sound=needs_sound)
    left_out = []
    loaded = load_rows(source, needs_sound=needs_sound, left_out=left_out)
    assert loaded["audio_id"][:] == ["cat", "cow"]
    assert "audio" in loaded.column_names
    assert [row.kind for row in left_out] == ["missing recording"] * 2


def test_captions_without_names_are_not_looked_up_in_a_store(store):
    """The store is for the rows to evaluate on then."""
    rows = [{"captions": captions(name)} for name in NAMES]
    loaded = load_rows(rows, audio_embeddings=store, needs_sound=False)
    assert loaded.column_names == ["audio_id", "captions", "group_id"]
    assert loaded["captions"][:] == [row["captions"] for row in rows]
    with pytest.raises(ValueError, match="nor an `audio_id` to look"):
        load_rows(rows, audio_embeddings=store)
    with pytest.raises(ValueError, match="1 wrong row"):
        load_rows([{"audio_id": NAMES[0], **rows[0]}, rows[1]], audio_embeddings=store, needs_sound=False)


def test_captions_that_are_right_are_those_that_checks_leave_as_they_are(store):
    """Against the checks of rows with recordings, which go row by row."""
    texts = [
        "a dog",
        " a dog",
        "R&B",
        "a &amp; b",
        "a\u00a0b",
        "a\tb",
        "",
        "  ",
        "犬",
        "[x]",
        '["x"]',
        "{",
        None,
        "a\ufeffb",
    ]
    rows = [{"audio_id": str(n), "captions": {"eng_Latn": [text], "fr": ["b"]}} for n, text in enumerate(texts)]
    rows += [{"audio_id": f"{n} s", "captions": {"eng_Latn": text, "fr": "b"}} for n, text in enumerate(texts)]
    for part in (rows[: len(texts)], rows[len(texts) :]):
        checker = RowChecker(["eng_Latn", "fra_Latn"], None)
        checker._check_recording = lambda sound, checked: None
        expected, expected_bad = check_plain_rows([row | {"audio": "x"} for row in part], checker, skip=True)
        dataset = datasets.Dataset(pa.Table.from_pylist(part))
        bad = []
        found = load_rows(dataset, languages=["en", "fr"], needs_sound=False, left_out=bad)
        assert found.to_list() == [row | {"captions": row["captions"]} for row in expected.without_audio]
        assert bad == expected_bad


def test_languages_of_the_first_row_are_taken(caplog):
    rows = inline(cat={"captions": captions("cat") | {"deu_Latn": ["x", "y"]}})
    loaded = load_rows(rows)
    assert list(loaded[1]["captions"]) == ["eng_Latn", "fra_Latn"]
    assert "captions in deu_Latn are left out" in caplog.text


def test_a_column_of_groups_is_taken(store):
    rows = [a_row(n, scene=f"s{n % 2}") for n in range(4)]
    assert load_rows(rows, group_column="scene", audio_embeddings=store)["group_id"][:] == ["s0", "s1", "s0", "s1"]


def test_a_store_that_is_open_can_be_given(store):
    rows = load_rows([a_row(1)], audio_embeddings=open_vectors(store))
    np.testing.assert_array_equal(rows[0]["audio_embedding"], VECTORS[1])
