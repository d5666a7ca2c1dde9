"""The sound files that are found below a folder."""

import os
import unicodedata
from pathlib import Path

import pytest

from modeling_atri.audio_io import OTHER_SOUND_SUFFIXES, SOUND_SUFFIXES, find_sounds
from modeling_atri.audio_io.discovery import search_folder


COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"sound")


def link(place: Path, target: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target)


def test_sounds_are_found_by_suffix(tmp_path):
    """Hidden files and folders, other suffixes and folders named like files are left out."""
    names = ["a.wav", "b/c.flac", "b/d.WAV", "e.ogg", "f/g/h.mp3", "film.mp4"]
    write(tmp_path, *names, "notes.txt", "b/more.TXT", "README", ".hidden/x.wav", "._a.wav", "b/.c.flac")
    (tmp_path / "folder.wav").mkdir()
    search = search_folder(tmp_path)
    assert sorted(search.sounds) == names
    status = os.stat(tmp_path / "b" / "c.flac")
    assert search.sounds["b/c.flac"] == (tmp_path / "b" / "c.flac", 5, status.st_mtime_ns)
    assert (search.problems, search.other_files) == ({}, {".txt": 2, "": 1})
    assert find_sounds(tmp_path) == search.sounds


@pytest.mark.parametrize("suffix", sorted(SOUND_SUFFIXES + OTHER_SOUND_SUFFIXES))
def test_every_suffix_of_the_package_is_found(tmp_path, suffix):
    write(tmp_path, f"a{suffix.upper()}")
    assert list(find_sounds(tmp_path)) == [f"a{suffix.upper()}"]


def test_a_folder_may_be_left_out(tmp_path):
    write(tmp_path, "a.wav", "index/b.wav", "index/deep/data.lance", "index2/c.wav")
    link(tmp_path / "link", tmp_path / "index")
    search = search_folder(tmp_path, left_out=tmp_path / "index2" / ".." / "index")
    assert (sorted(search.sounds), search.problems, search.other_files) == (["a.wav", "index2/c.wav"], {}, {})


def test_folders_without_sounds(tmp_path):
    with pytest.raises(ValueError, match="There is no sound file below"):
        find_sounds(tmp_path)
    with pytest.raises(ValueError, match="There is no folder"):
        find_sounds(tmp_path / "missing")
    link(tmp_path / "disk", tmp_path / "unmounted")
    with pytest.raises(ValueError, match="disk: The link to .* is broken"):
        find_sounds(tmp_path)


