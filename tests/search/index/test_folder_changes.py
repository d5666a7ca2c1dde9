"""A folder is compared with the files of an index."""

import os
import random
import shutil
import unicodedata
from pathlib import Path

import pyarrow as pa
import pytest

from modeling_atri.audio_io.discovery import search_folder
from modeling_atri.files import content_digest
from modeling_atri.search.index.folder_changes import compare_folder, digest_if_unchanged
from modeling_atri.search.index.tables import FILE_COLUMNS, SoundKey


WINDOW_S = 10.0


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "sounds"
    for number, name in enumerate(["a.wav", "b/c.wav", "b/d.wav", "e.wav"]):
        write(root / name, f"content {number}")
    return root


def write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def touch(path: Path) -> None:
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1_000_000))


def row_of(root: Path, name: str, **facts) -> dict:
    """The row that the index has for a file when it was indexed in its present state."""
    path = root / name
    if not path.exists():
        path = root / unicodedata.normalize("NFD", name)
    status = path.stat()
    known = {"kind": "clip", "duration_s": 5.0, "size": status.st_size, "mtime_ns": status.st_mtime_ns}
    return {"folder": str(root), "path": name, **known, "content": content_digest(path)} | facts


def index_of(*folders: Path) -> list[dict]:
    return [row_of(folder, name) for folder in folders for name in search_folder(folder).sounds]


def compare(rows: list[dict], folder: Path, window_s: float = WINDOW_S):
    columns = {name: [row[name] for row in rows] for name in FILE_COLUMNS}
    types = {"duration_s": pa.float64(), "size": pa.int64(), "mtime_ns": pa.int64()}
    files = pa.table({name: pa.array(values, types.get(name, pa.string())) for name, values in columns.items()})
    return compare_folder(files, str(folder), search_folder(folder), window_s, num_workers=1)


def moves_of(changes) -> dict[str, str]:
    return {move.target.path: move.source.path for move in changes.moves}


def test_a_new_folder_is_encoded_and_nothing_is_read_for_its_content(folder):
    changes = compare([], folder)
    assert changes.to_encode == ["a.wav", "b/c.wav", "b/d.wav", "e.wav"]
    assert (changes.moves, changes.gone, changes.replaced, changes.contents, changes.num_current) == (
        [], [], set(), {}, 0,
    )  # fmt: skip


def test_each_kind_of_change(folder):
    rows = index_of(folder)
    write(folder / "a.wav", "other content")
    touch(folder / "b/c.wav")
    (folder / "b/d.wav").rename(folder / "moved.wav")
    (folder / "e.wav").unlink()
    write(folder / "new.wav", "new content!")
    changes = compare(rows, folder)
    assert changes.to_encode == ["a.wav", "new.wav"]
    assert changes.replaced == {SoundKey(str(folder), "a.wav")}
    assert moves_of(changes) == {"b/c.wav": "b/c.wav", "moved.wav": "b/d.wav"}
    assert changes.gone == [SoundKey(str(folder), "e.wav")]
    assert (changes.num_current, changes.num_moved, changes.num_unseen) == (0, 1, 0)
    touched = next(move for move in changes.moves if move.source == move.target)
    assert touched.mtime_ns == (folder / "b/c.wav").stat().st_mtime_ns


def test_an_unchanged_folder_is_not_read(folder, monkeypatch):
    rows = index_of(folder)
    monkeypatch.setattr("modeling_atri.search.index.folder_changes.content_digest", None)
    changes = compare(rows, folder)
    assert (changes.num_current, changes.moves, changes.gone, changes.to_encode) == (4, [], [], [])


def test_files_can_change_places(folder):
    rows = index_of(folder)
    (folder / "a.wav").rename(folder / "x.wav")
    (folder / "e.wav").rename(folder / "a.wav")
    (folder / "x.wav").rename(folder / "e.wav")
    touch(folder / "a.wav"), touch(folder / "e.wav")
    changes = compare(rows, folder)
    assert moves_of(changes) == {"a.wav": "e.wav", "e.wav": "a.wav"}
    assert (changes.to_encode, changes.gone, changes.num_current) == ([], [], 2)


def test_a_log_that_is_rotated_moves_and_its_new_file_is_encoded(folder):
    rows = index_of(folder)
    (folder / "a.wav").rename(folder / "a.1.wav")
    write(folder / "a.wav", "a new beginning")
    changes = compare(rows, folder)
    assert moves_of(changes) == {"a.1.wav": "a.wav"}
    assert (changes.to_encode, changes.replaced, changes.gone) == (["a.wav"], set(), [])


