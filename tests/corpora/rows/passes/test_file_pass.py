"""Files of rows are checked in columns, once, and what was found is kept until a file changes."""

import gzip
import io
import json
import logging
import os
import shutil

import pytest
from tqdm import tqdm

from modeling_atri.corpora.rows import load, recordings
from modeling_atri.corpora.rows.kept import entries
from modeling_atri.corpora.rows.kept.facts import facts_of
from modeling_atri.corpora.rows.kept.places import CACHE_VARIABLE
from modeling_atri.corpora.rows.load import check_rows, load_rows
from modeling_atri.corpora.rows.passes import file_pass, keeping, row_files
from tests.helpers.rows import make_row, sound, write_folder
from tests.helpers.slow_rows import check_file_slowly, random_lines, write_sounds


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sounds")
    write_sounds(folder)
    return folder


@pytest.fixture
def opened(monkeypatch):
    """The names of the sound files whose headers are read."""
    names, audio_length = [], recordings.audio_length
    monkeypatch.setattr(
        recordings, "audio_length", lambda path: names.append(os.path.basename(path)) or audio_length(path)
    )
    return names


@pytest.fixture
def blocks(monkeypatch):
    """The number of rows of each block that is checked."""
    sizes, check_block = [], file_pass.check_block
    monkeypatch.setattr(
        file_pass, "check_block", lambda block, *args: sizes.append(len(block.table)) or check_block(block, *args)
    )
    return sizes


def outcome(check):
    try:
        return check()
    except ValueError as error:
        return str(error)


def with_left_out(check, skip):
    left_out = [] if skip else None
    return outcome(lambda: (check(left_out).to_list(), left_out or []))


@pytest.mark.parametrize("block_bytes", [1, 300, 2**24])
@pytest.mark.parametrize("languages", [None, ["eng_Latn", "fra_Latn"], ["deu_Latn"]])
def test_rows_in_columns_equal_rows_one_by_one(sounds, languages, block_bytes, monkeypatch):
    monkeypatch.setattr(row_files, "_BLOCK_BYTES", block_bytes)
    logging.disable(logging.WARNING)
    for seed in range(10):
        path, skip, group = sounds / "metadata.jsonl", seed % 3 > 0, [None, "group_id"][seed % 5 == 0]
        path.write_text(random_lines(100 * block_bytes % 7919 + seed), encoding="utf-8")
        expected = outcome(lambda path=path, skip=skip, group=group: check_file_slowly(path, languages, group, skip))
        for _ in ("checked", "taken over"):
            found = with_left_out(
                lambda left_out, path=path, group=group: load_rows(
                    path, languages=languages, group_column=group, left_out=left_out
                ),
                skip,
            )
            assert found == expected, seed
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv"])
def test_a_second_run_opens_no_sound(suffix, tmp_path, opened, blocks):
    folder = write_folder(tmp_path / "data", [make_row("a"), make_row("b")])
    rows = [{"file_name": f"{name}.wav", "caption": f"the {name} &amp; more"} for name in "ab"]
    path = folder / f"rows{suffix}"
    text = {
        ".jsonl": "".join(f"{json.dumps(row)}\n" for row in rows),
        ".json": json.dumps(rows),
        ".csv": "file_name,caption\n" + "".join(",".join(row.values()) + "\n" for row in rows),
    }[suffix]
    path.write_text(text)
    first = load_rows(path)
    assert sorted(opened) == ["a.wav", "b.wav"]
    assert first["captions"][1] == {"eng_Latn": ["the b & more"]}
    second = load_rows(path)
    assert (len(opened), blocks) == (2, [2])
    assert second.to_list() == first.to_list()
    assert second.features == first.features
    assert (folder / ".atri_rows").is_dir()


