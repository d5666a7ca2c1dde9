"""Audio encoders of transformers as towers: they give what their own classes give, for clips of any length."""

import numpy as np
import pytest
import torch
from torch import nn

from modeling_atri import AtriModel, AtriProcessor
from tests.helpers.towers import TOWERS, Tower, randomise, sound, tower_model, tower_processor


TOLERANCE = 1e-5
# In windows. A rest of 20 samples is shorter than the shortest input of an encoder of waveforms.
LENGTHS = {"short": 0.3, "one window": 1.0, "a little more": 1.13, "long": 3.4}


@pytest.fixture(scope="module", params=TOWERS)
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
    clips = [clip_of(tower, windows, seed) for seed, windows in enumerate((0.3, 2.6, 1.0, 1.13))]
    alone = torch.cat([pooled_of(model, processor, [clip]) for clip in clips])
    assert torch.pdist(alone).min() > 100 * TOLERANCE  # they are told apart
    for order in ([0, 1, 2, 3], [3, 1], [2, 0, 0]):
        in_batch = pooled_of(model, processor, [clips[index] for index in order])
        torch.testing.assert_close(in_batch, alone[order], atol=TOLERANCE, rtol=TOLERANCE)
