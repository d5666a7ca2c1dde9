"""Readers of shards: where they go on, how several share a shard, and what is wrong with rows and files."""

import gzip
import json
import pickle
import tarfile

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modeling_atri.corpora.rows.bad_rows import (
    MISSING_EMBEDDING,
    MISSING_RECORDING,
    UNREADABLE_RECORDING,
    WRONG_CAPTIONS,
    WRONG_EMBEDDING,
    WRONG_LINE,
    BadRow,
)
from modeling_atri.corpora.rows.load import load_rows
from modeling_atri.corpora.streams import open_stream
from modeling_atri.files import write_json_lines
from tests.helpers import sources


LANGUAGES = ["eng_Latn", "fra_Latn"]


def embedded_table(names, width=4, **columns):
    vectors = np.random.default_rng(len(names)).standard_normal((len(names), width)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    captions = [{"eng_Latn": [f"a {name}", "a sound"], "fra_Latn": [f"un {name}", "un son"]} for name in names]
    table = {"audio_id": list(names), "captions": captions, "audio_embedding": vectors.tolist()}
    return pa.table(table | columns)


def write_many(folder, form):
    """70 rows in shards of a form."""
    names = [f"clip {number}" for number in range(70)]
    files = sources.web_dataset_files(sources.NAMES)
    if form == "parquet of embeddings":
        pq.write_table(embedded_table(names), folder / "rows.parquet", row_group_size=30)
        return folder / "rows.parquet"
    if form == "jsonl of embeddings":
        write_json_lines(folder / "rows.jsonl", embedded_table(names).to_pylist())
        return folder / "rows.jsonl"
    sound = sources.sound("dog")
    if form == "parquet":
        audio = [{"bytes": sound, "path": f"{name}.flac"} for name in names]
        captions = [sources.captions(name) for name in names]
        datasets.Dataset.from_dict({"audio": audio, "captions": captions}).to_parquet(folder / "rows.parquet")
        return folder / "rows.parquet"
    if form == "tar":
        files = {}
        for name in names:
            files |= {f"{name}.flac": sound, f"{name}.json": json.dumps({"captions": sources.captions(name)}).encode()}
        return sources.write_tar(folder / "rows.tar", files)
    (folder / "dog.flac").write_bytes(sound)
    lines = [{"file_name": "dog.flac", "audio_id": name, "captions": sources.captions(name)} for name in names]
    text = "\n\n".join(map(json.dumps, lines)).encode()
    if form == "jsonl":
        (folder / "rows.jsonl").write_bytes(text)
        return folder / "rows.jsonl"
    if form == "jsonl.gz":
        (folder / "rows.jsonl.gz").write_bytes(gzip.compress(text))
        return folder / "rows.jsonl.gz"
    rows = datasets.Dataset.from_list(lines).rename_column("file_name", "audio")
    rows = rows.map(lambda row: {"audio": str(folder / row["audio"])})
    return rows if form == "dataset" else rows.to_iterable_dataset(num_shards=2)


FORMS = ["parquet of embeddings", "jsonl of embeddings", "parquet", "tar", "jsonl", "jsonl.gz", "dataset", "iterable"]


def comparable(row):
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in row.items()}


@pytest.mark.parametrize("form", FORMS)
def test_a_reader_goes_on_where_another_was(form, tmp_path):
    shards = open_stream(write_many(tmp_path, form))
    shards = pickle.loads(pickle.dumps(shards)) if form != "iterable" else shards
    names = []
    for shard in range(shards.num_shards):
        reader, states = shards.open(shard), []
        rows = []
        for row in reader:
            rows.append(comparable(row))
            states.append(json.loads(json.dumps(reader.state())))
        names += [row["audio_id"] for row in rows]
        for number in [0, 1, 15, 16, len(rows) - 2, len(rows) - 1]:
            assert [comparable(row) for row in shards.open(shard, states[number])] == rows[number + 1 :]
        assert [comparable(row) for row in shards.open(shard, shards.open(shard).state())] == rows
    assert names == [f"clip {number}" for number in range(70)]


