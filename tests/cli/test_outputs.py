"""Where results go is checked before the work."""

import os

import pytest

from modeling_atri.cli.outputs import check_output_file, check_output_folder


def test_places_that_can_be_written_to(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in (tmp_path, tmp_path / "new", tmp_path / "new" / "deep", "new", "."):
        check_output_folder(str(folder))
    (tmp_path / "old.json").touch()
    for file in (tmp_path / "old.json", tmp_path / "new" / "x.json", "x.json"):
        check_output_file(str(file))
    assert os.listdir(tmp_path) == ["old.json"]


def test_a_file_where_a_folder_is_needed(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "new"):
        with pytest.raises(ValueError, match="file' is a file. Name a folder."):
            check_output_folder(str(path))
    with pytest.raises(ValueError, match="file' is a file. Name a folder."):
        check_output_file(str(tmp_path / "file" / "x.json"))


def test_a_folder_or_device_where_a_file_is_needed(tmp_path):
    with pytest.raises(ValueError, match="because it is a folder. Name a file."):
        check_output_file(str(tmp_path))
    with pytest.raises(ValueError, match="because it is no regular file. Name a file."):
        check_output_file(os.devnull)


def test_a_folder_that_is_closed(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)  # root may write everywhere
    with pytest.raises(ValueError, match="is not writable"):
        check_output_folder(str(tmp_path / "new"))