class TestLinks:
    """Links are followed, every folder is searched once, and its own path comes before those through links."""

    def found(self, folder: Path) -> list[str]:
        search = search_folder(folder)
        assert search.problems == {}
        assert {name: sound.path for name, sound in search.sounds.items()} == {n: folder / n for n in search.sounds}
        return sorted(search.sounds)

    def test_to_files_and_folders_elsewhere(self, tmp_path):
        write(tmp_path / "root", "a.wav")
        write(tmp_path / "elsewhere", "k.wav", "deep/l.wav", "._k.wav")
        link(tmp_path / "root" / "b" / "link", tmp_path / "elsewhere")
        link(tmp_path / "root" / "m.wav", tmp_path / "elsewhere" / "k.wav")
        link(tmp_path / "root" / "notes.txt", tmp_path / "elsewhere" / "k.wav")
        assert self.found(tmp_path / "root") == ["a.wav", "b/link/deep/l.wav", "b/link/k.wav", "m.wav"]

    def test_the_root_is_a_link(self, tmp_path):
        write(tmp_path / "real", "a.wav")
        link(tmp_path / "root", tmp_path / "real")
        assert self.found(tmp_path / "root") == ["a.wav"]

    def test_to_folders_above_and_beside(self, tmp_path):
        write(tmp_path, "a/b/c.wav", "d/e.wav")
        for place, target in {"a/b/up": "a", "a/b/round": ".", "A": "a", "d/twin": "a/b"}.items():
            link(tmp_path / place, tmp_path / target)
        assert self.found(tmp_path) == ["a/b/c.wav", "d/e.wav"]

    def test_the_first_of_several_to_one_folder_counts(self, tmp_path):
        write(tmp_path / "elsewhere", "k.wav", "sub/l.wav")
        link(tmp_path / "root" / "z", tmp_path / "elsewhere")
        assert self.found(tmp_path / "root") == ["z/k.wav", "z/sub/l.wav"]
        link(tmp_path / "root" / "y", tmp_path / "elsewhere")
        link(tmp_path / "root" / "zz", tmp_path / "elsewhere" / "sub")
        assert self.found(tmp_path / "root") == ["y/k.wav", "y/sub/l.wav"]

    def test_two_folders_that_link_to_each_other(self, tmp_path):
        write(tmp_path, "root/a.wav", "elsewhere/b.wav")
        link(tmp_path / "root" / "there", tmp_path / "elsewhere")
        link(tmp_path / "elsewhere" / "back", tmp_path / "root")
        link(tmp_path / "elsewhere" / "again", tmp_path / "elsewhere")
        assert self.found(tmp_path / "root") == ["a.wav", "there/b.wav"]

    @pytest.mark.parametrize(
        "target, reason",
        [
            ("gone", "gone' is broken: No such file or directory."),
            ("root/loop.wav", "loop.wav' is broken: Too many levels of symbolic links."),
            ("root/a.wav/x", "x' is broken: Not a directory."),
            (".", "contains it. It is not followed."),
        ],
    )
    @pytest.mark.parametrize("name", ["loop.wav", "b/loop.wav", f"b/{DECOMPOSED}"])
    def test_that_lead_nowhere_are_reported(self, tmp_path, name, target, reason):
        write(tmp_path, "root/a.wav", "other/private.wav")
        link(tmp_path / "root" / "loop.wav", tmp_path / "root" / "loop.wav")
        if name != "loop.wav":
            link(tmp_path / "root" / name, tmp_path / target)
        elif "loop" not in target:
            (tmp_path / "root" / name).unlink()
            link(tmp_path / "root" / name, tmp_path / target)
        search = search_folder(tmp_path / "root")
        assert list(search.sounds) == ["a.wav"]
        assert search.problems[unicodedata.normalize("NFC", name)].endswith(reason)


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(5, "Input/output error"), None])
def test_a_folder_that_cannot_be_searched_is_reported(tmp_path, monkeypatch, error, caplog):
    """`None` stands for a folder that is removed during the search."""
    write(tmp_path, "a.wav", "lost+found/b.wav", "z/c.wav")

    def refusing(path):
        if os.path.basename(path) != "lost+found":
            return scandir(path)
        if error:
            raise error
        os.rename(path, tmp_path.parent / f"{tmp_path.name}_gone")
        return scandir(path)

    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", refusing)
    search = search_folder(tmp_path)
    assert sorted(search.sounds) == ["a.wav", "z/c.wav"]
    reason = error.strerror if error else "No such file or directory"
    assert search.problems == {"lost+found": f"The folder cannot be searched: {reason}."}
    assert (
        search.misses("lost+found/b.wav") and search.misses("lost+found/deep/er.wav") and search.misses("lost+found")
    )
    assert not search.misses("z/b.wav") and not search.misses("lost+found.wav")


def test_the_folder_itself_cannot_be_searched(tmp_path, monkeypatch):
    write(tmp_path, "a.wav")

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(PermissionError):
        search_folder(tmp_path)


def test_a_file_that_cannot_be_reached_is_reported(tmp_path, monkeypatch):
    write(tmp_path, "a.wav", "b.wav")

    def refusing(path, **options):
        if path.name == "b.wav":
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, **options)

    stat = Path.stat
    monkeypatch.setattr(Path, "stat", refusing)
    search = search_folder(tmp_path)
    assert list(search.sounds) == ["a.wav"]
    assert search.problems == {"b.wav": "The file cannot be reached: Permission denied."}


@pytest.mark.parametrize("spelling", [COMPOSED, DECOMPOSED])
def test_ids_are_in_one_unicode_form(tmp_path, spelling):
    write(tmp_path, f"{spelling}/{spelling}.wav")
    found = find_sounds(tmp_path)
    assert list(found) == [f"{COMPOSED}/{COMPOSED}.wav"]
    assert found[f"{COMPOSED}/{COMPOSED}.wav"].path == tmp_path / spelling / f"{spelling}.wav"


@pytest.mark.parametrize("names", [("é.wav",), ("é/a.wav", "é/b.wav")])
def test_names_that_differ_only_in_form_are_reported(tmp_path, names):
    composed, decomposed = ([unicodedata.normalize(form, name) for name in names] for form in ("NFC", "NFD"))
    write(tmp_path, *composed, *decomposed)
    search = search_folder(tmp_path)
    assert {name: sound.path for name, sound in search.sounds.items()} == {name: tmp_path / name for name in composed}
    assert sorted(search.problems) == sorted(decomposed)
    assert all("in different Unicode forms. Rename one" in reason for reason in search.problems.values())


def test_lists_of_suffixes_are_disjoint():
    assert not set(SOUND_SUFFIXES) & set(OTHER_SOUND_SUFFIXES)
    assert all(suffix == suffix.lower() and suffix[0] == "." for suffix in SOUND_SUFFIXES + OTHER_SOUND_SUFFIXES)
