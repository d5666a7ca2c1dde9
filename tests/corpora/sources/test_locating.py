"""Names of data sets: paths, patterns, folders of splits, and what is on the Hub."""

import os
from pathlib import Path

import datasets
import pytest

from modeling_atri.corpora.rows.load import load_rows
from modeling_atri.corpora.sources.locating import find_source
from modeling_atri.corpora.sources.opening import open_dataset
from tests.helpers import sources
from tests.helpers.local_hub import READER, STRANGER, Commit, LocalHub, RefusedError, Repo
from tests.helpers.rows import make_row, write_folder


def ids(rows: datasets.Dataset) -> list[str]:
    return sorted(rows["audio_id"])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("cliips/train", r"no file or folder 'cliips/train'\. Did you mean 'clips/train'"),
        ("clips/trian", r"Did you mean 'clips/train'"),
        ("clips/validation", r"no file or folder 'clips/validation'. The folder 'clips' holds train."),
        ("clips/train/metdata.jsonl", r"Did you mean 'clips/train/metadata\.jsonl'"),
        ("somewhere/rows.json", "no file or folder"),
        ("somewhere/rows.parquet", "no file or folder"),
        ("somewhere/set.tar.gz", "no file or folder"),
        ("./else/where", "no file or folder"),
        ("/else/where", "no file or folder"),
        ("a/b/c", "no file or folder"),
        ("nothing", "no file or folder"),
        ("ftp://somewhere/rows", "is no data set on the Hub"),
        ("shards/*.tar", r"No file of rows matches the pattern 'shards/\*\.tar'"),
    ],
)
def test_mistyped_paths_are_not_looked_for_on_the_hub(tmp_path, monkeypatch, source, message):
    def refuse(*args, **kwargs):
        raise AssertionError("asked the Hub")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("modeling_atri.corpora.sources.hub_files.snapshot_download", refuse)
    write_folder(Path("clips/train"), [make_row("a")])
    with pytest.raises(ValueError, match=message):
        load_rows(source)


def test_sources_that_are_nowhere():
    with pytest.raises(ValueError, match="'nobody/nothing' is neither an existing file or folder.*HF_HUB_OFFLINE"):
        load_rows("nobody/nothing")


@pytest.fixture
def shards(tmp_path) -> Path:
    for number, name in enumerate(sources.NAMES):
        sources.write_tar(tmp_path / "data" / f"{number:03d}.tar", sources.web_dataset_files((name,)))
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("data/*.tar", ["bell", "dog", "rain"]),
        ("data/{000..001}.tar", ["dog", "rain"]),
        ("data/{000,002}.tar", ["bell", "dog"]),
        ("data/00[12].tar", ["bell", "rain"]),
        ("**/*.tar", ["bell", "dog", "rain"]),
        ("data", ["bell", "dog", "rain"]),
        ("data/00?.tar", ["bell", "dog", "rain"]),
    ],
)
def test_patterns_of_shards(shards, monkeypatch, pattern, names):
    assert ids(load_rows(f"{shards}/{pattern}")) == names
    monkeypatch.chdir(shards)
    assert ids(load_rows(pattern)) == names
    assert sorted(open_dataset(pattern)["audio_id"]) == names


def test_a_shard_of_a_pattern_that_is_missing(shards):
    with pytest.raises(ValueError, match=r"names 2 files that do not exist, such as '.*/data/003\.tar'"):
        load_rows(f"{shards}/data/{{000..004}}.tar")


def write_parquet(path: Path, *names: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sources.dataset(names).to_parquet(path)


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"),
        ("train.parquet", "test.parquet"),
        ("train/0.parquet", "test/0.parquet"),
        ("clotho_train_01.parquet", "clotho_test_01.parquet"),
        ("data/train/metadata.jsonl", "data/test/metadata.jsonl"),
        ("train/metadata.parquet", "test/metadata.parquet"),
        ("train.jsonl", "test.jsonl"),
        ("data/train.zip", "data/test.zip"),
        ("train/000.tar", "test/000.tar"),
        ("train-000.tar.gz", "test-000.tar.gz"),
    ],
)
def test_splits_of_a_folder(tmp_path, train, test):
    for name, names in ((train, ("dog", "rain")), (test, ("bell",))):
        path = tmp_path / name
        if path.name.startswith("metadata"):
            sources.write_audio_folder(path.parent, names, path.suffix)
        elif path.suffix == ".jsonl":
            sources.write_audio_folder(tmp_path, names)
            (tmp_path / "metadata.jsonl").rename(path)
        elif path.suffix == ".parquet":
            write_parquet(path, *names)
        elif path.suffix == ".zip":
            sources.write_zip(path, sources.set_files(names))
        else:
            sources.write_tar(path, sources.web_dataset_files(names), "w:gz" if path.suffix == ".gz" else "w")

    def found(split: str) -> list[str]:
        return sorted(Path(audio_id).name for audio_id in load_rows(tmp_path, split)["audio_id"])

    assert found("train") == ["dog", "rain"]
    assert found("test") == ["bell"]
    assert found("train+test") == found("all") == ["bell", "dog", "rain"]
    assert len(load_rows(tmp_path, "train[:1]")) == len(load_rows(tmp_path, "train[50%:]")) == 1
    with pytest.raises(ValueError, match="splits (are )?(test, train|train, test)"):
        load_rows(tmp_path, "tran")
    with pytest.raises(ValueError, match="splits (are )?(test, train|train, test)"):
        load_rows(tmp_path)


