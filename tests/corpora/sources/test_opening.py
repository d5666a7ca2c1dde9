"""Data sets in every form give the same rows."""

import io
import json
import os
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import soundfile

from modeling_atri.audio_io import load_audio
from modeling_atri.corpora.readers.hub_columns import read_columns
from modeling_atri.corpora.rows.load import load_rows
from modeling_atri.corpora.sources.opening import open_dataset, open_source, pick_split
from modeling_atri.files import write_json_lines
from tests.helpers import sources
from tests.helpers.rows import make_row


def write_parquet(folder: Path) -> Path:
    sources.dataset().to_parquet(folder / "rows.parquet")
    return folder / "rows.parquet"


def write_plain_parquet(folder: Path) -> Path:
    """Without the types that `datasets` notes in the schema, and with the types of other packages."""
    audio = pa.struct([("bytes", pa.large_binary()), ("path", pa.large_string())])
    columns = sources.columns()
    table = pa.table(
        {"audio": pa.array(columns["audio"], audio)} | {name: columns[name] for name in ("audio_id", "captions")}
    )
    pyarrow.parquet.write_table(table, folder / "plain.parquet")
    return folder / "plain.parquet"


def write_paths_in_parquet(folder: Path) -> Path:
    sources.write_sounds(folder / "sounds")
    rows = [
        {"audio": f"sounds/{name}.flac", "audio_id": name, "captions": sources.captions(name)}
        for name in sources.NAMES
    ]
    datasets.Dataset.from_list(rows).to_parquet(folder / "paths.parquet")
    return folder / "paths.parquet"


def write_arrow(folder: Path) -> Path:
    table = sources.dataset().data.table
    with pa.OSFile(str(folder / "rows.arrow"), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
    return folder / "rows.arrow"


def write_saved(folder: Path) -> Path:
    sources.dataset().save_to_disk(folder / "saved")
    return folder / "saved"


def write_saved_dict(folder: Path) -> Path:
    datasets.DatasetDict(train=sources.dataset()).save_to_disk(folder / "saved")
    return folder / "saved"


def write_rows_of(key: str, suffix: str = ".jsonl"):
    def write(folder: Path) -> Path:
        sources.write_sounds(folder)
        rows = [{key: f"{name}.flac", "captions": sources.captions(name)} for name in sources.NAMES]
        if suffix == ".jsonl":
            write_json_lines(folder / "rows.jsonl", rows)
        else:
            (folder / "rows.json").write_text(json.dumps(rows))
        return folder / f"rows{suffix}"

    return write


FORMS = {
    "audio folder": lambda folder: sources.write_audio_folder(folder / "clips"),
    "metadata.parquet": lambda folder: sources.write_audio_folder(folder / "clips", suffix=".parquet"),
    "parquet": write_parquet,
    "parquet without types": write_plain_parquet,
    "paths in parquet": write_paths_in_parquet,
    "arrow": write_arrow,
    "save_to_disk": write_saved,
    "save_to_disk of a DatasetDict": write_saved_dict,
    "shard": lambda folder: sources.write_tar(folder / "000.tar", sources.web_dataset_files()),
    "compressed shard": lambda folder: sources.write_tar(folder / "000.tar.gz", sources.web_dataset_files(), "w:gz"),
    "zip": lambda folder: sources.write_zip(folder / "set.zip", sources.set_files()),
    "tar.gz": lambda folder: sources.write_tar(folder / "set.tar.gz", sources.set_files(), "w:gz"),
    "tar.xz": lambda folder: sources.write_tar(folder / "set.tar.xz", sources.set_files(), "w:xz"),
    **{f"{key} in .jsonl": write_rows_of(key) for key in ("audio", "file_name", "path", "file", "wav", "mp3")},
    "path in .json": write_rows_of("path", ".json"),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_rows(tmp_path, form):
    path = FORMS[form](tmp_path)
    rows = load_rows(path)
    assert rows.column_names == ["audio", "audio_id", "captions", "group_id"]
    assert rows.features["audio"] == datasets.Audio(decode=False)
    by_id = {Path(row["audio_id"]).name: row for row in rows}
    assert set(by_id) == set(sources.NAMES)
    for name, row in by_id.items():
        assert row["captions"] == sources.captions(name)
        content = row["audio"]["bytes"] or Path(row["audio"]["path"]).read_bytes()
        assert content == sources.sound(name)
    opened = open_dataset(str(path))
    assert len(opened) == 3 and "captions" in opened.column_names


def write_one(path: Path, name: str) -> None:
    """A clip in a table or an archive. Names of equal length make files of equal size."""
    if path.suffix == ".tar":
        sources.write_tar(path, sources.web_dataset_files((name,)))
        return
    table = sources.dataset((name,)).data.table
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(table, path, compression="none")
        return
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".tar"])
def test_a_file_that_got_its_old_time_back_is_read_again(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    path, states = tmp_path / f"rows{suffix}", []
    for name in ("dog", "fox"):
        write_one(path, name)
        os.utime(path, ns=(10**18, 10**18))
        states.append((path.stat().st_size, path.stat().st_mtime_ns))
        for _ in range(2):
            assert load_rows(path)[0]["captions"] == sources.captions(name)
        assert len([*(tmp_path / "cache").rglob("*.arrow")]) == 1, "nothing of an earlier state"
    assert states[0] == states[1], "the test needs files that look alike"


@pytest.mark.parametrize("column", ["audio", "flac", "wav", "path", "file"])
def test_the_column_of_recordings_by_any_of_its_names(tmp_path, column):
    rows = sources.dataset().rename_columns({"audio": column})
    rows.to_parquet(tmp_path / "rows.parquet")
    assert load_rows(tmp_path / "rows.parquet")[1]["audio"]["bytes"] == sources.sound("rain")
    assert load_rows(rows)[1]["audio"]["bytes"] == sources.sound("rain")
    assert open_dataset(str(tmp_path / "rows.parquet")).features[column] == datasets.Audio(decode=False)


def test_contents_of_files_go_before_their_names():
    rows = sources.dataset().add_column("file_name", ["x.wav", "y.wav", "z.wav"])
    assert load_rows(rows)[0]["audio"]["bytes"] == sources.sound("dog")


def test_contents_without_names(tmp_path):
    columns = sources.columns() | {"audio": [sources.sound(name) for name in sources.NAMES]}
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / "rows.parquet")
    assert load_rows(tmp_path / "rows.parquet")[2]["audio"] == {"bytes": sources.sound("bell"), "path": None}


