"""Data sets on the Hub, in the formats of `datasets`, and in memory."""

from pathlib import Path

import datasets
import pytest

from modeling_atri.corpora.rows.load import load_rows
from modeling_atri.corpora.rows.opening import open_dataset
from tests.helpers.rows import make_row, write_folder


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("cliips/train", r"no file or folder 'cliips/train'\. Did you mean 'clips/train'"),
        ("clips/trian", r"Did you mean 'clips/train'"),
        ("clips/validation", r"no file or folder 'clips/validation', and it is not a Hub id"),
        ("clips/train/metdata.jsonl", r"Did you mean 'clips/train/metadata\.jsonl'"),
        ("somewhere/rows.json", "no file or folder"),
        ("./else/where", "no file or folder"),
        ("/else/where", "no file or folder"),
        ("a/b/c", "no file or folder"),
        ("nothing", "no file or folder"),
    ],
)
def test_mistyped_paths_are_not_looked_for_on_the_hub(tmp_path, monkeypatch, source, message):
    def refuse(*args, **kwargs):
        raise AssertionError("asked the Hub")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets, "load_dataset", refuse)
    write_folder(Path("clips/train"), [make_row("a")])
    with pytest.raises(ValueError, match=message):
        load_rows(source)


@pytest.mark.parametrize("split", [None, "dev"])
def test_only_the_split_that_was_asked_for_is_fetched(tmp_path, monkeypatch, split):
    rows = load_rows(write_folder(tmp_path, [make_row("a")]))
    asked = []

    def load_dataset(name, split):
        asked.append((name, split))
        return datasets.DatasetDict(dev=rows) if split is None else rows

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert load_rows("owner/name", split).to_list() == rows.to_list()
    assert asked == [("owner/name", split)]


def test_sources_that_are_nowhere():
    with pytest.raises(ValueError, match="'nobody/nothing' is neither an existing file or folder"):
        load_rows("nobody/nothing")
    with pytest.raises(ValueError, match="this is a list"):
        load_rows([make_row("a")])


def test_only_the_split_that_was_named_is_downloaded(monkeypatch):
    asked = []

    def load_dataset(*args, **kwargs):
        asked.append((args, kwargs))
        return datasets.Dataset.from_dict({"en": ["a"]})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert open_dataset("owner/name", "dev", "small")["en"][:] == ["a"]
    assert asked == [(("owner/name", "small"), {"split": "dev"})]


def test_data_sets_on_disk(tmp_path):
    rows = datasets.Dataset.from_dict({"en": ["a"]})
    datasets.DatasetDict(train=rows, test=rows).save_to_disk(tmp_path / "saved")
    (tmp_path / "files").mkdir()
    rows.to_parquet(tmp_path / "files" / "train.parquet")
    assert open_dataset(str(tmp_path / "saved"), "test")["en"][:] == ["a"]
    assert open_dataset(str(tmp_path / "files"))["en"][:] == ["a"]
    assert open_dataset(str(tmp_path / "files"), "train")["en"][:] == ["a"]
    rows.save_to_disk(tmp_path / "single")
    assert open_dataset(str(tmp_path / "single"))["en"][:] == ["a"]
    with pytest.raises(ValueError, match="has no splits, but `split` is .train.: please leave it out"):
        open_dataset(str(tmp_path / "single"), "train")
    with pytest.raises(ValueError, match="please name another `split` .got 'dev'.: .*train"):
        open_dataset(str(tmp_path / "files"), "dev")
    with pytest.raises(ValueError, match="has the splits train, test: please name one"):
        open_dataset(str(tmp_path / "saved"), None)
    with pytest.raises(ValueError, match="There is no folder .*, and it is not a Hub id"):
        open_dataset(str(tmp_path / "none"), None)
