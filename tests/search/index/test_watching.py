"""An index follows its folder."""

import os
import sys
import types
from threading import Event, Thread

import numpy as np
import pytest
import soundfile

from modeling_atri.search import SoundIndex
from modeling_atri.search.index import watching
from modeling_atri.search.index.indexing import EncodeOptions
from modeling_atri.search.index.tables import IndexInUseError
from modeling_atri.search.index.watching import Change, watch_folder
from tests.helpers.tiny import tiny_model, tiny_processor


pytest.importorskip("lancedb")


def write_sound(path, seed: int, num_samples: int = 4000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(seed).normal(scale=0.1, size=num_samples), 16000)


@pytest.fixture(scope="module")
def model():
    return tiny_model(), tiny_processor()


@pytest.fixture
def folder(tmp_path):
    for seed, name in enumerate(["a.wav", "b/c.wav", "d.wav"]):
        write_sound(tmp_path / "sounds" / name, seed)
    return tmp_path / "sounds"


@pytest.fixture
def index(tmp_path, folder, model):
    index = SoundIndex.open(tmp_path / "index", *model)
    index.add(folder)
    return index


@pytest.fixture
def watch(index, folder, monkeypatch):
    """A function that watches while steps run: each makes changes, and the watch then wakes up."""

    def run(*steps, columns=None) -> tuple[list[str], list[str], watching.WatchSummary]:
        lines, told, stop = [], [], Event()

        def wake_ups(root, index, poll_s, stop, tell):
            for step in steps:
                step()
                yield
            stop.set()

        monkeypatch.setattr(watching, "_wake_ups", wake_ups)
        options = EncodeOptions(num_workers=0)
        summary = watch_folder(
            index.tables, index.model.load, index.plan, folder, options, columns,
            report=lambda change: lines.append(str(change)), tell=told.append, stop=stop, settle_s=0.0,
        )  # fmt: skip
        return lines, told, summary

    return run


def nothing() -> None:
    """A step without changes."""


def test_a_line_for_each_change(watch, folder, index):
    def change() -> None:
        write_sound(folder / "new.wav", 10)
        write_sound(folder / "a.wav", 11)
        (folder / "b" / "c.wav").rename(folder / "moved.wav")
        (folder / "d.wav").unlink()
        (folder / "bad.wav").write_bytes(b"broken")

    def side_file() -> None:
        (folder / "metadata.jsonl").write_text('{"file_name": "a.wav", "licence": "cc0"}\n')

    lines, told, summary = watch(nothing, change, nothing, side_file, lambda: (folder / "bad.wav").unlink())
    assert [line.split(": ")[0] for line in lines] == [
        "changed  a.wav",
        "moved    b/c.wav -> moved.wav",
        "added    new.wav",
        "removed  d.wav",
        "failed   bad.wav",
        "updated  a.wav",
    ]
    assert "it is a text and not a sound" in lines[4]
    assert (told, summary.num_changes) == (
        [],
        {"changed": 1, "moved": 1, "added": 1, "removed": 1, "failed": 1, "updated": 1},
    )
    assert sorted(index.tables.files()["path"].to_pylist()) == ["a.wav", "moved.wav", "new.wav"]


def test_a_folder_without_changes_is_not_added_again(watch, monkeypatch):
    calls = []
    add = watching.add_folder
    monkeypatch.setattr(watching, "add_folder", lambda *args, **options: calls.append(1) or add(*args, **options))
    assert watch(nothing, nothing, nothing)[0] == []
    assert len(calls) == 1


def test_a_file_that_grows_is_indexed_when_it_is_complete(watch, folder, monkeypatch):
    """Between the two looks of a round, the file grows three times."""
    sizes = [1000, 2000, 4000]

    class Growing(Event):
        def wait(self, seconds=None) -> bool:
            if sizes:
                write_sound(folder / "grows.wav", 5, sizes.pop(0))
            return self.is_set()

    monkeypatch.setattr(f"{__name__}.Event", Growing)
    lines, told, _ = watch(lambda: write_sound(folder / "grows.wav", 5, 500))
    assert (lines, told) == (["added    grows.wav"], [])


