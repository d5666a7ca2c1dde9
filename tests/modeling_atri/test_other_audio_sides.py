"""Doors of models with another audio side than CED: pipelines and compilation."""

import numpy as np
import pytest
import soundfile
import torch
from transformers import pipeline

from modeling_atri import encode_audio, encode_text
from modeling_atri.pipelines_atri import AtriZeroShotAudioClassificationPipeline
from tests.helpers.towerless import SOURCE, embedded_model, embedded_processor
from tests.helpers.towers import TOWERS, sound, tower_model, tower_processor


pytestmark = pytest.mark.heavy

TEXTS = ["a dog barks", "rain falls"]


@pytest.fixture(scope="module")
def clap():
    return tower_model(TOWERS["clap"]), tower_processor(TOWERS["clap"])


@pytest.fixture
def file(tmp_path):
    """Sound at another rate than the tower's."""
    soundfile.write(tmp_path / "a.wav", sound(110_250), 44_100)
    return str(tmp_path / "a.wav")


def test_pipelines_read_files_at_the_rate_of_the_tower(clap, file):
    model, processor = clap
    expected = encode_audio(model, processor, [file])[0]
    embed = pipeline("audio-text-feature-extraction", model=model, processor=processor)
    np.testing.assert_allclose(embed(file), expected, atol=1e-5)
    waveform = sound(150_000)
    expected = encode_audio(model, processor, [waveform], sampling_rate=48_000)[0]
    np.testing.assert_allclose(embed(waveform, sampling_rate=48_000), expected, atol=1e-5)
    search = pipeline("audio-text-retrieval", model=model, processor=processor)
    assert {match["text"] for match in search(file, texts=TEXTS)} == set(TEXTS)
    classify = AtriZeroShotAudioClassificationPipeline(model, processor, candidate_labels=["dog", "rain"])
    assert sum(label["score"] for label in classify(file)) == pytest.approx(1, abs=1e-5)


def test_pipelines_without_an_audio_tower_take_captions_and_embeddings():
    model, processor = embedded_model(), embedded_processor()
    embed = pipeline("audio-text-feature-extraction", model=model, processor=processor)
    np.testing.assert_allclose(np.stack(embed(TEXTS)), encode_text(model, processor, TEXTS), atol=1e-5)
    vector = np.random.default_rng(0).standard_normal(12).astype(np.float32)
    np.testing.assert_allclose(embed(vector), vector / np.linalg.norm(vector), atol=1e-6)
    with pytest.raises(ValueError, match=f"no audio tower.*{SOURCE}"):
        embed("dog.wav")


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("kind", ["clap", "whisper", "wav2vec2"])
def test_compiled_towers_give_equal_values(kind):
    """The windows of a batch depend on its mask, which breaks the graph."""
    model, processor = tower_model(TOWERS[kind]), tower_processor(TOWERS[kind])
    rate = processor.feature_extractor.sampling_rate
    compiled = torch.compile(model, backend="eager")
    for windows in ((0.4, 1.0), (3.3, 0.4)):
        clips = [sound(round(size * TOWERS[kind].window_seconds * rate)) for size in windows]
        inputs = processor(audio=clips, text=TEXTS, sampling_rate=rate)
        actual, expected = compiled(**inputs), model(**inputs)
        torch.testing.assert_close(actual.audio_embeds, expected.audio_embeds, atol=1e-5, rtol=0)
        torch.testing.assert_close(actual.logits_per_audio, expected.logits_per_audio, atol=1e-4, rtol=0)
