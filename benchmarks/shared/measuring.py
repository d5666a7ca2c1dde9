"""What the benchmarks share: ways that take turns on one thread, and one line of JSON.

Import this before numpy and torch: it keeps them to one thread.
"""

import os


# One thread for BLAS, which reads these when it is loaded.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"

import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import transformers


torch.set_num_threads(1)


def seconds_in_turns(ways: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each way in each round.

    The ways take turns, so that a slow minute of the machine is slow for all; before the first round each runs once.
    """
    for run in ways.values():
        run()
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, run in ways.items():
            start = time.process_time()
            run()
            seconds[way].append(time.process_time() - start)
    return seconds


def ratio(seconds: Mapping[str, list[float]], numerator: str, denominator: str) -> float:
    """Median over the rounds of the quotient of two ways, each pair having run one after the other."""
    pairs = zip(seconds[numerator], seconds[denominator], strict=True)
    return statistics.median(first / second for first, second in pairs)


def row(work: str, against: str, value: float, bound: str) -> dict[str, Any]:
    """One row of the table in the README.

    Args:
        work: what is done.
        against: what ours is compared with, and how, such as "times faster than padded batches".
        value: the ratio.
        bound: what it is meant to be, `">= 5"` or `"<= 1.05"`.
    """
    relation, limit = bound.split()
    reached = value >= float(limit) if relation == ">=" else value <= float(limit)
    return {"work": work, "against": against, "ratio": float(f"{value:.3g}"), "bound": bound, "reached": reached}


def print_report(benchmark: str, rows: list[dict[str, Any]], seconds: Mapping[str, list[float]], **facts: Any) -> None:
    """Print the one line: rows of the table, median CPU seconds of every way, sizes and versions."""
    report = {
        "benchmark": benchmark,
        "rows": rows,
        "seconds": {way: round(statistics.median(values), 4) for way, values in seconds.items()},
        **facts,
        "threads": 1,
        "numpy": np.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "machine": platform.machine(),
    }
    print(json.dumps(report))
