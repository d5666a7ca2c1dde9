"""MPEG audio is read to its end, whatever its headers say, and joined streams are read one after the other."""

import io
import shutil
import struct
import subprocess
import time
from functools import cache

import numpy as np
import pytest
import soundfile

from modeling_atri import sound_streams_atri
from modeling_atri.audio_io import audio_length, load_audio, load_excerpt
from modeling_atri.mpeg_audio_atri import MpegStream, mpeg_streams
from modeling_atri.sound_files_atri import open_sound


RATE = 16_000
FRAME = 576  # samples of a frame of MPEG-2 layer III
ID3V2 = b"ID3\x03\0\0\0\0\x10\0" + bytes(2048)
ID3V1 = b"TAG" + bytes(125)
APE = b"APETAGEX" + struct.pack("<IIII", 2000, 40, 1, 0xA0000000) + bytes(8 + 40)
JUNK = np.random.default_rng(9).bytes(3_000)


def noise(seconds: float, rate: int = RATE, num_channels: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=0.05, size=(round(rate * seconds), num_channels))


def mp3(samples: np.ndarray, rate: int = RATE, subtype: str = "MPEG_LAYER_III") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="MP3", subtype=subtype)
    return file.getvalue()


def lame(samples: np.ndarray, *options: str, rate: int = RATE) -> bytes:
    """What `lame OPTIONS in.wav -` writes to a pipe: there it cannot go back to fill in a Xing header."""
    if not shutil.which("lame"):
        pytest.skip("needs the program lame")
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype="PCM_16")
    command = ["lame", "--quiet", *options, "-", "-"]
    return subprocess.run(command, input=file.getvalue(), stdout=subprocess.PIPE, check=True).stdout