def test_of_several_files_of_one_content_the_one_of_the_same_name_takes_the_rows(folder):
    rows = index_of(folder)
    shutil.copy2(folder / "a.wav", folder / "0.wav")
    (folder / "b" / "sub").mkdir()
    (folder / "a.wav").rename(folder / "b" / "sub" / "a.wav")
    changes = compare(rows, folder)
    assert moves_of(changes) == {"b/sub/a.wav": "a.wav"}
    assert (changes.to_encode, changes.gone) == (["0.wav"], [])


def test_a_copy_of_a_file_that_is_there_is_encoded(folder):
    rows = index_of(folder)
    shutil.copy2(folder / "a.wav", folder / "copy.wav")
    changes = compare(rows, folder)
    assert (changes.to_encode, changes.moves, changes.contents) == (["copy.wav"], [], {})


def test_many_equal_files_move_together_each_to_its_own_path(tmp_path):
    for number in range(300):
        write(tmp_path / "old" / f"{number % 3}" / f"{number}.wav", "silence")
    rows = index_of(tmp_path / "old")
    (tmp_path / "old").rename(tmp_path / "new")
    changes = compare(rows, tmp_path / "new")
    assert moves_of(changes) == {row["path"]: row["path"] for row in rows}
    assert (changes.to_encode, changes.gone) == ([], [])


def test_a_folder_that_was_renamed_moves_whole_and_other_folders_stay(folder, tmp_path):
    write(tmp_path / "other" / "a.wav", "content 0")  # also in `folder`
    rows = index_of(folder, tmp_path / "other")
    folder.rename(tmp_path / "renamed")
    changes = compare(rows, tmp_path / "renamed")
    assert {move.source.folder for move in changes.moves} == {str(folder)}
    assert moves_of(changes) == {name: name for name in ["a.wav", "b/c.wav", "b/d.wav", "e.wav"]}
    assert (changes.to_encode, changes.gone, changes.num_moved) == ([], [], 4)


def test_files_that_moved_between_folders(folder, tmp_path):
    write(tmp_path / "other" / "x.wav", "x")
    rows = index_of(folder, tmp_path / "other")
    (folder / "a.wav").rename(tmp_path / "other" / "a.wav")
    changes = compare(rows, tmp_path / "other")
    assert [(move.source, move.target) for move in changes.moves] == [
        (SoundKey(str(folder), "a.wav"), SoundKey(str(tmp_path / "other"), "a.wav"))
    ]
    assert (changes.to_encode, changes.gone, changes.num_current) == ([], [], 1)


def test_a_folder_inside_of_an_indexed_one_has_no_doubles(folder):
    rows = index_of(folder)
    write(folder / "b" / "c.wav", "changed content")
    changes = compare(rows, folder / "b")
    assert [(move.source.path, move.target.path) for move in changes.moves] == [("b/d.wav", "d.wav")]
    assert changes.to_encode == ["c.wav"]
    assert changes.gone == [SoundKey(str(folder), "b/c.wav")]

    back = compare([row for row in index_of(folder) if row["path"] == "a.wav"] + index_of(folder / "b"), folder)
    assert moves_of(back) == {"b/c.wav": "c.wav", "b/d.wav": "d.wav"}
    assert (back.to_encode, back.gone, back.num_current) == (["e.wav"], [], 1)


def test_below_a_folder_that_cannot_be_searched_rows_stay(folder, monkeypatch):
    rows = index_of(folder)
    scandir = os.scandir

    def closed(path):
        if Path(path) == folder / "b":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr("modeling_atri.audio_io.discovery.os.scandir", closed)
    changes = compare(rows, folder)
    assert (changes.num_unseen, changes.num_current, changes.gone, changes.to_encode) == (2, 2, [], [])


def test_names_of_all_kinds(folder):
    names = ['it\'s "so".wav', "a#1.wav", "line\nbreak.wav", "🎵.wav", "é.wav", "x" * 200 + ".wav", "b/A.WAV", " .wav"]
    for number, name in enumerate(names):
        write(folder / unicodedata.normalize("NFD", name), f"strange {number}")
    rows = index_of(folder)
    assert compare(rows, folder).num_current == 12
    os.rename(folder / unicodedata.normalize("NFD", "é.wav"), folder / "é.wav")  # another form of the same name
    (folder / "🎵.wav").rename(folder / "b" / "🎵#2'.wav")
    changes = compare(rows, folder)
    assert moves_of(changes) == {"b/🎵#2'.wav": "🎵.wav"}
    assert (changes.num_current, changes.to_encode, changes.gone) == (11, [], [])


