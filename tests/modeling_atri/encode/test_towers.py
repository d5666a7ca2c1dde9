"""Encoding with any audio tower: as with the model itself, in pieces, from files, and from stored embeddings."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch

from modeling_atri import encode_audio, encode_folder, load_embeddings
from modeling_atri.encode.batches import frames_per_unit
from tests.helpers.towerless import SOURCE, embedded_model, embedded_processor
from tests.helpers.towers import TOWERS, sound, tower_model, tower_processor


KINDS = ["clap", "whisper", "wav2vec2"]


@pytest.fixture(scope="module", params=KINDS)
def kind(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def model(kind):
    return tower_model(TOWERS[kind])


@pytest.fixture(scope="module")
def processor(kind):
    return tower_processor(TOWERS[kind])


def clips_of(kind: str, processor, windows: list[float]) -> list[np.ndarray]:
    rate = processor.feature_extractor.sampling_rate
    lengths = [round(number * TOWERS[kind].window_seconds * rate) for number in windows]
    return [sound(length, seed) for seed, length in enumerate(lengths)]


@torch.no_grad()
def one_by_one(model, processor, clips: list[np.ndarray]) -> np.ndarray:
    rate = processor.feature_extractor.sampling_rate
    inputs = [processor(audio=clip, sampling_rate=rate) for clip in clips]
    return np.concatenate([model.get_audio_features(**item).pooler_output.numpy() for item in inputs])


@pytest.mark.parametrize("batch_size", [1, 3])
def test_long_and_short_clips_equal_the_model_itself(kind, model, processor, batch_size, monkeypatch):
    clips = clips_of(kind, processor, [0.3, 4.35, 1.0, 2.6, 5.02])
    most = []
    forward = model.audio_model.forward
    monkeypatch.setattr(
        model.audio_model,
        "forward",
        lambda x, *rest, **options: most.append(x.shape[:2]) or forward(x, *rest, **options),
    )
    rate = processor.feature_extractor.sampling_rate
    embeddings = encode_audio(model, processor, clips, sampling_rate=rate, batch_size=batch_size, num_workers=0)
    unit = frames_per_unit(processor.feature_extractor)
    assert max(rows * -(-frames // unit) for rows, frames in most) <= max(2, batch_size)  # what memory holds
    np.testing.assert_allclose(embeddings, one_by_one(model, processor, clips), atol=1e-5, rtol=0)


def test_a_folder_is_read_at_the_rate_of_the_tower(kind, model, processor, tmp_path):
    clips = clips_of(kind, processor, [0.4, 1.2])
    rate = processor.feature_extractor.sampling_rate
    (tmp_path / "sounds").mkdir()
    for index, clip in enumerate(clips):
        soundfile.write(tmp_path / "sounds" / f"{index}.wav", clip, rate, subtype="FLOAT")
    summary = encode_folder(model, processor, tmp_path / "sounds", tmp_path / "out", num_workers=0)
    assert summary.num_encoded == 2
    assert summary.hours == pytest.approx(sum(map(len, clips)) / rate / 3600)
    ids, embeddings = load_embeddings(tmp_path / "out")
    assert ids == ["0.wav", "1.wav"]
    np.testing.assert_allclose(embeddings, one_by_one(model, processor, clips), atol=1e-5, rtol=0)


def test_a_short_clip_is_refused_or_padded(model, processor):
    rate = processor.feature_extractor.sampling_rate
    clip = sound(rate // 10)
    with pytest.raises(ValueError, match=rf"too short .* at {rate} Hz.*0\.15 s"):
        encode_audio(model, processor, [clip], sampling_rate=rate)
    padded = np.concatenate([clip, np.zeros(round(0.15 * rate) - len(clip), dtype=np.float32)])
    given, expected = (
        encode_audio(model, processor, [one], sampling_rate=rate, pad_short=True) for one in (clip, padded)
    )
    np.testing.assert_array_equal(given, expected)


@pytest.mark.parametrize("has_audio_head", [False, True])
def test_stored_embeddings_are_encoded_as_they_are(has_audio_head):
    model, processor = embedded_model(has_audio_head), embedded_processor()
    vectors = np.random.randn(40, 12).astype(np.float32)
    embeddings = encode_audio(model, processor, vectors, batch_size=3)
    expected = torch.from_numpy(vectors)
    with torch.no_grad():
        expected = model.audio_projection(expected)
    np.testing.assert_allclose(embeddings, torch.nn.functional.normalize(expected, dim=-1).numpy(), atol=1e-6)


@pytest.mark.parametrize("clip", ["dog.wav", {"array": np.zeros(9000), "sampling_rate": 16000}, np.zeros(9000)])
def test_a_model_without_an_audio_tower_says_what_it_takes(clip):
    with pytest.raises(ValueError, match=f"no audio tower. Pass the embedding that {SOURCE} makes .* 12 numbers"):
        encode_audio(embedded_model(), embedded_processor(), [clip])


def test_it_encodes_no_folder(tmp_path):
    with pytest.raises(ValueError, match=f"no audio tower.*{SOURCE}"):
        encode_folder(embedded_model(), embedded_processor(), tmp_path, tmp_path / "out")


def test_a_processor_with_other_windows_is_refused():
    model, tower = tower_model(TOWERS["wav2vec2"]), TOWERS["wav2vec2"]
    other = tower_processor(replace(tower, window_seconds=1.0))
    with pytest.raises(ValueError, match="windows of 16000 rows, but the windows of the model have 8000"):
        encode_audio(model, other, [sound(20_000)], sampling_rate=16_000)
