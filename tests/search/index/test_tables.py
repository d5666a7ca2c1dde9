"""The tables of an index: what is written can be read again, in one commit, whatever the paths are called."""

import shutil

import numpy as np
import pyarrow as pa
import pytest

from modeling_atri.search.index.tables import (
    OF_FILES,
    OF_MOMENTS,
    Failure,
    IndexedSound,
    IndexFacts,
    IndexTables,
    SoundKey,
    Transfer,
    all_of,
    location_of,
    of_sounds,
)


DIM = 4
FACTS = IndexFacts("/models/first", "f" * 32, DIM, ["eng_Latn"], 10.0, 5.0)
ODD_PATHS = [
    "it's.wav",
    "a\\b.wav",
    'x"y`z.wav',
    "日本.wav",
    "new\nline.wav",
    "%_.wav",
    "a'--.wav",
    "'; DROP TABLE x",
    "#-1",
]


def unit(*seed: int) -> np.ndarray:
    vector = np.random.default_rng(seed).normal(size=DIM).astype(np.float32)
    return vector / np.linalg.norm(vector)


def sound(path: str, num_windows: int = 1, seed: int = 0, folder: str = "/sounds", **facts) -> IndexedSound:
    whole = unit(seed)
    vectors = np.stack([unit(seed, number) for number in range(num_windows)]) if num_windows > 1 else whole[None]
    spans = [(5.0 * number, 5.0 * number + 10.0) for number in range(num_windows)]
    return IndexedSound(path, folder, spans[-1][1], spans, vectors, whole, 100 + seed, 200 + seed, f"c{seed}", **facts)


@pytest.fixture
def tables(tmp_path):
    return IndexTables.create(tmp_path / "index", FACTS)


def contents(tables: IndexTables) -> dict[str, list]:
    """Every row by id, without its vector."""
    return {row["id"]: row for row in tables.rows().drop_columns(["vector"]).to_pylist()}


def test_a_clip_is_one_row_and_a_long_sound_has_windows_and_a_whole(tables):
    clip, long = sound("clip.wav"), sound("long.wav", num_windows=3, seed=1)
    tables.append([clip, long])
    rows = tables.rows().to_pylist()
    assert [(row["id"], row["kind"], row["start_s"], row["end_s"]) for row in rows] == [
        ("/sounds/clip.wav#0", "clip", 0.0, 10.0),
        ("/sounds/long.wav#-1", "whole", 0.0, 20.0),
        ("/sounds/long.wav#0", "window", 0.0, 10.0),
        ("/sounds/long.wav#1", "window", 5.0, 15.0),
        ("/sounds/long.wav#2", "window", 10.0, 20.0),
    ]
    stored = np.array([row["vector"] for row in rows], dtype=np.float32)
    np.testing.assert_array_equal(stored, np.vstack([clip.whole, long.whole, long.vectors]))
    assert {row["duration_s"] for row in rows[1:]} == {20.0}
    assert [row["content"] for row in rows] == ["c0", *["c1"] * 4]
    assert [row["path"] for row in tables.rows(OF_FILES).to_pylist()] == ["clip.wav", "long.wav"]
    assert [row["id"][-2:] for row in tables.rows(OF_MOMENTS).to_pylist()] == ["#0", "#0", "#1", "#2"]
    assert tables.count_sounds() == 2


def test_a_sound_is_replaced_whole_and_in_one_commit(tables):
    tables.append([sound("a.wav", num_windows=4), sound("b.wav", seed=1), sound("a.wav", seed=2, folder="/other")])
    before, version = contents(tables), tables.windows.version
    tables.replace([sound("a.wav", num_windows=2, seed=3), sound("new.wav", seed=4)])
    assert tables.windows.version == version + 1
    after = contents(tables)
    assert set(after) == {
        *(f"/sounds/a.wav#{number}" for number in (-1, 0, 1)),
        *("/sounds/b.wav#0", "/sounds/new.wav#0", "/other/a.wav#0"),
    }
    assert all(after[name] == before[name] for name in ("/sounds/b.wav#0", "/other/a.wav#0"))
    assert after["/sounds/a.wav#1"]["content"] == "c3"
    tables.replace([sound("a.wav", seed=5)])  # a clip now
    assert [name for name in contents(tables) if "sounds/a" in name] == ["/sounds/a.wav#0"]


@pytest.mark.parametrize("path", ODD_PATHS)
def test_any_path_is_quoted(tables, path):
    tables.append([sound("a.wav"), sound(path, num_windows=2, seed=1)])
    tables.replace([sound(path, seed=2)])
    assert tables.keys_of([path]) == [SoundKey("/sounds", path)]
    tables.transfer([Transfer(SoundKey("/sounds", path), SoundKey("/it's", path), 1, 2)])
    assert [row["folder"] for row in contents(tables).values() if row["path"] == path] == ["/it's"]
    tables.set_failures("/it's", {path: Failure("why's", 1, 2)})
    tables.set_failures("/it's", {path: Failure("other", 1, 2)})
    assert tables.failures("/it's") == {SoundKey("/it's", path): Failure("other", 1, 2)}
    tables.delete([SoundKey("/it's", path)])
    assert list(contents(tables)) == ["/sounds/a.wav#0"]


