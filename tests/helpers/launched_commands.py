"""Commands in several processes, as `torchrun` and `accelerate launch` start them."""

import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from pathlib import Path

import torch

from modeling_atri.cli.main import main
from modeling_atri.encode import folder as encode_folder_module


NUM_PROCESSES = 2


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


def run_killed_rank(rank: int, port: int, words: Sequence[str], folder: Path) -> None:
    encode = encode_folder_module.encode_audio
    calls = []

    def killing(*args, **kwargs):
        calls.append(1)
        if rank == 1 and len(calls) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return encode(*args, **kwargs)

    encode_folder_module.encode_audio = killing
    run_rank(rank, [port], {"killed": words}, folder)


def run_killed(words: Sequence[str], folder: Path) -> None:
    """Run `atri encode` in two processes, of which the second is killed in the second part. None ends the other."""
    context = multiprocessing.get_context("fork")
    (port,) = free_ports(1)
    ranks = [context.Process(target=run_killed_rank, args=(rank, port, words, folder)) for rank in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(120)
    if any(process.exitcode is None for process in ranks):
        for process in ranks:
            process.kill()
        sys.exit("a process waits for the one that was killed")
