"""Who finds the same sounds in every language? The objectives over seeds, at equal steps and at equal text budget.

The same small model, data (the ESC-10 scenes), initialisation and order of clips for every objective of a seed. The
grid in `consistency_grid.py` says which runs there are; each is a process of its own on one thread, and what is done
is not done again, so the command may be stopped and given once more.

    python benchmarks/consistency.py --data $ATRI_SCENES --estimate      # how long it takes, from a few steps
    python benchmarks/consistency.py --data $ATRI_SCENES                 # all runs that are not there yet
    python benchmarks/consistency.py --data $ATRI_SCENES --cells mlclap kcl
    python benchmarks/consistency.py --data $ATRI_SCENES --tune          # settings, on a fold held out of train
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

from consistency_grid import CELLS, NUM_LANGUAGES, TUNING_CELLS, Cell
from esc10 import hold_out_fold
from safetensors.torch import load_file
from tqdm import tqdm


HERE = Path(__file__).parent
RESULTS = HERE / "results" / "consistency"
TUNING_RESULTS = HERE / "results" / "consistency_tuning"
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
    results = RESULTS
    cells = [CELLS[name] for name in options.cells]
    if options.tune:
        results, cells = TUNING_RESULTS, list(TUNING_CELLS.values())
        options.data = held_out(options.data, options.work / "held_out")
    waiting = [run for run in runs_in_order(cells) if not is_done(*run, results)]
    minutes = sum(estimated_seconds(cell) for cell, _ in waiting) / 60
    print(f"{len(waiting)} runs to do: about {minutes:.0f} CPU minutes, {options.jobs} at a time.", flush=True)
    if not options.estimate:
        try:
            do(waiting, options, results)
        finally:
            if not options.tune:
                write_weight_errors(options.work)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with train/ and dev/")
    parser.add_argument("--cells", nargs="+", default=list(CELLS), choices=list(CELLS), metavar="CELL")
    parser.add_argument("--work", type=Path, default=Path("runs/consistency"), help="for models and cached features")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="runs at a time")
    parser.add_argument("--estimate", action="store_true", help="only say how long it takes")
    parser.add_argument("--tune", action="store_true", help="compare settings without a look at dev")
    parser.add_argument("--report", action="store_true", help="only make tables and plots")
    options = parser.parse_args()
    if options.tune and options.cells != list(CELLS):
        parser.error("--tune has cells of its own: leave out --cells")
    if not options.report and (options.data is None or not (options.data / "train" / "metadata.jsonl").is_file()):
        parser.error(f"--data must name a folder with train/metadata.jsonl and dev/metadata.jsonl; got {options.data}")
    return options


def held_out(data: Path, folder: Path) -> Path:
    """A folder with train/ and dev/ of which both are parts of train: dev's clips are of a fold that train's lack."""
    for part, file in zip(("train", "dev"), hold_out_fold(data / "train", folder), strict=True):
        (folder / part).mkdir(exist_ok=True)
        file.replace(folder / part / "metadata.jsonl")
    return folder


def runs_in_order(cells: list[Cell]) -> list[tuple[Cell, int]]:
    """Cells and seeds: the first seeds of all cells first, so that an unfinished grid can be looked at."""
    return [
        (cell, seed)
        for seed in range(max(cell.num_seeds for cell in cells))
        for cell in cells
        if seed < cell.num_seeds
    ]


def name_of(cell: Cell, seed: int) -> str:
    """Of a run's files."""
    return f"{cell.name}-{seed}"


def is_done(cell: Cell, seed: int, results: Path) -> bool:
    """Whether there are figures of a run, made with the options that the cell has today."""
    report = results / f"{name_of(cell, seed)}.json"
    return report.exists() and json.loads(report.read_text(encoding="utf-8"))["options"] == cell.options


def estimated_seconds(cell: Cell) -> float:
    """CPU seconds of a run."""
    start, step, caption = SECONDS
    return start + cell.steps * (step + caption * cell.captions_a_step)


def do(waiting: list[tuple[Cell, int]], options: argparse.Namespace, results: Path) -> None:
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
            if run_alone(*job, options, results) != 0:
                failed.append(name_of(*job))
            progress.update()

        for part in (first, continued):
            with ThreadPoolExecutor(options.jobs) as executor:
                list(executor.map(run, part))
    if failed:
        sys.exit(f"Failed: {', '.join(failed)}. {options.work} has a log of each.")


def run_alone(cell: Cell, seed: int, options: argparse.Namespace, results: Path) -> int:
    """Run a cell and a seed in a process of one thread; its exit status. What it says goes into a log."""
    command = [sys.executable, HERE / "consistency_run.py", cell.name, str(seed), options.data, options.work, results]
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
    for cell, seed in runs_in_order(list(CELLS.values())):
        twin = twin_of(cell)
        files = [work / name_of(one, seed) / "model.safetensors" for one in (cell, twin)]
        are_done = all(is_done(one, seed, RESULTS) for one in (cell, twin))
        if cell.name == twin.name or not are_done:
            errors.pop(name_of(cell, seed), None)
        elif all(file.exists() for file in files):
            ours, theirs = map(load_file, files)
            squares = sum(((ours[name] - theirs[name]) ** 2).sum().item() for name in theirs)
            report = RESULTS / f"{name_of(twin, seed)}.json"
            way = json.loads(report.read_text(encoding="utf-8"))["distance_from_start"]
            errors[name_of(cell, seed)] = round(math.sqrt(squares) / way, 4)
    path.write_text(json.dumps(errors, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def twin_of(cell: Cell) -> Cell:
    """KCL with all languages, from the same start, in as many steps of the same rate, where there is such a cell."""
    same = [
        other
        for other in CELLS.values()
        if other.objective == "kcl"
        and other.captions_a_step == NUM_LANGUAGES
        and other.loss is None
        and "ranking_weight" not in other.options
        and (other.steps, other.begins_with, other.text_encoder) == (cell.steps, cell.begins_with, cell.text_encoder)
        and all(other.options.get(name) == cell.options.get(name) for name in ("freeze_text", "learning_rate"))
    ]
    return same[0] if same else cell


if __name__ == "__main__":
    main()
