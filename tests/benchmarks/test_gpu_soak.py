"""The soak on a GPU, tried on a small model on the CPU."""

import importlib
import json
import sys

import pytest
import torch


pytestmark = pytest.mark.heavy
SMALL = ["--device", "cpu", "--tiny", "--sounds", "2", "--languages", "2", "--batch-size", "2", "--clips", "14"]


@pytest.fixture
def call(benchmarks_folder, monkeypatch, capsys):
    module = importlib.import_module("gpu_soak")

    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["gpu_soak.py", *words])
        status = 0
        try:
            module.main()
        except SystemExit as end:
            status = end.code
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    call.module = module
    return call


def test_an_epoch(call):
    status, out, _ = call("epoch", *SMALL, "--workers", "0")
    report = json.loads(out)
    assert status == 0
    assert report["benchmark"] == "gpu_soak_epoch"
    assert (report["steps"], report["steps_of_epoch"], report["device"]) == (7, 7, "cpu")
    assert report["clips_per_s"] == pytest.approx(2 * report["steps_per_s"], rel=1e-2)
    assert 0 <= report["waiting"] <= 1


def test_a_resumed_run_equals_the_first(call):
    deterministic = torch.are_deterministic_algorithms_enabled()
    status, out, _ = call("resume", *SMALL, "--workers", "0")
    torch.use_deterministic_algorithms(deterministic)
    report = json.loads(out)
    assert status == 0
    assert report["resumed_losses"] == report["losses"]
    assert report["equal_weights"] == 1
    assert len(set(report["losses"])) == 3
    assert [row["reached"] for row in report["rows"]] == [True, True]


def test_growth_is_the_slope_of_memory(call):
    growth_of = call.module.growth_of
    assert growth_of([1000 + number for number in range(11)]) == pytest.approx(100 / 1005, abs=1e-6)
    assert growth_of([500] * 4) == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--device", "cpu"], "add --tiny"),
        (["--languages", "9"], "--languages must be 2 to 8; got 9"),
        (["--clips", "100"], "--clips must be at least 168, 7 batches; got 100"),
        (["--sounds", "0"], "--sounds must be at least 1; got 0"),
    ],
)
def test_options_that_make_no_sense(call, words, said):
    status, _, err = call("epoch", *words)
    assert status == 2
    assert said in err


def test_it_needs_a_gpu(call, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    status, out, err = call("epoch")
    assert (status, out) == (2, "")
    assert len(err.splitlines()) == 1
