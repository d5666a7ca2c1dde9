"""Compare the objectives over several seeds, at equal steps and at equal text budget.

All objectives train the same small model on the same data (the ESC-10 scenes); runs of the same seed share the initial
weights and the order of clips. The runs are listed in `consistency_study/grid.py` and their settings in
`consistency.yaml`. Each run is a process of its own on one thread. Runs that are done are not repeated, so a command
that was stopped can simply be given again.

    python benchmarks/consistency.py --data $ATRI_SCENES --estimate      # estimate how long the remaining runs take
    python benchmarks/consistency.py --data $ATRI_SCENES                 # do all remaining runs
    python benchmarks/consistency.py --data $ATRI_SCENES --cells mlclap kcl
    python benchmarks/consistency.py --data $ATRI_SCENES --tune          # compare settings on a fold held out of train
    python benchmarks/consistency.py --report                            # make the tables and plots

Results go to `results/consistency.parquet` and `results/consistency_tuning.parquet`, one row for each run. Models and
cached features go to the folder that `--work` names.
"""

import argparse
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from consistency_study.grid import CELLS, TUNING_CELLS, Cell
from consistency_study.results import Run, model_file, read_results
from consistency_study.weight_errors import write_weight_errors
from shared.options import option_parser
from shared.scenes import check_scenes, hold_out_fold
from tqdm import tqdm


HERE = Path(__file__).parent
RESULTS = HERE / "results" / "consistency.parquet"
TUNING_RESULTS = HERE / "results" / "consistency_tuning.parquet"
# CPU seconds on one core of an Intel Xeon with AVX-512: of a run without its steps, of a step, and of each caption of
# every clip of a step.
SECONDS = (25.0, 0.08, 0.018)


def main() -> None:
    """Run the command."""
    options = parse_options()
    if options.report:
        from consistency_study.report import report  # only the report needs matplotlib

        report(RESULTS, TUNING_RESULTS)
        return
    results, cells = RESULTS, [CELLS[name] for name in options.cells]
    if options.tune:
        results, cells = TUNING_RESULTS, list(TUNING_CELLS.values())
        options.data = held_out(options.data, options.work / "held_out")
    done = read_results(results)
    waiting = [(cell, seed) for cell, seed in runs_in_order(cells) if not is_done(cell, seed, done)]
    minutes = sum(estimated_seconds(cell) for cell, _ in waiting) / 60
    print(f"{len(waiting)} runs to do: about {minutes:.0f} CPU minutes, {options.jobs} at a time.", flush=True)
    if not options.estimate:
        try:
            do(waiting, options, results)
        finally:
            if not options.tune:
                write_weight_errors(RESULTS, options.work)


def parse_options() -> argparse.Namespace:
    """The command's options."""
    parser = option_parser(__doc__)
    parser.add_argument("--data", type=Path, help="folder with train/ and dev/")
    parser.add_argument("--cells", nargs="+", default=list(CELLS), choices=list(CELLS), metavar="CELL")
    parser.add_argument("--work", type=Path, default=Path("runs/consistency"), help="folder for models and features")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="runs at a time")
    parser.add_argument("--estimate", action="store_true", help="only say how long the remaining runs take")
    parser.add_argument("--tune", action="store_true", help="compare settings without evaluating on dev")
    parser.add_argument("--report", action="store_true", help="only make the tables and plots")
    options = parser.parse_args()
    if options.tune and options.cells != list(CELLS):
        parser.error("--tune has its own cells: leave out --cells")
    if not options.report:
        check_scenes(parser, options.data)
    return options


def held_out(data: Path, folder: Path) -> Path:
    """Split train into a folder with train/ and dev/, so that dev's clips are of a fold that train does not have."""
    for part, file in zip(("train", "dev"), hold_out_fold(data / "train", folder), strict=True):
        (folder / part).mkdir(exist_ok=True)
        file.replace(folder / part / "metadata.jsonl")
    return folder


def runs_in_order(cells: list[Cell]) -> list[tuple[Cell, int]]:
    """Cells with seeds, the first seed of all cells first, so that an unfinished grid can already be reported."""
    num_seeds = max(cell.num_seeds for cell in cells)
    return [(cell, seed) for seed in range(num_seeds) for cell in cells if seed < cell.num_seeds]


def is_done(cell: Cell, seed: int, done: list[Run]) -> bool:
    """Whether `done` has the run with the options that the cell has today."""
    return any((run["cell"], run["seed"], run["options"]) == (cell.name, seed, cell.options) for run in done)


def estimated_seconds(cell: Cell) -> float:
    """CPU seconds of a run."""
    start, step, caption = SECONDS
    return start + cell.steps * (step + caption * cell.captions_a_step)


def do(waiting: list[tuple[Cell, int]], options: argparse.Namespace, results: Path) -> None:
    """Do the waiting runs, several at a time, and name those that failed at the end."""
    continued = [run for run in waiting if run[0].begins_with is not None]
    first = [run for run in waiting if run[0].begins_with is None]
    # A run may be done although the work folder no longer has its model, which another run continues.
    for cell, seed in continued:
        needed = (CELLS[cell.begins_with], seed)
        if needed not in first and not model_file(options.work, cell.begins_with, seed).exists():
            first.append(needed)
    failed: list[str] = []
    with tqdm(total=len(first) + len(continued), unit="run") as progress:

        def run(job: tuple[Cell, int]) -> None:
            cell, seed = job
            if run_alone(cell, seed, options, results) != 0:
                failed.append(f"{cell.name}-{seed}")
            progress.update()

        for part in (first, continued):
            with ThreadPoolExecutor(options.jobs) as executor:
                list(executor.map(run, part))
    if failed:
        sys.exit(f"Failed: {', '.join(failed)}. {options.work} has a log of each.")


def run_alone(cell: Cell, seed: int, options: argparse.Namespace, results: Path) -> int:
    """Do a run in a process of its own on one thread, write its output to a log, and return its exit status."""
    words = [cell.name, str(seed), options.data, options.work, results]
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONPATH": os.pathsep.join(path for path in (str(HERE), os.environ.get("PYTHONPATH")) if path),
    }
    options.work.mkdir(parents=True, exist_ok=True)
    with open(options.work / f"{cell.name}-{seed}.log", "w", encoding="utf-8") as log:
        command = [sys.executable, "-m", "consistency_study.run", *words]
        return subprocess.run(command, env=environment, stdout=log, stderr=log, check=False).returncode


if __name__ == "__main__":
    main()