@pytest.mark.parametrize(
    "audio", [pa.binary_view(), pa.struct([("bytes", pa.binary_view()), ("path", pa.string_view())])]
)
def test_contents_in_view_types(tmp_path, audio):
    columns = sources.columns()
    if not pa.types.is_struct(audio):
        columns["audio"] = [sources.sound(name) for name in sources.NAMES]
    columns |= {"audio": pa.array(columns["audio"], audio), "audio_id": pa.array(sources.NAMES, pa.string_view())}
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / "rows.parquet")
    row = load_rows(tmp_path / "rows.parquet")[2]
    assert (row["audio"]["bytes"], row["audio_id"]) == (sources.sound("bell"), "bell")


@pytest.mark.parametrize("encode", [lambda texts: texts.cast(pa.string_view()), pa.Array.dictionary_encode])
def test_paths_and_captions_in_other_types_of_strings(tmp_path, encode):
    sources.write_sounds(tmp_path)
    columns = {"audio": [f"{name}.flac" for name in sources.NAMES], "caption": [f"a {name}" for name in sources.NAMES]}
    table = pa.table({name: encode(pa.array(texts)) for name, texts in columns.items()})
    pyarrow.parquet.write_table(table, tmp_path / "rows.parquet")
    row = load_rows(tmp_path / "rows.parquet")[0]
    assert Path(row["audio"]["path"]).read_bytes() == sources.sound("dog")
    assert row["captions"] == {"eng_Latn": ["a dog"]}
    corpus = read_columns(open_dataset(str(tmp_path / "rows.parquet")), {"eng_Latn": ["caption"]})
    assert [clip.captions["eng_Latn"] for clip in corpus.clips] == [["a dog"], ["a rain"], ["a bell"]]