@pytest.mark.parametrize("form", FORMS)
def test_parts_of_a_shard_have_each_row_once(form, tmp_path):
    shards = open_stream(write_many(tmp_path, form))
    whole = [row["audio_id"] for row in shards.open(0)]
    parts = [[row["audio_id"] for row in shards.open(0, part=part, num_parts=8)] for part in range(8)]
    assert parts == [whole[part::8] for part in range(8)]
    reader = shards.open(0, part=3, num_parts=8)
    for _ in range(2):
        next(reader)
    assert [row["audio_id"] for row in shards.open(0, reader.state(), part=3, num_parts=8)] == parts[3][2:]


def test_only_the_rows_of_a_part_are_checked(tmp_path):
    path = write_many(tmp_path, "jsonl")
    lines = path.read_bytes().split(b"\n\n")
    lines[1] = b'{"file_name": "gone.flac", "captions": {"eng_Latn": ["x"], "fra_Latn": ["y"]}}'
    path.write_bytes(b"\n\n".join(lines))
    shards = open_stream(path)
    assert all(isinstance(row, dict) for row in shards.open(0, part=0, num_parts=2))
    (bad,) = [row for row in shards.open(0, part=1, num_parts=2) if isinstance(row, BadRow)]
    assert (bad.place, bad.kind) == ("rows.jsonl, line 3", MISSING_RECORDING)


# Wrong rows


def wrong_rows():
    rows = [comparable(row) for row in embedded_table([f"clip {number}" for number in range(8)]).to_pylist()]
    rows[1]["audio_embedding"] = None
    rows[2]["audio_embedding"] = [0.0] * 4
    rows[3]["captions"] = {"eng_Latn": ["a &amp; b "], "fra_Latn": ["a\tb"]}  # right after cleaning
    rows[4]["captions"] = {"eng_Latn": ["one", "two"], "fra_Latn": ["un"]}
    rows[5]["audio_id"] = ""
    rows[6]["audio_embedding"] = [float("nan")] * 4
    return rows


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_rows_with_embeddings_are_judged_as_load_rows_judges_them(suffix, tmp_path):
    path = tmp_path / f"rows.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(wrong_rows()), path)
    else:
        path.write_text("\n".join(map(json.dumps, wrong_rows())))
    found = []
    loaded = load_rows(path, left_out=found)
    streamed = list(open_stream(path).open(0))
    right = [comparable(row) for row in streamed if not isinstance(row, BadRow)]
    assert [row["audio_id"] for row in right] == ["clip 0", "clip 3", "clip 7"]
    for row, other in zip(right, loaded, strict=True):
        other = other | {"audio_embedding": np.asarray(other["audio_embedding"], np.float32).tolist()}
        assert row == other
    bad = [row for row in streamed if isinstance(row, BadRow)]
    assert [(row.audio_id, row.kind, row.reason) for row in bad] == [row[1:] for row in found]
    assert [row.place for row in bad] == [f"{path.name}, {row.place}" for row in found]


def test_vectors_of_another_width_or_length_than_the_first_are_wrong(tmp_path):
    pq.write_table(embedded_table(["a", "b"]), tmp_path / "0.parquet")
    pq.write_table(embedded_table(["c"], width=5), tmp_path / "1.parquet")
    long = embedded_table(["d"]).set_column(2, "audio_embedding", [[[3.0, 0.0, 0.0, 0.0]]])
    pq.write_table(long, tmp_path / "2.parquet")
    pq.write_table(embedded_table(["e"]).drop_columns(["audio_embedding"]), tmp_path / "3.parquet")
    ids = embedded_table(["f"]).set_column(2, "audio_embedding", [["an id"]])
    pq.write_table(ids, tmp_path / "4.parquet")
    shards = open_stream(tmp_path)
    assert shards.facts.embeddings.normalized and shards.num_rows == 6
    found = [row for shard in range(shards.num_shards) for row in shards.open(shard)]
    assert [row.kind for row in found[2:]] == [WRONG_EMBEDDING] * 2 + [MISSING_EMBEDDING] + [WRONG_EMBEDDING]
    assert "5 numbers, but that of the first row has 4" in found[2].reason
    assert "length 3, but those of the first rows have 1" in found[3].reason
    assert [row.place for row in found[2:]] == [f"{number}.parquet, row 0" for number in range(1, 5)]


def test_a_file_without_captions_has_wrong_rows_only(tmp_path):
    pq.write_table(embedded_table(["a", "b"]), tmp_path / "0.parquet")
    pq.write_table(embedded_table(["c"]).drop_columns(["captions"]), tmp_path / "1.parquet")
    shards = open_stream(tmp_path)
    (bad,) = shards.open(1)
    assert (bad.place, bad.audio_id, bad.kind) == ("1.parquet, row 0", "c", WRONG_CAPTIONS)


