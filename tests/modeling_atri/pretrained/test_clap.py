"""Models with the audio side of CLAP: their audio embeddings are CLAP's."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file
from transformers import ClapAudioModel, ClapAudioModelWithProjection, ClapModel

from modeling_atri import AtriModel, AtriProcessor, encode_audio
from modeling_atri.pretrained import from_clap_pretrained, load_audio_tower, load_text_tower, make_processor
from tests.helpers.tiny import tiny_model, tiny_tokenizer
from tests.helpers.towers import TOWERS, randomise, sound, whole_clap


RATE = 48_000
SCALES = {"logit_scale_a": 3.25, "logit_scale_t": 2.5}


def published(folder: Path, kind: str = "clap") -> ClapModel:
    """Save a CLAP as it is published, with a temperature for each direction."""
    torch.manual_seed(0)
    clap = randomise(whole_clap(TOWERS[kind].config()))
    with torch.no_grad():
        for name, value in SCALES.items():
            getattr(clap, name).fill_(value)
    clap.save_pretrained(folder)
    TOWERS[kind].extractor().save_pretrained(folder)
    return clap


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    tiny_model().text_model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["clap", "fused clap"])
def test_audio_embeddings_are_those_of_clap(tmp_path, text, kind, caplog):
    clap = published(tmp_path / "clap", kind)
    model, processor = from_clap_pretrained(tmp_path / "clap", text), make_processor(text, audio=tmp_path / "clap")
    assert ("made with the fusion differ from them" in caplog.text) == (kind == "fused clap")
    assert not model.training
    assert model.config.projection_dim == clap.config.projection_dim == 12
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    model, processor = (cls.from_pretrained(tmp_path / "model") for cls in (AtriModel, AtriProcessor))

    waves = [sound(RATE), sound(2 * RATE, 1), sound(RATE // 2 + 7, 2)]
    files = []
    for number, wave in enumerate(waves):
        files.append(str(tmp_path / f"{number}.wav"))
        soundfile.write(files[-1], wave, RATE, subtype="FLOAT")
    expected = []
    for wave in waves:
        inputs = TOWERS[kind].extractor()(wave, sampling_rate=RATE, return_tensors="pt")
        with torch.no_grad():
            features = clap.get_audio_features(inputs["input_features"], is_longer=torch.zeros(1, 1, dtype=torch.bool))
        expected.append(torch.nn.functional.normalize(features.pooler_output, dim=-1)[0].numpy())
    np.testing.assert_allclose(encode_audio(model, processor, files), np.stack(expected), atol=1e-5, rtol=0)


def test_the_temperature_is_that_of_the_logits_per_audio(tmp_path, text):
    clap = published(tmp_path)
    model = from_clap_pretrained(tmp_path, text)
    assert model.logit_scale.item() == pytest.approx(SCALES["logit_scale_a"])
    assert model.config.logit_scale_init_value == pytest.approx(SCALES["logit_scale_a"])
    features = torch.randn(2, 1, 201, 16)
    with torch.no_grad():
        theirs = clap(input_ids=torch.tensor([[0, 5, 6, 2]]), input_features=features)
        ours = model(audio_embeds=theirs.audio_embeds, text_pooler_output=torch.randn(1, 16))
    scaled = clap.logit_scale_a.exp() * theirs.audio_embeds @ theirs.text_embeds.T
    torch.testing.assert_close(theirs.logits_per_audio, scaled)
    expected = scaled.new_tensor(3.25).exp() * ours.audio_embeds @ ours.text_embeds.T
    torch.testing.assert_close(ours.logits_per_audio, expected)


def test_weights_are_kept_and_the_head_of_the_text_is_new(tmp_path, text, caplog):
    clap = published(tmp_path)
    ours, theirs = from_clap_pretrained(tmp_path, load_text_tower(text)).state_dict(), clap.state_dict()
    for number in (1, 2):
        for part in ("weight", "bias"):
            kept = ours[f"audio_projection.fc{number}.{part}"]
            assert torch.equal(kept, theirs[f"audio_projection.linear{number}.{part}"])
    for key, value in clap.audio_model.state_dict().items():
        assert torch.equal(ours[f"audio_model.encoder.{key}"], value)
    assert "projection head of the text (text_projection) is newly initialized" in caplog.text


def test_a_checkpoint_of_the_audio_side_alone(tmp_path, text):
    clap = published(tmp_path / "whole")
    side = ClapAudioModelWithProjection(clap.config.audio_config)
    side.audio_model, side.audio_projection = clap.audio_model, clap.audio_projection
    side.save_pretrained(tmp_path / "side")
    model = from_clap_pretrained(tmp_path / "side", text)
    assert torch.equal(model.audio_projection.fc2.bias, clap.audio_projection.linear2.bias)
    assert 1 / model.logit_scale.exp().item() == pytest.approx(0.07)


def test_what_has_no_audio_side_of_clap_is_refused(tmp_path, text):
    ClapAudioModel(TOWERS["clap"].config()).save_pretrained(tmp_path / "encoder")
    with pytest.raises(ValueError, match="without the projection to its embedding space, so its audio embeddings can"):
        from_clap_pretrained(tmp_path / "encoder", text)
    TOWERS["pe-audio"].config().save_pretrained(tmp_path / "pe")
    with pytest.raises(ValueError, match="is of type 'pe_audio_encoder', not 'clap', so .*atri convert --audio"):
        from_clap_pretrained(tmp_path / "pe", text)
    clap = published(tmp_path / "gelu")
    clap.config.projection_hidden_act = "gelu"
    clap.config.save_pretrained(tmp_path / "gelu")
    with pytest.raises(ValueError, match="has the activation 'gelu', but the head of an AtriModel has ReLU"):
        from_clap_pretrained(tmp_path / "gelu", text)
    assert load_audio_tower(tmp_path / "gelu").config.model_type == "clap_audio_model"


def test_weights_that_are_missing_are_named(tmp_path, text):
    published(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["audio_projection.linear1.bias"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="missing audio_projection.linear1.bias"):
        from_clap_pretrained(tmp_path, text)
