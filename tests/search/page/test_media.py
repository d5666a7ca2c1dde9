"""Tokens, files of the index and nothing else, and forms of sounds that browsers play."""

import io
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import soundfile

from modeling_atri.search.index.tables import SoundKey
from modeling_atri.search.page import media
from modeling_atri.search.page.media import (
    ShownSounds,
    UnavailableSoundError,
    browser_type,
    convert_to_flac,
    local_file,
)
from tests.helpers.pages import RATE, tone


def write(path: Path, seconds: float = 0.5, **kind: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, tone(seconds), RATE, **kind)
    return path


def test_a_token_is_stable_and_says_nothing_of_the_path():
    shown = ShownSounds()
    token = shown.token(SoundKey("/sounds", "dog.wav"))
    assert token == shown.token(SoundKey("/sounds", "dog.wav"))
    assert shown.get(token) == SoundKey("/sounds", "dog.wav")
    assert token != shown.token(SoundKey("/sounds", "cat.wav"))
    assert token != ShownSounds().token(SoundKey("/sounds", "dog.wav"))  # each server has its own key
    assert len(token) == 32 and "dog" not in token


def test_a_folder_and_a_path_cannot_be_confused():
    shown = ShownSounds()
    assert shown.token(SoundKey("/a", "b/c.wav")) != shown.token(SoundKey("/a/b", "c.wav"))


def test_only_tokens_that_were_given_out_are_known():
    assert ShownSounds().get("0" * 32) is None


def test_the_oldest_tokens_are_forgotten(monkeypatch):
    monkeypatch.setattr(media, "_MAX_SHOWN", 3)
    shown = ShownSounds()
    tokens = [shown.token(SoundKey("", f"{number}.wav")) for number in range(3)]
    shown.token(SoundKey("", "0.wav"))  # shown again
    shown.token(SoundKey("", "3.wav"))
    assert [shown.get(token) is not None for token in tokens] == [True, False, True]


def test_a_file_is_found_in_its_folder_or_in_the_one_that_is_given(tmp_path):
    file = write(tmp_path / "then" / "a" / "dog.wav")
    moved = write(tmp_path / "now" / "a" / "dog.wav")
    key = SoundKey(str(tmp_path / "then"), "a/dog.wav")
    assert local_file(key) == file
    assert local_file(key, str(tmp_path / "now")) == moved


def test_a_name_in_another_unicode_form_is_found(tmp_path):
    file = write(tmp_path / unicodedata.normalize("NFD", "café.wav"))
    assert local_file(SoundKey(str(tmp_path), unicodedata.normalize("NFC", "café.wav"))) == file


@pytest.mark.parametrize(
    "path", ["../secret.wav", "a/../../secret.wav", "{root}/secret.wav", "a\0.wav", "gone.wav", "a"]
)
def test_no_path_leaves_its_folder(tmp_path, path):
    write(tmp_path / "secret.wav")
    (tmp_path / "sounds" / "a").mkdir(parents=True)
    with pytest.raises(UnavailableSoundError):
        local_file(SoundKey(str(tmp_path / "sounds"), path.format(root=tmp_path)))


@pytest.mark.parametrize("folder", ["", "s3://bucket/sounds", "/there/is/no/such/folder"])
def test_a_folder_that_is_not_on_this_machine_is_named(folder):
    with pytest.raises(UnavailableSoundError, match=r"The folder of dog\.wav is not on this machine"):
        local_file(SoundKey(folder, "dog.wav"))


@pytest.mark.parametrize("linked", ["file", "folder"])
def test_links_out_of_the_folder_are_followed_on_demand_only(tmp_path, linked):
    outside = write(tmp_path / "outside" / "dog.wav")
    sounds = tmp_path / "sounds"
    sounds.mkdir()
    if linked == "file":
        (sounds / "dog.wav").symlink_to(outside)
    else:
        (sounds / "links").symlink_to(outside.parent)
    key = SoundKey(str(sounds), "dog.wav" if linked == "file" else "links/dog.wav")
    with pytest.raises(UnavailableSoundError, match="--follow_links"):
        local_file(key)
    assert local_file(key, follow_links=True) == outside


