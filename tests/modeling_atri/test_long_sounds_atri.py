"""Long recordings, which are read in pieces, against the same recordings read at once."""

import io
import tracemalloc
from contextlib import contextmanager

import numpy as np
import pytest
import soundfile
import torch

from modeling_atri import encode_audio, encode_folder, load_embeddings, long_sounds_atri
from modeling_atri.long_sounds_atri import LongSound, read_or_scan
from modeling_atri.pipelines_atri import AtriAudioTextFeatureExtractionPipeline
from modeling_atri.search.windows import encode_windows, plan_windows
from tests.helpers.tiny import tiny_model, tiny_processor
from tests.helpers.towers import TOWERS, tower_model, tower_processor
from tests.modeling_atri.test_av_sounds_atri import encoded as encoded_by_av
from tests.modeling_atri.test_sound_files_atri import encoded, streamed_flac, without_mp3_header


RATE = 16_000
LONG_SECONDS = 1.5


@contextmanager
def long_from(seconds: float):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(long_sounds_atri, "LONG_SECONDS", seconds)
        yield


def recording(seconds: float = 4.3, rate: int = RATE, num_channels: int = 1, seed: int = 0) -> np.ndarray:
    """Noise that rises and falls, with a stretch of silence, which CED's floor lifts, and its loudest moment late."""
    time = np.arange(round(seconds * rate)) / rate
    level = 0.02 + 0.6 * np.exp(-((time - 0.8 * seconds) ** 2) / 0.01)
    noise = np.random.default_rng(seed).normal(scale=0.3, size=(len(time), num_channels))
    noise[(time > 0.3 * seconds) & (time < 0.5 * seconds)] = 0
    return (noise * level[:, None]).astype(np.float32)


FILES = {
    "wav": lambda: encoded(recording(), "WAV"),
    "wav, 8 kHz": lambda: encoded(recording(rate=8_000), "WAV", rate=8_000),
    "wav, 192 kHz, 12 channels": lambda: encoded(recording(2.1, 192_000, 12), "WAV", "FLOAT", 192_000),
    "flac, 44.1 kHz, stereo": lambda: encoded(recording(4.2, 44_100, 2), "FLAC", rate=44_100),
    "flac from a pipe": lambda: streamed_flac(recording()[:, 0]),
    "ogg, 48 kHz": lambda: encoded(recording(rate=48_000), "OGG", rate=48_000),
    "mp3": lambda: encoded(recording(), "MP3"),
    "mp3 without a Xing header": lambda: without_mp3_header(encoded(recording(), "MP3")),
    "joined mp3": lambda: encoded(recording(2.0), "MP3") + encoded(recording(2.0, seed=1), "MP3"),
    "rf64": lambda: encoded(recording(), "RF64"),
    "w64": lambda: encoded(recording(rate=22_050), "W64", rate=22_050),
    "m4a": lambda: encoded_by_av("ipod", "aac", 44_100),
}
KINDS = ["ced", "clap", "whisper", "wav2vec2", "pe-audio"]


def make(kind: str):
    if kind == "ced":
        return tiny_model(max_frames=64), tiny_processor()
    return tower_model(TOWERS[kind]), tower_processor(TOWERS[kind])


