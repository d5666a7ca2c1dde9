"""Whole files of every format are read whole; those that were cut are refused, whatever lies in memory."""

import io

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
