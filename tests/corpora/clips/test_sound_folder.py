"""Recordings by the names that caption files give them."""

import unicodedata

import pytest

from modeling_atri.corpora.clips.sound_folder import RecordingError, SoundFolder


@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
@pytest.mark.parametrize("asked", ["NFC", "NFD"])
def test_unicode_forms_of_a_name_are_one_name(tmp_path, on_disk, asked):
    """Also with a folder, which tells two files of the same name apart."""
    for folder in ("é", "à"):
        path = tmp_path / unicodedata.normalize(on_disk, f"{folder}/ü.wav")
        path.parent.mkdir()
        path.touch()
    sounds = SoundFolder(tmp_path)
    assert sounds.find(unicodedata.normalize(asked, "à/ü.wav")) == path
    with pytest.raises(RecordingError, match="several files fit"):
        sounds.find(unicodedata.normalize(asked, "ü.wav"))


def test_folders_that_link_to_each_other_are_searched_once(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.wav").touch()
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "b").symlink_to(tmp_path / "a")
    sounds = SoundFolder(tmp_path)
    assert sounds.find("x.flac") == tmp_path / "a" / "x.wav"
    assert list(sounds.by_stem) == ["x"]


@pytest.mark.parametrize("name", ["gone.wav", "é" * 300, ""])
def test_a_name_without_a_file(tmp_path, name):
    (tmp_path / "x.wav").touch()
    with pytest.raises(RecordingError, match="there is no file of it"):
        SoundFolder(tmp_path).find(name)
