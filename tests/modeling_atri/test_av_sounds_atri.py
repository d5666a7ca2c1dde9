"""Formats that soundfile does not read: decoded by PyAV, or refused with what to install."""

import importlib
import io

import numpy as np
import pytest
import soundfile

from modeling_atri import av_sounds_atri
from modeling_atri.audio_io import MissingDecoderError, audio_length, load_audio, load_excerpt
from modeling_atri.sound_files_atri import OTHER_SOUND_SUFFIXES, SOUND_SUFFIXES, names_sound, open_sound


RATE = 16_000
SECONDS = 2.0


def tone(rate: int, channel: int = 0) -> np.ndarray:
    return 0.25 * np.sin(2 * np.pi * 440 * (1 + channel) * np.arange(int(SECONDS * rate)) / rate)


def encoded(format: str, codec: str, rate: int = 48_000, layout: str = "mono", tracks: int = 1) -> bytes:
    """A tone of 440 Hz in the first channel and 880 Hz in the second; further tracks are silent."""
    channels = range(2 if layout == "stereo" else 1)
    parts = [[tone(rate, channel) * (track == 0) for channel in channels] for track in range(tracks)]
    return written(parts, format, codec, rate, layout)


def written(
    tracks: list, format: str, codec: str, rate: int, layout: str = "mono", bit_rate: int | None = None
) -> bytes:
    """A file of tracks, each with the samples of its channels."""
    av = pytest.importorskip("av")
    file = io.BytesIO()
    with av.open(file, "w", format=format) as container:
        streams = [container.add_stream(codec, rate=rate, layout=layout) for _ in tracks]
        for channels, stream in zip(tracks, streams, strict=True):
            if bit_rate is not None:
                stream.bit_rate = bit_rate
            samples = np.stack(channels).astype(np.float32)
            resampler = av.AudioResampler(stream.codec_context.format.name, layout, rate, stream.frame_size or 1024)
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=layout)
            frame.sample_rate, frame.pts = rate, 0
            for part in [*resampler.resample(frame), *resampler.resample(None)]:
                container.mux(stream.encode(part))
            container.mux(stream.encode(None))
    return file.getvalue()


FORMATS = {  # suffix: format, codec, rate, allowed difference of the samples
    ".m4a": ("ipod", "aac", 44_100, 0.05),
    ".mp4": ("mp4", "aac", 48_000, 0.05),
    ".aac": ("adts", "aac", 44_100, None),
    ".mov": ("mov", "pcm_s16le", 44_100, 1e-3),
    ".m4b": ("ipod", "alac", 44_100, 1e-3),
    ".webm": ("webm", "libopus", 48_000, 0.05),
    ".mka": ("matroska", "flac", 44_100, 1e-3),
    ".wv": ("wv", "wavpack", 44_100, 0.01),
    ".tta": ("tta", "tta", 44_100, 0.01),
    ".ac3": ("ac3", "ac3", 48_000, None),
    ".avi": ("avi", "pcm_s16le", 44_100, 1e-3),
    ".flv": ("flv", "aac", 44_100, None),
    ".amr": ("amr", "libopencore_amrnb", 8_000, None),
    ".oga": ("ogg", "flac", 44_100, 1e-3),
    ".caf": ("caf", "alac", 44_100, None),
    ".wav": ("wav", "g726", 8_000, None),
}


@pytest.mark.parametrize("suffix", FORMATS)
def test_formats(tmp_path, suffix):
    format, codec, rate, tolerance = FORMATS[suffix]
    path = tmp_path / f"sound{suffix}"
    path.write_bytes(encoded(format, codec, rate))
    whole = load_audio(path)
    assert whole.dtype == np.float32
    assert audio_length(path) == len(whole) == pytest.approx(SECONDS * RATE, abs=0.1 * RATE)
    spectrum = np.abs(np.fft.rfft(whole[:RATE]))
    assert spectrum.argmax() == pytest.approx(440, abs=1)
    if tolerance is not None:
        np.testing.assert_allclose(whole[1_000:30_000], tone(RATE)[1_000:30_000], rtol=0, atol=tolerance)
    for start in (0, 12_345, len(whole) - 2_000):
        excerpt = load_excerpt(path, start, 2_000, RATE)
        np.testing.assert_allclose(excerpt, whole[start : start + 2_000], rtol=0, atol=1e-5)
    np.testing.assert_array_equal(load_audio(path.read_bytes()), whole)


def long_noise(format: str, codec: str, rate: int, bit_rate: int | None = None) -> bytes:
    """Twelve seconds."""
    samples = np.random.default_rng(0).normal(scale=0.1, size=12 * rate)
    return written([[samples]], format, codec, rate, bit_rate=bit_rate)


@pytest.fixture
def decoded(monkeypatch):
    """The numbers of samples that PyAV decodes; places from two seconds on are gone to."""
    counts, mono = [], av_sounds_atri._mono
    monkeypatch.setattr(av_sounds_atri, "_mono", lambda frame: counts.append(frame.samples) or mono(frame))
    monkeypatch.setattr(av_sounds_atri, "_NEAR", 2)
    monkeypatch.setattr(av_sounds_atri, "_RUN_UPS", (1, 2))
    return counts