def test_splits_within_an_archive(tmp_path):
    files = {
        f"set/{split}/{name}": content
        for split, names in (("train", ("dog", "rain")), ("test", ("bell",)))
        for name, content in sources.set_files(names).items()
    }
    path = sources.write_zip(tmp_path / "set.zip", files)
    assert len(load_rows(path, "train")) == 2
    assert len(load_rows(path, "test")) == 1
    with pytest.raises(ValueError, match="has the splits"):
        load_rows(path)


def test_names_of_sounds_are_no_splits(tmp_path):
    names = ("a_dev_1", "b_train_2", "c_test_3")
    for suffix in (".jsonl", ".parquet"):
        folder = sources.write_audio_folder(tmp_path / suffix, names, suffix)
        assert load_rows(folder)["audio_id"][:] == list(names)
        assert len(open_dataset(str(folder))) == 3


def test_other_spellings_of_a_split(tmp_path):
    write_parquet(tmp_path / "dev.parquet", "dog")
    write_parquet(tmp_path / "train.parquet", "rain")
    assert ids(load_rows(tmp_path, "validation")) == ["dog"]
    assert ids(load_rows(tmp_path, "val")) == ["dog"]


def test_configs_of_a_clone(tmp_path):
    write_parquet(tmp_path / "en" / "a.parquet", "dog")
    write_parquet(tmp_path / "fr" / "a.parquet", "rain")
    write_parquet(tmp_path / "fr" / "b.parquet", "bell")
    (tmp_path / "README.md").write_text(
        "---\nconfigs:\n- config_name: en\n  data_files: en/*.parquet\n- config_name: fr\n  data_files:\n"
        "  - split: train\n    path: [fr/a.parquet]\n  - split: test\n    path: fr/b*\n---\n# Title\n"
    )
    assert ids(load_rows(f"{tmp_path}:en")) == ["dog"]
    assert ids(load_rows(f"{tmp_path}:fr", "test")) == ["bell"]
    assert open_dataset(str(tmp_path), "train", "fr")["audio_id"][:] == ["rain"]
    with pytest.raises(ValueError, match=r"has the subsets en, fr: please name one"):
        load_rows(tmp_path)
    with pytest.raises(ValueError, match=r"has the splits train, test"):
        load_rows(f"{tmp_path}:fr")
    (tmp_path / "README.md").write_text("---\nconfigs:\n- data_files: en/*.parquet\n---\n")
    with pytest.raises(ValueError, match=r"The `configs` at the top of .*README.md cannot be read"):
        load_rows(tmp_path)


def test_subsets_without_a_readme_are_folders(tmp_path):
    write_parquet(tmp_path / "en" / "train.parquet", "dog")
    write_parquet(tmp_path / "fr" / "train.parquet", "rain")
    assert ids(load_rows(f"{tmp_path}:fr", "train")) == ["rain"]
    with pytest.raises(ValueError, match="has no subset 'ja'"):
        load_rows(f"{tmp_path}:ja")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "There are no rows in .* There is no file 'metadata.jsonl'"),
        (["notes.docx"], "There are no rows in .*Its files are notes.docx"),
        (["mine.py"], r"holds no data, but a loading script \(mine\.py\)"),
        (["report.json", "dataset_infos.json"], "There are no rows in"),
    ],
)
def test_folders_without_rows(tmp_path, files, message):
    for name in files:
        (tmp_path / name).write_text("{}")
    with pytest.raises(ValueError, match=message):
        load_rows(tmp_path)


def test_links_in_a_folder(tmp_path):
    sources.write_audio_folder(tmp_path / "elsewhere" / "train")
    (tmp_path / "clips").mkdir()
    os.symlink(tmp_path / "elsewhere" / "train", tmp_path / "clips" / "train")
    os.symlink(tmp_path / "clips", tmp_path / "clips" / "circle")
    assert len(load_rows(tmp_path / "clips", "train")) == 3
    assert set(find_source(str(tmp_path / "clips"), "train[:1]").splits) == {"train"}


# On the Hub


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with LocalHub() as hub:
        hub.connect(monkeypatch)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
        yield hub