def test_sounds_are_moved_and_swapped_with_their_vectors(tables):
    sounds = [sound(name, num_windows=number + 1, seed=number) for number, name in enumerate("abcd")]
    tables.append(sounds)

    def key(path: str, folder: str = "/sounds") -> SoundKey:
        return SoundKey(folder, path)

    version = tables.windows.version
    tables.transfer(
        [
            Transfer(key("a"), key("b"), 1, 11),
            Transfer(key("b"), key("a"), 2, 12),
            Transfer(key("c"), key("c"), 3, 13),  # touched
            Transfer(key("d"), key("e", "/other"), 4, 14),
        ]
    )
    assert tables.windows.version == version + 1
    files = {SoundKey(row["folder"], row["path"]): row for row in tables.rows(OF_FILES).to_pylist()}
    expected = {key("b"): 0, key("a"): 1, key("c"): 2, key("e", "/other"): 3}
    assert expected.keys() == files.keys()
    for name, number in expected.items():
        np.testing.assert_array_equal(np.float32(files[name]["vector"]), sounds[number].whole)
        assert files[name]["content"] == f"c{number}"
    assert [files[name]["mtime_ns"] for name in expected] == [11, 12, 13, 14]
    assert tables.windows.count_rows() == 1 + 3 + 4 + 5


def test_columns_are_added_typed_updated_and_widened(tables):
    tables.append([sound("a.wav"), sound("b.wav", num_windows=2, seed=1)])
    tables.ensure_columns({"licence": pa.string(), "bpm": pa.int64()})
    tables.update_columns({SoundKey("/sounds", "b.wav"): {"licence": "cc0", "bpm": 90}})
    tables.append([sound("c.wav", seed=2, columns={"bpm": 120, "unknown": 1})])
    assert tables.columns == {"licence": pa.string(), "bpm": pa.int64()}
    found = tables.rows("bpm >= 90 AND licence IS NOT NULL", ["path", "kind", "bpm"]).to_pylist()
    assert [(row["kind"], row["bpm"]) for row in found] == [("whole", 90), ("window", 90), ("window", 90)]
    tables.ensure_columns({"bpm": pa.float64()})
    tables.ensure_columns({"bpm": pa.int64()})  # whole numbers fit
    assert tables.columns["bpm"] == pa.float64()
    tables.append([sound("d.wav", seed=3, columns={"bpm": 98.5})])
    assert sorted(row["bpm"] for row in tables.rows(all_of(OF_FILES, "bpm > 0")).to_pylist()) == [90.0, 98.5, 120.0]
    with pytest.raises(ValueError, match="'bpm' .* holds values of type double, but the new ones are of type string"):
        tables.ensure_columns({"bpm": pa.string()})
    for name in ("path", "vector", "score", "_rowid", ""):
        with pytest.raises(ValueError, match="A column cannot be called"):
            tables.ensure_columns({name: pa.string()})


@pytest.mark.parametrize("num_steps", [1, 2])
def test_a_killed_change_of_a_column_is_finished_by_the_next(tables, num_steps):
    tables.ensure_columns({"bpm": pa.int64()})
    tables.append([sound("a.wav", columns={"bpm": 7})])
    tables.windows.add_columns({"bpm__as_double": "CAST(`bpm` AS DOUBLE)"})
    if num_steps == 2:
        tables.windows.drop_columns(["bpm"])
    tables.ensure_columns({"bpm": pa.float64()})
    assert tables.columns == {"bpm": pa.float64()}
    assert tables.rows()["bpm"].to_pylist() == [7.0]


def test_failures_are_replaced_by_folder(tables):
    tables.set_failures("/one", {"x": Failure("broken", 1, 2), "y": Failure("closed")})
    tables.set_failures("/two", {"x": Failure("empty")})
    tables.set_failures("/one", {"y": Failure("closed")})
    assert tables.failures() == {SoundKey("/one", "y"): Failure("closed"), SoundKey("/two", "x"): Failure("empty")}
    tables.set_failures("/one", {})
    assert list(tables.failures()) == [SoundKey("/two", "x")]


def test_doubles_are_removed(tables):
    tables.append([sound("a.wav", num_windows=2), sound("b.wav", seed=1)])
    tables.append([sound("a.wav", num_windows=2)])
    assert tables.windows.count_rows() == 7
    assert tables.remove_doubles() == 3
    assert len(contents(tables)) == tables.windows.count_rows() == 4
    assert tables.remove_doubles() == 0


def test_compacting_changes_no_row(tables):
    for number in range(5):
        tables.append([sound(f"{number}.wav", seed=number)])
    before = contents(tables)
    tables.compact()
    assert contents(tables) == before
    assert tables.windows.stats()["fragment_stats"]["num_fragments"] == 1


def test_many_sounds_are_deleted(tables):
    tables.append([sound(f"{number}.wav") for number in range(25)])
    tables.delete([SoundKey("/sounds", f"{number}.wav") for number in range(10_500)])
    assert tables.windows.count_rows() == 0
    tables.delete([])