def test_links_inside_of_the_folder_and_to_the_folder_itself_are_followed(tmp_path):
    file = write(tmp_path / "sounds" / "a" / "dog.wav")
    (tmp_path / "sounds" / "same.wav").symlink_to(file)
    (tmp_path / "link").symlink_to(tmp_path / "sounds")
    assert local_file(SoundKey(str(tmp_path / "link"), "same.wav")) == file


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("a.wav", {}, "audio/wav"),
        ("a.wav", {"subtype": "FLOAT"}, "audio/wav"),
        ("a.wav", {"subtype": "IMA_ADPCM"}, None),
        ("a.wav", {"subtype": "DOUBLE"}, None),
        ("a.flac", {}, "audio/flac"),
        ("a.ogg", {}, "audio/ogg"),
        ("a.opus", {"format": "OGG", "subtype": "OPUS"}, "audio/ogg"),
        ("a.mp3", {}, "audio/mpeg"),
        ("wrong_name.wav", {"format": "FLAC"}, "audio/flac"),
        ("a.aiff", {}, None),
        ("a.au", {}, None),
        ("a.caf", {}, None),
        ("a.w64", {}, None),
        ("a.rf64", {}, None),
    ],
)
def test_what_browsers_play(tmp_path, name, kind, expected):
    assert browser_type(write(tmp_path / name, **kind)) == expected


@pytest.mark.parametrize(
    ("name", "codec", "expected"),
    [
        ("a.m4a", "aac", "audio/mp4"),
        ("a.m4a", "alac", None),
        ("a.webm", "libopus", "audio/webm"),
        ("a.wma", "wmav2", None),
        ("a.wv", "wavpack", None),
    ],
)
def test_what_browsers_play_of_the_formats_of_ffmpeg(tmp_path, name, codec, expected):
    av = pytest.importorskip("av")
    file = tmp_path / name
    with av.open(str(file), "w") as container:
        stream = container.add_stream(codec, rate=48_000)
        stream.bit_rate = 64_000
        samples = np.tile(tone(1.0), 3)[None]
        layout = "s16p" if codec == "alac" else "fltp"
        content = (samples * 32767).astype(np.int16) if layout == "s16p" else samples
        frame = av.AudioFrame.from_ndarray(content, format=layout, layout="mono")
        frame.sample_rate = 48_000
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    assert browser_type(file) == expected
    samples, rate = soundfile.read(io.BytesIO(convert_to_flac(file)))
    assert rate == 48_000 and 0.2 < np.abs(samples).max() < 0.8


@pytest.mark.parametrize(("name", "kind"), [("a.aiff", {}), ("a.wav", {"subtype": "IMA_ADPCM"}), ("a.caf", {})])
def test_a_converted_sound_is_the_same_sound(tmp_path, name, kind):
    file = write(tmp_path / name, seconds=1.0, **kind)
    converted, rate = soundfile.read(io.BytesIO(convert_to_flac(file)), dtype="float32")
    expected, _ = soundfile.read(file, dtype="float32")
    assert rate == RATE
    np.testing.assert_allclose(converted, expected, atol=2**-15)


def test_several_channels_are_mixed(tmp_path):
    left, right = tone(0.5, 440), tone(0.5, 660)
    soundfile.write(tmp_path / "a.aiff", np.stack([left, right], axis=1), 44_100)
    converted, rate = soundfile.read(io.BytesIO(convert_to_flac(tmp_path / "a.aiff")), dtype="float32")
    assert rate == 44_100
    np.testing.assert_allclose(converted, (left + right) / 2, atol=2**-14)


def test_a_sound_that_is_too_long_to_be_converted_is_refused(tmp_path):
    file = write(tmp_path / "a.aiff", seconds=2.0)
    with pytest.raises(UnavailableSoundError, match=r"a\.aiff is in a format .* Convert it to FLAC, MP3 or OGG"):
        convert_to_flac(file, max_s=1.9)
    assert convert_to_flac(file, max_s=2.0)


def test_what_is_no_sound_cannot_be_converted(tmp_path):
    file = tmp_path / "a.wav"
    file.write_text("<html>not found</html>")
    assert browser_type(file) is None
    with pytest.raises(UnavailableSoundError, match="HTML"):
        convert_to_flac(file)
