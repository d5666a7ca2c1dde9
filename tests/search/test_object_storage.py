"""Sounds on object storage, with a server on loopback that speaks S3."""

import unicodedata
from pathlib import Path

import pytest

from modeling_atri.search.object_storage import (
    folder_location,
    is_address,
    lance_options,
    open_storage,
    read_options,
    search_address,
    storage_options,
    stored_sounds,
)
from tests.helpers.object_storage import BUCKET, put, s3_server


ADDRESS = f"s3://{BUCKET}/sounds"
NAMES = ["a.wav", "b/ü #1?.FLAC", "b/.hidden/c.wav", ".d.wav", "notes.txt", "README", "b//empty.wav"]


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "REGION", "DEFAULT_REGION", "ENDPOINT"):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    for name in ("ENDPOINT_URL", "ENDPOINT_URL_S3", "ALLOW_HTTP", "SKIP_SIGNATURE", "VIRTUAL_HOSTED_STYLE_REQUEST"):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")  # a test reaches nothing but loopback


@pytest.fixture(scope="module")
def server():
    pytest.importorskip("moto.server")
    with s3_server() as options:
        for number, name in enumerate(NAMES):
            put(options, f"sounds/{name}", b"x" * number)
        for form in ("NFC", "NFD"):
            put(options, unicodedata.normalize(form, "twice/é.wav"), form.encode())
        put(options, "none/notes.txt", b"")
        yield options


def test_sounds_are_found_and_fetched(server):
    search = search_address(f"{ADDRESS}/", server)
    assert {name: sound.size for name, sound in search.sounds.items()} == {"a.wav": 0, "b/ü #1?.FLAC": 1}
    assert all(sound.mtime_ns > 1e18 for sound in search.sounds.values())
    assert search.other_files == {".txt": 1, "": 1}
    assert list(search.problems) == ["b//empty.wav"]

    stored = list(stored_sounds(ADDRESS, search.sounds.values(), server))
    assert [(sound.address, sound.fetch()) for sound in stored] == [
        (f"{ADDRESS}/a.wav", b""),
        (f"{ADDRESS}/b/ü #1?.FLAC", b"x"),
    ]


def test_of_two_names_that_are_the_same_text_one_is_a_problem(server):
    search = search_address(f"s3://{BUCKET}/twice", server)
    assert search.sounds.keys() == {"é.wav"}
    assert next(stored_sounds(f"s3://{BUCKET}/twice", search.sounds.values(), server)).fetch() == b"NFC"
    assert list(search.problems) == [unicodedata.normalize("NFD", "é.wav")]


def test_the_environment_is_enough(server, monkeypatch):
    for name, value in server.items():
        monkeypatch.setenv(f"AWS_{name.upper()}", value)
    assert search_address(ADDRESS).sounds.keys() == {"a.wav", "b/ü #1?.FLAC"}
    assert lance_options(ADDRESS) == {**server, "allow_http": "true"}


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("s3://recordings/nothing", "There is no folder 's3://recordings/nothing'"),
        ("s3://no-bucket/sounds", "NO_SUCH_BUCKET.*Check its name"),
        ("s3://", "names no bucket"),
        ("s3://recordings/none", "There is no sound file below 's3://recordings/none'"),
        ("http://127.0.0.1/sounds", "Options of the storage are for s3://"),
    ],
)
def test_a_folder_that_cannot_be_listed_is_explained(server, address, message):
    with pytest.raises(ValueError, match=message):
        search_address(address, server)


def test_other_addresses(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"a")
    address = f"file://{tmp_path}"
    search = search_address(address)
    assert [sound.fetch() for sound in stored_sounds(address, search.sounds.values())] == [b"a"]
    with pytest.raises(ValueError, match="Sounds are read from folders, s3://"):
        search_address("http://127.0.0.1/sounds")


def test_options_have_one_name_each(monkeypatch):
    assert storage_options() == {}
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://storage.example")
    assert storage_options({"aws_region": "us-east-1", "timeout": "60s"}) == {
        "region": "us-east-1",
        "endpoint": "https://storage.example",
        "timeout": "60s",
    }
    assert storage_options({"endpoint_url": "http://127.0.0.1:9"})["allow_http"] == "true"
    assert storage_options({"endpoint_url": "http://127.0.0.1:9", "AWS_ALLOW_HTTP": "false"})["allow_http"] == "false"


def test_options_for_an_index():
    assert lance_options("/index", {"region": "eu-west-1"}) is None
    assert lance_options("gs://bucket/index", {"google_service_account": "key.json"}) == {
        "google_service_account": "key.json"
    }


def test_options_of_a_command_line():
    assert read_options(["endpoint=http://127.0.0.1:9000", "key=a=b"]) == {
        "endpoint": "http://127.0.0.1:9000",
        "key": "a=b",
    }
    for word in ("endpoint", "=x"):
        with pytest.raises(ValueError, match="NAME=VALUE"):
            read_options([word])


def test_places():
    assert [is_address(place) for place in ("s3://bucket", "sounds", Path("sounds"))] == [True, False, False]
    assert folder_location("s3://bucket/sounds/") == "s3://bucket/sounds"
    assert folder_location("sounds") == str(Path.cwd() / "sounds")
    assert open_storage("s3://bucket/a/", {"region": "eu-west-1"})[1] == "bucket/a"
