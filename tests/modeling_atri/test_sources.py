"""One rule decides whether a name is a path or a Hub id, and what is published of it."""

from pathlib import Path

import pytest

from modeling_atri.sources import check_source, is_hub_id, path_advice, public_name


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """A working directory that holds the folder `runs/first` and the file `runs/weights`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "first").mkdir(parents=True)
    (tmp_path / "runs" / "weights").touch()
    return tmp_path


@pytest.mark.parametrize("name", ["owner/name", "owner-1/name_2.x", "_owner/name"])
def test_hub_ids(name):
    assert is_hub_id(name)
    assert check_source(name) == name
    assert public_name(name) == name


@pytest.mark.parametrize(
    "name", ["./owner", "../owner/name", "/owner/name", "a/b/c", "owner/", "owner/rows.jsonl", "owner/ced.pt", ".", ""]
)
def test_paths_that_do_not_exist_are_not_hub_ids(name):
    for needs_owner in (True, False):
        assert not is_hub_id(name, needs_owner)
    if name not in (".", "./owner"):  # the folder of the second exists
        with pytest.raises(ValueError, match=r"no folder '.*', and it is not a Hub id \(owner/name\) either"):
            check_source(name)


def test_names_without_an_owner_are_hub_ids_where_they_are_expected():
    assert not is_hub_id("bert-base-uncased")
    assert is_hub_id("bert-base-uncased", needs_owner=False)
    assert check_source("bert-base-uncased", needs_owner=False) == "bert-base-uncased"
    with pytest.raises(ValueError, match="There is no folder 'bert-base-uncased'"):
        check_source("bert-base-uncased")


def test_existing_paths_win(folder):
    assert not is_hub_id("runs/first")
    assert check_source("runs/first") == "runs/first"
    assert check_source(folder) == str(folder)
    with pytest.raises(ValueError, match="There is no folder 'runs/weights'"):
        check_source("runs/weights")
    assert check_source("runs/weights", "file or folder") == "runs/weights"


@pytest.mark.parametrize(
    "name, advice",
    [
        ("runs/weights", "It is a file: name a folder."),
        ("runs/frist", "Did you mean 'runs/first'?"),
        ("rums/frist", "Did you mean 'runs/first'?"),
        ("./runs/frist/", "Did you mean 'runs/first'?"),
        ("runs/other", "The folder 'runs' holds first, weights."),
        ("elsewhere/first", ""),
        ("elsewhere", ""),
        ("", ""),
    ],
)
def test_what_is_there_is_said_of_a_path_that_is_not(folder, name, advice):
    assert path_advice(name) == advice


@pytest.mark.parametrize("path", ["runs/first", "./runs/first/", "runs/../runs/first", "/elsewhere/first"])
def test_only_the_last_part_of_a_path_is_published(path):
    assert public_name(path) == public_name(Path(path)) == "first"


def test_the_working_directory_has_a_name(folder):
    assert public_name(".") == folder.name