def test_embeddings_are_looked_up_in_a_store(tmp_path):
    names = [f"{number}.flac" for number in range(5)]
    vectors = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    np.save(tmp_path / "store.npy", vectors)
    (tmp_path / "store.ids.json").write_text(json.dumps(names[:4] + ["other"]))
    lines = [{"file_name": name, "captions": sources.captions(name)} for name in names]
    write_json_lines(tmp_path / "rows.jsonl", lines)
    found = []
    loaded = load_rows(tmp_path / "rows.jsonl", audio_embeddings=tmp_path / "store.npy", left_out=found)
    *right, bad = open_stream(tmp_path / "rows.jsonl", audio_embeddings=tmp_path / "store.npy").open(0)
    assert [comparable(row) for row in right] == [comparable(row) for row in loaded]
    assert bad[1:] == found[0][1:] and bad.kind == MISSING_EMBEDDING


def test_names_without_ids_are_told_apart_by_their_folders(tmp_path):
    rows = [{"file_name": f"{folder}/dog.flac", "captions": sources.captions("dog")} for folder in "ab"]
    for folder in "ab":
        sources.write_sounds(tmp_path / folder)
    absolute = [row | {"file_name": str(tmp_path / row["file_name"])} for row in rows]
    write_json_lines(tmp_path / "rows.jsonl", rows + absolute)
    ids = [row["audio_id"] for row in open_stream(tmp_path / "rows.jsonl").open(0)]
    assert ids == ["a/dog", "b/dog"] * 2


# Damaged files


def shard_of(count=6):
    sound = sources.sound("dog")
    files = {}
    for number in range(count):
        files |= {f"{number}.flac": sound, f"{number}.txt": b"a dog"}
    return files


def read_all(path, **options):
    shards = open_stream(path, languages=["en"], **options)
    rows = [row for shard in range(shards.num_shards) for row in shards.open(shard)]
    bad = [row for row in rows if isinstance(row, BadRow)]
    return [row["audio_id"] for row in rows if not isinstance(row, BadRow)], bad


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
@pytest.mark.parametrize("share", [0.5, 0.8])
def test_a_tar_file_that_is_cut_off_is_read_up_to_there(mode, share, tmp_path):
    noise = np.random.default_rng(0)  # compressed, the files are as long as before
    files = {
        name: content + noise.bytes(4_000) if name.endswith(".flac") else content
        for name, content in shard_of().items()
    }
    path = sources.write_tar(tmp_path / "shard.tar", files, mode)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content.rstrip(b"\0")) * share)])
    right, bad = read_all(path)
    assert right == [str(number) for number in range(len(right))] and 1 <= len(right) < 6
    assert "the rest cannot be read" in bad[-1].reason and bad[-1].place.startswith("shard.tar, row")
    with pytest.raises(ValueError, match="cannot be read as an archive"):
        load_rows(path)


def test_a_damaged_header_is_not_taken_for_the_end_of_a_tar_file(tmp_path):
    path = sources.write_tar(tmp_path / "shard.tar", shard_of())
    content = bytearray(path.read_bytes())
    with tarfile.open(path) as archive:
        offset = archive.getmember("3.flac").offset
    content[offset : offset + 512] = b"x" * 512
    path.write_bytes(content)
    right, bad = read_all(path)
    assert right == ["0", "1", "2"] and bad[-1].kind == WRONG_LINE and "damaged after 6 files" in bad[-1].reason


def test_parts_of_a_key_that_are_missing(tmp_path):
    files = shard_of(3)
    files.pop("0.txt"), files.pop("1.flac")
    right, bad = read_all(sources.write_tar(tmp_path / "shard.tar", files))
    assert right == ["2"]
    assert {row.audio_id: row.kind for row in bad} == {"0": WRONG_CAPTIONS, "1": MISSING_RECORDING}