EXACT = [
    *(("ipod", "aac", 44_100), ("ipod", "alac", 44_100), ("mp4", "flac", 44_100), ("mp4", "libopus", 48_000)),
    *(("mp4", "libmp3lame", 44_100), ("mov", "pcm_s16le", 44_100), ("wv", "wavpack", 44_100), ("tta", "tta", 44_100)),
]


@pytest.mark.parametrize(("format", "codec", "rate"), EXACT)
def test_a_late_part_is_decoded_alone(tmp_path, decoded, format, codec, rate):
    path = tmp_path / "it"
    path.write_bytes(long_noise(format, codec, rate))
    for source in (path, path.read_bytes()):
        whole = load_audio(source)
        for start in (9 * RATE + 77, 8 * RATE, len(whole) - RATE // 2):
            decoded.clear()
            excerpt = load_excerpt(source, start, RATE // 2, RATE)
            np.testing.assert_allclose(excerpt, whole[start : start + RATE // 2], rtol=0, atol=1e-6)
            assert len(excerpt) == RATE // 2
            assert sum(decoded) < start / RATE * rate, "not even all before it"
    with open_sound(path, "it") as file:  # without a resampler, bit for bit; and it reads on where the part ended
        samples = np.concatenate(list(file.mono_blocks()))
        for start in (5 * rate, 3 * rate + 1):
            file.seek(start)
            parts = [np.concatenate(list(file.mono_blocks(count))) for count in (rate, 1000, 3)]
            np.testing.assert_array_equal(np.concatenate(parts), samples[start : start + rate + 1003])
        file.seek(11 * rate)
        np.testing.assert_array_equal(np.concatenate(list(file.mono_blocks())), samples[11 * rate :])
        file.seek(20 * rate)
        assert sum(map(len, file.mono_blocks(rate))) == 0


INEXACT = [
    ("ipod", "aac", 44_100, 24_000),  # the decoder fills bands with noise
    ("mp4", "ac3", 48_000, None),  # it dithers
    ("adts", "aac", 44_100, None),  # without places
    ("matroska", "aac", 48_000, None),  # places in milliseconds
]


@pytest.mark.parametrize(("format", "codec", "rate", "bit_rate"), INEXACT)
def test_a_part_that_depends_on_all_before_it_is_decoded_from_the_beginning(
    tmp_path, decoded, format, codec, rate, bit_rate
):
    path = tmp_path / "it"
    path.write_bytes(long_noise(format, codec, rate, bit_rate))
    whole = load_audio(path)
    for _ in range(2):
        decoded.clear()
        excerpt = load_excerpt(path, 9 * RATE, RATE, RATE)
        np.testing.assert_allclose(excerpt, whole[9 * RATE : 10 * RATE], rtol=0, atol=1e-6)
    assert 9 * rate < sum(decoded) < 11 * rate, "the second time, nothing else is tried"


def test_packets_with_a_gap_between_them_are_counted(tmp_path, decoded):
    """The places that the file states are then not those of the samples, one after the other."""
    av = pytest.importorskip("av")
    with av.open(io.BytesIO(long_noise("ipod", "aac", 44_100))) as source:
        with av.open(str(tmp_path / "it.m4a"), "w") as target:
            track = target.add_stream_from_template(source.streams.audio[0])
            for packet in source.demux(audio=0):
                if packet.size and packet.pts // 1024 not in (100, 101):
                    packet.stream = track
                    target.mux(packet)
    whole = load_audio(tmp_path / "it.m4a")
    excerpt = load_excerpt(tmp_path / "it.m4a", 9 * RATE, RATE, RATE)
    np.testing.assert_allclose(excerpt, whole[9 * RATE : 10 * RATE], rtol=0, atol=1e-6)


@pytest.mark.parametrize("codec", ["aac", "pcm_s16le", "pcm_f32le", "pcm_u8", "alac"])
def test_channels_are_averaged(codec):
    whole = load_audio(encoded("matroska", codec, layout="stereo"))
    expected = (tone(RATE) + tone(RATE, 1)) / 2
    np.testing.assert_allclose(whole[1_000:30_000], expected[1_000:30_000], rtol=0, atol=0.05)


@pytest.mark.parametrize("name", ["x.wav", "x.mp3", "x.flac", "x"])
def test_a_wrong_suffix_is_no_matter(tmp_path, name):
    content = encoded("ipod", "aac", 44_100)
    (tmp_path / name).write_bytes(content)
    np.testing.assert_array_equal(load_audio(tmp_path / name), load_audio(content))


def test_of_several_tracks_the_default_one_is_read():
    whole = load_audio(encoded("matroska", "flac", tracks=2))
    np.testing.assert_allclose(whole[1_000:30_000], tone(RATE)[1_000:30_000], rtol=0, atol=1e-3)


def test_a_video_without_sound_is_refused():
    av = pytest.importorskip("av")
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=10, width=16, height=16)
        stream.pix_fmt = "yuv420p"
        container.mux(stream.encode(av.VideoFrame(16, 16, "yuv420p")))
        container.mux(stream.encode(None))
    with pytest.raises(ValueError, match="Cannot use the given .* bytes: it holds no audio track"):
        load_audio(file.getvalue())


@pytest.mark.parametrize("suffix", [".m4a", ".mov", ".webm", ".mka", ".wv", ".tta"])
def test_truncated_files_are_refused(suffix):
    format, codec, rate, _ = FORMATS[suffix]
    content = encoded(format, codec, rate)
    for read in (load_audio, audio_length):
        with pytest.raises(ValueError, match="truncated"):
            read(content[: len(content) // 2])


def test_damage_is_refused():
    content = bytearray(encoded("matroska", "flac", 44_100))
    content[len(content) // 2 : len(content) // 2 + 300] = bytes(300)
    with pytest.raises(ValueError, match="Cannot (decode|use) the given .* bytes: .*(damaged|truncated)"):
        load_audio(bytes(content))


def test_an_unknown_codec_is_refused():
    pytest.importorskip("av")
    file = io.BytesIO()
    soundfile.write(file, np.zeros(1_000), 16_000, format="WAV")
    content = bytearray(file.getvalue())
    content[20:22] = b"\x34\x12"  # a format that nobody has registered
    with pytest.raises(ValueError, match="Cannot use the given .* bytes: PyAV has no decoder for its audio track"):
        load_audio(bytes(content))


def test_places_beyond_every_file_are_refused(tmp_path):
    """FFmpeg goes where the sizes of chunks in this header lead, which is an error of the file and not of FFmpeg."""
    pytest.importorskip("av")
    file = io.BytesIO()
    soundfile.write(file, np.zeros(1_000), 16_000, format="CAF")
    content = bytearray(file.getvalue())
    content[content.index(b"free") + 4] = 0x80
    (tmp_path / "x.caf").write_bytes(content)
    for source in (tmp_path / "x.caf", bytes(content)):
        with pytest.raises(ValueError, match="Cannot decode .*(x.caf|bytes).*: "):
            load_audio(source)


def test_playlists_open_nothing(tmp_path):
    """FFmpeg's format for scripts would read any file that the script names."""
    pytest.importorskip("av")
    (tmp_path / "secret.m4a").write_bytes(encoded("ipod", "aac", 44_100))
    (tmp_path / "x.m4a").write_text(f"ffconcat version 1.0\nfile {tmp_path / 'secret.m4a'}\n")
    with pytest.raises(ValueError, match="it is a text and not a sound"):
        load_audio(tmp_path / "x.m4a")


@pytest.fixture
def without_av(monkeypatch):
    def import_module(name, package=None):
        if name == "av":
            raise ModuleNotFoundError("No module named 'av'", name="av")
        return original(name, package)

    original = importlib.import_module
    monkeypatch.setattr("modeling_atri.av_sounds_atri.import_module", import_module)


MAGIC = {
    ".m4a": b"\0\0\0\x20ftypM4A " + bytes(100),
    ".webm": b"\x1a\x45\xdf\xa3" + bytes(100),
    ".wma": bytes.fromhex("3026b2758e66cf11") + bytes(100),
    ".wv": b"wvpk" + bytes(100),
    ".ape": b"MAC " + bytes(100),
    ".aac": b"\xff\xf1\x50\x80" + bytes(100),
    ".mpc": b"unknown" + bytes(range(128, 228)),
}


@pytest.mark.usefixtures("without_av")
@pytest.mark.parametrize("suffix", MAGIC)
def test_without_av(tmp_path, suffix):
    path = tmp_path / f"sound{suffix}"
    path.write_bytes(MAGIC[suffix])
    for read in (load_audio, audio_length):
        with pytest.raises(MissingDecoderError, match=r"sound.*needs PyAV.*`pip install \"modeling_atri\[av\]\"`"):
            read(path)


@pytest.mark.usefixtures("without_av")
def test_without_av_other_files_are_judged_as_before(tmp_path):
    (tmp_path / "x.wav").write_bytes(np.random.default_rng(0).bytes(5_000))
    with pytest.raises(ValueError, match="Format not recognised") as error:
        load_audio(tmp_path / "x.wav")
    assert not isinstance(error.value, MissingDecoderError)
    (tmp_path / "x.m4a").write_text("<html>")
    with pytest.raises(ValueError, match="HTML"):
        load_audio(tmp_path / "x.m4a")
    with pytest.raises(FileNotFoundError):
        load_audio(tmp_path / "nowhere.m4a")


def test_suffixes():
    assert not set(SOUND_SUFFIXES) & set(OTHER_SOUND_SUFFIXES)
    assert {".wave", ".bwf", ".rf64", ".snd", ".mp2"} <= set(SOUND_SUFFIXES)
    assert {".m4a", ".aac", ".mp4", ".webm", ".wma", ".wv", ".mkv"} <= set(OTHER_SOUND_SUFFIXES)
    for suffix in SOUND_SUFFIXES + OTHER_SOUND_SUFFIXES:
        assert suffix == suffix.lower() and suffix[0] == "."
        assert names_sound(f"A Song{suffix.upper()}")
    assert not names_sound("The sound of a wave.")
