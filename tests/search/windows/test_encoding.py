"""Embeddings of windows against each window encoded alone, and of whole sounds against `encode_audio`."""

from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from modeling_atri import encode_audio
from modeling_atri.encode import AudioFailure
from modeling_atri.files import content_digest
from modeling_atri.long_sounds_atri import read_or_scan
from modeling_atri.search.windows import EncodedSound, WindowPlan, encode_windows, plan_windows
from tests.helpers.tiny import tiny_model, tiny_processor
from tests.helpers.towerless import embedded_model, embedded_processor
from tests.helpers.towers import TOWERS, sound, tower_model, tower_processor


RATE = 16_000
KINDS = ["ced", "clap", "fused clap", "ast", "whisper", "wav2vec2", "wav2vec2-bert", "pe-audio"]
CED_FRAMES = 64  # of a chunk of the tiny tower: 0.64 s


def make(kind: str):
    if kind == "ced":
        return tiny_model(max_frames=CED_FRAMES), tiny_processor()
    return tower_model(TOWERS[kind]), tower_processor(TOWERS[kind])


@pytest.fixture(scope="module", params=KINDS)
def pair(request):
    return make(request.param)


def clips_of(plan: WindowPlan, rate: int, lengths=(0.7, 1.0, 2.55, 0.6, 4.0, 1.001, 1.5)) -> list[np.ndarray]:
    """Sounds of these numbers of windows."""
    return [sound(round(length * plan.window_s * rate), seed) for seed, length in enumerate(lengths)]


@torch.no_grad()
def alone(model, processor, clip: np.ndarray, span: tuple[float, float]) -> np.ndarray:
    """The embedding of a window: a stretch of rows of the features with CED, else of samples."""
    extractor = processor.feature_extractor
    rate = extractor.sampling_rate
    if hasattr(extractor, "windows"):
        inputs = processor(audio=clip[round(span[0] * rate) : round(span[1] * rate)], sampling_rate=rate)
        return model.get_audio_features(**inputs).pooler_output[0].numpy()
    rows = processor(audio=clip, sampling_rate=rate).input_features
    if span == (0.0, len(clip) / rate):
        return model.get_audio_features(rows).pooler_output[0].numpy()
    return model.get_audio_features(rows[:, round(span[0] * 100) : int(span[1] * 100 + 1e-6)]).pooler_output[0].numpy()


def encode(model, processor, clips, plan, **options) -> list[EncodedSound]:
    rate = processor.feature_extractor.sampling_rate
    results = list(encode_windows(model, processor, clips, plan, sampling_rate=rate, num_workers=0, **options))
    assert all(isinstance(result, EncodedSound) for result in results)
    return results


@pytest.mark.parametrize("window, hop", [(1, 0.5), (1, 1), (0.7, 0.3), (2.3, 1.1)])
def test_each_window_and_the_whole_equal_the_model_itself(pair, window, hop):
    model, processor = pair
    rate, own = processor.feature_extractor.sampling_rate, plan_windows(model, processor).window_s
    plan = plan_windows(model, processor, window * own, hop * own)
    clips = clips_of(plan, rate)
    wholes = encode_audio(model, processor, clips, sampling_rate=rate, num_workers=0)
    results = encode(model, processor, clips, plan, batch_size=3)
    for clip, result, whole in zip(clips, results, wholes, strict=True):
        assert result.duration_s == len(clip) / rate
        np.testing.assert_allclose(result.whole, whole, atol=1e-5, rtol=0)
        expected = [alone(model, processor, clip, span) for span in result.spans]
        np.testing.assert_allclose(result.vectors, expected, atol=1e-5, rtol=0)
        if len(result.spans) == 1:
            np.testing.assert_array_equal(result.vectors[0], result.whole)


def test_windows_differ_so_that_a_wrong_one_would_be_seen(pair):
    model, processor = pair
    plan = plan_windows(model, processor)
    vectors = encode(model, processor, clips_of(plan, processor.feature_extractor.sampling_rate, [3.0]), plan)[
        0
    ].vectors
    assert np.abs(vectors[:, None] - vectors[None])[~np.eye(len(vectors), dtype=bool)].max(axis=-1).min() > 1e-4


