"""Whole files of every format are read whole; those that were cut are refused, whatever lies in memory."""

import io
import os

import numpy as np
import pytest
import soundfile

from modeling_atri.audio_io import audio_length, load_audio
from modeling_atri.sndfile_streams_atri import BLOCK_LENGTH
from modeling_atri.sound_files_atri import SoundFile


RATE = 16_000
# RAW has no header, SD2 a second file.
FORMATS = sorted(set(soundfile.available_formats()) - {"RAW", "SD2"})
CUT_IS_SEEN = ["AIFF", "AU", "CAF", "FLAC", "MAT4", "MP3", "OGG", "RF64", "SVX", "VOC", "W64", "WAV", "WAVEX"]


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=0.05, size=round(RATE * seconds)).astype(np.float32)


def encoded(samples: np.ndarray, format: str, subtype: str | None = None, rate: int = RATE) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=format, subtype=subtype)
    return file.getvalue()


def every_subtype(formats: list[str]) -> list[tuple[str, str]]:
    pairs = [(format, subtype) for format in formats for subtype in soundfile.available_subtypes(format)]
    return [pair for pair in pairs if soundfile.check_format(*pair) and can_be_written(*pair)]


def can_be_written(format: str, subtype: str) -> bool:
    try:
        return bool(encoded(noise(0.2), format, subtype))
    except soundfile.SoundFileError:
        return False


