"""Audio encoders whose code is a part of a repository, in the way of Dasheng."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoProcessor

from modeling_atri import (
    AtriAudioTower,
    AtriConfig,
    AtriModel,
    AtriProcessor,
    AtriWindowFeatureExtractor,
    describe_windows,
)
from modeling_atri.encode import encode_text
from modeling_atri.pretrained.loading import load_model
from modeling_atri.trainer.publishing.results import model_facts
from modeling_atri.trainer.teach.teachers import load_teacher
from tests.helpers.bare_environment import link_packages, run_bare
from tests.helpers.tiny import tiny_config, tiny_tokenizer
from tests.helpers.towers import TOWERS, randomise, sound, tower_model, tower_processor
from tests.helpers.toy_encoder import FILES, write_repository


RATE = 16_000
CLIPS = [sound(round(RATE * seconds), seed) for seed, seconds in enumerate((0.5, 2.7, 1.0))]
CLIENT = Path(__file__).parents[1] / "helpers" / "tower_client.py"


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    return write_repository(tmp_path_factory.mktemp("hub") / "toy")


@pytest.fixture(scope="module")
def pair(repository) -> tuple[AtriModel, AtriProcessor]:
    config = AutoConfig.from_pretrained(repository, trust_remote_code=True)
    wrapped = AutoFeatureExtractor.from_pretrained(repository, trust_remote_code=True)
    extractor = AtriWindowFeatureExtractor(wrapped, window_seconds=1.0)
    describe_windows(config, extractor)
    text_config = tiny_config().text_config.to_dict()
    model = randomise(AtriModel(AtriConfig(audio_config=config, text_config=text_config, projection_dim=12)))
    return model, AtriProcessor(extractor, tiny_tokenizer())


@pytest.fixture(scope="module")
def saved(pair, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    for part in pair:
        part.save_pretrained(folder)
    return folder


@torch.no_grad()
def embeddings(model: AtriModel, processor: AtriProcessor, clips: list[np.ndarray] = CLIPS) -> torch.Tensor:
    return model.get_audio_features(**processor(audio=clips, sampling_rate=RATE)).pooler_output


@torch.no_grad()
def test_each_window_is_what_the_code_gives(pair):
    model, processor = pair
    windows = processor.feature_extractor.windows
    assert (windows.layout, windows.frames, windows.is_fixed) == ("bft", 101, False)
    encoder, wrapped = model.audio_model.encoder, processor.feature_extractor.feature_extractor
    parts = [CLIPS[1][start : start + RATE] for start in (0, RATE, 2 * RATE)]
    states = [encoder(**wrapped(part, sampling_rate=RATE)).hidden_states[0].mean(dim=0) for part in parts]
    weights = torch.tensor([1.0 + len(part) // 160 for part in parts])
    expected = (torch.stack(states) * weights[:, None]).sum(dim=0) / weights.sum()
    found = model.audio_model(**processor(audio=CLIPS, sampling_rate=RATE)).pooler_output
    torch.testing.assert_close(found[1], expected, atol=1e-5, rtol=1e-5)
    alone = torch.cat([embeddings(model, processor, [clip]) for clip in CLIPS])
    torch.testing.assert_close(embeddings(model, processor), alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("auto_class", [AutoModel, AtriModel])
def test_saved_with_its_code_and_loaded_again(pair, saved, auto_class, tmp_path):
    assert {path.stem for path in saved.glob("*_toy.py")} == set(FILES)
    config = json.loads((saved / "config.json").read_text())["audio_config"]
    assert config["auto_map"] == {"AutoConfig": "configuration_toy.ToyConfig", "AutoModel": "modeling_toy.ToyModel"}
    model = auto_class.from_pretrained(saved, trust_remote_code=True)
    processor = AutoProcessor.from_pretrained(saved, trust_remote_code=True)
    assert torch.equal(embeddings(model, processor), embeddings(*pair))
    for part in (model, processor):
        part.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in saved.iterdir()}
    again = AtriModel.from_pretrained(tmp_path, trust_remote_code=True)
    assert torch.equal(embeddings(again, processor), embeddings(*pair))


@pytest.mark.parametrize("auto_class", [AutoModel, AtriModel, AutoProcessor, AtriProcessor, AutoFeatureExtractor])
def test_code_that_is_not_trusted_does_not_run(saved, auto_class):
    with pytest.raises(ValueError, match="trust_remote_code=True"):
        auto_class.from_pretrained(saved)


def test_a_teacher_and_its_student_are_loaded_with_the_code(pair, saved):
    with pytest.raises(ValueError, match="trust_remote_code=True"):
        load_teacher(saved)
    teacher = load_teacher(saved, trust_remote_code=True)
    expected = encode_text(*pair, ["a dog"], "en")
    np.testing.assert_allclose(teacher.encode(["a dog"]), expected, atol=1e-6)
    model, _ = load_model(str(saved), trust_remote_code=True)
    assert model_facts(model)["trust_remote_code"]
    assert "trust_remote_code" not in model_facts(tower_model(TOWERS["clap"]))


def test_the_encoder_alone(repository, pair):
    tower = AtriAudioTower.from_pretrained(repository, config=pair[0].config.audio_config)
    plain = AutoModel.from_pretrained(repository, trust_remote_code=True)
    assert all(torch.equal(tower.state_dict()[f"encoder.{name}"], value) for name, value in plain.state_dict().items())


def test_an_encoder_that_is_not_described_is_refused(repository):
    config = AutoConfig.from_pretrained(repository, trust_remote_code=True)
    with pytest.raises(ValueError, match="'toy_encoder', whose input is not known. Set `window_frames`"):
        AtriAudioTower(config)


@pytest.mark.heavy
@pytest.mark.slow
def test_without_the_package(pair, saved, tmp_path):
    """A model with CLAP's tower, and one with that of a repository, where people have transformers only."""
    clap = TOWERS["clap"]
    for part in (tower_model(clap), tower_processor(clap)):
        part.save_pretrained(tmp_path / "clap")
    for part in pair:
        part.save_pretrained(tmp_path / "toy")
    clips = {f"clip{index}": clip for index, clip in enumerate(CLIPS)}
    np.savez(tmp_path / "inputs.npz", **clips)
    (tmp_path / "site-packages").mkdir()
    run_bare(CLIENT, link_packages(tmp_path / "site-packages", ["numpy", "torch", "transformers"]), tmp_path)
    numbers = np.load(tmp_path / "numbers.npz")
    np.testing.assert_allclose(numbers["toy"], embeddings(*pair), atol=1e-6)
    with torch.no_grad():
        inputs = tower_processor(clap)(audio=CLIPS, sampling_rate=48_000)
        expected = tower_model(clap).get_audio_features(**inputs).pooler_output
    np.testing.assert_allclose(numbers["clap"], expected, atol=1e-6)
