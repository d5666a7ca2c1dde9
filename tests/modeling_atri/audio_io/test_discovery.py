"""The sound files that are found below a folder."""

import os

import pytest

from modeling_atri.audio_io import OTHER_SOUND_SUFFIXES, SOUND_SUFFIXES, find_sounds


def test_sounds_are_found_by_suffix(tmp_path):
    """Hidden files and folders, links to folders, other suffixes and folders named like files are left out."""
    names = ["a.wav", "b/c.flac", "b/d.WAV", "e.ogg", "f/g/h.mp3"]
    for name in [*names, "notes.txt", "film.mp4", ".hidden/x.wav", "._a.wav"]:
        (tmp_path / "sounds" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "sounds" / name).write_bytes(b"sound")
    folder, elsewhere = tmp_path / "sounds", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "k.wav").write_bytes(b"more")
    (folder / "round").symlink_to(folder)  # would never end
    (folder / "b" / "link").symlink_to(elsewhere)
    (folder / "l.wav").symlink_to(elsewhere / "k.wav")
    (folder / "nowhere.wav").symlink_to(elsewhere / "missing.wav")
    (folder / "folder.wav").mkdir()
    found = find_sounds(folder)
    assert sorted(found) == sorted([*names, "l.wav", "nowhere.wav"])
    status = os.stat(folder / "b" / "c.flac")
    assert found["b/c.flac"] == (folder / "b" / "c.flac", 5, status.st_mtime_ns)
    assert found["nowhere.wav"][1:] == (-1, -1)


def test_folders_without_sounds(tmp_path):
    with pytest.raises(ValueError, match="There is no sound file below"):
        find_sounds(tmp_path)
    with pytest.raises(ValueError, match="There is no folder"):
        find_sounds(tmp_path / "missing")


def test_lists_of_suffixes_are_disjoint():
    assert not set(SOUND_SUFFIXES) & set(OTHER_SOUND_SUFFIXES)
    assert all(suffix == suffix.lower() and suffix[0] == "." for suffix in SOUND_SUFFIXES + OTHER_SOUND_SUFFIXES)
