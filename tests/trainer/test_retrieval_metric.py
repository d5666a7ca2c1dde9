"""The `evaluate.Metric`: loads from the package, offline, into an empty cache, and gives the function's figures."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from modeling_atri.trainer.metrics import retrieval_metric_path, retrieval_metrics


# Run in a process of its own, because `evaluate` reads the place of its cache when it is imported.
SCRIPT = """
import doctest, json, sys
import evaluate, numpy as np, torch
from modeling_atri.trainer.metrics import retrieval_metric_path

arrays = np.load(sys.argv[1])
audio, text, clips = arrays["audio"], arrays["text"], arrays["clips"]
metric = evaluate.load(retrieval_metric_path())
results = {"at_once": metric.compute(text_embeds=text, positives=clips, audio_embeds=audio)}
for start in range(0, len(text), 7):
    metric.add_batch(text_embeds=text[start : start + 7], positives=clips[start : start + 7])
results["in_batches"] = metric.compute(audio_embeds=torch.from_numpy(audio))
for embedding, clip in zip(text, clips):
    metric.add(text_embeds=embedding, positives=int(clip))
results["one_by_one"] = metric.compute(audio_embeds=audio.tolist())
results["tensors"] = metric.compute(
    text_embeds=torch.from_numpy(text), positives=torch.from_numpy(clips), audio_embeds=torch.from_numpy(audio)
)
lists = [[int(clip), (int(clip) + 1) % len(audio)][: 1 + i % 2] for i, clip in enumerate(clips)]
results["lists"] = metric.compute(text_embeds=text.tolist(), positives=lists, audio_embeds=audio)

def error(**inputs):
    try:
        metric.compute(**inputs)
    except ValueError as problem:
        return str(problem)

results["no_audio"] = error(text_embeds=text, positives=clips)
results["ragged"] = error(text_embeds=[[1.0, 2.0], [3.0]], positives=[0, 0], audio_embeds=[[1.0, 2.0]])
examples = doctest.DocTestParser().get_doctest(metric.inputs_description, {}, "metric", None, None)
results["failed_examples"] = doctest.DocTestRunner().run(examples).failed
print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    clips = np.repeat(np.arange(12), 3)
    audio = generator.standard_normal((12, 8), dtype=np.float32)
    text = audio[clips] + generator.standard_normal((36, 8), dtype=np.float32)
    return {"audio": audio, "text": text, "clips": clips}


@pytest.fixture(scope="module")
def results(arrays: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> dict:
    folder: Path = tmp_path_factory.mktemp("metric")
    np.savez(folder / "arrays.npz", **arrays)
    offline = dict.fromkeys(("HF_HUB_OFFLINE", "HF_EVALUATE_OFFLINE", "HF_DATASETS_OFFLINE"), "1")
    # From another folder, so that the installed package is found and not the checkout.
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT, "arrays.npz"],
        cwd=folder,
        env=os.environ | offline | {"HF_HOME": str(folder / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout.splitlines()[-1])


@pytest.mark.parametrize("way", ["at_once", "in_batches", "one_by_one", "tensors"])
def test_figures_are_those_of_the_function(results: dict, arrays: dict[str, np.ndarray], way: str) -> None:
    assert results[way] == retrieval_metrics(arrays["audio"], arrays["text"], arrays["clips"])


def test_several_clips_a_caption(results: dict, arrays: dict[str, np.ndarray]) -> None:
    lists = [[clip, (clip + 1) % 12][: 1 + i % 2] for i, clip in enumerate(arrays["clips"].tolist())]
    assert results["lists"] == retrieval_metrics(arrays["audio"], arrays["text"], lists)


def test_errors_say_what_to_do(results: dict) -> None:
    assert "compute(audio_embeds=...)" in results["no_audio"]
    assert "every caption needs an embedding of the same size" in results["ragged"]


def test_its_example_runs(results: dict) -> None:
    assert results["failed_examples"] == 0


def test_the_script_is_in_the_package() -> None:
    assert (Path(retrieval_metric_path()) / "retrieval_metric.py").is_file()
