"""Processes that a launcher started: what each does, and what the main process tells the others."""

import json
import os
import socket
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from modeling_atri.processes import (
    device_of_process,
    launched_processes,
    main_first,
    num_processes,
    own_share,
    process_rank,
    told_by_all,
    told_by_main,
)
from tests.helpers.forks import check_call


NUM_PROCESSES = 3


def work(rank: int, port: int, folder: Path) -> None:
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": NUM_PROCESSES, "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in ranks.items()} | {"MASTER_ADDR": "127.0.0.1"}
    with launched_processes():
        found = {
            "place": [process_rank(), num_processes()],
            "share": own_share("abcde"),
            "told": told_by_main(lambda: f"by {rank}"),
            "all": told_by_all(rank * rank),
            "first": main_first(lambda: make(folder, rank)),
            "refused": refusal(),
            "device": device_of_process("cpu"),
        }
        (folder / f"{rank}.json").write_text(json.dumps(found))


def make(folder: Path, rank: int) -> str:
    """Fails on all but the main process, unless the main process was here first."""
    if rank == 0:
        (folder / "made").touch()
    elif not (folder / "made").exists():
        return "too early"
    return f"{rank}"


def refusal() -> str:
    calls = []
    with suppress(ValueError):
        main_first(lambda: calls.append(1) or fail())
        return "no error"
    return f"called {len(calls)}"


def fail() -> None:
    raise ValueError("No.")


def start(folder: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.start_processes(work, (port, folder), NUM_PROCESSES, start_method="fork")


@pytest.mark.heavy
def test_three_processes(tmp_path):
    check_call(start, tmp_path)
    for rank, share in enumerate(["ad", "be", "c"]):
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == {
            "place": [rank, 3],
            "share": share,
            "told": "by 0",
            "all": [0, 1, 4],
            "first": str(rank),
            "refused": "called 1" if rank == 0 else "called 0",
            "device": "cpu",
        }


def test_one_process(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with launched_processes():
        assert (process_rank(), num_processes(), own_share([1, 2])) == (0, 1, [1, 2])
        assert (told_by_main(lambda: 1), told_by_all(1), main_first(lambda: 1)) == (1, [1], 1)
        assert [device_of_process(name) for name in ("cuda", None)] == ["cuda", "cpu"]
        with pytest.raises(ValueError, match="No"):
            told_by_main(fail)


def test_each_process_has_a_gpu(monkeypatch):
    monkeypatch.setattr("modeling_atri.processes.num_processes", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    assert [device_of_process(name) for name in ("cuda", "cuda:5", "cpu", None)] == [
        "cuda:0",
        "cuda:5",
        "cpu",
        "cuda:0",
    ]
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    assert device_of_process(None) == "cpu"
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(ValueError, match="Process 1 of this machine has no GPU, because there are 1"):
        device_of_process("cuda")
