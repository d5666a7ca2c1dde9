"""Archives: shards of a WebDataset with captions of several forms, sets with metadata, and what is wrong in them."""

import io
import json
import os
import tarfile
import unicodedata
import zipfile
from pathlib import Path

import datasets
import pytest

from modeling_atri.corpora.rows.bad_rows import MISSING_RECORDING, WRONG_CAPTIONS, WRONG_LINE
from modeling_atri.corpora.rows.load import load_rows
from modeling_atri.corpora.sources.archives import rows as archived_rows
from modeling_atri.corpora.sources.opening import open_dataset
from tests.helpers import sources


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def shard(path: Path, **members) -> Path:
    """Members are named with `_` in place of the last dot: `dog_txt="a dog"`."""
    files = {}
    for name, content in members.items():
        stem, _, suffix = name.rpartition("_")
        content = json.dumps(content) if suffix == "json" and not isinstance(content, str) else content
        files[f"{stem}.{suffix}"] = content.encode() if isinstance(content, str) else content
    return sources.write_tar(path, files)


SOUND = sources.sound("dog")


@pytest.mark.parametrize(
    ("suffix", "content", "column", "value"),
    [
        ("json", {"text": "a dog barks", "tag": ["dog"]}, "text", "a dog barks"),
        ("json", {"text": ["a dog barks", "barking"]}, "text", ["a dog barks", "barking"]),
        (
            "json",
            {"captions": {"en": ["a dog"], "fr": ["un chien"]}},
            "captions",
            {"en": ["a dog"], "fr": ["un chien"]},
        ),
        ("json", '"a dog barks"', "text", ["a dog barks"]),
        ("json", ["a dog barks", "barking"], "text", ["a dog barks", "barking"]),
        ("txt", "a dog barks\n", "text", ["a dog barks"]),
        ("txt", "a dog barks\r\nbarking\n", "text", ["a dog barks", "barking"]),
        ("txt", b"\xef\xbb\xbfa dog barks", "text", ["a dog barks"]),
    ],
)
def test_captions_of_a_shard(tmp_path, suffix, content, column, value):
    rows = open_dataset(str(shard(tmp_path / "0.tar", dog_flac=SOUND, **{f"dog_{suffix}": content})))
    assert rows[0][column] == value
    assert rows[0]["audio_id"] == "dog"
    assert rows[0]["audio"] == {"bytes": SOUND, "path": "dog.flac"}


@pytest.mark.parametrize("suffix", ["flac", "wav", "mp3", "ogg"])
def test_sounds_of_a_shard(tmp_path, suffix):
    path = sources.write_tar(tmp_path / "0.tar", sources.web_dataset_files(suffix=f".{suffix}"))
    rows = load_rows(path)
    assert rows["audio_id"][:] == list(sources.NAMES)
    assert rows[0]["audio"]["path"] == f"dog.{suffix}"


def test_texts_and_lists_of_texts_are_mixed(tmp_path):
    path = shard(
        tmp_path / "0.tar",
        a_flac=SOUND,
        a_json={"text": "a dog", "captions": {"en": "a dog"}},
        b_flac=SOUND,
        b_json={"text": ["a", "b"], "captions": {"en": ["a", "b"]}, "size": {"x": 1}},
        c_flac=SOUND,
        c_json={"text": None, "captions": {"en": ["c"]}, "size": 3},
    )
    rows = open_dataset(str(path))
    assert rows["text"][:] == [["a dog"], ["a", "b"], None]
    assert rows["captions"][:] == [{"en": ["a dog"]}, {"en": ["a", "b"]}, {"en": ["c"]}]
    assert rows["size"][:] == [None, '{"x": 1}', "3"]


def test_a_file_of_captions_for_each_language(tmp_path):
    files = {"clips/dog.flac": SOUND, "clips/dog.en.txt": b"a dog", "clips/dog.fr.txt": b"un chien"}
    rows = load_rows(sources.write_tar(tmp_path / "0.tar", files))
    assert rows[0]["captions"] == {"eng_Latn": ["a dog"], "fra_Latn": ["un chien"]}


def test_names_with_dots(tmp_path):
    files = {
        "rain.v1.flac": SOUND,
        "rain.v1.json": b'{"captions": {"en": ["one"]}}',
        "rain.flac": SOUND,
        "rain.json": b'{"captions": {"en": ["two"]}}',
        "bell.audio.flac": SOUND,
        "bell.json": b'{"captions": {"en": ["three"]}}',
    }
    rows = load_rows(sources.write_tar(tmp_path / "0.tar", files))
    found = {row["audio_id"]: row["captions"]["eng_Latn"] for row in rows}
    assert found == {"rain.v1": ["one"], "rain": ["two"], "bell": ["three"]}


