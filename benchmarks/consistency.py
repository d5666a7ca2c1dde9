"""Who finds the same sounds in every language? The objectives over seeds, at equal steps and at equal text budget.

The same small model, data (the ESC-10 scenes), initialisation and order of clips for every objective of a seed. The
grid in `consistency_grid.py` says which runs there are; each is a process of its own on one thread, and what is done
is not done again, so the command may be stopped and given once more.

    python benchmarks/consistency.py --data $ATRI_SCENES --estimate      # how long it takes, from a few steps
    python benchmarks/consistency.py --data $ATRI_SCENES                 # all runs that are not there yet
    python benchmarks/consistency.py --data $ATRI_SCENES --cells mlclap kcl
    python benchmarks/consistency.py --report                            # tables and plots from results/consistency

Figures and ranks of every run are kept in results/consistency; models and features in `--work`, where the weight error
is taken from. Settings are in consistency.yaml.
"""

import argparse
import json
import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from consistency_grid import CELLS, NUM_LANGUAGES, Cell
from safetensors.torch import load_file
from tqdm import tqdm


HERE = Path(__file__).parent
RESULTS = HERE / "results" / "consistency"
# CPU seconds of a run on one core of an Intel Xeon with AVX-512: to begin and evaluate, of a step, and of a caption of
# every clip of a step.
SECONDS = (25.0, 0.08, 0.018)


def main() -> None:
    """Run the command."""
    options = parse_options()
    if options.report:
        from consistency_report import report  # matplotlib and the bootstrap are needed for nothing else

        report(RESULTS)
        return
    waiting = [run for run in runs_in_order(options.cells) if not (RESULTS / f"{name_of(*run)}.json").exists()]
    minutes = sum(estimated_seconds(cell) for cell, _ in waiting) / 60
    print(f"{len(waiting)} runs to do: about {minutes:.0f} CPU minutes, {options.jobs} at a time.", flush=True)
    if not options.estimate:
        try:
            do(waiting, options)
        finally:
            write_weight_errors(options.work)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with train/ and dev/")
    parser.add_argument("--cells", nargs="+", default=list(CELLS), choices=list(CELLS), metavar="CELL")
    parser.add_argument("--work", type=Path, default=Path("runs/consistency"), help="for models and cached features")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="runs at a time")
    parser.add_argument("--estimate", action="store_true", help="only say how long it takes")
    parser.add_argument("--report", action="store_true", help="only make tables and plots")
    options = parser.parse_args()
    if not options.report and (options.data is None or not (options.data / "train" / "metadata.jsonl").is_file()):
        parser.error(f"--data must name a folder with train/metadata.jsonl and dev/metadata.jsonl; got {options.data}")
    return options


def runs_in_order(names: list[str]) -> list[tuple[Cell, int]]:
    """Cells and seeds: the first seeds of all cells first, so that an unfinished grid can be looked at."""
    cells = [CELLS[name] for name in names]
    return [
        (cell, seed)
        for seed in range(max(cell.num_seeds for cell in cells))
        for cell in cells
        if seed < cell.num_seeds
    ]


def name_of(cell: Cell, seed: int) -> str:
    """Of a run's files."""
    return f"{cell.name}-{seed}"


def estimated_seconds(cell: Cell) -> float:
    """CPU seconds of a run."""
    start, step, caption = SECONDS
    return start + cell.steps * (step + caption * cell.captions_a_step)


def do(waiting: list[tuple[Cell, int]], options: argparse.Namespace) -> None:
    """Run what is waiting, several at a time; runs that fail are named at the end."""
    continued = [run for run in waiting if run[0].begins_with is not None]
    first = [run for run in waiting if run[0].begins_with is None]
    # A run may be done, but its model, which is kept in the work folder alone, be gone.
    for cell, seed in continued:
        needed = (CELLS[cell.begins_with], seed)
        if needed not in first and not (options.work / name_of(*needed) / "model.safetensors").exists():
            first.append(needed)
    failed: list[str] = []
    with tqdm(total=len(first) + len(continued), unit="run") as progress:

        def run(job: tuple[Cell, int]) -> None:
            if run_alone(*job, options) != 0:
                failed.append(name_of(*job))
            progress.update()

        for part in (first, continued):
            with ThreadPoolExecutor(options.jobs) as executor:
                list(executor.map(run, part))
    if failed:
        sys.exit(f"Failed: {', '.join(failed)}. {options.work} has a log of each.")


def run_alone(cell: Cell, seed: int, options: argparse.Namespace) -> int:
    """Run a cell and a seed in a process of one thread; its exit status. What it says goes into a log."""
    command = [sys.executable, HERE / "consistency_run.py", cell.name, str(seed), options.data, options.work, RESULTS]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    options.work.mkdir(parents=True, exist_ok=True)
    with open(options.work / f"{name_of(cell, seed)}.log", "w", encoding="utf-8") as log:
        return subprocess.run(command, env=environment, stdout=log, stderr=log, check=False).returncode


def write_weight_errors(work: Path) -> None:
    """How far the weights of each run ended from those of its twin, of which the work folder has the models.

    The twin is KCL with all languages, of the same start, clips and steps: the full distribution. The distance is over
    the way from the start that the twin itself went.
    """
    path = RESULTS / "weight_errors.json"
    errors = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for cell, seed in runs_in_order(list(CELLS)):
        twin = twin_of(cell)
        files = [work / name_of(one, seed) / "model.safetensors" for one in (cell, twin)]
        if cell.name != twin.name and all(file.exists() for file in files):
            ours, theirs = map(load_file, files)
            squares = sum(((ours[name] - theirs[name]) ** 2).sum().item() for name in theirs)
            report = RESULTS / f"{name_of(twin, seed)}.json"
            way = json.loads(report.read_text(encoding="utf-8"))["distance_from_start"]
            errors[name_of(cell, seed)] = round(math.sqrt(squares) / way, 4)
    path.write_text(json.dumps(errors, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def twin_of(cell: Cell) -> Cell:
    """KCL with all languages, from the same start, in as many steps where there is such a cell."""
    same = [
        other
        for other in CELLS.values()
        if other.objective == "kcl"
        and other.captions_a_step == NUM_LANGUAGES
        and other.loss is None
        and (other.steps, other.begins_with, other.text_encoder) == (cell.steps, cell.begins_with, cell.text_encoder)
        and other.options.get("freeze_text") == cell.options.get("freeze_text")
    ]
    return same[0] if same else cell


if __name__ == "__main__":
    main()