@pytest.mark.parametrize("form", FILES)
def test_the_features_of_pieces_are_those_of_the_whole(form):
    content, extractor = FILES[form](), tiny_processor().feature_extractor
    whole = extractor.extract_clip(content)
    with long_from(LONG_SECONDS):
        long = extractor.read_clip(content)
    assert isinstance(long, LongSound)
    assert len(long) == long.length == len(whole)
    torch.testing.assert_close(long.features(), whole, atol=1e-6, rtol=0)
    stretches = [(0, 10), (5, 100), (5, 40), (90, 90 + len(whole) // 3), (len(whole) - 7, len(whole))]
    for (start, stop), part in zip(stretches, long.stretches(stretches), strict=True):
        torch.testing.assert_close(part, whole[start:stop], atol=1e-6, rtol=0)


@pytest.mark.parametrize("top_db", [30.0, 120.0])
def test_the_floor_is_that_of_the_whole_recording(top_db):
    extractor = tiny_processor().feature_extractor
    extractor.top_db = top_db
    whole = extractor.extract_clip(FILES["wav"]())
    with long_from(LONG_SECONDS):
        long = extractor.read_clip(FILES["wav"]())
    assert (whole == whole.min()).sum() > 100
    torch.testing.assert_close(long.features(), whole, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_workers", [0, 2])
def test_embeddings_of_pieces_are_those_of_the_whole(kind, num_workers):
    model, processor = make(kind)
    rate = processor.feature_extractor.sampling_rate
    window_s = plan_windows(model, processor).window_s
    clips = [
        encoded(recording(length * window_s, rate, 2, seed), "WAV", "FLOAT", rate)
        for seed, length in enumerate((5.3, 0.6, 8.02, 1.0, 2.5))
    ]
    options = {"batch_size": 2, "num_workers": num_workers}
    expected = encode_audio(model, processor, clips, **options)
    with long_from(1.2 * window_s):
        embeddings = encode_audio(model, processor, clips, **options)
    np.testing.assert_allclose(embeddings, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", ["ced", "clap", "wav2vec2"])
def test_windows_of_pieces_are_those_of_the_whole(kind):
    model, processor = make(kind)
    rate, plan = processor.feature_extractor.sampling_rate, plan_windows(model, processor)
    clips = [encoded(recording(length * plan.window_s, rate), "WAV", rate=rate) for length in (5.3, 0.6, 2.5)]
    expected = list(encode_windows(model, processor, clips, plan, batch_size=2))
    with long_from(1.2 * plan.window_s):
        found = list(encode_windows(model, processor, clips, plan, batch_size=2))
    for one, other in zip(found, expected, strict=True):
        assert one.spans == other.spans
        assert one.duration_s == other.duration_s
        np.testing.assert_allclose(one.vectors, other.vectors, atol=1e-6, rtol=0)
        np.testing.assert_allclose(one.whole, other.whole, atol=1e-6, rtol=0)


@pytest.mark.parametrize("options", [{}, {"batch_size": 2}])
def test_a_pipeline_reads_long_recordings_in_pieces(options, monkeypatch):
    monkeypatch.setattr("modeling_atri.pipeline_base_atri._ROWS_AT_ONCE", 128)
    pipe = AtriAudioTextFeatureExtractionPipeline(tiny_model(max_frames=64), tiny_processor())
    sounds = [FILES["wav"](), recording(0.9)[:, 0], {"array": recording(5.0)[:, 0], "sampling_rate": RATE}]
    expected = pipe(sounds, sampling_rate=RATE)
    with long_from(LONG_SECONDS):
        np.testing.assert_allclose(pipe(sounds, sampling_rate=RATE, **options), expected, atol=1e-6, rtol=0)


def test_arrays_are_read_in_pieces_too(monkeypatch):
    monkeypatch.setattr("modeling_atri.audio_inputs_atri._ARRAY_BLOCK", 1000)
    model, processor = make("ced")
    loud = (recording(3.0, 8_000, 2).T * 32768).astype(np.int16)
    clips = [{"array": loud, "sampling_rate": 8_000}, {"array": recording()[:, 0].tolist(), "sampling_rate": RATE}]
    expected = encode_audio(model, processor, clips)
    with long_from(LONG_SECONDS):
        np.testing.assert_allclose(encode_audio(model, processor, clips), expected, atol=1e-6, rtol=0)


def test_a_folder_with_long_recordings(tmp_path):
    model, processor = make("ced")
    (tmp_path / "sounds").mkdir()
    for name, seconds in (("a", 4.3), ("b", 0.5)):
        soundfile.write(tmp_path / "sounds" / f"{name}.wav", recording(seconds), RATE)
    (tmp_path / "sounds" / "c.wav").write_bytes(FILES["wav"]()[:-5000])
    expected = encode_audio(model, processor, [tmp_path / "sounds" / name for name in ("a.wav", "b.wav")])
    with long_from(LONG_SECONDS):
        summary = encode_folder(model, processor, tmp_path / "sounds", tmp_path / "out")
    assert summary.hours == pytest.approx(4.8 / 3600)
    assert "truncated" in summary.failures["c.wav"]
    np.testing.assert_allclose(load_embeddings(tmp_path / "out")[1], expected, atol=1e-6, rtol=0)


def late_nan() -> np.ndarray:
    samples = recording()
    samples[-100] = np.nan
    return samples


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (lambda: encoded(late_nan(), "WAV", "FLOAT"), "holds NaN or infinite samples"),
        (lambda: encoded(1e20 * recording(), "WAV", "FLOAT"), "whose power is infinite"),
        (lambda: FILES["flac, 44.1 kHz, stereo"]()[:-20_000], "Cannot decode"),
        (lambda: FILES["mp3"]()[:-2_000], "truncated"),
    ],
)
def test_a_recording_with_a_fault_near_its_end_has_no_embedding(content, reason):
    model, processor = make("ced")
    with long_from(LONG_SECONDS):
        embeddings, failures = encode_audio(
            model, processor, [content(), FILES["wav"]()], on_error="skip", names=["bad", "good"]
        )
        with pytest.raises(ValueError, match=f"^bad: .*{reason}"):
            encode_audio(model, processor, [content()], names=["bad"])
    assert embeddings.shape == (1, 12)
    assert [(failure.index, failure.name) for failure in failures] == [(0, "bad")]
    assert reason in failures[0].reason


@pytest.mark.parametrize("change", ["shorter", "gone"])
def test_a_recording_that_changes_while_it_is_encoded_is_a_failure(tmp_path, monkeypatch, change):
    path, (model, processor) = tmp_path / "it.wav", make("ced")
    path.write_bytes(FILES["wav"]())
    read_clip = processor.feature_extractor.read_clip

    def read_and_change(clip, *arguments):
        read = read_clip(clip, *arguments)
        if clip == path:
            soundfile.write(path, recording(2.0), RATE) if change == "shorter" else path.unlink()
        return read

    monkeypatch.setattr(processor.feature_extractor, "read_clip", read_and_change)
    with long_from(LONG_SECONDS):
        embeddings, (failure,) = encode_audio(model, processor, [path, FILES["wav"]()], on_error="skip")
    assert failure.index == 0
    assert ("became shorter" if change == "shorter" else "no audio file") in failure.reason
    with long_from(LONG_SECONDS):
        np.testing.assert_allclose(embeddings, encode_audio(model, processor, [FILES["wav"]()]), atol=1e-6)


def test_the_model_of_an_export_gets_the_features_whole():
    model, processor = make("ced")

    class Exported:
        config, device = model.config, model.device

        def get_audio_features(self, **inputs):
            return model.get_audio_features(**inputs)

    expected = encode_audio(model, processor, [FILES["wav"]()])
    with long_from(LONG_SECONDS):
        np.testing.assert_allclose(encode_audio(Exported(), processor, [FILES["wav"]()]), expected, atol=1e-6)


def test_memory_does_not_grow_with_the_length():
    extractor, peaks = tiny_processor().feature_extractor, []
    for seconds in (30, 120):
        file = io.BytesIO(encoded(recording(seconds, 8_000), "WAV", rate=8_000))
        with long_from(LONG_SECONDS):
            tracemalloc.start()
            long = read_or_scan(extractor, file)
            for _ in long.stretches([(start, start + 64) for start in range(0, len(long) - 64, 64)]):
                pass
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]
    assert peaks[1] < 0.3 * 4 * 120 * RATE
