"""Two processes on the CPU (gloo) do what one does on the union of their batches."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from modeling_atri.trainer.distributed import batch_shard
from tests.trainer.training import assert_same_gradients, assert_same_weights
from tests.trainer.two_processes import CASES, NUM_CLIPS, run_case, run_evaluation


WORLD_SIZE = 2


@pytest.fixture(scope="module")
def ranks(tmp_path_factory, repository_root) -> list[dict]:
    """What each of two processes found; both are started once, for all tests."""
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {
        "WORLD_SIZE": str(WORLD_SIZE),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(repository_root), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
    }
    logs = [folder / f"rank{rank}.log" for rank in range(WORLD_SIZE)]
    processes = []
    for rank, log in enumerate(logs):
        command = [sys.executable, str(Path(__file__).with_name("two_processes.py")), str(folder)]
        environment = os.environ | common | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        with log.open("w") as output:
            processes.append(
                subprocess.Popen(
                    command, env=environment, cwd=repository_root, stdout=output, stderr=subprocess.STDOUT
                )
            )
    try:
        codes = [process.wait(timeout=240) for process in processes]
    finally:
        for process in processes:
            process.kill()  # does nothing to one that has ended
    assert codes == [0, 0], "\n".join(log.read_text()[-4000:] for log in logs)
    return [torch.load(folder / f"rank{rank}.pt", weights_only=False) for rank in range(WORLD_SIZE)]


@pytest.mark.parametrize("case", CASES)
def test_training_equals_one_process(tmp_path, ranks, case):
    alone = run_case(case, tmp_path, world_size=1)
    assert len(alone["gradients"]) == (2 if "everything" in case else 3)
    for found in (rank[case] for rank in ranks):
        assert found["losses"] == pytest.approx(alone["losses"], rel=1e-5)
        for step, (ours, expected) in enumerate(zip(found["gradients"], alone["gradients"], strict=True)):
            # After a step the weights differ by rounding, and so the next gradients by more.
            assert_same_gradients(ours, expected, tolerance=1e-5 if step == 0 else 1e-4)
        assert_same_weights(found["weights"], alone["weights"], tolerance=1e-5)
    assert_same_weights(ranks[0][case]["weights"], ranks[1][case]["weights"])


def test_evaluation_equals_one_process(tmp_path, ranks):
    alone = run_evaluation(tmp_path, world_size=1)
    for found in (rank["evaluation"] for rank in ranks):
        np.testing.assert_allclose(found["audio"], alone["audio"], atol=1e-6)
        np.testing.assert_allclose(found["one clip"], alone["one clip"], atol=1e-6)
        for language, text in alone["text"].items():
            np.testing.assert_allclose(found["text"][language], text, atol=1e-6)
        assert found["metrics"].keys() == alone["metrics"].keys()
        for name, value in alone["metrics"].items():
            if "runtime" not in name:
                assert found["metrics"][name] == pytest.approx(value, abs=1e-6), name


def test_rows_are_gathered_and_their_gradients_go_back(ranks):
    first, second = (rank["primitives"] for rank in ranks)
    assert first["place"] == (0, 2)
    assert second["place"] == (1, 2)
    expected = torch.tensor([[0.0, 1.0], [10.0, 11.0], [12.0, 13.0], [14.0, 15.0]])
    for found in (first, second):
        assert torch.equal(found["gathered"], expected)
        assert found["ids"].tolist() == [0, 10, 11, 12]
    # Each process weighs the rows by (rank + 1) * (1 ... 8); the owner gets the sum over both.
    weights = 3 * torch.arange(1.0, 9.0).view(4, 2)
    assert torch.equal(first["gradient"], weights[:1])
    assert torch.equal(second["gradient"], weights[1:])


def test_gradients_are_averaged_also_where_one_process_has_none(ranks):
    for found in (rank["primitives"]["averaged"] for rank in ranks):
        for gradient, value in zip(found, (1.5, 2.0, 2.0, None), strict=True):
            assert gradient is None if value is None else torch.equal(gradient, torch.full((2, 2), value))


def test_one_process_has_no_shard():
    assert batch_shard(4, torch.device("cpu")) is None
    assert NUM_CLIPS % 4 == 3, "the last step must be uneven, or the tests above test less than they say"
