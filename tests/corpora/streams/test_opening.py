"""Streams of all forms of data sets, compared with the rows that `load_rows` returns for the same data."""

import gzip
import json

import datasets
import numpy as np
import pytest

from modeling_atri.corpora.rows.bad_rows import BadRow
from modeling_atri.corpora.rows.load import load_rows
from modeling_atri.corpora.streams import open_stream
from modeling_atri.files import write_json_lines
from tests.helpers import sources


def rows_of(shards, **options):
    return [row for shard in range(shards.num_shards) for row in shards.open(shard, **options)]


def plain(row):
    """A row with its recording's content in place of its origin."""
    found = {name: value for name, value in row.items() if name != "audio"}
    sound = row.get("audio")
    if sound is not None:
        content = sound["bytes"]
        found["sound"] = content if content is not None else open(sound["path"], "rb").read()  # noqa: SIM115
    if row.get("audio_embedding") is not None:
        found["audio_embedding"] = np.asarray(row["audio_embedding"], np.float32).tolist()
    return found


def same(streamed, loaded):
    assert [plain(row) for row in streamed] == [plain(row) for row in loaded]


def parquet(folder):
    sources.dataset().to_parquet(folder / "rows.parquet")
    return folder / "rows.parquet"


def untyped_parquet(folder):
    sources.dataset(typed=False).to_parquet(folder / "rows.parquet", batch_size=2)
    return folder / "rows.parquet"


def parquet_of_paths(folder):
    sources.write_sounds(folder)
    columns = {"file_name": [f"{name}.flac" for name in sources.NAMES], "caption": ["a dog", "rain", "a bell"]}
    datasets.Dataset.from_dict(columns).to_parquet(folder / "rows.parquet")
    return folder / "rows.parquet"


def arrow(folder):
    with datasets.arrow_writer.ArrowWriter(path=str(folder / "rows.arrow")) as writer:
        writer.write_table(sources.dataset().with_format("arrow")[:])
        writer.finalize()
    return folder / "rows.arrow"


def saved(folder):
    sources.dataset().save_to_disk(folder / "saved")
    return folder / "saved"


def audio_folder(folder):
    return sources.write_audio_folder(folder / "clips")


def csv_folder(folder):
    return sources.write_audio_folder(folder / "clips", suffix=".csv")


def json_lines(folder):
    sources.write_sounds(folder)
    write_json_lines(folder / "rows.jsonl", sources.file_rows())
    return folder / "rows.jsonl"


def zipped_lines(folder):
    sources.write_sounds(folder)
    lines = "".join(json.dumps(row) + "\n\n" for row in sources.file_rows())
    (folder / "rows.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    return folder / "rows.jsonl.gz"


def json_list(folder):
    sources.write_sounds(folder)
    (folder / "rows.json").write_text(json.dumps(sources.file_rows()))
    return folder / "rows.json"


def zipped_csv(folder):
    sources.write_sounds(folder)
    (folder / "rows.csv.gz").write_bytes(gzip.compress(b"file_name,caption\ndog.flac,a dog\nrain.flac,rain\n"))
    return folder / "rows.csv.gz"


def web_dataset(folder):
    return sources.write_tar(folder / "shard.tar", sources.web_dataset_files())


def mp3_shard(folder):
    return sources.write_tar(folder / "shard.tar", sources.web_dataset_files(suffix=".mp3"))


def zipped_tar(folder):
    return sources.write_tar(folder / "shard.tar.gz", sources.web_dataset_files(), "w:gz")


def set_in_zip(folder):
    return sources.write_zip(folder / "set.zip", sources.set_files())


def dotted_keys(folder):
    files = {"a.b.flac": sources.sound("dog"), "a.b.json": b'{"caption": "a dog"}'}
    files |= {"x.y/c.d.wav": sources.sound("rain", ".wav"), "x.y/c.json": b'{"caption": "rain"}'}
    return sources.write_tar(folder / "dots.tar", files)


FORMS = [parquet, untyped_parquet, parquet_of_paths, arrow, saved, audio_folder, csv_folder, json_lines, zipped_lines]
FORMS += [json_list, zipped_csv, web_dataset, mp3_shard, zipped_tar, set_in_zip, dotted_keys]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_a_stream_has_the_rows_of_load_rows(form, tmp_path):
    source, found = form(tmp_path), []
    wanted = load_rows(source, left_out=found)
    streamed = rows_of(open_stream(source, languages=list(wanted[0]["captions"])))
    same([row for row in streamed if not isinstance(row, BadRow)], wanted)
    assert [row.kind for row in streamed if isinstance(row, BadRow)] == [row.kind for row in found]