def test_keys_that_several_shards_have(tmp_path):
    for number in range(2):
        shard(
            tmp_path / f"{number:02d}.tar",
            **{"0_flac": SOUND, "0_json": {"captions": {"en": [f"caption {number}"]}}},
            **{f"own{number}_flac": SOUND, f"own{number}_json": {"captions": {"en": ["x"]}}},
        )
    assert load_rows(tmp_path)["audio_id"][:] == ["00/0", "own0", "01/0", "own1"]


def test_what_is_wrong_in_a_shard_is_listed_and_the_rest_goes_on(tmp_path):
    files = sources.web_dataset_files() | {
        "lost.json": b'{"captions": {"eng_Latn": ["x"], "fra_Latn": ["y"]}}',
        "mute.flac": SOUND,
        "broken.flac": SOUND,
        "broken.json": b'{"captions',
        "bell.mp3": sources.sound("bell", ".mp3"),
    }
    left_out = []
    rows = load_rows(sources.write_tar(tmp_path / "0.tar", files), left_out=left_out)
    assert sorted(rows["audio_id"]) == sorted(sources.NAMES)
    found = {row.kind: row.reason for row in left_out}
    assert set(found) == {WRONG_LINE, MISSING_RECORDING, WRONG_CAPTIONS} and len(left_out) == 4
    reasons = " ".join(row.reason for row in left_out)
    assert "broken.json cannot be read" in reasons
    assert "bell.mp3: bell.flac has the same key 'bell'" in reasons
    assert "0.tar/lost" in found[MISSING_RECORDING]


