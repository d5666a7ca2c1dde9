"""Audio encoders of transformers as towers: they give what their own classes give, for clips of any length."""

import copy
import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoModel, AutoProcessor, ClapConfig, PeAudioConfig

from modeling_atri import (
    AtriAudioConfig,
    AtriAudioModel,
    AtriAudioTower,
    AtriConfig,
    AtriModel,
    AtriProcessor,
)
from tests.helpers.tiny import tiny_config, tiny_model
from tests.helpers.towers import TOWERS, Tower, randomise, sound, tower_model, tower_processor


TOLERANCE = 1e-5
LENGTHS = {"short": 0.3, "one window": 1.0, "long": 2.13}  # in windows


def kinds(*default: str) -> list[Any]:
    """All towers; those that are not run by default are marked slow."""
    return [pytest.param(kind, marks=() if kind in default else pytest.mark.slow) for kind in TOWERS]


DIFFERENT = ("clap", "whisper", "wavlm", "pe-audio")  # in the ways of windows, attention and convolution


@pytest.fixture(
    scope="module",
    params=kinds(*DIFFERENT, "fused clap", "ast", "wav2vec2", "wav2vec2 layer norm", "hubert"),
)
def kind(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def tower(kind) -> Tower:
    return TOWERS[kind]


@pytest.fixture(scope="module")
def model(tower) -> AtriModel:
    return tower_model(tower)


@pytest.fixture(scope="module")
def processor(tower) -> AtriProcessor:
    return tower_processor(tower)


@pytest.fixture(scope="module")
def original(tower, model) -> nn.Module:
    """The original class with the weights of the tower."""
    original = randomise(tower.model(tower.config()))
    part = original
    for name in ("audio_model", "encoder"):  # of CLAP, and of Whisper
        if type(original).__name__ in ("ClapModel", "WhisperModel") and hasattr(original, name):
            part = getattr(original, name)
    part.load_state_dict(model.audio_model.encoder.state_dict())
    return original


@torch.no_grad()
def of_window(original: nn.Module, extractor, samples: np.ndarray) -> torch.Tensor:
    """What the original class makes of one window, pooled as it does itself or over time."""
    inputs = extractor(samples, sampling_rate=extractor.sampling_rate, return_tensors="pt")
    name = type(original).__name__
    if name == "ClapModel":
        inputs["is_longer"] = torch.zeros(1, 1, dtype=torch.bool)
        return original.audio_model(**inputs).pooler_output[0]
    if name == "WhisperModel":
        return original.encoder(**inputs).last_hidden_state[0].mean(dim=0)
    outputs = original(**inputs)
    if "pooler_output" in outputs:
        return outputs.pooler_output[0]
    states = outputs.last_hidden_state[0]
    return (
        states[inputs["attention_mask"][0].bool()].mean(dim=0) if name == "Wav2Vec2BertModel" else states.mean(dim=0)
    )


def slow_reference(tower: Tower, original: nn.Module, clip: np.ndarray) -> torch.Tensor:
    """Each window through the original class and extractor, weighted by the rows that it covers."""
    extractor = tower.extractor()
    size = round(tower.window_seconds * extractor.sampling_rate)
    windows = [clip[start : start + size] for start in range(0, len(clip), size)]
    rows = {
        "ClapFeatureExtractor": lambda n: -(-n // 480),
        "WhisperFeatureExtractor": lambda n: -(-n // 160),
        "ASTFeatureExtractor": lambda n: 1 + (n - 400) // 160,
        "SeamlessM4TFeatureExtractor": lambda n: (1 + (n - 400) // 160) // 2,
    }.get(type(extractor).__name__, lambda n: n)
    pooled = torch.stack([of_window(original, extractor, window) for window in windows])
    weights = torch.tensor([float(rows(len(window))) for window in windows])
    return (weights[:, None] * pooled).sum(dim=0) / weights.sum()


def clip_of(tower: Tower, windows: float, seed: int = 0) -> np.ndarray:
    return sound(round(windows * tower.window_seconds * tower.extractor().sampling_rate), seed)


@torch.no_grad()
def pooled_of(model: AtriModel, processor: AtriProcessor, clips: list[np.ndarray]) -> torch.Tensor:
    rate = processor.feature_extractor.sampling_rate
    return model.audio_model(**processor(audio=clips, sampling_rate=rate)).pooler_output


@pytest.mark.parametrize("length", LENGTHS)
def test_each_window_is_what_the_original_class_gives(tower, model, processor, original, length):
    clip = clip_of(tower, LENGTHS[length])
    expected = slow_reference(tower, original, clip)
    torch.testing.assert_close(pooled_of(model, processor, [clip])[0], expected, atol=TOLERANCE, rtol=TOLERANCE)


def test_a_clip_has_one_embedding_alone_and_in_every_batch(tower, model, processor):
    clips = [clip_of(tower, windows, seed) for seed, windows in enumerate((0.3, 2.13, 1.0))]
    alone = torch.cat([pooled_of(model, processor, [clip]) for clip in clips])
    assert torch.pdist(alone).min() > 100 * TOLERANCE  # they are told apart
    for order in ([0, 1, 2], [2, 0, 0]):
        in_batch = pooled_of(model, processor, [clips[index] for index in order])
        torch.testing.assert_close(in_batch, alone[order], atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.parametrize("kind", kinds(*DIFFERENT), indirect=True)
@torch.no_grad()
def test_a_saved_model_and_a_saved_tower_are_the_same(tower, model, processor, tmp_path):
    clips = [clip_of(tower, 1.6)]
    expected = pooled_of(model, processor, clips)
    for part in (model, processor):
        part.save_pretrained(tmp_path / "model")
    loaded = AutoModel.from_pretrained(tmp_path / "model")
    assert torch.equal(pooled_of(loaded, AutoProcessor.from_pretrained(tmp_path / "model"), clips), expected)
    assert loaded.state_dict().keys() == model.state_dict().keys()
    model.audio_model.save_pretrained(tmp_path / "tower")
    alone = AtriAudioTower.from_pretrained(tmp_path / "tower")
    inputs = processor(audio=clips, sampling_rate=processor.feature_extractor.sampling_rate)
    assert torch.equal(alone(**inputs).pooler_output, expected)
    own = type(model.audio_model.encoder).from_pretrained(tmp_path / "tower")  # the original class opens it too
    assert own.state_dict().keys() == model.audio_model.encoder.state_dict().keys()


@pytest.mark.parametrize("kind", kinds(*DIFFERENT), indirect=True)
def test_gradients_with_and_without_checkpointing(tower, model, processor):
    """In training, with dropout: both draw the same. Nothing outside torch's generator is drawn."""
    model = copy.deepcopy(model).train()
    rate = processor.feature_extractor.sampling_rate
    inputs = processor(audio=[clip_of(tower, 0.35), clip_of(tower, 1.6)], sampling_rate=rate)
    statistics = {name: value.clone() for name, value in model.audio_model.named_buffers()}
    gradients = []
    for is_on in (False, True):
        if is_on:
            model.activation_checkpointing_enable()
        model.zero_grad()
        torch.manual_seed(1)
        model.audio_model(**inputs).pooler_output.square().sum().backward()
        gradients.append({name: value.grad for name, value in model.audio_model.named_parameters()})
    assert any(value is not None and value.any() for value in gradients[0].values())
    for name, value in gradients[0].items():
        assert (value is None) == (gradients[1][name] is None), name
        if value is not None:
            torch.testing.assert_close(value, gradients[1][name], atol=1e-6, rtol=1e-5)
    for name, value in model.audio_model.named_buffers():
        assert torch.equal(value, statistics[name]), name  # of batch normalisation, which does not follow the batch


@pytest.mark.parametrize("kind", kinds(*DIFFERENT), indirect=True)
def test_hidden_states_and_other_forms_of_output(tower, model, processor):
    rate = processor.feature_extractor.sampling_rate
    inputs = processor(audio=[clip_of(tower, 0.4), clip_of(tower, 1.6)], sampling_rate=rate)
    with torch.no_grad():
        outputs = model.audio_model(**inputs, output_hidden_states=True)
        plain = model.audio_model(**inputs, return_dict=False)
    assert torch.equal(plain[1], outputs.pooler_output)
    assert len(outputs.hidden_states) >= 3
    assert all(len(layer) == 3 for layer in outputs.hidden_states)  # windows: one of the first clip, two of the second
    assert outputs.last_hidden_state.shape[0] == 2
    assert not outputs.last_hidden_state[0, outputs.last_hidden_state.shape[1] // 2 :].any()  # has no second window


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("kind", ["clap", "ast", "whisper"], indirect=True)
def test_half_precision(tower, model, processor, dtype):
    clips = [clip_of(tower, 1.6)]
    half = pooled_of(copy.deepcopy(model).to(dtype), processor, clips)
    assert half.dtype == dtype
    assert torch.cosine_similarity(half.float(), pooled_of(model, processor, clips)).item() > 0.999


@pytest.mark.parametrize("kind", ["clap", "wavlm"], indirect=True)
def test_an_encoder_without_sdpa_says_so(model):
    assert model.audio_model.encoder.config._attn_implementation == "eager"
    with pytest.raises(ValueError, match="does not support an attention implementation through torch"):
        copy.deepcopy(model).set_attn_implementation("sdpa")


@pytest.mark.parametrize("kind", ["whisper"], indirect=True)
def test_kinds_of_attention_agree(tower, model, processor):
    eager = copy.deepcopy(model)
    eager.set_attn_implementation("eager")
    assert model.audio_model.encoder.config._attn_implementation == "sdpa"
    assert eager.audio_model.encoder.config._attn_implementation == "eager"
    clips = [clip_of(tower, 1.6)]
    torch.testing.assert_close(
        pooled_of(eager, processor, clips), pooled_of(model, processor, clips), atol=TOLERANCE, rtol=TOLERANCE
    )


# One clip, one embedding, in training


@pytest.mark.parametrize("kind", ["clap"], indirect=True)
def test_a_frozen_tower_stays_in_evaluation_mode(tower, model, processor):
    model = copy.deepcopy(model)
    model.audio_model.requires_grad_(False)
    model.train()
    assert model.training
    assert not any(module.training for module in model.audio_model.modules())
    clips = [clip_of(tower, 0.6)]
    assert torch.equal(pooled_of(model, processor, clips), pooled_of(model, processor, clips))
    model.audio_model.requires_grad_(True)
    model.train()
    trained = {type(module).__name__ for module in model.audio_model.encoder.modules() if module.training}
    assert "ClapAudioLayer" in trained
    assert "BatchNorm2d" not in trained


@pytest.mark.parametrize("kind", ["wav2vec2", "wav2vec2-bert"], indirect=True)
def test_the_masking_of_wav2vec2_is_off_and_short_clips_train(tower, model, processor):
    model = copy.deepcopy(model).train()
    assert model.config.audio_config.apply_spec_augment is False
    rate = processor.feature_extractor.sampling_rate
    inputs = processor(audio=[sound(round(0.15 * rate))], sampling_rate=rate)
    state = np.random.get_state()[1].copy()
    model.audio_model(**inputs).pooler_output.sum().backward()
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_clap_gives_its_own_embeddings():
    """Tower and head: `ClapModel.get_audio_features`, L2-normalised."""
    tower = TOWERS["clap"]
    model = tower_model(tower)
    clap = randomise(tower.model(tower.config()))
    clap.audio_model.load_state_dict(model.audio_model.encoder.state_dict())
    head = clap.audio_projection
    head.linear1.load_state_dict(model.audio_projection.fc1.state_dict())
    head.linear2.load_state_dict(model.audio_projection.fc2.state_dict())
    for windows in (0.2, 1.0):
        clip = clip_of(tower, windows)
        inputs = tower.extractor()(clip, sampling_rate=48_000, return_tensors="pt")
        ours = tower_processor(tower)(audio=[clip], sampling_rate=48_000)
        with torch.no_grad():
            expected = clap.get_audio_features(**inputs).pooler_output
            found = model.get_audio_features(**ours).pooler_output
        torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=TOLERANCE)


# Configurations


@pytest.mark.parametrize("whole", ["clap", "pe_audio"])
def test_the_audio_part_of_a_whole_model_is_taken(whole):
    part = TOWERS["clap"].config() if whole == "clap" else TOWERS["pe-audio"].config()
    config_class = {"clap": ClapConfig, "pe_audio": PeAudioConfig}[whole]
    config = AtriConfig(audio_config=config_class(audio_config=part.to_dict()))
    assert config.audio_config.model_type == part.model_type
    saved = config_class(audio_config=part.to_dict()).to_dict()
    assert AtriConfig(audio_config=saved).audio_config.model_type == part.model_type


@pytest.mark.parametrize(
    "settings, reason",
    [
        ({"model_type": "bert"}, "of type 'bert', which reads input_ids, not sound"),
        ({"model_type": "vit"}, "of type 'vit', which reads pixel_values, not sound"),
        ({"model_type": "speech_to_text"}, "an encoder and a decoder"),
        ({"model_type": "encodec"}, "is not a supported audio encoder"),
        ({"model_type": "audioflamingo3_encoder"}, "is not a supported audio encoder"),
        ({"model_type": "no_such_type"}, "which transformers does not have"),
    ],
    ids=lambda value: value if isinstance(value, str) else value["model_type"],
)
def test_what_is_no_audio_encoder_is_refused(settings, reason):
    text_config = tiny_config().text_config.to_dict()
    with pytest.raises(ValueError, match=reason) as refusal, torch.device("meta"):
        AtriModel(AtriConfig(audio_config=settings, text_config=text_config))
    assert "clap_audio_model" in str(refusal.value) or settings["model_type"] == "no_such_type"


@pytest.mark.parametrize("kind", ["clap"], indirect=True)
@pytest.mark.parametrize(
    "shape, mask, reason",
    [
        ((2, 201), None, r"must have shape \(batch_size, num_frames, width\)"),
        ((1, 200, 16), None, "have 200 rows, but all windows of ClapAudioModel have 201 rows"),
        ((1, 201, 16), torch.ones(1, 200), "must have the shape"),
        ((1, 201, 16), torch.zeros(1, 201), "every clip needs at least one row"),
        ((1, 402, 16), torch.cat([torch.zeros(1, 201), torch.ones(1, 201)], dim=1), "no window left out"),
        ((1, 201, 16), torch.arange(201)[None] >= 5, "must be 1 on the first rows"),
    ],
    ids=["axes", "rows", "shape of the mask", "empty", "window left out", "left padding"],
)
def test_inputs_that_do_not_fit(model, shape, mask, reason):
    with pytest.raises(ValueError, match=reason):
        model.audio_model(torch.zeros(shape), mask if mask is None else mask.long())


@pytest.mark.parametrize("kind", ["wav2vec2"], indirect=True)
def test_windows_of_any_length_are_not_exported(model):
    with pytest.raises(ValueError, match="Wav2Vec2Model cannot be exported as an audio tower"):
        torch.export.export(model.audio_model, (torch.zeros(1, 4000, 1),), strict=False)


@pytest.mark.parametrize("kind", ["whisper"], indirect=True)
def test_a_checkpoint_of_a_larger_model_is_not_taken_for_the_encoder(original, tmp_path):
    original.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="lacks 37 weights of WhisperEncoder, such as conv1.bias"):
        AtriAudioTower.from_pretrained(tmp_path, config=original.config)


# CED


def test_ced_keeps_its_names_and_its_saved_configuration():
    model = tiny_model()
    assert isinstance(model.audio_model, AtriAudioModel)
    names = list(model.audio_model.state_dict())
    assert names[:9] == [
        "mel_norm.weight",
        "mel_norm.bias",
        "mel_norm.running_mean",
        "mel_norm.running_var",
        "embeddings.frequency_positions",
        "embeddings.time_positions",
        "embeddings.patch_projection.weight",
        "embeddings.patch_projection.bias",
        "layers.0.attention_norm.weight",
    ]
    assert names[-2:] == ["layer_norm.weight", "layer_norm.bias"]
    assert len(names) == 10 + 16 * model.config.audio_config.num_hidden_layers
    saved = json.loads(AtriConfig().to_json_string())
    assert saved["audio_config"] == {"model_type": "atri_audio_model"} | {
        name: value for name, value in saved["audio_config"].items() if name in AtriAudioConfig().to_dict()
    }
    assert not {"window_frames", "input_layout", "auto_map"} & saved["audio_config"].keys()
