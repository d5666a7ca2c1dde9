import io
import re
import struct
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import soxr
import torch

from modeling_atri.audio_io import MissingAudioError, audio_length, load_audio, load_excerpt


RATE = 16_000


def sine(frequency: float, rate: int = RATE, seconds: float = 1.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * frequency * np.arange(round(rate * seconds)) / rate)).astype(np.float32)


def peak_frequency(waveform: np.ndarray, rate: int = RATE) -> float:
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform))))
    return spectrum.argmax() * rate / len(waveform)


@pytest.mark.parametrize("extension, tolerance", [("wav", 1e-4), ("flac", 1e-4), ("ogg", 0.05), ("mp3", 0.05)])
def test_formats(tmp_path, extension, tolerance):
    path = tmp_path / f"tone.{extension}"
    soundfile.write(path, sine(440), RATE)
    waveform = load_audio(path)
    assert waveform.dtype == np.float32
    assert waveform.flags.c_contiguous
    assert waveform.shape == (RATE,)
    assert np.abs(waveform - sine(440))[200:-200].max() < tolerance


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000, 192_000])
def test_resampled_sine_keeps_its_frequency_and_length(tmp_path, rate):
    path = tmp_path / "tone.wav"
    soundfile.write(path, sine(1_000, rate), rate)
    waveform = load_audio(str(path))
    assert waveform.shape == (RATE,)
    assert peak_frequency(waveform) == pytest.approx(1_000, abs=1)
    assert np.abs(waveform - sine(1_000))[500:-500].max() < 1e-3


def test_block_by_block_equals_all_at_once(tmp_path):
    """Eight channels at 192 kHz, longer than one block, against decoding and resampling in one piece."""
    generator = np.random.default_rng(0)
    channels = generator.uniform(-0.5, 0.5, size=(400_000, 8)).astype(np.float32)
    path = tmp_path / "array.wav"
    soundfile.write(path, channels, 192_000, subtype="FLOAT")
    expected = soxr.resample(channels.mean(axis=1), 192_000, RATE, quality="HQ")
    np.testing.assert_allclose(load_audio(path), expected, atol=1e-6)


def test_channels_are_averaged(tmp_path):
    left, right = sine(300), sine(700)
    soundfile.write(tmp_path / "stereo.wav", np.stack([left, right], axis=1), RATE, subtype="FLOAT")
    expected = (left + right) / 2
    np.testing.assert_allclose(load_audio(tmp_path / "stereo.wav"), expected, atol=1e-7)
    np.testing.assert_allclose(load_audio(np.stack([left, right]), source_rate=RATE), expected, atol=1e-7)


def test_every_kind_of_source_gives_the_same_waveform(tmp_path):
    tone = sine(440)
    path = tmp_path / "tone.wav"
    soundfile.write(path, tone, RATE, subtype="FLOAT")
    content = path.read_bytes()
    sources = [path, str(path), content, io.BytesIO(content), {"path": str(path), "bytes": None}]
    sources += [{"path": "elsewhere.wav", "bytes": content}, {"array": tone, "sampling_rate": RATE}]
    sources += [{"array": tone.tolist(), "sampling_rate": RATE, "path": None}]
    for source in sources:
        np.testing.assert_array_equal(load_audio(source), tone)
    with path.open("rb") as file:
        np.testing.assert_array_equal(load_audio(file), tone)
        assert not file.closed
    for array in (tone, torch.tensor(tone, requires_grad=True), tone.astype(np.float64), tone.tolist()):
        np.testing.assert_array_equal(load_audio(array, source_rate=RATE), tone)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, ">i2"])
