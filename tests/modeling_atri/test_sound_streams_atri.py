"""Joined files are read whole, and lengths in headers that are wrong or missing are corrected."""

import io
import re
import struct

import numpy as np
import pytest

from modeling_atri import byte_marks_atri, mpeg_audio_atri, sound_streams_atri
from modeling_atri.audio_io import audio_length, load_audio, load_excerpt
from modeling_atri.sound_streams_atri import FileView, streams_in
from tests.modeling_atri.test_sound_files_atri import encoded, noise, streamed_flac, without_mp3_header


RATE = 16_000
ID3V2 = b"ID3\x03\0\0\0\0\x10\0" + bytes(2048)
ID3V1 = b"TAG" + bytes(125)
CHUNKED = ["WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF"]
SAMPLES = [noise(2.0, seed=1), noise(3.0, seed=2)]


def of_16_bits(*samples: np.ndarray) -> np.ndarray:
    return np.concatenate([load_audio(encoded(part, "WAV", "PCM_16")) for part in samples])


WHOLE, BOTH = of_16_bits(SAMPLES[0]), of_16_bits(*SAMPLES)


def patched(content: bytes, **places: bytes) -> bytes:
    """Bytes replaced. The place `data4` is 4 bytes behind the beginning of the last `data`; `_4` counts from 0."""
    changed = bytearray(content)
    for place, new in places.items():
        mark, offset = re.fullmatch(r"(\D+?)(\d+)", place).groups()
        start = (0 if mark == "_" else content.rindex(mark.encode(), 0, 5_000)) + int(offset)
        changed[start : start + len(new)] = new
    return bytes(changed)


