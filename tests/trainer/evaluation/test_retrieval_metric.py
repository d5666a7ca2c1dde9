"""The `evaluate.Metric`: loads from the package, offline, into an empty cache, and gives the function's figures."""

import doctest
from pathlib import Path

import evaluate
import numpy as np
import pytest
import torch

from modeling_atri.trainer.metrics import retrieval_metric_path, retrieval_metrics


@pytest.fixture(scope="module")
def metric(tmp_path_factory: pytest.TempPathFactory) -> evaluate.Metric:
    """Loaded from another folder, so that the installed package is found and not the checkout."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("elsewhere"))
        return evaluate.load(retrieval_metric_path(), cache_dir=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    clips = np.repeat(np.arange(12), 3)
    audio = generator.standard_normal((12, 8), dtype=np.float32)
    text = audio[clips] + generator.standard_normal((36, 8), dtype=np.float32)
    return {"audio_embeds": audio, "text_embeds": text, "positives": clips}


@pytest.fixture(scope="module")
def expected(arrays: dict[str, np.ndarray]) -> dict[str, float]:
    return retrieval_metrics(arrays["audio_embeds"], arrays["text_embeds"], arrays["positives"])


def test_figures_are_those_of_the_function(metric, arrays, expected) -> None:
    assert metric.compute(**arrays) == expected
    assert metric.compute(**{name: torch.from_numpy(value) for name, value in arrays.items()}) == expected


def test_captions_may_be_added_as_they_come(metric, arrays, expected) -> None:
    audio, text, clips = arrays.values()
    for start in range(0, len(text), 7):
        metric.add_batch(text_embeds=text[start : start + 7], positives=clips[start : start + 7])
    assert metric.compute(audio_embeds=torch.from_numpy(audio)) == expected
    for embedding, clip in zip(text, clips, strict=True):
        metric.add(text_embeds=embedding, positives=int(clip))
    assert metric.compute(audio_embeds=audio.tolist()) == expected


def test_several_clips_a_caption(metric, arrays) -> None:
    audio, text, clips = arrays.values()
    lists = [[clip, (clip + 1) % 12][: 1 + i % 2] for i, clip in enumerate(clips.tolist())]
    found = metric.compute(text_embeds=text.tolist(), positives=lists, audio_embeds=audio)
    assert found == retrieval_metrics(audio, text, lists)


def test_errors_say_what_to_do(metric, arrays) -> None:
    with pytest.raises(ValueError, match=r"compute\(audio_embeds=...\)"):
        metric.compute(text_embeds=arrays["text_embeds"], positives=arrays["positives"])
    with pytest.raises(ValueError, match="every caption needs an embedding of the same size"):
        metric.compute(text_embeds=[[1.0, 2.0], [3.0]], positives=[0, 0], audio_embeds=[[1.0, 2.0]])


def test_its_example_runs(metric) -> None:
    examples = doctest.DocTestParser().get_doctest(metric.inputs_description, {}, "metric", None, None)
    assert examples.examples
    assert doctest.DocTestRunner().run(examples).failed == 0


def test_the_script_is_in_the_package() -> None:
    assert (Path(retrieval_metric_path()) / "retrieval_metric.py").is_file()
