"""The GPU benchmark, tried on a small model on the CPU."""

import importlib
import json
import sys
from types import ModuleType

import pytest
import torch


@pytest.fixture
def gpu(benchmarks_folder) -> ModuleType:
    return importlib.import_module("gpu")


def call(module: ModuleType, monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", [module.__name__, *words])
    module.main()


def test_gpu_benchmark_needs_a_gpu(gpu, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as stop:
        call(gpu, monkeypatch)
    assert stop.value.code == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert len(shown.err.splitlines()) == 1
    with pytest.raises(SystemExit) as stop:
        call(gpu, monkeypatch, "--device", "cpu")
    assert stop.value.code == 2
    assert "add --tiny" in capsys.readouterr().err


@pytest.mark.slow
def test_gpu_benchmark_on_a_small_model(gpu, monkeypatch, capsys):
    plain_step, losses, dtypes = gpu.GpuSteps.step, {}, set()

    def step(steps, case):
        """The real step, but memory runs out in one case, and the losses of the others are kept."""
        if case == ("kcl_chunked", "eager"):
            raise torch.OutOfMemoryError("CUDA out of memory")
        training_step = steps.trainer.training_step

        def kept(model, inputs):
            losses[case] = training_step(model, inputs).item()

        layer = steps.trainer.model.text_model.layers[0].fc1
        hook = layer.register_forward_hook(lambda module, args, output: dtypes.add(output.dtype))
        monkeypatch.setattr(steps.trainer, "training_step", kept)
        plain_step(steps, case)
        hook.remove()
        monkeypatch.setattr(steps.trainer, "training_step", training_step)

    monkeypatch.setattr(gpu.GpuSteps, "step", step)
    options = ["--clips", "4", "--languages", "3", "--chunk", "2", "--rounds", "1", "--warmup", "1"]
    call(gpu, monkeypatch, "--device", "cpu", "--tiny", "--settings", "sdpa", "eager", *options)
    *lines, line = capsys.readouterr().out.splitlines()
    report = json.loads(line)
    variants = ["mlclap", "cacl", "cacl_chunked", "kcl_at_once", "kcl", "kcl_chunked", "akcl"]
    assert [(case["variant"], case["setting"]) for case in report["cases"]] == [
        (variant, setting) for setting in ("sdpa", "eager") for variant in variants
    ]
    for case in report["cases"]:
        failed = (case["variant"], case["setting"]) == ("kcl_chunked", "eager")
        assert case["out_of_memory"] == failed
        assert failed or case["ms"] > 0
        assert not {"peak_gb", "reserved_gb", "above_gb"} & case.keys()  # a CPU has no figures of memory
    assert len(lines) == 2 + len(report["cases"])
    assert sum("out of memory" in text for text in lines) == 1
    assert [row["work"].split(",")[0] for row in report["rows"]] == ["kcl step", "cacl_chunked step"] * 2
    assert {"clips": 4, "languages": 3, "chunk": 2, "device": "cpu", "rounds": 1}.items() <= report.items()
    assert report["parameters"] > 10_000
    assert dtypes == {torch.bfloat16}  # autocast is on
    # Losses of random embeddings are near log(4), the chance level of four clips, in each term.
    assert len(losses) == 13
    assert all(0 < loss < 3 for loss in losses.values())
