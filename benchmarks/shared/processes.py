"""Memory and CPU time of this process and of those that it starts."""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple


class Usage(NamedTuple):
    """What a process took: seconds, and the largest size that it had in memory, in bytes."""

    wall_seconds: float
    cpu_seconds: float
    peak_memory: int


def peak_memory() -> int:
    """The largest size that this process has had in memory, in bytes."""
    if sys.platform == "linux":
        return _memory("VmHWM")  # `ru_maxrss` would begin with that of the parent
    return _bytes(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def resident_memory() -> int:
    """The size that this process has in memory now, in bytes. Only on Linux."""
    return _memory("VmRSS")


def cpu_seconds_of_children() -> float:
    """CPU time of all processes that this one has started and that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def run_measured(command: Sequence[str], **options: int) -> Usage:
    """Run a command to its end, with options of `subprocess.Popen`. If it fails, this process ends too."""
    began = time.monotonic()
    process = subprocess.Popen(command, **options)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"{' '.join(command)} failed with status {os.waitstatus_to_exitcode(status)}")
    return Usage(time.monotonic() - began, usage.ru_utime + usage.ru_stime, _bytes(usage.ru_maxrss))


def _memory(kind: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    (line,) = (line for line in lines if line.startswith(kind))
    return int(line.split()[1]) * 1024


def _bytes(ru_maxrss: int) -> int:
    return ru_maxrss if sys.platform == "darwin" else ru_maxrss * 1024
