"""Excerpts against the same part of the whole recording, decoded and resampled at once."""

import io

import numpy as np
import pytest
import soundfile
import soxr

from modeling_atri.audio_io import audio_length, load_audio, load_excerpt
from tests.modeling_atri.test_sound_files_atri import encoded, noise, streamed_flac, without_mp3_header


RATE = 16_000


def recording(rate: int, num_channels: int = 1, seconds: float = 3.0, format: str = "WAV", subtype=None) -> bytes:
    samples = np.random.default_rng(rate).normal(scale=0.1, size=(int(rate * seconds), num_channels))
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=format, subtype=subtype)
    return file.getvalue()


@pytest.mark.parametrize(
    ("rate", "num_channels", "format", "subtype"),
    [
        (16_000, 1, "WAV", "PCM_16"),
        (8_000, 1, "WAV", "PCM_16"),
        (192_000, 1, "WAV", "FLOAT"),
        (48_000, 8, "WAV", "PCM_24"),
        (44_100, 2, "FLAC", None),
        (22_051, 1, "WAV", "DOUBLE"),  # without a common divisor
        (48_000, 1, "OGG", None),
        (44_100, 2, "MP3", None),
    ],
)
def test_an_excerpt_is_that_part_of_the_whole(tmp_path, rate, num_channels, format, subtype):
    content = recording(rate, num_channels, format=format, subtype=subtype)
    (tmp_path / "sound").write_bytes(content)
    samples, _ = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    whole = soxr.resample(samples.mean(axis=1), rate, RATE, quality="HQ")
    for start, length in ((0, 8_000), (1, 4_800), (20_011, 16_000), (len(whole) - 3_000, 3_000)):
        for audio in (content, str(tmp_path / "sound"), {"path": tmp_path / "sound", "bytes": None}):
            excerpt = load_excerpt(audio, start, length, RATE)
            assert excerpt.dtype == np.float32
            assert len(excerpt) == length
            # Noise of 0.1: 1e-5 is 80 dB below it, and far below what a cut without margins makes of the edges.
            np.testing.assert_allclose(excerpt, whole[start : start + length], rtol=0, atol=1e-5)


def test_only_the_excerpt_is_decoded(monkeypatch):
    content = recording(48_000, seconds=20.0)
    decoded, read = [], soundfile.SoundFile.read

    def count(self, frames=-1, *args, **kwargs):
        block = read(self, frames, *args, **kwargs)
        decoded.append(len(block))
        return block

    monkeypatch.setattr(soundfile.SoundFile, "read", count)
    load_excerpt(content, 10 * RATE, RATE, RATE)
    assert 48_000 < sum(decoded) < 60_000


def test_arrays():
    array = np.random.default_rng(0).normal(size=24_000).astype(np.float32)
    audio = {"array": array, "sampling_rate": 8_000}
    assert audio_length(audio, RATE) == 48_000
    np.testing.assert_array_equal(load_excerpt(audio, 30_000, 5_000, RATE), load_audio(audio)[30_000:35_000])


@pytest.mark.parametrize("start", [0.0, 0.45, 0.8])
def test_no_excerpt_of_a_cut_mp3(start):
    """Not even before the cut, so that a clip is used or left out as a whole."""
    cut = recording(RATE, seconds=10.0, format="MP3")
    cut = cut[: len(cut) // 2]
    with pytest.raises(ValueError, match="the file is truncated"):
        load_excerpt(cut, int(start * 10 * RATE), RATE // 2, RATE)


def test_excerpts_of_an_mp3_that_states_no_length():
    content = without_mp3_header(encoded(np.concatenate([noise(10) * 1e-4, noise(10)]), "MP3"))
    whole = load_audio(content)
    assert audio_length(content, RATE) == len(whole) == pytest.approx(20 * RATE, abs=2 * 1152)
    for start in (0, 170_001, len(whole) - RATE):
        excerpt = load_excerpt(content, start, RATE, RATE)
        np.testing.assert_allclose(excerpt, whole[start : start + RATE], rtol=0, atol=1e-6)
    assert len(load_excerpt(content, len(whole) + 5_000, RATE, RATE)) == 0


@pytest.mark.parametrize("start", [0, 50_000, 144_000])
def test_excerpts_of_streamed_flac(start):
    content = streamed_flac(noise(10.0))
    assert audio_length(content, RATE) == 160_000
    np.testing.assert_array_equal(load_excerpt(content, start, RATE, RATE), load_audio(content)[start : start + RATE])


def test_faults_are_named(tmp_path):
    path = tmp_path / "sound.flac"
    content = recording(16_000, format="FLAC")
    path.write_bytes(content[: len(content) // 2])
    assert audio_length(str(path), RATE) == 48_000, "the header knows nothing of it"
    with pytest.raises(ValueError, match=r"sound\.flac': from 2\.0 s on|sound\.flac'.*truncated"):
        load_excerpt(str(path), 32_000, 8_000, RATE)
    samples = np.zeros(48_000, dtype=np.float32)
    samples[40_000] = np.nan
    soundfile.write(tmp_path / "nan.wav", samples, RATE, subtype="FLOAT")
    with pytest.raises(ValueError, match=r"nan\.wav': it holds NaN"):
        load_excerpt(str(tmp_path / "nan.wav"), 32_000, 16_000, RATE)