def test_a_changed_sound_is_checked_again(tmp_path, opened):
    folder = write_folder(tmp_path, [make_row("a"), make_row("b")])
    load_rows(folder)
    (folder / "b.wav").write_bytes(sound(3_200))
    rows = load_rows(folder)
    assert sorted(opened) == ["a.wav", "b.wav", "b.wav"]
    assert facts_of(rows).count_longer(0.18) == 1
    (folder / "a.wav").write_bytes(sound(100))
    with pytest.raises(ValueError, match="line 1: .*a.wav': it is too short"):
        load_rows(folder)
    (folder / "a.wav").unlink()
    left_out = []
    assert load_rows(folder, left_out=left_out)["audio_id"] == ["b"]
    assert [row.kind for row in left_out] == ["missing recording"]
    left_out.clear()
    assert load_rows(folder, left_out=left_out)["audio_id"] == ["b"]
    assert [row.place for row in left_out] == ["line 1"]  # told again, from what was kept
    with pytest.raises(ValueError, match="there is no file"):
        load_rows(folder)
    (folder / "a.wav").write_bytes(sound())
    assert load_rows(folder, left_out=left_out)["audio_id"] == ["a", "b"]


def test_changed_rows_are_checked_again(tmp_path, opened):
    folder = write_folder(tmp_path, [make_row("a"), make_row("b")])
    before = load_rows(folder)
    write_lines = (folder / "metadata.jsonl").read_text().replace("a one", "another one")
    (folder / "metadata.jsonl").write_text(write_lines)
    assert load_rows(folder)[0]["captions"]["eng_Latn"][0] == "another one"
    assert before[0]["captions"]["eng_Latn"][0] == "a one"  # what is in use stays
    assert len(opened) == 2
    assert list(load_rows(folder, languages=["fr"])[0]["captions"]) == ["fra_Latn"]
    assert list(load_rows(folder)[0]["captions"]) == ["eng_Latn", "fra_Latn"]


def test_a_pass_that_was_killed_goes_on(tmp_path, blocks, monkeypatch):
    monkeypatch.setattr(row_files, "_BLOCK_BYTES", 1)
    rows = [make_row(name) for name in "abcde"]
    rows[1]["captions"]["eng_Latn"][0] = ""
    folder = write_folder(tmp_path, rows)
    counted, check_block = [], file_pass.check_block

    def killed(*args):
        counted.append(args)
        if len(counted) == 4:
            raise KeyboardInterrupt
        return check_block(*args)

    with monkeypatch.context() as patch:
        patch.setattr(file_pass, "check_block", killed)
        with pytest.raises(KeyboardInterrupt):
            load_rows(folder)
    blocks.clear()
    left_out = []
    assert load_rows(folder, left_out=left_out)["audio_id"] == ["a", "c", "d", "e"]
    assert blocks == [1, 1, 1]  # two of the five were on disk
    assert [(row.place, row.kind) for row in left_out] == [("line 2", "empty caption")]
    assert not list((folder / ".atri_rows").rglob("0*.arrow"))


@pytest.mark.parametrize("name", ["metadata.jsonl", "metadata.jsonl.gz", "rows.csv"])
def test_the_bar_of_a_pass_reaches_its_end(name, tmp_path, monkeypatch):
    monkeypatch.setattr(row_files, "_BLOCK_BYTES", 1)
    folder = write_folder(tmp_path, [make_row("a"), make_row("b"), make_row("c")])
    path = folder / "metadata.jsonl"
    if name.endswith(".gz"):
        (folder / name).write_bytes(gzip.compress(path.read_bytes()))
    elif name.endswith(".csv"):
        (folder / name).write_text("file_name,caption\na.wav,a\nb.wav,b\nc.wav,c\n")
    bars = []

    def watched(name, total, unit):
        bars.append(tqdm(total=total, file=io.StringIO()))
        return bars[-1]

    monkeypatch.setattr(file_pass, "progress_bar", watched)
    load_rows(folder / name)
    (bar,) = bars
    assert (bar.n, bar.total) == ((path.stat().st_size,) * 2 if name == "metadata.jsonl" else (3, None))