@pytest.mark.parametrize("options", [{"batch_size": 1}, {"batch_size": 16}, {"num_workers": 2}])
def test_neither_the_batch_nor_threads_matter(options):
    model, processor = make("ced")
    plan = plan_windows(model, processor)
    clips = clips_of(plan, RATE)
    expected = encode(model, processor, clips, plan, batch_size=3)
    options = {"num_workers": 0} | options
    results = list(encode_windows(model, processor, clips, plan, sampling_rate=RATE, **options))
    for result, other in zip(results, expected, strict=True):
        np.testing.assert_allclose(result.vectors, other.vectors, atol=1e-5, rtol=0)
        np.testing.assert_allclose(result.whole, other.whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "kind, length, hop, expected",
    [
        ("ced", 0.5, 0.5, 1),
        ("ced", 1.0, 0.5, 2),  # one window, but a row longer than a chunk, so `encode_audio` takes two as well
        ("ced", 4.0, 0.5, 7 + 1),  # the chunk of the last row
        ("ced", 4.5, 0.5, 8 + 1),
        ("ced", 4.0, 1, 4 + 1),
        ("clap", 1.0, 0.5, 1),
        ("clap", 4.0, 0.5, 7),
        ("clap", 2.5, 0.5, 4 + 1),
        ("clap", 4.0, 1, 4),
    ],
)
def test_a_stretch_is_encoded_once(kind, length, hop, expected, monkeypatch):
    model, processor = make(kind)
    own = plan_windows(model, processor).window_s
    plan = plan_windows(model, processor, own, hop * own)
    frames = CED_FRAMES if kind == "ced" else model.audio_model.windows.frames
    forward, counts = model.audio_model.forward, []

    def counted(input_features, input_features_mask, **options):
        counts.extend(-(-int(rows) // frames) for rows in input_features_mask.sum(dim=1))
        return forward(input_features, input_features_mask, **options)

    monkeypatch.setattr(model.audio_model, "forward", counted)
    encode(model, processor, clips_of(plan, processor.feature_extractor.sampling_rate, [length]), plan)
    assert sum(counts) == expected


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_windows_of_a_long_sound_are_extracted_while_the_model_works(num_workers, monkeypatch):
    model, processor = make("clap")
    extractor, forward = processor.feature_extractor, model.audio_model.forward
    plan = plan_windows(model, processor)
    clips = clips_of(plan, extractor.sampling_rate, [30.3, 0.5, 12.2])
    expected = encode(model, processor, clips, plan)
    monkeypatch.setattr("modeling_atri.search.windows.reading._MAX_EXTRACTED", 20)
    counts, seen = [], []
    extract = extractor.extract_waveform
    monkeypatch.setattr(extractor, "extract_waveform", lambda samples: counts.append(1) or extract(samples))
    monkeypatch.setattr(model.audio_model, "forward", lambda **inputs: seen.append(len(counts)) or forward(**inputs))
    rate, sizes = extractor.sampling_rate, {"batch_size": 2, "num_workers": num_workers}
    results = list(encode_windows(model, processor, clips, plan, sampling_rate=rate, **sizes))
    for result, other in zip(results, expected, strict=True):
        np.testing.assert_allclose(result.vectors, other.vectors, atol=1e-5, rtol=0)
        np.testing.assert_allclose(result.whole, other.whole, atol=1e-5, rtol=0)
    assert len(counts) == sum(len(result.spans) for result in results) + 2  # and the ends of the whole sounds
    assert seen[0] < 20


def test_a_model_with_embeddings_of_whole_clips_alone():
    """As an exported model is: without a tower whose outputs could be averaged."""
    model, processor = make("ced")
    exported = SimpleNamespace(config=model.config, device=model.device, get_audio_features=model.get_audio_features)
    plan = plan_windows(exported, processor)
    clips = clips_of(plan, RATE)
    for result, expected in zip(*(encode(one, processor, clips, plan) for one in (exported, model)), strict=True):
        assert result.spans == expected.spans
        np.testing.assert_allclose(result.vectors, expected.vectors, atol=1e-5, rtol=0)
        np.testing.assert_allclose(result.whole, expected.whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("has_audio_head", [False, True])
def test_stored_embeddings_are_one_window_of_unknown_length(has_audio_head):
    model, processor = embedded_model(has_audio_head), embedded_processor()
    vectors = np.random.default_rng(0).standard_normal((5, 12)).astype(np.float32)
    results = list(encode_windows(model, processor, vectors, plan_windows(model, processor)))
    np.testing.assert_allclose(
        [result.whole for result in results], encode_audio(model, processor, vectors), atol=1e-6, rtol=0
    )
    assert {(result.duration_s, *result.spans[0], result.vectors.shape) for result in results} == {(0, 0, 0, (1, 12))}


def test_files_keep_their_order_and_the_broken_ones_are_told(tmp_path):
    model, processor = make("ced")
    plan = plan_windows(model, processor)
    clips = clips_of(plan, RATE)
    paths = [tmp_path / f"{number}.wav" for number in range(len(clips))]
    for path, clip in zip(paths, clips, strict=True):
        soundfile.write(path, clip, RATE, subtype="FLOAT")
    paths[2].write_bytes(b"no sound")
    paths.append(tmp_path / "gone.wav")
    soundfile.write(paths[4], clips[4][:1000], RATE, subtype="FLOAT")
    results = list(encode_windows(model, processor, paths, plan, batch_size=2))
    failed = [result for result in results if isinstance(result, AudioFailure)]
    assert [failure.index for failure in failed] == [2, 4, 7]
    assert [failure.name for failure in failed] == [str(paths[index]) for index in (2, 4, 7)]
    assert "too short" in failed[1].reason
    for index, result in enumerate(results):
        if isinstance(result, EncodedSound):
            assert result.content == content_digest(paths[index])
            expected = encode(model, processor, [clips[index]], plan)[0]
            np.testing.assert_allclose(result.vectors, expected.vectors, atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match=r"2\.wav"):
        list(encode_windows(model, processor, paths, plan, on_error="raise"))


@pytest.mark.parametrize("change", ["shorter", "gone"])
@pytest.mark.parametrize(("kind", "num_workers"), [("ced", 0), ("ced", 2), ("clap", 2)])
def test_a_long_recording_that_changes_while_it_is_encoded_is_a_failure(
    tmp_path, monkeypatch, kind, num_workers, change
):
    model, processor = make(kind)
    rate, plan = processor.feature_extractor.sampling_rate, plan_windows(model, processor)
    clips = clips_of(plan, rate, (0.8, 8.5, 2.5, 1.2))
    paths = [tmp_path / f"{number}.wav" for number in range(len(clips))]
    for path, clip in zip(paths, clips, strict=True):
        soundfile.write(path, clip, rate, subtype="FLOAT")
    expected = encode(model, processor, clips, plan)

    def read_and_change(extractor, sound, *arguments):
        read = read_or_scan(extractor, sound, *arguments)
        if sound == paths[1]:
            path = paths[1]
            path.unlink() if change == "gone" else soundfile.write(path, clips[1][: 4 * rate], rate, subtype="FLOAT")
        return read

    monkeypatch.setattr("modeling_atri.long_sounds_atri.LONG_SECONDS", 4 * plan.window_s)
    monkeypatch.setattr("modeling_atri.search.windows.reading.read_or_scan", read_and_change)
    options = {"batch_size": 2, "num_workers": num_workers}
    results = list(encode_windows(model, processor, paths, plan, **options))
    assert [type(result) for result in results] == [EncodedSound, AudioFailure, EncodedSound, EncodedSound]
    assert (results[1].index, results[1].name) == (1, str(paths[1]))
    assert ("became shorter" if change == "shorter" else "no audio file") in results[1].reason
    for place in (0, 2, 3):
        np.testing.assert_allclose(results[place].vectors, expected[place].vectors, atol=1e-5, rtol=0)
        np.testing.assert_allclose(results[place].whole, expected[place].whole, atol=1e-5, rtol=0)
    soundfile.write(paths[1], clips[1], rate, subtype="FLOAT")
    with pytest.raises(ValueError, match=r"1\.wav"):
        list(encode_windows(model, processor, paths, plan, on_error="raise", **options))


def test_a_short_sound_is_padded_and_keeps_its_length():
    model, processor = make("ced")
    plan = plan_windows(model, processor)
    [result] = encode(model, processor, [sound(1000)], plan, pad_short=True)
    assert result.duration_s == 1000 / RATE and result.spans == [(0.0, 1000 / RATE)]
    whole = encode_audio(model, processor, [sound(1000)], sampling_rate=RATE, pad_short=True)[0]
    np.testing.assert_allclose(result.whole, whole, atol=1e-6)


def test_the_caller_is_not_in_inference_mode_between_results():
    model, processor = make("ced")
    model.train()
    for _ in encode_windows(model, processor, [sound(9000)] * 3, plan_windows(model, processor), sampling_rate=RATE):
        assert not torch.is_inference_mode_enabled()
        assert model.training
