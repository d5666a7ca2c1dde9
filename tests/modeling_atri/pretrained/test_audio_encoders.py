"""Audio encoders of transformers from checkpoints as they are published: alone, with a task, or in a larger model."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    ASTForAudioClassification,
    ClapAudioModel,
    ClapAudioModelWithProjection,
    HubertForCTC,
    PeAudioConfig,
    PeAudioModel,
    PreTrainedModel,
    Wav2Vec2ForPreTraining,
    WavLMForSequenceClassification,
    WhisperForConditionalGeneration,
)
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from modeling_atri import AtriFeatureExtractor, AtriModel, AtriWindowFeatureExtractor
from modeling_atri.pretrained import load_audio_tower, load_text_tower, make_feature_extractor, make_processor
from tests.helpers.tiny import tiny_model, tiny_processor, tiny_tokenizer
from tests.helpers.towers import TOWERS, randomise, sound, tower_model, whole_clap
from tests.helpers.toy_encoder import write_repository


def pe_audio() -> PeAudioModel:
    text = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    text |= {"vocab_size": 9, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    text |= {"cls_token_id": 1, "sep_token_id": 2}
    return PeAudioModel(PeAudioConfig(text_config=text, audio_config=TOWERS["pe-audio"].config().to_dict()))


# Checkpoint -> the kind of its encoder, the model, and the encoder in it.
CHECKPOINTS: dict[str, tuple[str, Any, Any]] = {
    "whole clap": ("clap", lambda: whole_clap(TOWERS["clap"].config()), lambda model: model.audio_model),
    "fused clap": ("fused clap", lambda: whole_clap(TOWERS["fused clap"].config()), lambda model: model.audio_model),
    "clap with projection": (
        "clap",
        lambda: ClapAudioModelWithProjection(TOWERS["clap"].config()),
        lambda model: model.audio_model,
    ),
    "clap encoder": ("clap", lambda: ClapAudioModel(TOWERS["clap"].config()), lambda model: model),
    "ast": (
        "ast",
        lambda: ASTForAudioClassification(TOWERS["ast"].config()),
        lambda model: model.audio_spectrogram_transformer,
    ),
    "whisper": (
        "whisper",
        lambda: WhisperForConditionalGeneration(TOWERS["whisper"].config()),
        lambda model: model.model.encoder,
    ),
    "whisper encoder": ("whisper", lambda: WhisperEncoder(TOWERS["whisper"].config()), lambda model: model),
    "wav2vec2": (
        "wav2vec2",
        lambda: Wav2Vec2ForPreTraining(TOWERS["wav2vec2"].config()),
        lambda model: model.wav2vec2,
    ),
    "hubert": ("hubert", lambda: HubertForCTC(TOWERS["hubert"].config()), lambda model: model.hubert),
    "wavlm": ("wavlm", lambda: WavLMForSequenceClassification(TOWERS["wavlm"].config()), lambda model: model.wavlm),
    "pe-audio": ("pe-audio", pe_audio, lambda model: model.audio_encoder),
}


def saved(folder: Path, name: str, **options: Any) -> tuple[Path, PreTrainedModel]:
    """A folder as it is published, with its feature extractor, and the encoder that was saved."""
    kind, make, encoder = CHECKPOINTS[name]
    torch.manual_seed(0)
    model = randomise(make())
    model.save_pretrained(folder, **options)
    TOWERS[kind].extractor().save_pretrained(folder)
    return folder, encoder(model)


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    tiny_model().text_model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_the_encoder_of_a_checkpoint_becomes_the_tower(tmp_path, text, name):
    folder, encoder = saved(tmp_path / "published", name)
    model = AtriModel.from_audio_text_pretrained(folder, text, projection_dim=8)
    weights, expected = model.audio_model.encoder.state_dict(), encoder.state_dict()
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[key], value) for key, value in expected.items())
    assert model.config.audio_config.name_or_path == "published"
    processor = make_processor(text, audio=folder)
    assert isinstance(processor.feature_extractor, AtriWindowFeatureExtractor)
    rate = processor.feature_extractor.sampling_rate
    inputs = processor(audio=[sound(rate), sound(2 * rate + 100, 1)], text="a dog", sampling_rate=rate)
    with torch.no_grad():
        embeds = model(**inputs).audio_embeds
    assert embeds.shape == (2, 8) and torch.isfinite(embeds).all()

    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    again = AtriModel.from_audio_text_pretrained(tmp_path / "model", text, projection_dim=8)
    assert all(torch.equal(value, weights[key]) for key, value in again.audio_model.encoder.state_dict().items())
    extractor = make_feature_extractor(tmp_path / "model")
    assert extractor.to_dict() == processor.feature_extractor.to_dict()


@pytest.mark.parametrize("options", [{"max_shard_size": "4KB"}, {"weights": "pytorch_model.bin"}])
def test_shards_and_pickles_are_read(tmp_path, options):
    weights = options.pop("weights", None)
    folder, encoder = saved(tmp_path, "whole clap", **options)
    if weights:
        torch.save(load_file(folder / "model.safetensors"), folder / weights)
        (folder / "model.safetensors").unlink()
    else:
        assert len(list(folder.glob("*.safetensors"))) > 2
    state_dict = load_audio_tower(folder).state_dict
    assert all(torch.equal(state_dict[f"encoder.{key}"], value) for key, value in encoder.state_dict().items())


def edit(folder: Path, changes: dict[str, torch.Tensor | None]) -> None:
    state_dict = {key: value for key, value in load_file(folder / "model.safetensors").items() if key not in changes}
    state_dict |= {key: value for key, value in changes.items() if value is not None}
    save_file(state_dict, folder / "model.safetensors", metadata={"format": "pt"})


NORM = "audio_model.audio_encoder.norm.bias"


@pytest.mark.parametrize(
    "value, message", [(None, f"missing {NORM}"), (torch.ones(3), rf"{NORM} is \(3,\), not \(16")]
)
def test_weights_that_do_not_fit_are_named(tmp_path, value, message):
    folder, _ = saved(tmp_path, "whole clap")
    edit(folder, {NORM: value})
    with pytest.raises(ValueError, match=message):
        load_audio_tower(folder)


def test_indices_that_the_class_computes_may_be_missing(tmp_path):
    folder, encoder = saved(tmp_path, "whole clap")
    computed = {key: None for key in load_file(folder / "model.safetensors") if key.endswith("position_index")}
    assert computed
    edit(folder, dict(computed))
    state_dict = load_audio_tower(folder).state_dict
    assert all(torch.equal(state_dict[f"encoder.{key}"], value) for key, value in encoder.state_dict().items())


def test_weights_of_a_saved_model_that_do_not_fit_are_named(tmp_path):
    tower_model(TOWERS["ast"]).save_pretrained(tmp_path)
    key = "audio_model.encoder.layernorm.bias"
    edit(tmp_path, {key: None})
    with pytest.raises(ValueError, match=r"not those of the ASTModel .* \(1 keys\): missing layernorm.bias"):
        load_audio_tower(tmp_path)


def test_models_of_another_kind_are_refused(tmp_path, text):
    clap, _ = saved(tmp_path / "clap", "whole clap")
    encoder, _ = saved(tmp_path / "encoder", "clap encoder")
    with pytest.raises(ValueError, match="is of type 'clap', a model of sounds and texts. Name a text encoder"):
        load_text_tower(clap)
    with pytest.raises(ValueError, match="is of type 'clap_audio_model', of which transformers has no enc"):
        load_text_tower(encoder)
    with pytest.raises(ValueError, match="which reads input_values, not text"):
        load_text_tower(saved(tmp_path / "waves", "hubert")[0])
    with pytest.raises(ValueError, match="cannot be the audio tower: .*m2m_100"):
        load_audio_tower(text)
    with pytest.raises(ValueError, match="is in its config.json, so leave out 4"):
        load_audio_tower(clap, heads=4)


def test_a_model_without_settings_of_its_features(tmp_path, text):
    folder, _ = saved(tmp_path, "ast")
    (folder / "preprocessor_config.json").unlink()
    assert load_audio_tower(folder).config.max_length == 100
    with pytest.raises(ValueError, match="has no preprocessor_config.json, the settings of its feature extractor"):
        make_processor(text, audio=folder)


def test_ced_keeps_its_own_extractor(tmp_path, text):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "ced"}))
    plain = make_processor(text).feature_extractor
    assert isinstance(plain, AtriFeatureExtractor)
    assert make_feature_extractor(tmp_path).to_dict() == plain.to_dict()
    tiny_model().save_pretrained(tmp_path / "model")
    tiny_processor().save_pretrained(tmp_path / "model")
    assert type(make_feature_extractor(tmp_path / "model")) is AtriFeatureExtractor
    rate = make_feature_extractor(tmp_path).sampling_rate
    with pytest.raises(ValueError, match="48000"):
        make_processor(text)(audio=[sound(rate)], sampling_rate=48000)


def test_code_of_a_repository_is_run_where_it_is_trusted(tmp_path, text):
    folder = write_repository(tmp_path / "toy")
    with pytest.raises(ValueError, match="trust_remote_code"):
        load_audio_tower(folder)
    model = AtriModel.from_audio_text_pretrained(folder, text, projection_dim=8, trust_remote_code=True)
    weights = torch.load(folder / "pytorch_model.bin", weights_only=True)
    loaded = model.audio_model.encoder.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in weights.items())
    processor = make_processor(text, audio=folder, trust_remote_code=True)
    with torch.no_grad():
        assert model(**processor(audio=[sound(16_000)], sampling_rate=16_000)).audio_embeds.shape == (1, 8)
    for part in (model, processor):
        part.save_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match="trust_remote_code"):
        load_audio_tower(tmp_path / "model")
    again = AtriModel.from_audio_text_pretrained(tmp_path / "model", text, projection_dim=8, trust_remote_code=True)
    assert all(torch.equal(again.audio_model.encoder.state_dict()[key], value) for key, value in weights.items())
    extractor = make_feature_extractor(tmp_path / "model", trust_remote_code=True)
    assert extractor.to_dict() == processor.feature_extractor.to_dict()