def test_a_sound_that_changed_after_its_part_was_checked(tmp_path, opened, monkeypatch):
    monkeypatch.setattr(row_files, "_BLOCK_BYTES", 1)
    folder = write_folder(tmp_path, [make_row(name) for name in "abcd"])
    whole = (folder / "b.wav").read_bytes()
    (folder / "b.wav").write_bytes(b"damaged")
    with pytest.raises(ValueError, match="1 wrong row.*\n.*line 2: .*b.wav"):
        load_rows(folder)
    (folder / "a.wav").unlink()
    with pytest.raises(ValueError, match="2 wrong rows.*\n.*line 1: there is no file.*\n.*line 2: .*b.wav"):
        load_rows(folder)
    (folder / "a.wav").write_bytes(whole)
    (folder / "b.wav").write_bytes(whole)
    opened.clear()
    assert load_rows(folder)["audio_id"] == list("abcd")
    assert sorted(opened) == ["a.wav", "b.wav"]


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), NotImplementedError("no locks here")])
def test_a_folder_that_cannot_be_locked_is_read_but_not_written(error, tmp_path, blocks, monkeypatch, caplog):
    folder = write_folder(tmp_path, [make_row("a"), make_row("b")])
    load_rows(folder)
    before = {path: path.stat().st_mtime_ns for path in (folder / ".atri_rows").rglob("*")}

    def refuse(lock):
        raise error

    monkeypatch.setattr(entries.FileLock, "acquire", refuse)
    assert load_rows(folder)["audio_id"] == ["a", "b"]
    assert len(blocks) == 1
    (folder / "b.wav").write_bytes(sound(4_000))
    assert load_rows(folder)["audio_id"] == ["a", "b"]
    assert len(blocks) == 2
    assert caplog.text.count(str(error)) == 2
    assert {path: path.stat().st_mtime_ns for path in (folder / ".atri_rows").rglob("*")} == before


def test_a_folder_that_was_moved(tmp_path, blocks):
    load_rows(write_folder(tmp_path / "data", [make_row("a"), make_row("b")]))
    shutil.move(tmp_path / "data", tmp_path / "moved")
    rows = load_rows(tmp_path / "moved")
    assert rows[1]["audio"]["path"] == str(tmp_path / "moved" / "b.wav")
    assert len(blocks) == 1


@pytest.mark.parametrize("value", ["off", "0", "elsewhere"])
def test_where_rows_are_kept(value, tmp_path, blocks, monkeypatch):
    folder = write_folder(tmp_path / "data", [make_row("a")])
    monkeypatch.setenv(CACHE_VARIABLE, value if value != "elsewhere" else str(tmp_path / "elsewhere"))
    assert load_rows(folder).to_list() == load_rows(folder).to_list()
    assert sorted(path.name for path in folder.iterdir()) == ["a.wav", "metadata.jsonl"]
    assert len(blocks) == (1 if value == "elsewhere" else 2)
    assert (tmp_path / "elsewhere").is_dir() == (value == "elsewhere")


@pytest.mark.parametrize("obstacle", ["mode", "file"])
def test_a_folder_that_may_only_be_read(obstacle, tmp_path, blocks, monkeypatch):
    folder = write_folder(tmp_path / "data", [make_row("a")])
    if obstacle == "mode":
        folder.chmod(0o555)
    else:
        (folder / ".atri_rows").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for _ in range(2):
        assert load_rows(folder)["audio_id"] == ["a"]
    assert len(blocks) == 1
    assert (tmp_path / "cache" / "atri" / "rows").is_dir()
    assert not (folder / ".atri_rows").is_dir()


def test_a_full_disk_costs_nothing_but_the_next_check(tmp_path, blocks, monkeypatch, caplog):
    folder = write_folder(tmp_path, [make_row("a"), make_row("b")])

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keeping, "store_rows", full)
    assert load_rows(folder)["audio_id"] == load_rows(folder)["audio_id"] == ["a", "b"]
    assert len(blocks) == 2
    assert "No space left on device" in caplog.text


