"""The results file of a study: a Parquet table with one row for each run.

A run is a dictionary with the columns of `SCHEMA` as keys. Processes may add runs to the same file at the same time,
and a process that is killed leaves the file as it was.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from modeling_atri.files import remove_unfinished, written_whole


Run = dict[str, Any]

AS_JSON = ("options", "environment", "curve")  # values that are stored as JSON text
SCHEMA = pa.schema(
    {
        "cell": pa.string(),  # name of a cell of grid.py
        "seed": pa.int64(),
        "steps": pa.int64(),
        "options": pa.string(),  # training arguments of the cell
        "captions_a_clip": pa.int64(),  # captions of each clip that the text tower encoded during the run
        "num_parameters": pa.int64(),
        "metrics": pa.map_(pa.string(), pa.float64()),  # as `retrieval_table` returns them
        "last_loss": pa.float64(),
        "distance_from_start": pa.float64(),  # L2 distance of all weights from their initial values
        "cpu_seconds": pa.float64(),  # of training
        "peak_memory_mb": pa.int64(),
        "environment": pa.string(),
        # (languages, captions), 2 x the rank of each caption's clip: ranks end in .5 where scores tie. Null for the
        # tuning runs, whose ranks were not kept.
        "doubled_ranks": pa.list_(pa.list_(pa.uint16())),
        "weight_error": pa.float64(),  # see `weight_errors.py`; null where there is no twin
        # Of the studies of `evidence.py`: measurements during the run, and CPU seconds that the states of all captions
        # took, which are computed once for all runs with the same frozen text encoder.
        "curve": pa.string(),
        "cpu_seconds_of_text_states": pa.float64(),
        "cpu_seconds_of_archive": pa.float64(),  # of the clips of a taught run, computed once a teacher
    }
)


def read_results(file: Path) -> list[Run]:
    """Read the runs of a study, ordered by cell and seed; an empty list if there is no file yet."""
    if not file.exists():
        return []
    runs = pq.read_table(file).to_pylist()
    for run in runs:
        run |= {name: json.loads(run[name]) for name in AS_JSON if run.get(name) is not None}
        run["metrics"] = dict(run["metrics"])
        if run["doubled_ranks"] is not None:
            run["doubled_ranks"] = np.array(run["doubled_ranks"], dtype=np.uint16)
    return runs


@contextmanager
def edited_results(file: Path) -> Iterator[list[Run]]:
    """Yield the runs of a study as a list to change in place, and write the list back at the end.

    The folder is locked meanwhile, so other processes wait before they read the runs they change.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(file.parent, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        remove_unfinished(file.parent)
        runs = read_results(file)
        yield runs
        rows = [_as_row(run) for run in sorted(runs, key=lambda run: (run["cell"], run["seed"]))]
        with written_whole(file) as output:
            pq.write_table(pa.Table.from_pylist(rows, SCHEMA), output, compression="zstd")
    finally:
        os.close(lock)  # unlocks


def add_run(file: Path, run: Run) -> None:
    """Add a run to the file of its study, in place of an earlier run of the same cell and seed."""
    with edited_results(file) as runs:
        runs[:] = [other for other in runs if (other["cell"], other["seed"]) != (run["cell"], run["seed"])]
        runs.append(run)


def model_file(work: Path, cell: str, seed: int) -> Path:
    """The weights of a run's model, which only the work folder has."""
    return work / f"{cell}-{seed}" / "model.safetensors"


def _as_row(run: Run) -> Run:
    ranks = run.get("doubled_ranks")
    as_json = {name: json.dumps(run[name]) for name in AS_JSON if run.get(name) is not None}
    return run | as_json | {"metrics": [*run["metrics"].items()], "doubled_ranks": None if ranks is None else [*ranks]}
