"""Metrics that are computed on a GPU are those of the CPU, number by number."""

import numpy as np
import pytest
import torch

from modeling_atri.trainer.metrics import consistency_metrics, retrieval_metrics
from tests.helpers.training import make_arguments, make_rows, make_trainer


pytestmark = [pytest.mark.gpu, pytest.mark.heavy]


def archive(num_clips: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Clips, three captions of each, and the clips of the captions; a tenth of the clips are copies of others."""
    rng = np.random.default_rng(0)
    audio = rng.normal(size=(num_clips, width)).astype(np.float32)
    audio[: num_clips // 10] = audio[num_clips // 2 : num_clips // 2 + num_clips // 10]  # ties
    text = np.repeat(audio, 3, axis=0) + 6 * rng.normal(size=(3 * num_clips, width))
    return audio, text.astype(np.float32), np.arange(3 * num_clips) // 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_retrieval(device, dtype):
    audio, text, clips = archive(700, 256)
    audio, text = torch.from_numpy(audio).to(dtype), torch.from_numpy(text).to(dtype)
    expected = retrieval_metrics(audio, text, clips)
    assert 0.05 < expected["text_to_audio_R@1"] < 0.95
    assert retrieval_metrics(audio.to(device), text.to(device), clips, device=device) == expected


def test_several_tiles(device):
    """More captions than fit a tile."""
    audio, text, clips = archive(2800, 8)
    assert retrieval_metrics(audio, text, clips, device=device) == retrieval_metrics(audio, text, clips)


def test_consistency(device):
    audio, text, clips = archive(200, 64)
    others = text + np.random.default_rng(1).normal(size=text.shape).astype(np.float32)
    texts = {"eng_Latn": text, "fra_Latn": others}
    expected = consistency_metrics(audio, texts, clips)
    assert expected["mrv"] > 0
    assert consistency_metrics(audio, texts, clips, device=device) == pytest.approx(expected, rel=1e-5)


def test_evaluation_of_a_model(tmp_path, on_device):
    rows = make_rows(6, num_captions=2)
    figures = [make_trainer(make_arguments(tmp_path, **where), None, rows).evaluate() for where in (on_device, {})]
    names = [name for name in figures[1] if "text_to" in name or "mrv" in name]
    assert len(names) > 10
    for name in names:
        assert figures[0][name] == pytest.approx(figures[1][name], abs=1e-4), name
