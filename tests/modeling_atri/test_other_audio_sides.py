"""Doors of models with another audio side than CED: pipelines, sentence-transformers, compilation and MTEB."""

import numpy as np
import pytest
import soundfile
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


@pytest.mark.parametrize("side", ["clap", "none"])
def test_sentence_transformers(side, clap, tmp_path):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    model, processor = clap if side == "clap" else (embedded_model(), embedded_processor())
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    sentences = sentence_transformers.SentenceTransformer(str(tmp_path), device="cpu")
    np.testing.assert_allclose(sentences.encode(TEXTS), encode_text(model, processor, TEXTS), atol=1e-5)
    if side == "clap":
        clip = {"array": sound(150_000), "sampling_rate": 48_000}
        np.testing.assert_allclose(sentences.encode([clip]), encode_audio(model, processor, [clip]), atol=1e-5)
