"""Timing in turns, and the JSON report that a benchmark prints.

Importing this module keeps torch and numpy to one thread, so import it before them.
"""

import os


# BLAS reads these when it is loaded.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"

import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import transformers


torch.set_num_threads(1)

Key, Way = TypeVar("Key"), TypeVar("Way")
Seconds = Mapping[Key, list[float]]  # of each way, one figure for each round


def cpu_seconds(run: Callable[[], Any]) -> float:
    """CPU time of a call, of all threads together."""
    start = time.process_time()
    run()
    return time.process_time() - start


def wall_seconds(run: Callable[[], Any]) -> float:
    """Wall-clock time of a call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def seconds_in_turns(
    ways: Mapping[Key, Way], rounds: int, timed: Callable[[Way], float] = cpu_seconds, warm_up: bool = True
) -> dict[Key, list[float]]:
    """Time each way once in each round.

    The ways take turns, so that a slow phase of the machine slows all of them. With `warm_up`, each runs once before
    the first round. `timed` runs a way once and returns the seconds it took.
    """
    for way in ways.values() if warm_up else ():
        timed(way)
    seconds: dict[Key, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            seconds[name].append(timed(way))
    return seconds


def medians(seconds: Seconds, digits: int = 4) -> dict[Key, float]:
    """The median of each way."""
    return {name: round(statistics.median(values), digits) for name, values in seconds.items()}


def ratio(seconds: Seconds, numerator: Key, denominator: Key) -> float:
    """The median over the rounds of the quotient of two ways."""
    pairs = zip(seconds[numerator], seconds[denominator], strict=True)
    return statistics.median(first / second for first, second in pairs)


def row(work: str, against: str, value: float, bound: str) -> dict[str, Any]:
    """Make one row of the table: `work` compared with `against` (e.g. "times faster than padded batches").

    `value` is the measured ratio, and `bound` its target, e.g. `">= 5"` or `"<= 1.05"`.
    """
    relation, limit = bound.split()
    reached = value >= float(limit) if relation == ">=" else value <= float(limit)
    return {"work": work, "against": against, "ratio": float(f"{value:.3g}"), "bound": bound, "reached": reached}


def print_report(benchmark: str, **figures: Any) -> None:
    """Print one line of JSON: the benchmark's name and figures, with the versions they were measured with."""
    print(json.dumps({"benchmark": benchmark, **figures, **_environment()}))


def print_scale_report(
    name: str, figures: Mapping[str, Any], bars: Mapping[str, float], size: Mapping[str, Any]
) -> None:
    """Print one line of JSON: what was measured, with units in the names, the limit of some, and at which size."""
    print(json.dumps({"name": name, "figures": figures, "bars": bars, "size": size, "environment": _environment()}))


def _environment() -> dict[str, Any]:
    return {
        "threads": 1,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "machine": platform.machine(),
        "cpu": cpu_model(),
    }


def cpu_model() -> str:
    """The processor's name, as far as the system tells it."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown processor"
