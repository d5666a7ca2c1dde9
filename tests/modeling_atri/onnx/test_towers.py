"""Graphs of audio towers of transformers, and of models without an audio tower."""

import numpy as np
import pytest

from modeling_atri import encode_audio, encode_text
from modeling_atri.onnx import OnnxAtriModel, export, export_onnx
from tests.helpers.towerless import SOURCE, embedded_model, embedded_processor
from tests.helpers.towers import TOWERS, sound, tower_model, tower_processor


pytestmark = pytest.mark.heavy


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ast", "clap", "whisper"])
def test_a_graph_gives_the_embeddings_of_the_model(kind, tmp_path):
    model, processor = tower_model(TOWERS[kind]), tower_processor(TOWERS[kind])
    export_onnx(model, processor, tmp_path / "out")
    rate = processor.feature_extractor.sampling_rate
    clips = [sound(round(windows * TOWERS[kind].window_seconds * rate)) for windows in (0.4, 12.2, 1.0)]
    ours, theirs = (
        encode_audio(one, processor, clips, rate, batch_size=2, num_workers=0)
        for one in (OnnxAtriModel.from_pretrained(tmp_path / "out"), model)
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_a_graph_in_int8_is_near_the_model_and_does_not_see_the_batch(tmp_path):
    model, processor = tower_model(TOWERS["clap"]), tower_processor(TOWERS["clap"])
    export_onnx(model, processor, tmp_path / "out", int8=True)
    onnx = OnnxAtriModel.from_pretrained(tmp_path / "out")
    clips = [sound(48_000 * seconds, seed=seconds) for seconds in (1, 7, 2)]
    theirs = encode_audio(model, processor, clips, 48_000, num_workers=0)
    together, alone = (encode_audio(onnx, processor, clips, 48_000, batch_size=n, num_workers=0) for n in (3, 1))
    assert (together * theirs).sum(axis=1).min() > 0.99
    np.testing.assert_allclose(together, alone, atol=1e-3, rtol=0)


def test_a_tower_of_any_length_is_refused_with_the_reason(tmp_path):
    with pytest.raises(ValueError, match="'wav2vec2' cannot be exported: it takes windows of any length"):
        export_onnx(tower_model(TOWERS["wav2vec2"]), tower_processor(TOWERS["wav2vec2"]), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_without_an_audio_tower_there_is_the_graph_of_captions(tmp_path):
    model, processor = embedded_model(), embedded_processor()
    export_onnx(model, processor, tmp_path / "out")
    onnx = OnnxAtriModel.from_pretrained(tmp_path / "out")
    texts = ["a dog barks", "rain falls"]
    np.testing.assert_allclose(encode_text(onnx, processor, texts), encode_text(model, processor, texts), atol=1e-5)


def test_without_an_audio_tower_no_graph_of_sounds_is_made_or_looked_for(tmp_path, monkeypatch):
    written = []

    def write(tower, path, batches, int8):
        written.append(path.name)
        path.touch()

    monkeypatch.setattr(export, "_write_graph", write)
    processor = embedded_processor()
    export_onnx(embedded_model(), processor, tmp_path / "out")
    assert written == ["text.onnx"]
    onnx = OnnxAtriModel.from_pretrained(tmp_path / "out")
    with pytest.raises(ValueError, match=f"no audio tower.*{SOURCE}"):
        onnx.get_audio_features(processor(audio=np.ones((1, 12)))["input_features"])
