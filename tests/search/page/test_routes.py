"""The addresses of sounds and pictures, with the index of `tests/helpers/pages.py`."""

import io
from pathlib import Path
from typing import Any

import pytest
import soundfile

from modeling_atri.search.index.tables import SoundKey
from modeling_atri.search.page.media import ShownSounds
from modeling_atri.search.page.routes import SoundFiles, add_routes, ranged
from tests.helpers.pages import ANSWERS, known_index


fastapi = pytest.importorskip("fastapi", reason="needs the extra `search`")
pytestmark = pytest.mark.heavy


class Client:
    """A client of the routes that knows the tokens of sounds."""

    def __init__(self, folder: Path):
        from starlette.testclient import TestClient

        self.folder = folder
        self.index = known_index(folder, num_others=3)
        self.shown = ShownSounds()
        app = fastapi.FastAPI()
        add_routes(app, SoundFiles(self.index, self.shown))
        self.http = TestClient(app)

    def token(self, path: str) -> str:
        return self.shown.token(SoundKey(str(self.folder / "sounds"), path))

    def get(self, path: str, kind: str = "sounds", **headers: str) -> Any:
        return self.http.get(f"/{kind}/{self.token(path)}{'.png' if kind == 'pictures' else ''}", headers=headers)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Client:
    return Client(tmp_path_factory.mktemp("routes"))


TYPES = {".wav": "audio/wav", ".ogg": "audio/ogg", ".mp3": "audio/mpeg", ".flac": "audio/flac"}


@pytest.mark.parametrize("path", [path for path in ANSWERS.values() if not path.endswith(".aiff")])
def test_a_sound_is_sent_as_it_is(client, path):
    content = (client.folder / "sounds" / path).read_bytes()
    answer = client.get(path)
    assert (answer.status_code, answer.content) == (200, content)
    assert answer.headers["content-type"] == TYPES[Path(path).suffix]
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize("path", [ANSWERS["jpn_Jpan"], ANSWERS["spa_Latn"]])  # as it is, and converted
@pytest.mark.parametrize(
    ("asked", "part"),
    [("bytes=0-99", slice(0, 100)), ("bytes=100-", slice(100, None)), ("bytes=-50", slice(-50, None))],
)
def test_a_range_is_sent(client, path, asked, part):
    whole = client.get(path).content
    answer = client.get(path, Range=asked)
    assert answer.status_code == 206
    assert answer.content == whole[part]
    start, stop, _ = part.indices(len(whole))
    assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(whole)}"
    assert answer.headers["content-length"] == str(len(answer.content))


@pytest.mark.parametrize("path", [ANSWERS["jpn_Jpan"], ANSWERS["spa_Latn"]])
def test_a_range_behind_the_end_is_not_satisfiable(client, path):
    size = len(client.get(path).content)
    answer = client.get(path, Range=f"bytes={size}-")
    assert answer.status_code == 416 and answer.headers["content-range"].endswith(f"*/{size}")


def test_a_format_that_browsers_do_not_play_is_converted(client):
    answer = client.get(ANSWERS["spa_Latn"])
    assert answer.headers["content-type"] == "audio/flac"
    samples, rate = soundfile.read(io.BytesIO(answer.content))
    expected, expected_rate = soundfile.read(client.folder / "sounds" / ANSWERS["spa_Latn"])
    assert rate == expected_rate and samples == pytest.approx(expected, abs=2**-15)


def test_head_tells_the_size(client):
    path = ANSWERS["jpn_Jpan"]
    answer = client.http.head(f"/sounds/{client.token(path)}")
    assert answer.status_code == 200 and answer.content == b""
    assert int(answer.headers["content-length"]) == (client.folder / "sounds" / path).stat().st_size


def test_a_picture(client):
    answer = client.get(ANSWERS["jpn_Jpan"], "pictures")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    assert (
        answer.content.startswith(b"\x89PNG") and answer.content == client.get(ANSWERS["jpn_Jpan"], "pictures").content
    )


