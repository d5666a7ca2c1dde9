"""Commands in several processes, as `torchrun` and `accelerate launch` start them."""

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from pathlib import Path

import torch

from modeling_atri.cli.main import main
from modeling_atri.corpora.translation import translate
from modeling_atri.encode import folder as encode_folder_module
from modeling_atri.trainer.evaluation import retrieval


NUM_PROCESSES = 2
LAUNCHERS = {
    "torchrun": ["torch.distributed.run", "--standalone", "--nproc_per_node", "2"],
    "accelerate": [
        *("accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"),
        *("--mixed_precision", "no", "--dynamo_backend", "no"),
    ],
}
# The function that each command calls several times on every process.
WORK = {
    "encode": (encode_folder_module, "encode_audio"),
    "evaluate": (retrieval, "encode_text"),
    "translate": (translate, "translate_batch"),
}


def free_ports(number: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for free in sockets:
            free.bind(("127.0.0.1", 0))
        return [free.getsockname()[1] for free in sockets]


def run_rank(rank: int, ports: Sequence[int], commands: Mapping[str, Sequence[str]], folder: Path) -> None:
    """Run commands one after the other; `NAME-RANK.out` and `.err` have what each said, and its exit status."""
    torch.set_num_threads(1)
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": NUM_PROCESSES}
    os.environ |= {name: str(value) for name, value in ranks.items()} | {"MASTER_ADDR": "127.0.0.1"}
    for (name, words), port in zip(commands.items(), ports, strict=True):
        os.environ["MASTER_PORT"] = str(port)
        with open(folder / f"{name}-{rank}.out", "w") as out, open(folder / f"{name}-{rank}.err", "w") as err:
            with redirect_stdout(out), redirect_stderr(err):
                status = main(list(words))
            out.write(f"\nstatus {status}")


def run_commands(commands: Mapping[str, Sequence[str]], folder: Path) -> None:
    """Run commands in two processes."""
    ports = free_ports(len(commands))
    arguments = (ports, dict(commands), folder)
    torch.multiprocessing.start_processes(run_rank, arguments, NUM_PROCESSES, start_method="fork")


def make_faulty(rank: int, command: str, fault: str) -> None:
    """Let the second of two processes be `killed`, or `failing` alone, when a command works for the second time."""
    module, function = WORK[command]
    work, calls = getattr(module, function), []

    def fail(*args, **kwargs):
        calls.append(1)
        if rank == 1 and len(calls) == 2:
            if fault == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise RuntimeError("The device has had enough.")
        return work(*args, **kwargs)

    setattr(module, function, fail)


def run_faulty_rank(rank: int, port: int, words: Sequence[str], folder: Path, fault: str) -> None:
    make_faulty(rank, words[0], fault)
    run_rank(rank, [port], {fault: words}, folder)


def run_faulty(words: Sequence[str], folder: Path, fault: str) -> None:
    """Run a command in two processes, of which the second is `killed` or `failing`. None ends the other."""
    context = multiprocessing.get_context("fork")
    (port,) = free_ports(1)
    ranks = [context.Process(target=run_faulty_rank, args=(rank, port, words, folder, fault)) for rank in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(120)
    if any(process.exitcode is None for process in ranks):
        for process in ranks:
            process.kill()
        sys.exit("a process waits for the one that failed")


def launch(
    launcher: str, words: Sequence[str], folder: Path, fault: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command in two processes that a real launcher starts and watches; with a fault as in `make_faulty`."""
    module, *options = LAUNCHERS[launcher]
    program = ["modeling_atri.cli.main"] if fault is None else [__name__, fault]
    paths = {"PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(
        [sys.executable, "-m", module, *options, "-m", *program, *words],
        cwd=folder,
        env=os.environ | paths | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
        capture_output=True,
        text=True,
        timeout=290,
    )


if __name__ == "__main__":
    make_faulty(int(os.environ["RANK"]), sys.argv[2], sys.argv[1])
    sys.exit(main(sys.argv[2:]))