def frame_places(content: bytes) -> list[int]:
    """Places of the frames of MPEG-2 layer III at 16 kHz, the slow and obvious way."""
    kilobits = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
    places = [0]
    while places[-1] < len(content):
        bits = content[places[-1] + 2]
        places.append(places[-1] + 72 * 1000 * kilobits[bits >> 4] // RATE + (bits >> 1 & 1))
    return places[:-1]


def without_header(content: bytes) -> bytes:
    return content[frame_places(content)[1] :]


def with_count(content: bytes, num_frames: int) -> bytes:
    """The frame count of the Xing or Info header replaced."""
    place = max(content.find(b"Xing"), content.find(b"Info")) + 8
    return content[:place] + num_frames.to_bytes(4, "big") + content[place + 4 :]


def put_together(content: bytes, stream: MpegStream) -> bytes:
    return b"".join(piece if isinstance(piece, bytes) else content[slice(*piece)] for piece in stream.pieces)


def assert_read_whole(content: bytes, num_samples: int, tolerance: int = 0) -> np.ndarray:
    """Length, whole read and excerpts agree, and say what is expected."""
    whole = load_audio(content)
    assert len(whole) == audio_length(content) == pytest.approx(num_samples, abs=tolerance)
    for start in (0, len(whole) // 2, len(whole) - 1_000):
        excerpt = load_excerpt(content, start, 1_000, RATE)
        np.testing.assert_allclose(excerpt, whole[start : start + 1_000], rtol=0, atol=1e-5)
    return whole


A, B = mp3(noise(2.0)), mp3(noise(3.0, seed=1))
BOTH = np.concatenate([load_audio(A), load_audio(B)])


def test_frames_are_counted():
    quiet_first = mp3(np.concatenate([noise(5.0) * 1e-4, noise(5.0)]))
    content = without_header(quiet_first)
    num_frames = len(frame_places(content))
    # libsndfile leaves out the 529 samples by which every decoder of layer III is late.
    whole = assert_read_whole(content, num_frames * FRAME - 529)
    # The encoder's own delay of 576 samples is only known from the header that is missing here.
    reference = load_audio(quiet_first)
    np.testing.assert_allclose(whole[576 + 5_000 : 576 + 150_000], reference[5_000:150_000], rtol=0, atol=1e-3)


@pytest.mark.parametrize("options", [["-V4"], ["-V9"], ["-b", "64"], ["--abr", "80"], ["-V4", "-t"], ["-m", "s"]])
@pytest.mark.heavy
@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_lame_into_a_pipe(options, rate):
    content = lame(np.concatenate([noise(3.0, rate) * 1e-4, noise(3.0, rate)]), *options, rate=rate)
    assert_read_whole(content, 6 * RATE, tolerance=3 * 1152 * RATE // rate)


def test_free_format():
    assert_read_whole(lame(noise(3.0, 44_100), "--freeformat", "-b", "400", rate=44_100), 3 * RATE, tolerance=1_500)


@pytest.mark.parametrize(
    ("head", "between", "tail"),
    [
        (b"", b"", b""),
        (ID3V2, b"", b""),
        (b"", ID3V1, ID3V1),
        (ID3V2, ID3V1 + ID3V2, APE + ID3V1),
        (b"", APE, APE),
        (bytes(700), JUNK, JUNK),  # fewer zeros than the 1024 bytes that are looked at
        (bytes(5_000), JUNK, JUNK),
        (JUNK, bytes(5_000), bytes(10)),
    ],
)
def test_joined_files_are_read_whole(head, between, tail):
    content = head + A + between + B + tail
    np.testing.assert_array_equal(assert_read_whole(content, 5 * RATE), BOTH)


def test_three_files_are_read_as_three():
    assert [stream.num_samples for stream in mpeg_streams(A + B + A)] == [None] * 3
    assert_read_whole(A + B + A, 7 * RATE)


def test_files_without_headers_are_joined_to_one_stream():
    content = without_header(A) + ID3V1 + without_header(B)
    num_frames = len(frame_places(without_header(A))) + len(frame_places(without_header(B)))
    assert_read_whole(content, num_frames * FRAME - 529)


@pytest.mark.parametrize("stated", [0, 1, 10, 57])
def test_a_count_that_is_too_small_is_corrected(stated):
    num_frames = len(frame_places(A)) - 1
    assert num_frames == 58
    whole = assert_read_whole(with_count(A, stated), 2 * RATE, tolerance=FRAME * 3)
    # The header still states the delay where it states a count.
    start = 0 if stated else 576
    np.testing.assert_allclose(whole[start : start + 30_000], load_audio(A)[:30_000], rtol=0, atol=1e-4)


def test_a_count_that_includes_the_header_is_corrected():
    content = with_count(A, len(frame_places(A)))
    np.testing.assert_array_equal(assert_read_whole(content, 2 * RATE), load_audio(A))


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
def test_a_truncated_part_is_refused(kept):
    cut = A[: int(len(A) * kept)]
    for content in (cut, cut + B, B + cut):
        for read in (load_audio, audio_length, lambda content: load_excerpt(content, 0, 100, RATE)):
            with pytest.raises(ValueError, match="Cannot use the given .* bytes: the file is truncated, its header"):
                read(content)


def test_an_incomplete_last_frame_is_left_out():
    """Recordings of a broadcast end anywhere."""
    content = without_header(A)
    assert_read_whole(content[:-10], (len(frame_places(content)) - 1) * FRAME - 529)


def test_joined_rates_are_refused_and_joined_channels_are_averaged():
    with pytest.raises(ValueError, match="joins recordings of the sampling rates 16000, 24000 Hz"):
        load_audio(A + mp3(noise(2.0, 24_000), 24_000))
    stereo = mp3(noise(2.0, num_channels=2))
    expected = np.concatenate([load_audio(A), load_audio(stereo)])
    np.testing.assert_array_equal(assert_read_whole(A + stereo, 4 * RATE), expected)


def test_mp3_in_a_wav_file():
    """It is judged as MPEG audio, whatever the container states."""
    frames = without_header(A)
    form = struct.pack("<HHIIHHHHIHHH", 0x55, 1, RATE, 1_000, 1, 0, 12, 1, 2, 72, 1, 1393)
    for num_samples, rest in ((2 * RATE, b""), (1, b""), (10 * RATE, b"LIST\4\0\0\0abcd")):
        chunks = b"fmt " + len(form).to_bytes(4, "little") + form + b"fact\4\0\0\0" + num_samples.to_bytes(4, "little")
        chunks += b"data" + len(frames).to_bytes(4, "little") + frames + rest
        content = b"RIFF" + (4 + len(chunks)).to_bytes(4, "little") + b"WAVE" + chunks
        np.testing.assert_array_equal(assert_read_whole(content, 58 * FRAME - 529), load_audio(frames))
    with pytest.raises(ValueError, match="the file is truncated"):
        load_audio(content[:2_000])


@cache
def long_mp3s() -> dict[str, bytes]:
    """Some 300 frames each, at a constant and a variable bit rate, with and without a header, and with junk."""
    quiet_and_loud = noise(10.0) * np.repeat([1e-3, 1, 0.1, 1e-4, 1], 2 * RATE)[:, None]
    stated = mp3(quiet_and_loud)
    half = frame_places(stated)[150]
    return {
        "stated": stated,
        "wrongly stated": with_count(stated, 100),
        "unstated": without_header(stated),
        "with tags": ID3V2 + stated + APE + ID3V1,
        "with junk inside": stated[:half] + JUNK + stated[half:],
        "cut at its beginning": mp3(noise(10.0, 44_100, 2), 44_100)[1000:],
        "joined": stated + ID3V1 + without_header(mp3(noise(8.0, seed=2))),
    }


def samples_from(source, start: int, count: int = 4000) -> np.ndarray:
    with open_sound(source, "it") as file:
        file.seek(start)
        return np.concatenate(list(file.mono_blocks(min(count, file.num_frames - start))))


@pytest.mark.parametrize("kind", long_mp3s())
def test_a_stream_from_a_noted_frame_on_gives_the_same_samples(tmp_path, monkeypatch, kind):
    content, opened, later = long_mp3s()[kind], sound_streams_atri._opened, sound_streams_atri._later
    (tmp_path / "it.mp3").write_bytes(content)
    begun = []

    def without_index(file, known):
        return [stream._replace(later=None) for stream in opened(file, known)]

    def noted(*arguments):
        begun.append(later(*arguments)[1])
        return later(*arguments)

    monkeypatch.setattr("modeling_atri.mpeg_audio_atri._NOTED", 16)
    monkeypatch.setattr(sound_streams_atri, "_later", noted)

    for source in (tmp_path / "it.mp3", content):
        length = audio_length(source)
        for start in (*range(0, length, length // 9), length - 5000, length - 1, 100):
            found = samples_from(source, start)
            with monkeypatch.context() as patch:
                patch.setattr(sound_streams_atri, "_opened", without_index)
                np.testing.assert_allclose(found, samples_from(source, start), rtol=0, atol=1e-7)
    assert max(begun) > 50_000, "the streams were not opened later than at their beginning"


def test_frames_are_counted_once_until_the_file_changes(tmp_path, monkeypatch):
    counted, count = [], sound_streams_atri.mpeg_streams
    monkeypatch.setattr(sound_streams_atri, "mpeg_streams", lambda content: counted.append(1) or count(content))
    path = tmp_path / "it.mp3"
    path.write_bytes(A)
    for start in (0, 1000, 2000):
        np.testing.assert_allclose(load_excerpt(path, start, 500, RATE), BOTH[start : start + 500], atol=1e-6)
    assert audio_length(path) == len(load_audio(path)) == len(load_audio(A))
    assert len(counted) == 2, "once from the file, and once from the bytes"
    path.write_bytes(B)
    np.testing.assert_array_equal(load_audio(path), load_audio(B))


def test_layer_two():
    pytest.importorskip("av")
    content = mp2(noise(3.0, 44_100)[:, 0])
    assert [stream.num_samples for stream in mpeg_streams(content)] == [115 * 1152]
    assert_read_whole(content, round(115 * 1152 * RATE / 44_100))
    assert_read_whole(content + ID3V1 + content, round(230 * 1152 * RATE / 44_100))


def mp2(samples: np.ndarray) -> bytes:
    import av

    file = io.BytesIO()
    with av.open(file, "w", format="mp2") as container:
        stream = container.add_stream("mp2", rate=44_100, layout="mono")
        for start in range(0, len(samples), 1152):
            block = (samples[None, start : start + 1152] * 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(block, format="s16", layout="mono")
            frame.sample_rate, frame.pts = 44_100, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def test_what_is_no_mpeg_audio():
    assert mpeg_streams(b"") == []
    assert mpeg_streams(bytes(10_000)) == []
    assert mpeg_streams(np.random.default_rng(0).bytes(300_000)) == []
    assert mpeg_streams(b"\xff\xfb\x90\x44") == []


def test_a_header_inside_a_frame_does_not_stop_the_search():
    frame = bytearray(b"\xff\xfb\x90\x00" + bytes(413))
    frame[100:104], frame[136:140] = frame[:4], b"Xing"
    content = bytes(frame) + 10 * (frame[:4] + bytes(413))
    (stream,) = mpeg_streams(content)
    assert put_together(content, stream).count(b"\xff\xfb\x90\x00") == 10


def test_erased_memory_behind_the_frames_is_passed_over_quickly():
    """Flash memory that was erased is full of ones, as the beginning of a frame is."""
    content = mp3(noise(1))
    start = time.perf_counter()
    assert mpeg_streams(content + b"\xff" * 2_000_000) == mpeg_streams(content)
    assert time.perf_counter() - start < 2  # it was 10 s when every byte was looked at in Python


@pytest.mark.parametrize(
    "between",
    [
        b"ID3 is the name of a tag. " + bytes(400),
        JUNK + b"ID3\x03\xff" + b"\xff" * 5 + JUNK,
        b"LYRICSBEGIN IND000021 LYRICS200",
    ],
)
def test_what_looks_like_a_long_tag_hides_no_sound(between):
    content = mp3(noise(1))
    joined = content + between + content + b"LYRICSBEGIN LYRICSEND"
    assert [put_together(joined, part) for part in mpeg_streams(joined)] == 2 * [content]
