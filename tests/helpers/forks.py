"""Processes of their own for tests, forked from one that has imported the libraries, which takes several seconds."""

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple


_CONTEXT = multiprocessing.get_context("forkserver")
# Nothing of this repository, so that a process imports what the tests are about as a new one would.
_CONTEXT.set_forkserver_preload(["torch", "transformers.trainer", "torch.distributed.algorithms.join"])


class Ended(NamedTuple):
    """How a process ended: its exit status, negative for a signal, and what it wrote, standard error included."""

    status: int
    said: str


def call(function: Callable[..., None], *args: Any, timeout: float = 280.0) -> Ended:
    """Call a function in a process of its own with one thread, in the environment of this one.

    Args:
        function: of a module, where the process finds it by its name.
        args: what it is called with; they are pickled.
        timeout: in seconds; a process that takes longer is killed.
    """
    with tempfile.NamedTemporaryFile("r", encoding="utf-8", errors="replace") as log:
        process = _CONTEXT.Process(target=_run, args=(log.name, dict(os.environ), function, args))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
        return Ended(process.exitcode, log.read())


def check_call(function: Callable[..., None], *args: Any, timeout: float = 280.0) -> str:
    """Call a function as `call` does, fail if the process does, and return what it wrote."""
    ended = call(function, *args, timeout=timeout)
    assert ended.status == 0, ended.said[-8000:]
    return ended.said


def run_program(program: str, *arguments: str, folder: Path) -> str:
    """Run the text of a program, as `call` does, in a folder; what it wrote.

    Nothing of this repository is imported for it.
    """
    return check_call(_run_program, program, arguments, folder)


def _run_program(program: str, arguments: tuple[str, ...], folder: Path) -> None:
    os.chdir(folder)
    sys.argv = ["-c", *arguments]
    exec(compile(program, "<program>", "exec"), {"__name__": "__main__"})


def _run(log: str, environment: dict[str, str], function: Callable[..., None], args: tuple[Any, ...]) -> None:
    import torch

    os.environ.clear()
    os.environ.update(environment)
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    torch.set_num_threads(1)
    function(*args)