def test_damaged_files_are_made_again(tmp_path, blocks):
    folder = write_folder(tmp_path, [make_row("a"), make_row("b")])
    load_rows(folder)
    (rows,) = (folder / ".atri_rows").rglob("rows.arrow")
    rows.write_bytes(rows.read_bytes()[:-10])
    assert load_rows(folder)["audio_id"] == ["a", "b"]
    assert len(blocks) == 2


def test_languages_without_a_caption_in_the_first_row_are_reported_each_time(tmp_path, caplog):
    rows = [make_row("a"), make_row("b")]
    rows[1]["captions"]["deu_Latn"] = ["eins", "zwei"]
    folder = write_folder(tmp_path, rows)
    for count in (1, 2):
        load_rows(folder)
        assert caplog.text.count("captions in deu_Latn are left out") == count


def test_rows_that_were_checked_are_not_checked_again(tmp_path, opened, blocks):
    folder = write_folder(tmp_path, [make_row("a"), make_row("b"), make_row("c")])
    rows = load_rows(folder)
    assert check_rows(rows, ["en", "fr"]) is rows
    assert check_rows(rows.select([2, 0]), ["en", "fr"])["audio_id"] == ["c", "a"]
    assert list(check_rows(rows, ["fr"])[0]["captions"]) == ["fra_Latn"]
    assert len(opened) == 3
    (folder / "c.wav").write_bytes(sound(100))
    with pytest.raises(ValueError, match="row 2: .*too short"):
        check_rows(rows, ["en", "fr"])


def test_rows_that_were_edited_without_a_new_time_are_checked_again(tmp_path):
    path = write_folder(tmp_path, [make_row("a")]) / "metadata.jsonl"
    load_rows(tmp_path)
    before = path.stat()
    path.write_text(path.read_text().replace("a one", "a two"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert load_rows(tmp_path)[0]["captions"]["eng_Latn"][0] == "a two"


@pytest.mark.parametrize("name", ["rows.arrow", "files.arrow", "facts.json"])
@pytest.mark.parametrize("damage", [lambda content: bytes(len(content)), lambda content: content.replace(b"a", b"z")])
def test_damaged_files_of_the_same_size_are_made_again(name, damage, tmp_path):
    before = load_rows(write_folder(tmp_path, [make_row("a"), make_row("b")])).to_list()
    (path,) = (tmp_path / ".atri_rows").rglob(name)
    path.write_bytes(damage(path.read_bytes()))
    assert load_rows(tmp_path).to_list() == before


def test_a_relative_folder_with_a_wrong_sound(tmp_path, blocks, monkeypatch):
    (write_folder(tmp_path / "data", [make_row("a"), make_row("b")]) / "b.wav").write_bytes(sound(100))
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert load_rows("data", left_out=[])["audio_id"] == ["a"]
    assert len(blocks) == 1


@pytest.mark.parametrize("is_elsewhere", [False, True])
def test_other_processes_map_the_rows(is_elsewhere, tmp_path, blocks, monkeypatch):
    """A second process gets the place of the rows from the first, which has looked at the sounds."""
    folder = write_folder(tmp_path / "data", [make_row("a"), make_row("b", captions={"eng_Latn": []})])
    rows = load_rows(folder, languages=["en"], left_out=[])
    place, left_out = facts_of(rows).place, []
    if is_elsewhere:  # a process on another machine has to check the rows itself
        place = place._replace(folder=str(tmp_path / "not here"))
        shutil.rmtree(folder / ".atri_rows")
    else:
        (folder / "a.wav").unlink()
    monkeypatch.setattr(load, "num_processes", lambda: 2)
    monkeypatch.setattr(load, "told_by_main", lambda ask: place)
    mapped = load.load_rows_together(folder, languages=["en"], left_out=left_out)
    assert mapped.to_list() == rows.to_list()
    assert facts_of(mapped).digest == facts_of(rows).digest
    assert [row.place for row in left_out] == ["line 2"]
    assert len(blocks) == 1 + is_elsewhere