def test_stored_embeddings_belong_to_the_files_of_their_path_size_and_time(folder):
    rows = [row_of(folder, name, folder="", content=None) for name in search_folder(folder).sounds]
    next(row for row in rows if row["path"] == "b/c.wav")["duration_s"] = 25.0  # longer than a window
    rows += [row_of(folder, "a.wav", folder="", path="only/in/the/store.wav", content=None)]
    write(folder / "e.wav", "changed since")
    changes = compare(rows, folder)
    assert [move.source.folder for move in changes.moves] == ["", "", ""]
    assert moves_of(changes) == {name: name for name in ["a.wav", "b/c.wav", "b/d.wav"]}
    assert changes.to_encode == ["b/c.wav", "e.wav"]
    assert changes.replaced == {SoundKey(str(folder), "b/c.wav")}
    assert changes.gone == [SoundKey("", "e.wav")]


def test_stored_embeddings_of_other_sounds_stay_where_they_are(folder):
    rows = [row_of(folder, name, folder="", content=None, size=1, mtime_ns=2) for name in search_folder(folder).sounds]
    changes = compare(rows, folder)
    assert (len(changes.to_encode), changes.moves, changes.gone) == (4, [], [])


def test_stored_embeddings_that_belong_to_a_folder_are_current_unless_they_are_too_long(folder):
    rows = [row_of(folder, name, content=None, duration_s=9.0) for name in search_folder(folder).sounds]
    assert compare(rows, folder).num_current == 4
    assert compare(rows, folder, window_s=8.0).to_encode == sorted(row["path"] for row in rows)
    (folder / "a.wav").rename(folder / "z.wav")  # without a digest it cannot be recognised
    changes = compare(rows, folder)
    assert (changes.to_encode, changes.moves, changes.gone) == (["z.wav"], [], [SoundKey(str(folder), "a.wav")])


def test_a_digest_is_of_the_content_that_was_found(folder):
    sound = search_folder(folder).sounds["a.wav"]
    assert digest_if_unchanged(sound) == content_digest(sound.path) != content_digest(folder / "e.wav")
    assert digest_if_unchanged(sound, "known") == "known"
    touch(sound.path)
    assert digest_if_unchanged(sound) is None
    sound.path.unlink()
    assert digest_if_unchanged(sound) is None


@pytest.mark.parametrize("seed", range(20))
def test_random_changes_lead_to_the_content_of_the_folder(tmp_path, seed):
    """After any renames, copies, edits and removals, the rows that the changes give hold the right contents."""
    rng = random.Random(seed)
    folders = [tmp_path / "one", tmp_path / "two"]
    names = [f"{rng.choice(['', 'sub/', 'sub/deep/'])}{number}.wav" for number in range(12)]
    for root in folders:
        for name in names:
            write(root / name, rng.choice("abcdef"))
    rows = index_of(*folders)
    index = {SoundKey(row["folder"], row["path"]): (row["content"], row["size"], row["mtime_ns"]) for row in rows}
    for _ in range(rng.randrange(1, 15)):
        root, other = rng.choice(folders), rng.choice(folders)
        source, target = root / rng.choice(names), other / rng.choice([*names, "added.wav", "sub/added.wav"])
        if not source.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        kind = rng.randrange(5)
        if kind == 0:
            source.rename(target)
        elif kind == 1:
            shutil.copy2(source, target) if source != target else None
        elif kind == 2:
            source.unlink()
        elif kind == 3:
            write(source, rng.choice(["a", "g", "longer"]))
        else:
            touch(source)
    for root in folders:
        write(root / "stays.wav", "stays")
        rows = [
            {"folder": key.folder, "path": key.path, "kind": "clip", "duration_s": 1.0, "size": size,
             "mtime_ns": mtime, "content": content}
            for key, (content, size, mtime) in index.items()
        ]  # fmt: skip
        changes = compare(rows, root)
        facts = {move.target: (index[move.source][0], move.size, move.mtime_ns) for move in changes.moves}
        assert len(facts) == len(changes.moves) == len({move.source for move in changes.moves})
        for key in {move.source for move in changes.moves} | set(changes.gone):
            del index[key]
        index |= facts
        for path in changes.to_encode:
            sound = changes.sounds[path]
            assert (SoundKey(str(root), path) in index) == (SoundKey(str(root), path) in changes.replaced)
            index[SoundKey(str(root), path)] = (content_digest(sound.path), sound.size, sound.mtime_ns)
        of_root = {key.path: facts for key, facts in index.items() if key.folder == str(root)}
        assert of_root == {
            name: (content_digest(sound.path), sound.size, sound.mtime_ns)
            for name, sound in search_folder(root).sounds.items()
        }
    assert all(Path(*key).exists() for key in index)