def assert_read(content: bytes, expected: np.ndarray, atol: float = 0) -> None:
    """Length, whole read and excerpts agree."""
    np.testing.assert_allclose(load_audio(content), expected, rtol=0, atol=atol)
    assert audio_length(content) == len(expected)
    for start in (0, len(expected) // 2 - 300, len(expected) - 1_000):
        excerpt = load_excerpt(content, start, 1_000, RATE)
        np.testing.assert_allclose(excerpt, expected[start : start + 1_000], rtol=0, atol=max(atol, 1e-6))


@pytest.mark.parametrize("format", CHUNKED)
def test_joined_files(format):
    first, second = (encoded(samples, format, "PCM_16") for samples in SAMPLES)
    assert_read(first, WHOLE)
    assert_read(first + second, BOTH)
    assert_read(first + second + first, np.concatenate([BOTH, WHOLE]))
    assert_read(first + encoded(SAMPLES[1], "AIFF", "PCM_16"), BOTH)
    with pytest.raises(ValueError, match="the file is truncated"):
        load_audio(first + second[:-200])


@pytest.mark.parametrize("format", [*CHUNKED, "FLAC"])
def test_what_is_around_the_sound_is_no_sound(format):
    content = encoded(SAMPLES[0], format, "PCM_16")
    for head, tail in ((b"", ID3V1), (ID3V2, b""), (ID3V2, ID3V1)):
        assert_read(head + content + tail, WHOLE, atol=2**-15)
    if format != "FLAC":
        assert_read(content + bytes(1_001), WHOLE)


def test_joined_flac():
    first, second = (encoded(samples, "FLAC", "PCM_16") for samples in SAMPLES)
    for content in (first + second, ID3V2 + first + ID3V2 + second + ID3V1, first + ID3V1 + ID3V2 + second):
        assert_read(content, BOTH, atol=2**-15)
    for content in (streamed_flac(SAMPLES[0]) + second, first + streamed_flac(SAMPLES[1])):
        assert_read(content, BOTH, atol=2**-15)


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_chained_ogg(subtype):
    first, second = (encoded(samples, "OGG", subtype) for samples in SAMPLES)
    expected = np.concatenate([load_audio(first), load_audio(second)])
    assert_read(first + second, expected)
    assert_read(first + bytes(300) + second + ID3V1, expected)
    assert_read(first + first, np.concatenate([load_audio(first)] * 2))
    for cut in (first[:-200], first[: len(first) // 2]):
        with pytest.raises(ValueError, match="the file is truncated, its last page"):
            load_audio(cut + second)
    stereo = encoded(np.stack([SAMPLES[1]] * 2, axis=1), "OGG", subtype)
    assert_read(first + stereo, np.concatenate([load_audio(first), load_audio(stereo)]))
    with pytest.raises(ValueError, match="joins recordings of the sampling rates 16000, 48000 Hz"):
        load_audio(first + encoded(SAMPLES[1], "OGG", subtype, rate=48_000))


UNKNOWN = [0, 0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFFFFF - 36, 0xFFFFFF00, 0x80000000]


@pytest.mark.parametrize("riff", [*UNKNOWN, 8, 36])
@pytest.mark.parametrize("data", UNKNOWN)
def test_wav_of_a_recorder_that_crashed_or_of_a_pipe(riff, data):
    content = encoded(SAMPLES[0], "WAV", "PCM_16")
    assert_read(patched(content, _4=struct.pack("<I", riff), data4=struct.pack("<I", data)), WHOLE)


ONES = b"\xff" * 8


@pytest.mark.parametrize(
    ("format", "places"),
    [
        ("RF64", {"_0": b"BW64"}),
        ("RF64", {"ds16": bytes(8)}),
        ("RF64", {"ds8": bytes(16)}),
        ("RF64", {"ds8": ONES + ONES}),
        ("RF64", {"ds8": bytes(16), "data4": bytes(4)}),
        ("W64", {"data16": bytes(8)}),
        ("W64", {"data16": struct.pack("<Q", 24), "_16": bytes(8)}),
        ("W64", {"data16": ONES}),
        ("AIFF", {"SSND4": bytes(4), "_4": bytes(4)}),
        ("AIFF", {"SSND4": struct.pack(">I", 8), "COMM10": bytes(4)}),
        ("AIFF", {"SSND4": ONES[:4], "_4": ONES[:4], "COMM10": ONES[:4]}),
        ("AU", {"_8": bytes(4)}),
        ("AU", {"_8": ONES[:4]}),
        ("CAF", {"data4": bytes(8)}),
        ("CAF", {"data4": struct.pack(">q", 4)}),
        ("CAF", {"data4": ONES}),
    ],
)
def test_other_headers_without_a_length(format, places):
    assert_read(patched(encoded(SAMPLES[0], format, "PCM_16"), **places), WHOLE)


SIZES = {  # where the size of the samples is written, how, and what it counts besides
    "WAV": ("data4", "<I", 0),
    "RF64": ("ds16", "<Q", 0),
    "W64": ("data16", "<Q", 24),
    "AIFF": ("SSND4", ">I", 8),
    "AU": ("_8", ">I", 0),
    "CAF": ("data4", ">q", 4),
}


@pytest.mark.parametrize("format", SIZES)
@pytest.mark.parametrize("too_many", [1, 8, 44, 64, 65, 100, 4_096])
def test_a_miscount_is_no_truncation(format, too_many):
    place, form, more = SIZES[format]
    size = struct.pack(form, 2 * len(WHOLE) + more + too_many)
    content = patched(encoded(SAMPLES[0], format, "PCM_16"), **{place: size})
    if too_many <= 64:
        assert_read(content, WHOLE)
        return
    for read in (load_audio, audio_length, lambda content: load_excerpt(content, 0, 10, RATE)):
        with pytest.raises(ValueError, match=f"promises {64_000 + too_many} bytes of sound, but 64000 are there"):
            read(content)


@pytest.mark.parametrize("format", SIZES)
def test_what_follows_the_samples_is_left_out(format):
    place, form, more = SIZES[format]
    content = patched(encoded(SAMPLES[0], format, "PCM_16"), **{place: struct.pack(form, 63_000 + more)})
    assert_read(content, WHOLE[:31_500])


def test_the_size_of_the_file_is_no_matter_where_the_samples_are_there():
    content = encoded(SAMPLES[0], "WAV", "PCM_16")
    for size in (len(content), len(content) + 1_000, 100):
        assert_read(patched(content, _4=struct.pack("<I", size)), WHOLE)


def test_a_file_without_samples_stays_empty():
    empty = encoded(SAMPLES[0][:0], "WAV", "PCM_16")
    for rest in (b"", b"LIST\4\0\0\0INFO", b"LIST\4\0\0\0INFOid3 \2\0\0\0ab"):
        with pytest.raises(ValueError, match="holds no samples"):
            load_audio(empty + rest)


def test_a_wav_file_above_four_gigabytes(tmp_path):
    """Its size was written modulo 2 ** 32. The file is sparse, and takes no space."""
    header = encoded(SAMPLES[0], "WAV", "PCM_16")[:44]
    size = 2**32 + 64_000
    path = tmp_path / "long.wav"
    with path.open("wb") as file:
        file.write(header[:40] + struct.pack("<I", 64_000))
        file.truncate(44 + size)
        file.seek(44 + size - 64_000)
        file.write(encoded(SAMPLES[0], "WAV", "PCM_16")[44:])
    assert audio_length(path) == size // 2
    np.testing.assert_array_equal(load_excerpt(path, size // 2 - 32_000, 32_000, RATE), WHOLE)
    np.testing.assert_array_equal(load_excerpt(path, size // 4, 100, RATE), np.zeros(100))


def test_a_right_file_is_handed_on_as_it_is():
    for format in (*CHUNKED, "FLAC"):
        file = io.BytesIO(encoded(SAMPLES[0], format, "PCM_16"))
        (stream,) = streams_in(file)
        assert stream.file is file
        assert file.tell() == 0


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_excerpts_near_the_end_of_vorbis(rate, scale):
    """libsndfile goes to wrong places on the last page, which is longer the quieter the sound is."""
    content = encoded(noise(3.0, seed=3)[: 3 * RATE] * scale, "OGG", "VORBIS", rate=rate)
    whole = load_audio(content, rate)
    for before in (100, 1_000, 3_000, 6_000, 12_000, 20_000):
        start = len(whole) - before
        excerpt = load_excerpt(content, start, 400, rate)
        np.testing.assert_allclose(excerpt, whole[start : start + 400], rtol=0, atol=1e-6)


def test_a_view_reads_like_a_file():
    pieces = [b"ab", (2, 5), b"c", (7, 7), (8, 10)]
    for whence, offset, count in ((0, 0, 3), (0, 2, 100), (0, 8, 1), (0, 99, 1), (2, -3, 2), (2, 0, 1)):
        view, reference = FileView(io.BytesIO(b"0123456789"), pieces), io.BytesIO(b"ab234c89")
        assert view.seek(offset, whence) == reference.seek(offset, whence)
        assert io.BufferedReader(view).read(count) == reference.read(count)
    view.seek(1)
    assert view.seek(2, 1) == view.tell() == 3


@pytest.mark.parametrize(
    "content",
    [
        encoded(noise(3.0), "MP3"),
        without_mp3_header(encoded(noise(3.0), "MP3")),
        encoded(noise(1.0), "MP3") + bytes(300) + encoded(noise(1.5, 1), "MP3") + b"TAG" + bytes(125),
        encoded(noise(2.0), "OGG"),
        encoded(noise(1.0), "OGG") + encoded(noise(1.5, 1), "OGG") + bytes(10),
        b"ID3\x03\0\0\0\0\0\x0a" + bytes(10) + encoded(noise(1.0), "OGG", "OPUS"),
    ],
)
def test_a_large_file_that_is_mapped_gives_the_same_samples(tmp_path, monkeypatch, content):
    expected = load_audio(content)
    monkeypatch.setattr(sound_streams_atri, "_MAPPED_FROM", 0)
    for module in (byte_marks_atri, mpeg_audio_atri, sound_streams_atri):
        monkeypatch.setattr(module, "MAPPED_AT_ONCE", 1000)
    (tmp_path / "it").write_bytes(content)
    np.testing.assert_array_equal(load_audio(tmp_path / "it"), expected)
    with (tmp_path / "it").open("rb") as file:
        np.testing.assert_array_equal(load_audio(file), expected)
        np.testing.assert_allclose(load_excerpt(file, 9_000, 500, RATE), expected[9_000:9_500], atol=1e-6)
    (tmp_path / "it").write_bytes(content[: len(content) // 2])
    if content[:4] == b"OggS":
        with pytest.raises(ValueError, match="truncated"):
            load_audio(tmp_path / "it")
