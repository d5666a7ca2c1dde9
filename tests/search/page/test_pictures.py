"""Pictures of sounds, against spectra that are computed from the whole waveform."""

import io
import tracemalloc

import numpy as np
import pytest
import soundfile
from PIL import Image

from modeling_atri.search.page.pictures import HEIGHT, WIDTH, mel_picture
from tests.helpers.pages import RATE, tone


def opacity(content: bytes) -> np.ndarray:
    """The opacity of each pixel, shape (48, 480), the lowest band last."""
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGBA"))[..., 3]


def picture_of(tmp_path, samples: np.ndarray, rate: int = RATE, name: str = "a.wav") -> np.ndarray:
    soundfile.write(tmp_path / name, samples, rate)
    return opacity(mel_picture(tmp_path / name))


def band_of(hertz: float, highest: float = 8000.0) -> float:
    """The mel band that a frequency is in, by the formula of HTK."""
    return HEIGHT * np.log1p(hertz / 700) / np.log1p(highest / 700)


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 96_000])
@pytest.mark.parametrize("hertz", [440.0, 2_000.0])
def test_a_tone_is_a_line_in_its_band(tmp_path, rate, hertz):
    samples = 0.5 * np.sin(2 * np.pi * hertz * np.arange(2 * rate) / rate)
    picture = picture_of(tmp_path, samples, rate)
    assert picture.shape == (HEIGHT, WIDTH)
    loudest = HEIGHT - 1 - picture[:, 5:-5].mean(1).argmax()
    assert abs(loudest + 0.5 - band_of(hertz, min(8000.0, rate / 2))) < 1.5


@pytest.mark.parametrize("seconds", [0.3, 10.0, 200.0])
def test_a_sound_is_drawn_where_it_is(tmp_path, seconds):
    samples = np.zeros(round(seconds * RATE), np.float32)
    first, last = round(0.25 * len(samples)), round(0.5 * len(samples))
    samples[first:last] = tone(seconds)[first:last]
    loud = picture_of(tmp_path, samples).max(0) > 128
    reach = 512 / len(samples) * WIDTH + 2  # columns from which a frame reaches the sound, or silence
    assert loud[round(0.25 * WIDTH + reach) : round(0.5 * WIDTH - reach)].all()
    assert not loud[: round(0.25 * WIDTH - reach)].any()
    assert not loud[round(0.5 * WIDTH + reach) :].any()


def test_it_does_not_depend_on_the_blocks_that_a_file_is_read_in(tmp_path):
    samples = np.random.default_rng(0).normal(scale=0.1, size=30 * RATE).astype(np.float32)
    np.testing.assert_array_equal(picture_of(tmp_path, samples), picture_of(tmp_path, samples, name="a.w64"))


@pytest.mark.parametrize("num_samples", [1, 100, 1023, 1024, 1025])
def test_the_shortest_sounds_have_a_picture(tmp_path, num_samples):
    assert picture_of(tmp_path, tone(1.0)[1 : num_samples + 1]).shape == (HEIGHT, WIDTH)


def test_silence_is_transparent(tmp_path):
    assert picture_of(tmp_path, np.zeros(RATE)).max() == 0


def test_a_picture_is_light(tmp_path):
    noise = np.random.default_rng(0).normal(scale=0.1, size=10 * RATE)
    soundfile.write(tmp_path / "a.wav", noise, RATE)
    assert len(mel_picture(tmp_path / "a.wav")) < 12_000  # bytes


def test_a_long_recording_is_never_in_memory_as_a_whole(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.tile(tone(60.0), 20), RATE)  # 20 minutes, 77 MB as float32
    mel_picture(tmp_path / "a.wav")
    tracemalloc.start()
    mel_picture(tmp_path / "a.wav")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60e6


def test_what_is_no_sound_has_no_picture(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"RIFF not a sound")
    with pytest.raises(ValueError, match=r"a\.wav"):
        mel_picture(tmp_path / "a.wav")