def publish(hub: LocalHub, folder: Path, private: bool = False) -> str:
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    hub.repos["datasets/tester/clips"] = Repo(private, {"main": [Commit("files", files)]})
    return "tester/clips"


def downloads(hub: LocalHub) -> set[str]:
    found = [request.partition("/resolve/")[2] for request in hub.requests if request.startswith("GET")]
    return {name.partition("/")[2] for name in found if name}


def test_an_audio_folder_on_the_hub(hub, tmp_path):
    for split, names in (("train", ("dog", "rain")), ("test", ("bell",))):
        sources.write_audio_folder(tmp_path / "set" / split, names)
    name = publish(hub, tmp_path / "set")
    rows = load_rows(name, "test")
    assert rows["audio_id"][:] == ["bell"]
    assert Path(rows[0]["audio"]["path"]).read_bytes() == sources.sound("bell")
    assert downloads(hub) == {"test/metadata.jsonl", "test/bell.flac"}  # not the other split
    with pytest.raises(ValueError, match="'tester/clips' has the splits test, train: please name one"):
        load_rows(name)


def test_subsets_and_files_on_the_hub(hub, tmp_path):
    folder = tmp_path / "set"
    write_parquet(folder / "en" / "train-00000-of-00001.parquet", "dog")
    write_parquet(folder / "fr" / "train-00000-of-00001.parquet", "rain")
    sources.write_tar(folder / "shards" / "000.tar", sources.web_dataset_files(("bell",)))
    configs = [f"- config_name: {language}\n  data_files: {language}/*.parquet\n" for language in ("en", "fr")]
    (folder / "README.md").write_text(f"---\nconfigs:\n{''.join(configs)}---\n")
    name = publish(hub, folder)
    assert ids(load_rows(f"{name}:fr")) == ["rain"]
    assert downloads(hub) == {"README.md", "fr/train-00000-of-00001.parquet"}
    assert ids(load_rows(f"hf://datasets/{name}/en")) == ["dog"]
    assert ids(load_rows(f"hf://datasets/{name}@main/shards/*.tar")) == ["bell"]
    assert ids(load_rows(f"https://huggingface.co/datasets/{name}/viewer/en")) == ["dog"]
    assert open_dataset(name, "train", "fr")["audio_id"][:] == ["rain"]
    with pytest.raises(ValueError, match="has the subsets en, fr"):
        load_rows(name)
    with pytest.raises(ValueError, match="has no revision 'v9'"):
        load_rows(f"{name}@v9")


def test_an_archive_on_the_hub_is_opened_from_the_cache_without_a_connection(hub, tmp_path, monkeypatch):
    sources.write_zip(tmp_path / "set" / "data" / "train.zip", sources.set_files())
    name = publish(hub, tmp_path / "set")
    rows = load_rows(name, "train")
    assert len(rows) == 3
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert load_rows(name, "train").to_list() == rows.to_list()
    with pytest.raises(ValueError, match="HF_HUB_OFFLINE is set, and its files are not all in the cache"):
        load_rows("tester/other")


def test_data_sets_that_may_not_be_read(hub, tmp_path, monkeypatch):
    sources.write_audio_folder(tmp_path / "set")
    name = publish(hub, tmp_path / "set", private=True)
    monkeypatch.setenv("HF_TOKEN", STRANGER)
    with pytest.raises(ValueError, match="'tester/clips' is neither .*A private one needs `hf auth login`"):
        load_rows(name)
    with pytest.raises(ValueError, match="'tester/none' is neither .* Check its name"):
        load_rows("tester/none")
    monkeypatch.setenv("HF_TOKEN", READER)
    assert len(load_rows(name)) == 3


def test_a_gated_data_set(hub, tmp_path, monkeypatch):
    def refuse(self, kind, name, token):
        raise RefusedError(403, "Access to this dataset is restricted", "GatedRepo")

    monkeypatch.setattr(LocalHub, "readable", refuse)
    with pytest.raises(ValueError, match=r"'tester/clips' is gated: accept its terms on https.*`hf auth login`"):
        load_rows("tester/clips")


def test_a_hub_that_does_not_answer(hub):
    hub.cut("GET /api/datasets", times=float("inf"))
    with pytest.raises(ValueError, match=r"'tester/clips' is neither .*Check the connection and try again"):
        load_rows("tester/clips")


def test_sounds_with_captions_beside_them_on_the_hub(hub, tmp_path):
    for name, content in sources.web_dataset_files().items():
        (tmp_path / "set").mkdir(exist_ok=True)
        (tmp_path / "set" / name).write_bytes(content)
    assert ids(load_rows(publish(hub, tmp_path / "set"))) == ["bell", "dog", "rain"]


def test_a_loading_script_on_the_hub(hub, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "clips.py").write_text("import datasets")
    with pytest.raises(ValueError, match=r"loading script \(clips.py\).*refs/convert/parquet"):
        load_rows(publish(hub, tmp_path / "set"))
