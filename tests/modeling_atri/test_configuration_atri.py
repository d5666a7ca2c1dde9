import json
import math

import pytest
import torch
from transformers import AutoConfig, BertConfig, M2M100Config

from modeling_atri import AtriAudioConfig, AtriAudioModel, AtriConfig, AtriModel


def test_defaults_are_the_papers():
    config = AtriConfig()
    audio, text = config.audio_config, config.text_config
    assert (audio.hidden_size, audio.num_hidden_layers, audio.num_attention_heads) == (768, 12, 12)
    assert (audio.num_mel_bins, audio.max_frames, audio.patch_size, audio.patch_grid) == (64, 1012, [16, 16], (4, 63))
    assert (audio.intermediate_size, audio.hidden_act, audio.layer_norm_eps) == (3072, "gelu", 1e-6)
    assert text.model_type == "m2m_100"
    assert (text.vocab_size, text.d_model, text.encoder_layers, text.encoder_attention_heads) == (256206, 1024, 24, 16)
    assert (text.encoder_ffn_dim, text.activation_function, text.scale_embedding) == (8192, "relu", True)
    assert (text.bos_token_id, text.pad_token_id, text.eos_token_id, text.encoder_layerdrop) == (0, 1, 2, 0.0)
    assert config.projection_dim == 1024
    assert 1 / math.exp(config.logit_scale_init_value) == pytest.approx(0.07)


def test_parameters_of_the_full_model():
    with torch.device("meta"):
        model = AtriModel(AtriConfig())
    count = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    assert count["text_model"] == 766_091_264
    assert round(count["audio_model"] / 1e6, 2) == 85.30
    assert count["audio_projection"] == (768 + 1) * 1024 + (1024 + 1) * 1024
    assert count["text_projection"] == 2 * (1024 + 1) * 1024
    assert model.logit_scale.shape == (1,)


@pytest.mark.parametrize("width, heads, millions", [(192, 3, 5.50), (256, 4, 9.70), (384, 6, 21.62), (768, 12, 85.71)])
def test_parameters_of_the_published_ceds(width, heads, millions):
    config = AtriAudioConfig(hidden_size=width, num_attention_heads=heads, intermediate_size=4 * width)
    with torch.device("meta"):
        model = AtriAudioModel(config)
    # The published counts hold a classifier of 527 classes and its norm.
    classifier = 2 * width + (width + 1) * 527
    assert round((sum(p.numel() for p in model.parameters()) + classifier) / 1e6, 2) == millions


def test_partial_dicts_keep_the_other_defaults():
    config = AtriConfig(audio_config={"num_hidden_layers": 3}, text_config={"encoder_layers": 2}, projection_dim=8)
    assert (config.audio_config.num_hidden_layers, config.audio_config.hidden_size) == (3, 768)
    assert (config.text_config.encoder_layers, config.text_config.vocab_size) == (2, 256206)
    assert config.projection_dim == 8
    other = AtriConfig(text_config={"model_type": "xlm-roberta", "num_hidden_layers": 6}).text_config
    assert (other.model_type, other.num_hidden_layers, other.hidden_size) == ("xlm-roberta", 6, 768)


@pytest.mark.parametrize(
    "text_config",
    [
        None,
        {"encoder_layers": 2, "d_model": 32},
        M2M100Config(),  # other sizes than SONAR's, all of them that class's defaults
        M2M100Config(encoder_layers=2, encoder_layerdrop=0.05),
        BertConfig(),
        {"model_type": "t5", "d_model": 64},
    ],
    ids=["SONAR", "partial", "M2M100", "M2M100 of 2 layers", "BERT", "T5"],
)
def test_save_and_load(text_config, tmp_path):
    config = AtriConfig(audio_config={"patch_size": (16, 8), "patch_dropout": 0.25}, text_config=text_config)
    config.save_pretrained(tmp_path)
    for loaded in (AtriConfig.from_pretrained(tmp_path), AutoConfig.from_pretrained(tmp_path)):
        assert type(loaded) is AtriConfig
        assert type(loaded.text_config) is type(config.text_config)
        assert type(loaded.audio_config) is AtriAudioConfig
        for part in ("audio_config", "text_config"):
            assert getattr(loaded, part).to_dict() == getattr(config, part).to_dict()
        assert loaded.logit_scale_init_value == config.logit_scale_init_value
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["model_type"] == "atri"
    assert AtriAudioConfig.from_pretrained(tmp_path).to_dict() == config.audio_config.to_dict()


def test_text_configuration_object_is_taken_as_it_is():
    assert AtriConfig(text_config=M2M100Config()).text_config.encoder_layers == 12


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"patch_size": [16]}, "two positive numbers"),
        ({"patch_size": [16, 0]}, "two positive numbers"),
        ({"num_mel_bins": 40}, r"`num_mel_bins` \(40\) must be a multiple of the patch height"),
        ({"max_frames": 15}, r"`max_frames` \(15\) must hold at least one patch of 16 frames"),
        ({"hidden_size": 100}, r"`hidden_size` \(100\) must be a multiple of `num_attention_heads` \(12\)"),
        ({"num_attention_heads": 0}, "must be a multiple of `num_attention_heads`"),
        ({"patch_dropout": 1.0}, r"`patch_dropout` must be in \[0, 1\), got 1.0"),
        ({"patch_dropout": -0.1}, r"`patch_dropout` must be in \[0, 1\)"),
        ({"drop_path_rate": 1.0}, r"`drop_path_rate` must be in \[0, 1\)"),
    ],
)
def test_audio_sizes_that_do_not_fit(arguments, message):
    with pytest.raises(ValueError, match=message):
        AtriAudioConfig(**arguments)


def test_projection_that_does_not_fit():
    with pytest.raises(ValueError, match="`projection_dim` must be at least 1, got 0"):
        AtriConfig(projection_dim=0)
