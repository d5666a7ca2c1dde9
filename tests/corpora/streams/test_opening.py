"""Streams of all forms of data sets, compared with the rows that `load_rows` returns for the same data."""

import gzip
import json

import datasets
import numpy as np
import pytest

from modeling_atri.corpora.rows.bad_rows import BadRow
from modeling_atri.corpora.rows.load import load_rows
from modeling_atri.corpora.streams import open_stream, open_streams
from modeling_atri.files import write_json_lines
from tests.helpers import sources
from tests.helpers.local_hub import Commit, LocalHub, Repo


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


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with LocalHub() as hub:
        hub.connect(monkeypatch)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr("datasets.config.HF_ENDPOINT", hub.url)
        monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", False)
        yield hub


def publish(hub, files):
    hub.repos["datasets/tester/clips"] = Repo(False, {"main": [Commit("files", files)]})
    return "tester/clips"


def parquet_files(folder):
    paths = [folder / f"train-{number:05d}-of-00002.parquet" for number in range(2)]
    sources.dataset(sources.NAMES[:2]).to_parquet(paths[0])
    sources.dataset(sources.NAMES[2:]).to_parquet(paths[1])
    return {f"data/{path.name}": path.read_bytes() for path in paths}


def fetched(hub):
    return [
        request.rpartition("/")[2] for request in hub.requests if request.startswith("GET") and "/data/" in request
    ]


def test_shards_on_the_hub_are_fetched_when_they_are_read(hub, tmp_path):
    shards = open_stream(publish(hub, parquet_files(tmp_path)), "train")
    assert (shards.num_shards, shards.num_rows) == (2, None)
    assert fetched(hub) == ["train-00000-of-00002.parquet"]  # to know the kind of the rows
    same(rows_of(shards), sources.dataset().map(lambda row: row | {"group_id": row["audio_id"]}))
    assert not any((tmp_path / "hub").rglob("*.parquet"))
    hub.cut("HEAD /datasets/tester/clips/resolve", times=float("inf"))
    with pytest.raises(ConnectionError, match="cannot be downloaded"):
        rows_of(shards)


def test_data_sets_that_are_streamed_from_the_hub(hub, tmp_path):
    stream = datasets.load_dataset(publish(hub, parquet_files(tmp_path)), split="train", streaming=True)
    shards = open_stream(stream)
    assert shards.num_shards == 2
    same(rows_of(shards), sources.dataset().map(lambda row: row | {"group_id": row["audio_id"]}))


def test_rows_on_the_hub_that_name_files_are_refused(hub):
    rows = "".join(json.dumps(row) + "\n" for row in sources.file_rows())
    with pytest.raises(ValueError, match="stream shards that hold the recordings"):
        open_stream(publish(hub, {"rows.jsonl": rows.encode(), "dog.flac": sources.sound("dog")}))


# Kinds of rows, languages and splits


def embedded(folder, name="rows", **columns):
    rows = {"audio_embedding": [[1.0, 0.0], [0.0, 1.0]], "en": ["a dog", "rain"], "fr": ["un chien", "pluie"]}
    datasets.Dataset.from_dict(rows | columns).to_parquet(folder / f"{name}.parquet")
    return folder / f"{name}.parquet"


def test_the_first_rows_say_what_all_have(tmp_path):
    facts = open_stream(embedded(tmp_path)).facts
    assert facts.languages == ["eng_Latn", "fra_Latn"] and not facts.has_audio and not facts.has_teacher
    assert facts.embeddings.width == 2 and facts.embeddings.normalized
    assert open_stream(embedded(tmp_path), languages=["fr"]).facts.languages == ["fra_Latn"]
    taught = open_stream(embedded(tmp_path, teacher_embedding=[[[1.0, 2.0]]] * 2))
    assert taught.facts.has_teacher and next(taught.open(0))["teacher_embedding"] == [[1.0, 2.0]]
    datasets.Dataset.from_dict({"en": ["a dog"]}).to_parquet(tmp_path / "texts.parquet")
    assert not open_stream(tmp_path / "texts.parquet", needs_sound=False).facts.has_audio
    (row,) = open_stream(tmp_path / "texts.parquet", needs_sound=False).open(0)
    assert row == {
        "audio_id": "texts.parquet, row 0",
        "captions": {"eng_Latn": ["a dog"]},
        "group_id": "texts.parquet, row 0",
    }


