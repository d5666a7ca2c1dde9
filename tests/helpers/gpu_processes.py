"""What `tests/gpu/test_processes.py` runs in processes that work together, by NCCL on GPUs or by gloo on CPUs."""

import gc
import os
import socket
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing

from modeling_atri.trainer.step.distributed import SharedRows, average_gradients, rows_of_processes
from tests.helpers.fsdp_runs import FSDP
from tests.helpers.processes import CASES, run_case
from tests.helpers.tiny import tiny_processor


STEPS = {
    "exact": CASES["kcl"],
    "at once": CASES["akcl at once"],
    "in chunks": CASES["cacl by Adam in chunks"] | {"optim": "sgd", "learning_rate": 0.01},
    "everything": CASES["akcl, everything"],
}


def start(folder: Path, world_size: int, on_cpu: bool) -> None:
    """Run everything in so many processes; each writes what it found to `RANK.pt`."""
    tiny_processor()
    gc.freeze()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = (world_size, port, folder, on_cpu)
    torch.multiprocessing.start_processes(run_rank, arguments, world_size, start_method="fork")


def run_rank(rank: int, world_size: int, port: int, folder: Path, on_cpu: bool) -> None:
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world_size, "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in ranks.items()} | {"MASTER_ADDR": "127.0.0.1"}
    found: dict[str, Any] = {}
    for engine, options in (("ddp", {}), ("fsdp", FSDP)):
        for name, case in STEPS.items():
            place = folder / f"{engine} {name}"
            place.mkdir(exist_ok=True)
            found[f"{engine} {name}"] = moved(run_case(case | options | {"use_cpu": on_cpu}, place, world_size))
    found["messages"] = moved(run_messages(rank, torch.device("cpu" if on_cpu else f"cuda:{rank}")))
    found["backend"] = dist.get_backend()
    torch.save(found, folder / f"{rank}.pt")
    dist.destroy_process_group()


def run_messages(rank: int, device: torch.device) -> dict[str, torch.Tensor]:
    """The exchanges of a step: rows of all processes with the gradient of the own, and gradients of parameters."""
    counts = rows_of_processes(2 + rank, device)
    own = torch.full((2 + rank, 3), float(rank + 1), device=device, requires_grad=True)
    everyone = SharedRows(counts)(own)
    (everyone * torch.arange(1.0, len(everyone) + 1, device=device)[:, None]).sum().backward()
    parameter = torch.nn.Parameter(torch.zeros(2, device=device))
    parameter.grad = torch.full((2,), float(rank), device=device)
    average_gradients([parameter])
    return {"counts": torch.tensor(counts), "rows": everyone.detach(), "own": own.grad, "mean": parameter.grad}


def moved(found: Any) -> Any:
    """The same with tensors in main memory."""
    if isinstance(found, torch.Tensor):
        return found.cpu()
    if isinstance(found, dict):
        return {name: moved(value) for name, value in found.items()}
    return [moved(value) for value in found] if isinstance(found, list) else found