def test_a_damaged_shard_among_others(tmp_path):
    sources.write_tar(tmp_path / "00.tar", sources.web_dataset_files())
    whole = (tmp_path / "00.tar").read_bytes()
    (tmp_path / "01.tar").write_bytes(whole[: len(whole) // 3])
    left_out = []
    assert len(load_rows(tmp_path, left_out=left_out)) == 3
    assert [row.kind for row in left_out] == [WRONG_LINE]
    assert "01.tar cannot be read as an archive" in left_out[0].reason
    with pytest.raises(ValueError, match=r"01\.tar cannot be read as an archive"):
        load_rows(tmp_path)


def test_a_damaged_file_in_a_zip(tmp_path):
    path = sources.write_zip(tmp_path / "set.zip", sources.set_files())
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo("clips/rain.flac")
    content = bytearray(path.read_bytes())
    content[member.header_offset + 200] ^= 0xFF
    path.write_bytes(content)
    left_out = []
    assert [Path(name).name for name in load_rows(path, left_out=left_out)["audio_id"]] == ["dog", "bell"]
    assert "clips/rain.flac in set.zip cannot be read" in left_out[0].reason


def test_names_that_leave_the_archive_do_no_harm(tmp_path, monkeypatch):
    outside = tmp_path / "outside.flac"
    outside.write_bytes(SOUND)
    monkeypatch.chdir(tmp_path)
    names = ["../outside.flac", str(outside), "outside.flac", "/etc/passwd"]
    lines = [json.dumps({"file_name": name, "captions": {"en": ["x"]}}) for name in names]
    metadata = {"metadata.jsonl": "\n".join(lines).encode(), "../evil.flac": SOUND, "/evil.flac": SOUND}
    left_out = []
    with pytest.raises(ValueError, match="4 wrong rows"):
        load_rows(sources.write_zip(tmp_path / "in" / "set.zip", metadata), left_out=left_out)
    with pytest.raises(ValueError, match="4 wrong rows"):
        load_rows(sources.write_tar(tmp_path / "in" / "set.tar", metadata))
    assert sorted(os.listdir(tmp_path)) == ["cache", "in", "outside.flac"]


def test_links_in_a_tar_are_not_followed(tmp_path):
    path = sources.write_tar(tmp_path / "0.tar", sources.web_dataset_files(("dog",)))
    with tarfile.open(path, "a") as archive:
        link = tarfile.TarInfo("link.flac")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        content = b'{"captions": {"eng_Latn": ["x"], "fra_Latn": ["y"]}}'
        member = tarfile.TarInfo("link.json")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    left_out = []
    assert len(load_rows(path, left_out=left_out)) == 1
    assert [row.kind for row in left_out] == [MISSING_RECORDING]


def test_names_in_other_unicode_forms_and_files_of_macos(tmp_path):
    name = "café"
    files = {
        unicodedata.normalize("NFD", f"set/{name}.flac"): SOUND,
        f"__MACOSX/set/._{name}.flac": b"x",
        "set/.DS_Store": b"x",
        "set/metadata.jsonl": json.dumps({"file_name": f"{name}.flac", "captions": {"en": ["x"]}}).encode(),
    }
    for path in (
        sources.write_zip(tmp_path / "set.zip", files),
        sources.write_tar(tmp_path / "set.tgz", files, "w:gz"),
    ):
        rows = load_rows(path)
        assert [row["audio"]["bytes"] for row in rows] == [SOUND]


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet"])
def test_metadata_of_other_forms(tmp_path, suffix):
    rows = [{"file_name": "dog.flac", "captions": {"en": ["a dog"]}, "id": 7}]
    file = io.BytesIO()
    if suffix == ".parquet":
        datasets.Dataset.from_list(rows).to_parquet(file)
    else:
        file.write(json.dumps(rows if suffix == ".json" else rows[0]).encode())
    path = sources.write_zip(tmp_path / "set.zip", {f"metadata{suffix}": file.getvalue(), "dog.flac": SOUND})
    assert load_rows(path)[0]["audio"]["bytes"] == SOUND
    assert open_dataset(str(path))["id"][:] == [7]


@pytest.mark.parametrize("name", ["captions.jsonl", "clotho/captions.jsonl"])
def test_a_metadata_file_with_another_name(tmp_path, name):
    files = {name: b'{"file_name": "dog.flac", "caption": "a dog"}', str(Path(name).with_name("dog.flac")): SOUND}
    rows = open_dataset(str(sources.write_zip(tmp_path / "set.zip", files)))
    assert rows["caption"][:] == ["a dog"]
    assert rows[0]["audio"]["bytes"] == SOUND


def test_an_archive_is_read_once_until_it_changes(tmp_path, monkeypatch):
    path = sources.write_tar(tmp_path / "set.tar.gz", sources.set_files(), "w:gz")
    opened = []
    archive = archived_rows.Archive
    monkeypatch.setattr(archived_rows, "Archive", lambda path: opened.append(path) or archive(path))
    first = archived_rows.rows_of_archives([path]).to_list()
    assert archived_rows.rows_of_archives([path]).to_list() == first
    assert opened == [path]
    sources.write_tar(path, sources.set_files(("dog",)), "w:gz")
    assert len(archived_rows.rows_of_archives([path])) == 1
    assert len(list((tmp_path / "cache" / "archives").glob("*.arrow"))) == 1  # none of the earlier state


def test_documents_are_no_captions(tmp_path):
    documents = {"README.txt": b"x", "LICENSE.txt": b"x", "clips/readme.txt": b"x"}
    path = sources.write_zip(tmp_path / "set.zip", documents | {"clips/a.flac": SOUND, "clips/a.txt": b"a dog"})
    assert load_rows(path)["audio_id"][:] == ["clips/a"]
    path = sources.write_zip(tmp_path / "labels.zip", documents | {"dogs/1.flac": SOUND})
    assert open_dataset(str(path))["label"][:] == ["dogs"]
    path = sources.write_zip(tmp_path / "odd.zip", {"readme.flac": SOUND, "readme.txt": b"someone reads"})
    assert load_rows(path)["captions"][:] == [{"eng_Latn": ["someone reads"]}]


def test_several_archives_with_metadata(tmp_path):
    for number in range(2):
        sources.write_zip(tmp_path / f"{number}.zip", sources.set_files())
    rows = load_rows(tmp_path)
    assert len(set(rows["audio_id"])) == 6
    assert rows["audio_id"][0] == "0/clips/dog"


def test_an_archive_without_sounds(tmp_path):
    path = sources.write_zip(tmp_path / "set.zip", {"notes.txt": b"x"})
    with pytest.raises(ValueError, match="There are no sounds in .*set.zip"):
        load_rows(path)


def test_labels_of_an_archive(tmp_path):
    path = sources.write_zip(tmp_path / "set.zip", {"dogs/1.flac": SOUND, "rain/1.flac": SOUND})
    assert open_dataset(str(path))["label"][:] == ["dogs", "rain"]