def without_mp3_header(content: bytes) -> bytes:
    """Without its first frame, which states the length: MPEG 2, layer III."""
    kilobits = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)[content[2] >> 4]
    return content[72 * 1000 * kilobits // RATE + (content[2] >> 1 & 1) :]


def streamed_flac(samples: np.ndarray) -> bytes:
    """What an encoder writes to a pipe: the total number of samples is 0, unknown."""
    content = bytearray(encoded(samples, "FLAC"))
    content[8 + 13] &= 0xF0
    content[8 + 14 : 8 + 18] = bytes(4)
    return bytes(content)


def poison(*num_samples: int) -> None:
    """Leaves sevens in the memory that the next arrays of these lengths are likely to get."""
    arrays = [np.full((length, 1), 7.0, dtype=np.float32) for length in num_samples for _ in range(8)]
    del arrays


@pytest.mark.heavy
@pytest.mark.parametrize(("format", "subtype"), every_subtype(FORMATS))
def test_whole_files_are_read_whole(format, subtype):
    for seconds in (0.2, 5.0):
        content = encoded(noise(seconds), format, subtype)
        with SoundFile(io.BytesIO(content), "it") as file:
            assert sum(map(len, file.mono_blocks())) == file.num_frames
        assert len(load_audio(content)) == audio_length(content)


@pytest.mark.heavy
@pytest.mark.parametrize(("format", "subtype"), every_subtype(CUT_IS_SEEN))
@pytest.mark.parametrize("kept", [0.3, 0.9, 0.95])
def test_cut_files_are_refused(format, subtype, kept):
    content = encoded(noise(3.0), format, subtype)
    with pytest.raises(ValueError, match="the given .* bytes"):
        load_audio(content[: int(kept * len(content))])


@pytest.mark.parametrize("seconds", [2.0, 20.0])
def test_a_cut_mp3_is_refused_and_not_filled_with_memory(tmp_path, seconds):
    """Shorter and longer than one block."""
    assert (seconds * RATE > BLOCK_LENGTH) == (seconds > 2)
    content = encoded(noise(seconds), "MP3")
    cut = content[: len(content) // 3]
    (tmp_path / "cut.mp3").write_bytes(cut)
    for source in (cut, tmp_path / "cut.mp3", io.BytesIO(cut)):
        for read in (load_audio, audio_length):
            poison(BLOCK_LENGTH, int(seconds * RATE))
            with pytest.raises(ValueError, match="the file is truncated"):
                read(source)


@pytest.mark.parametrize("seconds", [2.0, 20.0])
def test_an_mp3_that_states_no_length_is_what_is_there(seconds):
    content = without_mp3_header(encoded(noise(seconds), "MP3"))
    poison(BLOCK_LENGTH, int(seconds * RATE))
    part = load_audio(content[: len(content) // 3])
    assert 0 < len(part) < seconds * RATE / 2
    assert np.abs(part).max() < 1
    np.testing.assert_allclose(part[:4_000], load_audio(content)[:4_000], atol=1e-4)


def test_what_follows_the_last_page_of_an_ogg_is_no_matter():
    content = encoded(noise(2.0), "OGG")
    for rest in (bytes(1), bytes(2_000), b"TAG" + bytes(125)):
        np.testing.assert_array_equal(load_audio(content + rest), load_audio(content))


@pytest.mark.parametrize("seconds", [0.5, 10.0])
def test_streamed_flac_is_decoded_to_find_its_length(seconds):
    content = streamed_flac(noise(seconds))
    assert audio_length(content) == seconds * RATE
    assert audio_length(content, 8_000) == seconds * 8_000
    np.testing.assert_array_equal(load_audio(content), load_audio(encoded(noise(seconds), "FLAC")))
    with pytest.raises(ValueError, match="Cannot decode"):
        load_audio(content[: len(content) // 2])


@pytest.mark.parametrize("rate", [RATE, 8_000])
def test_streamed_flac_without_samples(rate):
    content = streamed_flac(noise(0.5))
    header = content[: content.index(b"\xff\xf8")]  # up to the first frame
    with pytest.raises(ValueError, match="^Cannot use the given .* bytes: it holds no samples"):
        load_audio(header, rate)


@pytest.mark.parametrize(
    ("format", "size", "placeholder"), [("AU", slice(8, 12), b"\xff" * 4), ("W64", slice(16, 24), b"\xff" * 8)]
)
def test_streamed_files_are_whole(format, size, placeholder):
    content = bytearray(encoded(noise(1.0), format, "PCM_16"))
    content[size] = placeholder
    np.testing.assert_array_equal(load_audio(bytes(content)), load_audio(encoded(noise(1.0), format, "PCM_16")))


@pytest.mark.parametrize("rate", [0, 1, 999, 768_001, 2**31 - 1, 2**31, 2**32 - 1])
def test_rates_that_no_recording_has(rate):
    content = bytearray(encoded(noise(0.5), "WAV"))
    content[24:28] = rate.to_bytes(4, "little")
    for read in (load_audio, audio_length):
        with pytest.raises(ValueError, match="1000 to 768000 Hz are allowed|Cannot decode"):
            read(bytes(content))


@pytest.mark.parametrize("rate", [1_000, 768_000])
def test_rates_at_the_limits(rate):
    content = encoded(noise(0.5), "WAV", rate=rate)
    assert len(load_audio(content)) == audio_length(content) == pytest.approx(8_000 * RATE / rate, abs=1)


NAMES = [
    "a.wav",
    "a.raw",
    "line\nbreak.wav",
    "quotes '\".wav",
    "übel.wav",
    "x" * 240 + ".wav",
    os.fsdecode(b"\xff\xfe.wav"),
]


@pytest.mark.parametrize("name", NAMES)
def test_odd_names(tmp_path, name):
    content = encoded(noise(0.5), "WAV")
    try:
        (tmp_path / name).write_bytes(content)
    except (OSError, ValueError):
        pytest.skip("this file system has no such names")
    expected = load_audio(content)
    np.testing.assert_array_equal(load_audio(tmp_path / name), expected)
    assert audio_length(tmp_path / name) == len(expected)
    with open(tmp_path / name, "rb") as file:
        np.testing.assert_array_equal(load_audio(file), expected)


@pytest.mark.parametrize("suffix", ["wav", "mp3", "flac", "ogg"])
def test_metadata_of_macos_beside_a_sound(tmp_path, suffix):
    content = encoded(noise(0.5), suffix.upper())
    (tmp_path / f"x.{suffix}").write_bytes(content)
    (tmp_path / f"._x.{suffix}").write_bytes(b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        " + bytes(100))
    np.testing.assert_array_equal(load_audio(tmp_path / f"x.{suffix}"), load_audio(content))
    with pytest.raises(ValueError, match="AppleDouble"):
        load_audio(tmp_path / f"._x.{suffix}")


def test_places_that_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "link.wav").symlink_to("gone")
    for name, reason in (("pipe.wav", "is a pipe"), ("folder.wav", "is a folder"), ("/dev/zero", "is a device")):
        with pytest.raises(ValueError, match=f"Cannot decode '.*{name}': it {reason} and not a file"):
            load_audio(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"link\.wav': it is a link to 'gone', which does not exist"):
        load_audio(tmp_path / "link.wav")
    with pytest.raises(ValueError, match="null character"):
        load_audio("a\0b.wav")


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    (tmp_path / "secret.wav").write_bytes(encoded(noise(0.5), "WAV"))

    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(ValueError, match=r"Cannot decode '.*secret\.wav': Permission denied\."):
        load_audio(tmp_path / "secret.wav")


def test_file_objects_that_cannot_be_read(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(encoded(noise(0.5), "WAV"))
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as pipe, os.fdopen(writer, "wb"), path.open(encoding="latin-1") as text:
        for file, reason in ((pipe, "Pass an open file that can seek"), (text, "opened as text")):
            with pytest.raises(ValueError, match=f"Cannot decode .*: .*{reason}"):
                load_audio(file)
    with pytest.raises(ValueError, match="closed file"):
        load_audio(text)
    with pytest.raises(ValueError, match="empty"):
        load_audio(io.BytesIO())


def test_no_file_is_left_open(tmp_path):
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("needs /proc")
    for name, content in (("a.wav", encoded(noise(0.5), "WAV")), ("b.mp3", encoded(noise(0.5), "MP3")), ("c", b"c")):
        (tmp_path / name).write_bytes(content)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        load_audio(tmp_path / "a.wav")
        load_audio(tmp_path / "b.mp3")
        with pytest.raises(ValueError, match="Cannot decode"):
            load_audio(tmp_path / "c")
    assert len(os.listdir("/proc/self/fd")) == before