def test_two_files_of_captions_of_a_key(tmp_path):
    files = {"dog.flac": sources.sound("dog"), "dog.txt": b"a dog", "dog.json": b'{"caption": "a hound"}'}
    files |= {"rain.flac": sources.sound("rain"), "rain.en.txt": b"rain", "rain.fr.txt": b"pluie"}
    path = sources.write_tar(tmp_path / "shard.tar", files)
    rows = list(open_stream(path, languages=["en"]).open(0))
    assert [row["captions"]["eng_Latn"] for row in rows] == [["a hound"], ["rain"]]


def test_keys_that_several_shards_have(tmp_path):
    for shard in range(2):
        sources.write_tar(tmp_path / f"{shard}.tar", shard_of(2))
    right, bad = read_all(tmp_path)
    assert right == ["0/0", "0/1", "1/0", "1/1"] and not bad


def test_shards_that_are_empty_or_cannot_be_read(tmp_path):
    sources.write_tar(tmp_path / "0.tar", {})
    sources.write_tar(tmp_path / "1.tar", shard_of(1))
    (tmp_path / "2.tar").write_bytes(b"no archive at all" * 100)
    right, (bad,) = read_all(tmp_path)
    assert right == ["1/0"] and bad.place == "2.tar, row 0" and "cannot be read as an archive" in bad.reason


def test_a_parquet_file_that_is_damaged(tmp_path):
    for number in range(3):
        pq.write_table(embedded_table([f"{number}-{row}" for row in range(9)]), tmp_path / f"{number}.parquet")
    (tmp_path / "1.parquet").write_bytes((tmp_path / "1.parquet").read_bytes()[:-50])
    pq.write_table(embedded_table([]), tmp_path / "3.parquet")
    right, (bad,) = read_all(tmp_path)
    assert len(right) == 18 and bad.place == "1.parquet, row 0" and bad.kind == WRONG_LINE


def test_a_compressed_file_of_rows_that_is_cut_off(tmp_path):
    rows = [comparable(row) for row in embedded_table([str(number) for number in range(2_000)]).to_pylist()]
    content = gzip.compress("\n".join(map(json.dumps, rows)).encode())
    (tmp_path / "rows.jsonl.gz").write_bytes(content[: len(content) // 2])
    right, (bad,) = read_all(tmp_path / "rows.jsonl.gz")
    assert right == [str(number) for number in range(len(right))] and len(right) > 100
    assert "cannot be decompressed" in bad.reason and bad.place == f"rows.jsonl.gz, row {len(right)}"


def test_a_reader_goes_on_after_a_damaged_place(tmp_path):
    content = sources.write_tar(tmp_path / "shard.tar", shard_of()).read_bytes()
    (tmp_path / "shard.tar").write_bytes(content[: len(content.rstrip(b"\0")) // 2])
    shards = open_stream(tmp_path / "shard.tar", languages=["en"])
    reader, rows, states = shards.open(0), [], []
    for row in reader:
        rows.append(row)
        states.append(json.loads(json.dumps(reader.state())))
    for number, state in enumerate(states):
        assert list(shards.open(0, state)) == rows[number + 1 :]


@pytest.mark.parametrize("bytes_", [b"", b"no sound", b"RIFF\0\0\0\0WAVEfmt "])
def test_recordings_that_cannot_be_read(bytes_, tmp_path):
    files = shard_of(2) | {"0.flac": bytes_}
    right, (bad,) = read_all(sources.write_tar(tmp_path / "shard.tar", files))
    assert right == ["1"] and (bad.audio_id, bad.kind) == ("0", UNREADABLE_RECORDING)
    assert bad.place == "shard.tar, row 0"


def test_bytes_that_are_no_text(tmp_path):
    lines = [b'{"captions": {"eng_Latn": ["a"]}, "audio_embedding": [1, 0]}', b"\xff\xfe{", b"[1]", b'{"x": ']
    (tmp_path / "rows.jsonl").write_bytes(b"\n".join(lines))
    right, bad = read_all(tmp_path / "rows.jsonl")
    assert right == ["rows.jsonl, line 1"]
    assert [(row.place, row.kind) for row in bad] == [(f"rows.jsonl, line {line}", WRONG_LINE) for line in (2, 3, 4)]


def test_there_is_no_such_shard_or_part(tmp_path):
    shards = open_stream(sources.write_tar(tmp_path / "shard.tar", shard_of(2)), languages=["en"])
    for arguments in ((1,), (0, None, 2, 2)):
        with pytest.raises(ValueError, match="has 1 shards"):
            shards.open(*arguments)