def test_a_folder_that_is_gone_and_comes_back(watch, folder, index):
    away = folder.with_name("away")
    lines, told, _ = watch(
        nothing,
        lambda: folder.rename(away),
        nothing,
        lambda: away.rename(folder),
        lambda: write_sound(folder / "e.wav", 9),
    )
    assert lines == ["added    e.wav"]
    assert told == [f"There is no folder {str(folder)!r}. The index stays as it is."]
    assert index.tables.count_sounds() == 4


def test_a_faulty_side_file_does_not_end_the_watch(watch, folder):
    def write(text: str) -> None:
        (folder / "metadata.csv").write_text(text)

    lines, told, _ = watch(
        lambda: write("file_name,year\na.wav,2001\n"),
        lambda: write("file_name,year\na.wav,unknown\n"),
        lambda: write("file_name,year\na.wav,2002\n"),
    )
    assert lines == ["updated  a.wav", "updated  a.wav"]
    assert len(told) == 1
    assert "the column `year` holds 'unknown'" in told[0]


def test_it_waits_while_another_process_writes(watch, folder, monkeypatch):
    add, faults = watching.add_folder, [IndexInUseError("in use"), IndexInUseError("in use")]

    def busy(*args, **options):
        if faults:
            raise faults.pop()
        return add(*args, **options)

    monkeypatch.setattr(watching, "add_folder", busy)
    monkeypatch.setattr(Event, "wait", lambda self, seconds=None: self.is_set())
    lines, told, _ = watch(lambda: write_sound(folder / "e.wav", 9))
    assert lines == ["added    e.wav"]
    assert told == ["Another process is writing to the index. Waiting until it has ended."]


def test_ctrl_c_ends_it_with_a_summary(watch, folder):
    def interrupt() -> None:
        raise KeyboardInterrupt

    lines, _, summary = watch(lambda: write_sound(folder / "e.wav", 9), interrupt, nothing)
    assert (lines, summary.num_changes) == (["added    e.wav"], {"added": 1})


def test_without_announcements_the_folder_is_polled(monkeypatch, tmp_path):
    def refuse(*args, **options):
        raise OSError("OS file watch limit reached")
        yield

    monkeypatch.setitem(sys.modules, "watchfiles", types.SimpleNamespace(watch=refuse))
    told, stop = [], Event()
    wake_ups = watching._wake_ups(str(tmp_path), None, 0.01, stop, told.append)
    assert [next(wake_ups) for _ in range(4)] == [None] * 4
    stop.set()
    assert list(wake_ups) == []
    assert told == [
        "The operating system does not announce changes (OS file watch limit reached). The folder is searched every "
        "0.01 seconds."
    ]


def test_changes_are_announced(tmp_path):
    pytest.importorskip("watchfiles")
    stop = Event()
    wake_ups = watching._wake_ups(str(tmp_path), None, 60.0, stop, print)
    next(wake_ups)
    writer = Thread(target=lambda: [stop.wait(0.3), write_sound(tmp_path / "a.wav", 0)])
    writer.start()
    next(wake_ups)
    assert (tmp_path / "a.wav").exists()
    stop.set()
    writer.join()


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.wav", True), ("A.MP3", True), ("folder", True), ("metadata.csv", True), ("x.txt", False), (".a.wav", False)],
)
def test_which_files_are_of_interest(name, expected):
    assert watching._is_of_interest("/sounds/index", None, os.path.join("/sounds", name)) is expected
    assert watching._is_of_interest("/sounds", None, os.path.join("/sounds", name)) is False


@pytest.mark.parametrize(("place", "expected"), [("/data/x", False), ("/data/net disk/x", True), ("/mnt", True)])
def test_network_disks(tmp_path, place, expected):
    mounts = tmp_path / "mounts"
    mounts.write_text("/dev/a / ext4 rw 0 0\nserver:/x /data/net\\040disk nfs4 rw 0 0\nx /mnt fuse.sshfs rw 0 0\n")
    assert watching._is_network(place, str(mounts)) is expected
    assert not watching._is_network(place, str(tmp_path / "none"))


def test_a_change_as_text():
    assert str(Change("added", "a.wav")) == "added    a.wav"