def test_a_filter_for_no_sound_meets_none(tables):
    tables.append([sound("a.wav")])
    assert tables.rows(of_sounds([])).num_rows == 0
    assert tables.delete_where("duration_s > 99") == 0
    assert tables.delete_where("duration_s > 9 OR path = 'b'") == 1


@pytest.mark.parametrize("where", ["duration_s <", "licence = 'cc0'", "duration_s < 'x' AND", "path = 'it's'"])
def test_a_wrong_filter_is_explained(tables, where):
    with pytest.raises(ValueError) as error:
        tables.count_sounds(where)
    assert str(error.value).startswith(f"The filter {where!r} cannot be used: ")
    assert "duration_s (double)" in str(error.value)
    assert ".rs" not in str(error.value)


def test_facts_and_rows_are_there_when_it_is_opened_again(tables):
    tables.append([sound("a.wav")])
    again = IndexTables.open(tables.path)
    assert again.facts == FACTS
    assert contents(again) == contents(tables)
    tables.append([sound("b.wav")])
    assert len(contents(again)) == 2  # a reader sees what was written since


def test_what_is_no_index(tmp_path, tables):
    (tmp_path / "file").touch()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").touch()
    for path, message in (
        ("file", "is a file, and an index is a folder"),
        ("other", "The folder .* is no index. It holds notes.txt."),
        ("indx", "There is no index .*indx.* Did you mean .*index"),
    ):
        with pytest.raises(ValueError, match=message):
            IndexTables.open(tmp_path / path)
    with pytest.raises(ValueError, match="There is no index in .*other.*, but it holds other files: notes.txt"):
        IndexTables.create(tmp_path / "other", FACTS)
    with pytest.raises(ValueError, match="There is an index at .* already"):
        IndexTables.create(tables.path, FACTS)
    assert [IndexTables.exist(tmp_path / name) for name in ("other", "indx", "index")] == [False, False, True]
    with pytest.raises(ValueError, match="is a file"):
        IndexTables.exist(tmp_path / "file")
    (tmp_path / "other" / "two\nlines.wav").touch()  # LanceDB refuses to list such a folder
    assert not IndexTables.exist(tmp_path / "other")
    with pytest.raises(ValueError, match="The folder .* is no index"):
        IndexTables.open(tmp_path / "other")


@pytest.mark.parametrize(
    "kind, advice",
    [
        (pa.date32(), "Write a day as date '2024-05-01'"),
        (pa.timestamp("us"), "Write a time as timestamp '2024-05-01 12:00:00'"),
        (pa.timestamp("us", "UTC"), "Write a time as timestamp '2024-05-01 12:00:00'"),
        (pa.list_(pa.string()), r"array_has\(column, 'text'\)"),
    ],
)
def test_a_text_for_a_column_of_another_type_is_explained(tables, kind, advice):
    tables.ensure_columns({"place": kind})
    with pytest.raises(ValueError, match=advice):
        tables.rows("place = '2024-05-01 x'", ["path"])


def test_an_index_that_was_not_finished_is_made_again(tmp_path, tables):
    tables.append([sound("a.wav")])
    for file in sorted((tmp_path / "index" / "facts.lance").rglob("*"), reverse=True):
        file.unlink() if file.is_file() else file.rmdir()
    (tmp_path / "index" / "facts.lance").rmdir()
    assert not IndexTables.exist(tables.path)
    assert IndexTables.create(tables.path, FACTS).count_sounds() == 0


def test_an_index_of_a_newer_version(tmp_path):
    newer = IndexFacts(**{**FACTS.__dict__, "version": 99})
    IndexTables.create(tmp_path / "index", newer)
    with pytest.raises(ValueError, match=r"was made by a newer version of this package \(form 99; this one knows 1\)"):
        IndexTables.open(tmp_path / "index")


def test_one_process_writes_at_a_time(tables):
    with tables.writing(), tables.writing():  # the same thread may enter again
        with pytest.raises(ValueError, match="Another process is writing to the index"):
            with IndexTables.open(tables.path).writing():
                pass
        assert IndexTables.open(tables.path).count_sounds() == 0  # readers do not wait
    with IndexTables.open(tables.path).writing():
        pass


@pytest.mark.parametrize("path", ["", b"x"])
def test_a_location_must_be_a_text(path):
    with pytest.raises(ValueError, match="must be a text that is not empty"):
        location_of(path)


def test_locations(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert location_of("index/") == str(tmp_path / "index")
    assert location_of("s3://bucket/index/") == "s3://bucket/index"


@pytest.mark.parametrize("place", ["windows.lance/_versions", "facts.lance/data", "windows.lance"])
def test_a_damaged_index_is_told(tables, tmp_path, place):
    tables.append([sound("a.wav")])
    folder = tmp_path / "index" / place
    for file in folder.rglob("*"):
        if file.is_file():
            file.write_bytes(b"not what was written")
    if place == "windows.lance":
        shutil.rmtree(folder)
    with pytest.raises(ValueError, match="The index '.*/index' is damaged: .* Copy it again, or delete it and index"):
        IndexTables.open(tables.path)