@pytest.mark.parametrize("kind", ["sounds", "pictures"])
@pytest.mark.parametrize(
    "token",
    [
        "0" * 32,
        "1",
        "..%2f..%2fetc%2fpasswd",
        "../../etc/passwd",
        "%2e%2e/index/windows.lance",
        "tones/english.wav",
        "%00",
    ],
)
def test_what_was_not_shown_is_not_found(client, kind, token):
    answer = client.http.get(f"/{kind}/{token}{'.png' if kind == 'pictures' else ''}")
    assert answer.status_code == 404 and b"root:" not in answer.content


@pytest.mark.parametrize("kind", ["sounds", "pictures"])
@pytest.mark.parametrize(
    "path", ["others/00009.wav", "tones/never_indexed.wav", "../index/windows.lance", "../secret.wav"]
)
def test_what_is_gone_or_not_in_the_index_is_not_found(client, kind, path):
    for name in ("secret.wav", "sounds/tones/never_indexed.wav"):
        soundfile.write(client.folder / name, [0.0] * 4000, 16_000)
    assert client.get(path, kind).status_code == 404


def test_a_sound_that_is_removed_from_the_index_is_not_sent_any_more(tmp_path):
    client = Client(tmp_path)
    assert client.get("tones/english.wav").status_code == 200
    client.index.remove(["tones/english.wav"])
    answer = client.get("tones/english.wav")
    assert (tmp_path / "sounds" / "tones" / "english.wav").exists()
    assert answer.status_code == 404 and "Ask again" in answer.text


def test_a_file_that_became_a_link_out_of_the_folder_is_not_sent(tmp_path):
    client = Client(tmp_path)
    file = tmp_path / "sounds" / "tones" / "english.wav"
    file.unlink()
    file.symlink_to("/etc/passwd")
    answer = client.get("tones/english.wav")
    assert answer.status_code == 404 and "root:" not in answer.text


@pytest.mark.parametrize("kind", ["sounds", "pictures"])
def test_a_file_that_is_no_sound_any_more_is_refused_with_a_sentence(tmp_path, kind):
    client = Client(tmp_path)
    (tmp_path / "sounds" / "tones" / "english.wav").write_text("<html>secret</html>")
    answer = client.get("tones/english.wav", kind)
    assert answer.status_code == 415 and "HTML page" in answer.text and "secret" not in answer.text


def test_a_changed_file_has_a_new_picture_and_a_new_sound(tmp_path):
    client = Client(tmp_path)
    path = ANSWERS["spa_Latn"]
    picture, sound = client.get(path, "pictures").content, client.get(path).content
    soundfile.write(tmp_path / "sounds" / path, [0.1] * 8000, 16_000)
    assert client.get(path, "pictures").content != picture and client.get(path).content != sound


@pytest.mark.parametrize(
    "asked",
    [None, "", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=5-3", "bytes=0-1,4-5", "items=0-3"]
    + [f"bytes=0-{'9' * 5000}"],
)
def test_a_range_that_is_not_understood_is_answered_with_all(asked):
    answer = ranged(b"0123456789", "audio/flac", asked)
    assert (answer.status_code, answer.body) == (200, b"0123456789")


@pytest.mark.parametrize(
    ("asked", "status", "body"),
    [
        ("bytes=0-0", 206, b"0"), ("bytes=9-", 206, b"9"), ("bytes=4-100", 206, b"456789"), ("bytes=-3", 206, b"789"),
        ("bytes=-100", 206, b"0123456789"), ("BYTES = 2 - 4", 206, b"234"),
        ("bytes=10-", 416, b""), ("bytes=-0", 416, b""),
    ],
)  # fmt: skip
def test_ranges_of_bytes_in_memory(asked, status, body):
    answer = ranged(b"0123456789", "audio/flac", asked)
    assert (answer.status_code, answer.body) == (status, body)