def test_groups_are_read_from_their_column(tmp_path):
    path = embedded(tmp_path, kind=["animal", None])
    right, wrong = open_stream(path, group_column="kind").open(0)
    assert right["group_id"] == "animal" and "the group `kind` must be a string" in wrong.reason


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"languages": ["de"]}, "captions are missing in deu_Latn"),
        ({"languages": ["en", "en"]}, "none twice"),
        ({"split": "train[:1]"}, "names a part of a split"),
    ],
)
def test_what_does_not_fit_is_refused(options, message, tmp_path):
    embedded(tmp_path, "train"), embedded(tmp_path, "test")
    with pytest.raises(ValueError, match=message):
        open_stream(tmp_path, **{"split": "train"} | options)


def test_sources_without_rows_or_of_other_types_are_refused(tmp_path):
    (tmp_path / "rows.jsonl").write_text("\n")
    with pytest.raises(ValueError, match="holds no rows"):
        open_stream(tmp_path / "rows.jsonl")
    with pytest.raises(ValueError, match="this is a list"):
        open_stream([{"en": "a dog"}])
    write_json_lines(tmp_path / "rows.jsonl", [{"file_name": "dog.flac"}])
    with pytest.raises(ValueError, match="it has no captions but file_name"):
        open_stream(tmp_path / "rows.jsonl")


def test_several_sources_are_joined_or_have_weights(tmp_path):
    paths = [embedded(tmp_path, name, audio_id=[f"{name}0", f"{name}1"]) for name in "abc"]
    joined = open_streams(paths)
    assert joined.num_rows == 6 and joined.weights == (1.0,)
    assert [row["audio_id"] for row in rows_of(joined.sources[0])] == ["a0", "a1", "b0", "b1", "c0", "c1"]
    weighted = open_streams(paths, weights=[1, 1, 2])
    assert weighted.weights == (0.25, 0.25, 0.5) and len(weighted.sources) == 3
    assert weighted.num_rows == 4  # of the last source, half of the rows: it ends after two
    assert open_streams(paths, weights=[1, 1, 2], num_rows=7).num_rows == 7


@pytest.mark.parametrize("form", [json_lines, web_dataset, parquet])
def test_files_of_another_size_or_name_are_another_version(form, tmp_path):
    path = form(tmp_path)
    versions = [open_streams([path] * count).sources[0].version for count in (1, 2, 1)]
    if form is json_lines:
        path.write_bytes(b"\n" + path.read_bytes())
    else:
        path = path.rename(path.with_stem("other"))
    versions += [open_streams([path] * count).sources[0].version for count in (1, 2, 1)]
    assert versions[0] == versions[2] and versions[3] == versions[5]
    assert len(set(versions)) == 4


@pytest.mark.parametrize("form", [json_lines, web_dataset, parquet])
def test_files_that_were_edited_have_other_times(form, tmp_path):
    path = form(tmp_path)
    opened = [open_streams([path] * count).sources[0] for count in (1, 2, 1)]
    path.write_bytes(path.read_bytes())
    opened += [open_streams([path] * count).sources[0] for count in (1, 2, 1)]
    versions, times = [source.version for source in opened], [source.times for source in opened]
    assert versions[:3] == versions[3:]
    assert times[0] == times[2] and times[3] == times[5]
    assert len(set(times)) == 4


def test_sources_that_do_not_go_together_are_refused(tmp_path):
    paths = [embedded(tmp_path, "a"), embedded(tmp_path, "b", audio_embedding=[[1.0, 0.0, 0.0]] * 2)]
    with pytest.raises(ValueError, match="embeddings of 2 numbers, and .* has embeddings of 3 numbers"):
        open_streams(paths)
    for weights in ([1.0], [1.0, 0.0], [1.0, float("nan")]):
        with pytest.raises(ValueError, match="positive number for each of the 2 sources"):
            open_streams([paths[0]] * 2, weights=weights)