def test_integers_are_scaled_by_their_full_range(dtype):
    array = np.array([np.iinfo(dtype).min, 0, -(np.iinfo(dtype).min // 2)], dtype=dtype)
    np.testing.assert_array_equal(load_audio(array, source_rate=RATE), [-1, 0, 0.5])
    if array.dtype.isnative:
        np.testing.assert_array_equal(load_audio(torch.from_numpy(array), source_rate=RATE), [-1, 0, 0.5])


@pytest.mark.parametrize("array", [sine(440), torch.tensor(sine(440))])
def test_the_waveform_of_an_array_is_a_copy(array):
    load_audio(array, source_rate=RATE)[:] = 2.0
    load_audio({"array": array, "sampling_rate": RATE})[:] = 2.0
    np.testing.assert_array_equal(array, sine(440))


def test_arrays_are_resampled():
    waveform = load_audio(sine(1_000, 48_000), sampling_rate=24_000, source_rate=48_000)
    assert waveform.shape == (24_000,)
    assert peak_frequency(waveform, 24_000) == pytest.approx(1_000, abs=1)


@pytest.mark.parametrize("number", [float, np.float64, np.int64])
def test_rates_may_be_floats(number):
    expected = load_audio(sine(1_000, 48_000), 24_000, 48_000)
    np.testing.assert_array_equal(load_audio(sine(1_000, 48_000), number(24_000), number(48_000)), expected)
    audio = {"array": sine(1_000, 48_000), "sampling_rate": number(48_000)}
    np.testing.assert_array_equal(load_audio(audio, number(24_000)), expected)
    assert audio_length(audio, number(24_000)) == 24_000


def test_each_sound_of_a_decoder_is_decoded_once():
    calls = []
    samples = SimpleNamespace(data=torch.tensor(sine(440))[None], sample_rate=RATE)
    decoder = SimpleNamespace(get_all_samples=lambda: calls.append(1) or samples)
    assert audio_length(decoder) == RATE
    np.testing.assert_array_equal(load_excerpt(decoder, 100, 50, RATE), sine(440)[100:150])
    assert len(calls) == 2


def test_damaged_file_in_a_decoder():
    def fail():
        raise RuntimeError("Could not receive frame from decoder")

    with pytest.raises(ValueError, match="^Cannot decode the audio: Could not receive frame"):
        load_audio(SimpleNamespace(get_all_samples=fail))


def test_missing_file_is_both_kinds_of_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no audio file .*nowhere\.wav"):
        load_audio(tmp_path / "nowhere.wav")
    assert issubclass(MissingAudioError, ValueError)


@pytest.mark.parametrize("name", ["text.wav", "text.mp3", "text.raw", "text.ogg", "text"])
def test_text_is_not_audio(tmp_path, name):
    path = tmp_path / name
    path.write_text("this is not a sound\n" * 100, encoding="utf-8")
    with pytest.raises(ValueError, match=f"Cannot (decode|use) .*{name}"):
        load_audio(path)


def test_empty_files(tmp_path):
    (tmp_path / "empty.wav").touch()
    with pytest.raises(ValueError, match=r"empty\.wav.* is empty \(0 bytes\)"):
        load_audio(tmp_path / "empty.wav")
    soundfile.write(tmp_path / "silent.wav", np.zeros(0, dtype=np.float32), RATE)
    with pytest.raises(ValueError, match=r"silent\.wav.* holds no samples"):
        load_audio(tmp_path / "silent.wav")
    with pytest.raises(ValueError, match="the given 0 bytes: there are 0 bytes"):
        load_audio(b"")
    with pytest.raises(ValueError, match="not a file"):
        load_audio(tmp_path)
    with pytest.raises(ValueError, match="Cannot decode 'xxx.*: File name too long"):
        load_audio("x" * 300 + ".wav")


@pytest.mark.parametrize("extension", ["wav", "flac", "ogg", "aiff"])
@pytest.mark.parametrize("kept", [0.5, 0.95])
def test_truncated_files(tmp_path, extension, kept):
    path = tmp_path / f"cut.{extension}"
    soundfile.write(path, sine(440, seconds=3), RATE)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(ValueError, match=rf"cut\.{extension}"):
        load_audio(path)


def test_a_streamed_wav_is_whole(tmp_path):
    """What ffmpeg writes to a pipe: sizes in the header are placeholders."""
    path = tmp_path / "streamed.wav"
    soundfile.write(path, sine(440), RATE)
    content = bytearray(path.read_bytes())
    position = content.index(b"data") + 4
    content[4:8] = content[position : position + 4] = struct.pack("<I", 0xFFFFFFFF)
    np.testing.assert_array_equal(load_audio(bytes(content)), load_audio(path))


@pytest.mark.parametrize("extension", ["wav", "flac", "ogg", "mp3"])
@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_length_by_the_header(tmp_path, extension, rate):
    path = tmp_path / f"tone.{extension}"
    soundfile.write(path, sine(440, rate, seconds=1.234), rate)
    content = path.read_bytes()
    lengths = {
        audio_length(source)
        for source in (path, str(path), content, io.BytesIO(content), {"path": str(path), "bytes": None})
    }
    assert lengths == {audio_length({"path": "elsewhere", "bytes": content})}
    assert lengths.pop() == pytest.approx(len(load_audio(path)), abs=0 if extension != "mp3" else 2_000)
    assert audio_length(path, sampling_rate=rate) == pytest.approx(
        1.234 * rate, abs=1 if extension != "mp3" else 2_000
    )


def test_length_of_what_cannot_be_read(tmp_path):
    soundfile.write(tmp_path / "cut.wav", sine(440), RATE)
    content = (tmp_path / "cut.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(content[:-100])
    (tmp_path / "text.wav").write_text("no sound", encoding="utf-8")
    (tmp_path / "empty.wav").touch()
    soundfile.write(tmp_path / "silent.wav", np.zeros(0, dtype=np.float32), RATE)
    for name, message in (
        ("cut.wav", "the file is truncated"),
        ("text.wav", "Cannot decode"),
        ("empty.wav", "0 bytes"),
        ("silent.wav", "holds no samples"),
    ):
        with pytest.raises(ValueError, match=rf"{re.escape(name)}.*{message}|{message}.*{re.escape(name)}"):
            audio_length(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.wav"):
        audio_length(tmp_path / "nowhere.wav")


def test_bytes_are_called_by_their_path():
    for read in (load_audio, audio_length):
        for content, message in ((b"hello", "Cannot decode 'broken.wav': "), (b"", "'broken.wav': there are 0 bytes")):
            with pytest.raises(ValueError, match=message):
                read({"path": "broken.wav", "bytes": content})
        with pytest.raises(ValueError, match="Cannot decode the given 5 bytes"):
            read({"path": None, "bytes": b"hello"})
    with pytest.raises(ValueError, match="'nan.wav': it holds NaN"):
        load_audio({"path": "nan.wav", "array": np.full(10, np.nan), "sampling_rate": RATE})


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_samples_that_are_not_finite(tmp_path, bad):
    waveform = sine(440)
    waveform[100] = bad
    soundfile.write(tmp_path / "broken.wav", waveform, RATE, subtype="FLOAT")
    with pytest.raises(ValueError, match=r"broken\.wav.*NaN or infinite"):
        load_audio(tmp_path / "broken.wav")
    with pytest.raises(ValueError, match="the array.*NaN or infinite"):
        load_audio(waveform, source_rate=RATE)


@pytest.mark.parametrize(
    "source, arguments, message",
    [
        (np.zeros(10), {}, "a waveform without its sampling rate"),
        (np.zeros(10), {"source_rate": 0}, "`source_rate` must be a positive"),
        (np.zeros(10), {"source_rate": 16_000.5}, "`source_rate` must be a positive"),
        (np.zeros(10), {"source_rate": True}, "`source_rate` must be a positive"),
        (np.zeros(10), {"source_rate": np.nan}, "`source_rate` must be a positive"),
        (np.zeros(10), {"source_rate": RATE, "sampling_rate": -1}, "`sampling_rate` must be a positive"),
        (np.zeros((10, 2)), {"source_rate": RATE}, r"shape .*\(10, 2\)"),
        (np.zeros((1, 2, 3)), {"source_rate": RATE}, r"shape .*\(1, 2, 3\)"),
        (np.zeros(0), {"source_rate": RATE}, "no samples"),
        (np.zeros((2, 0)), {"source_rate": RATE}, "no samples"),
        (np.zeros(10, dtype=np.uint8), {"source_rate": RATE}, "uint8"),
        (np.zeros(10, dtype=np.int64), {"source_rate": RATE}, "int64 samples.*signed integers of 8, 16 or 32 bits"),
        (np.zeros(10, dtype=complex), {"source_rate": RATE}, "complex128"),
        ({"array": np.zeros(10)}, {}, "needs its `sampling_rate` in Hz"),
        ({"array": np.zeros(10), "sampling_rate": 8_000}, {"source_rate": RATE}, "8000 but"),
        ({"file": "x.wav"}, {}, r"this one has \['file'\]"),
        ({"path": None, "bytes": None}, {}, "holds None"),
        ("tone.wav", {"source_rate": RATE}, "only for waveforms"),
        (3.5, {}, "this is a float"),
        ([0, 1], {"source_rate": RATE}, "int64 samples"),
    ],
)
def test_wrong_arguments(source, arguments, message):
    with pytest.raises(ValueError, match=message):
        load_audio(source, **arguments)
