"""Processes with a GPU each, through NCCL, with DDP and with FSDP2: one, and two if there are two GPUs."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from tests.helpers.forks import check_call
from tests.helpers.gpu_processes import STEPS, start
from tests.helpers.processes import run_case
from tests.helpers.training import assert_same_gradients, assert_same_weights


pytestmark = [pytest.mark.gpu, pytest.mark.heavy, pytest.mark.timeout(280)]


@dataclass(frozen=True)
class Found:
    """What each process found, and their device."""

    ranks: list[dict[str, Any]]
    device: torch.device


@pytest.fixture(scope="module", params=[1, 2])
def world_size(request) -> int:
    return request.param


@pytest.fixture(scope="module")
def processes(world_size, tmp_path_factory) -> dict[str, Any]:
    """Filled by the first test that has a device."""
    return {"folder": tmp_path_factory.mktemp(f"gpu_{world_size}")}


@pytest.fixture
def found(device, world_size, processes) -> Found:
    if device.type == "cuda" and torch.cuda.device_count() < world_size:
        pytest.skip(f"needs {world_size} GPUs, one for each process; there are {torch.cuda.device_count()}")
    if "ranks" not in processes:
        if not processes.setdefault("is_new", True):
            pytest.fail("the processes failed; the first test of this file says why")
        processes["is_new"], folder = False, processes["folder"]
        check_call(start, folder, world_size, device.type == "cpu", timeout=240.0)
        processes["ranks"] = [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(world_size)]
    return Found(processes["ranks"], device)


def test_the_backend(found):
    expected = "gloo" if found.device.type == "cpu" else "nccl"
    assert [rank["backend"] for rank in found.ranks] == [expected] * len(found.ranks)


@pytest.mark.parametrize("engine", ["ddp", "fsdp"])
@pytest.mark.parametrize("case", STEPS)
def test_training_is_that_of_one_process_on_the_cpu(found, tmp_path, engine, case):
    expected = run_case(STEPS[case], tmp_path, world_size=1)
    tolerance = 1e-5 if found.device.type == "cpu" else 1e-3
    for rank in found.ranks:
        ours = rank[f"{engine} {case}"]
        assert ours["losses"] == pytest.approx(expected["losses"], rel=tolerance)
        assert_same_gradients(ours["gradients"][0], expected["gradients"][0], tolerance)
        assert_same_weights(ours["weights"], expected["weights"], tolerance)
        for name, embeddings in expected["embeddings"].items():
            np.testing.assert_allclose(ours["embeddings"][name], embeddings, atol=tolerance, err_msg=name)


def test_rows_and_gradients_are_exchanged(found):
    counts = [2 + rank for rank in range(len(found.ranks))]
    rows = torch.cat([torch.full((count, 3), rank + 1.0) for rank, count in enumerate(counts)])
    places = torch.arange(1.0, len(rows) + 1)[:, None].expand(-1, 3)
    for rank, part in enumerate(places.split(counts)):
        messages = found.ranks[rank]["messages"]
        assert messages["counts"].tolist() == counts
        torch.testing.assert_close(messages["rows"], rows, rtol=0, atol=0)
        torch.testing.assert_close(messages["own"], part * len(counts), rtol=0, atol=0)
        torch.testing.assert_close(messages["mean"], torch.full((2,), (len(counts) - 1) / 2), rtol=0, atol=0)
