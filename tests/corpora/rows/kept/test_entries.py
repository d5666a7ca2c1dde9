"""What is kept of rows is removed when nobody needs it, and stays when somebody does."""

import json
import os
import signal

import pytest

from modeling_atri.corpora.rows.kept.entries import locked
from modeling_atri.corpora.rows.load import load_rows
from modeling_atri.corpora.rows.passes import file_pass, keeping, row_files
from tests.helpers.rows import make_row, sound, write_folder


def kept(folder):
    return sorted(path.parent for path in (folder / ".atri_rows").glob("*/facts.json"))


def edit(folder):
    path = folder / "metadata.jsonl"
    path.write_text(path.read_text().replace(" one", " two"))


def test_choices_of_languages_are_removed_when_the_rows_have_changed(tmp_path):
    folder = write_folder(tmp_path, [make_row("a")])
    rows = [load_rows(folder, languages=languages) for languages in (["en"], ["fr"], ["fr", "en"])]
    assert len(kept(folder)) == 3
    edit(folder)
    assert load_rows(folder, languages=["en"])["captions"][0]["eng_Latn"] == ["a two", "a two"]
    assert len(kept(folder)) == 1
    assert rows[2]["captions"][0]["fra_Latn"] == ["a un", "a deux"]  # what is in use can still be read


def test_rows_of_a_file_and_of_several_files_with_its_name_stay(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(make_row(name)) + "\n")
        (tmp_path / f"{name}.wav").write_bytes(sound())
    load_rows(tmp_path / "a.jsonl")
    assert load_rows(tmp_path)["audio_id"] == ["a", "b"]
    before = kept(tmp_path)
    assert len(before) == 2
    load_rows(tmp_path / "a.jsonl", languages=["fr"])
    assert {*before} < {*kept(tmp_path)}


@pytest.mark.parametrize("is_old", [False, True])
def test_rows_that_nobody_has_used_for_a_month_are_removed(is_old, tmp_path):
    folder = write_folder(tmp_path, [make_row("a")])
    load_rows(folder, languages=["en"])
    (first,) = kept(folder)
    for path in (first, first / "facts.json"):
        os.utime(path, (0, 0))
    if not is_old:
        load_rows(folder, languages=["en"])  # a use
    load_rows(folder, languages=["fr"])
    assert (first in kept(folder)) != is_old


def test_rows_that_another_process_is_working_on_stay(tmp_path):
    folder = write_folder(tmp_path, [make_row("a")])
    load_rows(folder, languages=["en"])
    (first,) = kept(folder)
    edit(folder)
    with locked(first):
        load_rows(folder, languages=["fr"])
    assert first in kept(folder)
    load_rows(folder, languages=["fr", "en"])
    assert first not in kept(folder)


def forked(work):
    """Call a function in a copy of this process. Returns the number of the process."""
    pid = os.fork()
    if pid:
        return pid
    try:
        work()
        os._exit(0)
    finally:
        os._exit(1)


def ended(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


STEPS = {"pass": (file_pass, "check_block"), "join": (file_pass, "join_parts"), "keep": (keeping, "forget_parts")}
PLACES = [("pass", 1), ("pass", 3), ("join", 1), ("write", 1), ("write", 3), ("write", 4), ("write", 6), ("keep", 1)]


@pytest.mark.parametrize(("step", "count"), PLACES)
def test_a_pass_that_is_killed_at_any_moment(step, count, tmp_path, monkeypatch):
    monkeypatch.setattr(row_files, "_BLOCK_BYTES", 1)
    rows = [make_row(name) for name in "abcd"]
    rows[2]["captions"]["eng_Latn"][0] = ""
    folder = write_folder(tmp_path, rows)

    def killed():
        calls, (module, name) = [], STEPS.get(step, (os, "fsync"))
        original = getattr(module, name)

        def call(*args):
            calls.append(args)
            if len(calls) == count:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args)

        setattr(module, name, call)
        load_rows(folder, left_out=[])

    assert ended(forked(killed)) == -signal.SIGKILL
    left_out = []
    assert load_rows(folder, left_out=left_out)["audio_id"] == ["a", "b", "d"]
    assert [row.place for row in left_out] == ["line 3"]
    (entry,) = kept(folder)
    assert sorted(path.name for path in entry.iterdir()) == ["facts.json", "files.arrow", "rows.arrow"]


def test_two_processes_at_once(tmp_path, monkeypatch):
    """One of them checks the rows, and the other one takes them over."""
    monkeypatch.setattr(row_files, "_BLOCK_BYTES", 1)
    folder = write_folder(tmp_path / "data", [make_row(name) for name in "abcdefgh"])
    log, check_block = tmp_path / "log", file_pass.check_block

    def check(block, *args):
        with log.open("ab", buffering=0) as file:
            file.write(b"%d\n" % os.getpid())
        return check_block(block, *args)

    monkeypatch.setattr(file_pass, "check_block", check)

    def work():
        assert load_rows(folder)["audio_id"] == list("abcdefgh")

    processes = [forked(work) for _ in range(3)]
    assert [ended(pid) for pid in processes] == [0, 0, 0]
    assert len(log.read_text().split()) == 8
    assert len(set(log.read_text().split())) == 1