def test_samples_become_files_without_loss(tmp_path):
    samples = np.random.default_rng(0).uniform(-1, 1, 8_000).astype(np.float32)
    row = {
        "audio": {"array": samples.tolist(), "sampling_rate": 16_000},
        "audio_id": "a",
        "captions": {"en": ["a dog"]},
    }
    datasets.Dataset.from_list([row]).to_parquet(tmp_path / "rows.parquet")
    for source in (tmp_path / "rows.parquet", datasets.Dataset.from_list([row])):
        content = load_rows(source)[0]["audio"]["bytes"]
        read, rate = soundfile.read(io.BytesIO(content), dtype="float32")
        assert rate == 16_000
        np.testing.assert_array_equal(read, samples)


def test_a_saved_data_set_with_an_added_column(tmp_path):
    """`datasets` cannot join parts of such a table."""
    sources.dataset().remove_columns("captions").save_to_disk(tmp_path / "saved")
    saved = datasets.load_from_disk(tmp_path / "saved")
    rows = saved.add_column("captions", [sources.captions(name) for name in sources.NAMES])
    assert load_rows(rows)["audio_id"][:] == list(sources.NAMES)
    picked = load_rows(rows.select([2, 0]))
    assert [row["audio"]["bytes"] for row in picked] == [sources.sound("bell"), sources.sound("dog")]
    assert [row["captions"] for row in picked] == [sources.captions("bell"), sources.captions("dog")]


def test_nothing_is_decoded_and_nothing_is_copied_into_memory(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("decoded")

    monkeypatch.setattr(datasets.Audio, "decode_example", refuse)
    monkeypatch.setattr(datasets.Audio, "encode_example", refuse)  # needs torchcodec
    for form in ("parquet", "shard", "zip", "audio folder", "save_to_disk"):
        (tmp_path / form).mkdir()
        path = FORMS[form](tmp_path / form)
        before = pa.total_allocated_bytes()
        rows = load_rows(path)
        grown = pa.total_allocated_bytes() - before
        assert grown < len(sources.sound("dog")), form
        assert load_audio(rows[0]["audio"]).shape == (4_000,)


def test_splits_of_saved_data_sets(tmp_path):
    rows = datasets.Dataset.from_dict({"en": ["a", "b", "c", "d"]})
    datasets.DatasetDict(train=rows, test=rows.select([0])).save_to_disk(tmp_path / "saved")
    assert open_dataset(str(tmp_path / "saved"), "test")["en"][:] == ["a"]
    assert open_dataset(str(tmp_path / "saved"), "train[1:3]+test")["en"][:] == ["b", "c", "a"]
    assert open_dataset(str(tmp_path / "saved"), "train[75%:]")["en"][:] == ["d"]
    rows.save_to_disk(tmp_path / "single")
    assert open_dataset(str(tmp_path / "single"))["en"][:] == ["a", "b", "c", "d"]
    with pytest.raises(ValueError, match="has no splits, but `split` is .train.: please leave it out"):
        open_dataset(str(tmp_path / "single"), "train")
    for wrong in (None, "dev", "train[:2]+dev"):
        with pytest.raises(ValueError, match="has the splits train, test: please name one"):
            open_dataset(str(tmp_path / "saved"), wrong)
    with pytest.raises(ValueError, match=r"The split 'train\[:x\]' is not understood. Write train, train\[:100\]"):
        open_dataset(str(tmp_path / "saved"), "train[:x]")


def test_parts_of_a_data_set_in_memory():
    rows = datasets.DatasetDict({"train-clean": sources.dataset(), "dev": sources.dataset(("dog",))})
    assert pick_split(rows, "train-clean[1:]+dev")["audio_id"][:] == ["rain", "bell", "dog"]
    with pytest.raises(ValueError, match="this is a list"):
        pick_split([make_row("a")], None)


def test_part_of_a_file_of_rows(tmp_path):
    folder = sources.write_audio_folder(tmp_path / "clips")
    assert load_rows(folder, "train[:2]")["audio_id"][:] == load_rows(folder)["audio_id"][:2]
    assert isinstance(open_source(str(folder)), Path)
    with pytest.raises(ValueError, match="has no splits, but `split` is 'test'|The splits are"):
        load_rows(folder, "test")


def test_wrong_lines_are_listed_and_the_rest_goes_on(tmp_path):
    folder = sources.write_audio_folder(tmp_path / "clips")
    with (folder / "metadata.jsonl").open("a") as file:
        file.write("{broken\n")
    left_out = []
    assert len(load_rows(folder, "train[:4]", left_out=left_out)) == 3
    assert [(row.kind, "metadata.jsonl, line 4: this is not JSON" in row.reason) for row in left_out] == [
        ("wrong line", True)
    ]


def test_tables_with_other_columns_or_without_rows(tmp_path):
    sources.dataset(("dog",)).to_parquet(tmp_path / "0.parquet")
    sources.dataset(("rain",)).add_column("extra", [1]).to_parquet(tmp_path / "1.parquet")
    assert open_dataset(str(tmp_path))["extra"][:] == [None, 1]
    assert load_rows(tmp_path)["audio_id"][:] == ["dog", "rain"]
    sources.dataset(()).to_parquet(tmp_path / "empty.parquet")
    with pytest.raises(ValueError, match="empty.parquet holds no rows"):
        load_rows(tmp_path / "empty.parquet")
    other = sources.dataset(("bell",)).remove_columns("audio_id").add_column("audio_id", [[1]])
    other.to_parquet(tmp_path / "2.parquet")
    with pytest.raises(ValueError, match="cannot be read: .*audio_id"):
        load_rows(tmp_path)


def test_files_that_are_damaged(tmp_path):
    for name, content in (
        ("rows.parquet", b"PAR1 and no more"),
        ("rows.arrow", b"ARROW"),
        ("set.zip", b"PK"),
        ("a.tar", b"x"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name}.* cannot be read"):
            load_rows(tmp_path / name)
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "state.json").write_text("{}")
    with pytest.raises(ValueError, match="saved' cannot be read"):
        load_rows(tmp_path / "saved")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "is a Git LFS pointer .*`git lfs pull`"),
        (b"<!DOCTYPE html><html>", "is an HTML page, probably a failed download"),
    ],
)
@pytest.mark.parametrize("name", ["rows.parquet", "rows.jsonl", "set.zip", "shard.tar", "metadata.csv"])
def test_files_in_the_place_of_data(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    for source in (tmp_path / name, tmp_path):
        with pytest.raises(ValueError, match=message):
            load_rows(source)


def test_sounds_with_captions_beside_them(tmp_path):
    for name, content in (sources.web_dataset_files() | {"lost.txt": b"x"}).items():
        (tmp_path / name).write_bytes(content)
    left_out = []
    rows = load_rows(tmp_path, left_out=left_out)
    assert {row["audio_id"]: row["captions"] for row in rows} == {
        name: sources.captions(name) for name in sources.NAMES
    }
    assert rows[0]["audio"] == {"bytes": None, "path": str(tmp_path / "bell.flac")}
    assert [row.kind for row in left_out] == ["missing recording"]


def test_labels_are_names_of_folders(tmp_path):
    for name in sources.NAMES:
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.flac").write_bytes(sources.sound(name))
    rows = open_dataset(str(tmp_path))
    assert rows["label"][:] == sorted(sources.NAMES)
    with pytest.raises(ValueError, match=r"no column captions; it has audio, label|audio, label"):
        load_rows(tmp_path)


def test_paths_that_were_written_on_windows(tmp_path):
    """In a folder and in an archive, and with the same ids."""
    table, path = "file_name,caption\nsub\\dog.flac,a dog\n", tmp_path / "clips"
    sources.write_sounds(path / "sub", ["dog"])
    (path / "metadata.csv").write_text(table)
    archive = sources.write_zip(
        tmp_path / "set.zip", {"metadata.csv": table.encode(), "sub/dog.flac": sources.sound("dog")}
    )
    (row,), (archived,) = load_rows(path), load_rows(archive)
    assert Path(row["audio"]["path"]).read_bytes() == archived["audio"]["bytes"] == sources.sound("dog")
    assert row["audio_id"] == archived["audio_id"] == "sub/dog"
