"""Studies of the objectives and of teaching, each a grid of training runs over several seeds.

All runs train the same small model on the ESC-10 scenes, with the settings of `consistency.yaml` unless their cell
says otherwise. A study is a file of `evidence_study/studies/`, which lists its runs and makes its tables and plots.

    python benchmarks/evidence.py paper --data $ATRI_SCENES --estimate        # how long the missing runs take
    python benchmarks/evidence.py paper --data $ATRI_SCENES --tune            # compare settings on held-out scenes
    python benchmarks/evidence.py paper --data $ATRI_SCENES                   # do all missing runs
    python benchmarks/evidence.py paper --data $ATRI_SCENES --cells use-kcl --seeds 0 1
    python benchmarks/evidence.py paper --report                              # make the tables and plots

The runs are done in `--jobs` processes of one thread each. Results go to `results/evidence/<study>.parquet`, one row
for each run, and those of `--tune` to `results/evidence/<study>_tuning.parquet`. Runs that are done are not repeated,
so a command that was stopped can be given again. A run that continues the model of another run trains that one first
if the folder `--work` does not have it. Models of cells with the same name are shared by all studies.
"""

import argparse
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from consistency_study.results import Run, read_results
from evidence_study.cells import BATCH, BATCH_SIZE, Cell, Study, with_beginnings
from evidence_study.places import Places
from evidence_study.studies import NAMES, find_study
from shared.options import option_parser
from shared.scenes import check_scenes
from tqdm import tqdm


HERE = Path(__file__).parent
RESULTS = HERE / "results" / "evidence"
START = 12.0  # CPU seconds of a run without its steps, on one core of an Intel Xeon
# CPU seconds of each clip of a step, and of each of its captions, by text tower. Taught runs encode no sounds.
CLIP = 0.0025
CAPTIONS = {"scratch": 0.0006, "use": 0.00003, "use-trained": 0.004}

Waiting = list[tuple[Cell, int]]


def main() -> None:
    """Run the command."""
    options = parse_options()
    study: Study = find_study(options.study)
    results, tuning_results = (RESULTS / f"{study.name}{ending}.parquet" for ending in ("", "_tuning"))
    if options.report:
        print(study.report(results, tuning_results, options.work))
        return
    try:
        cells = study.find(options.cells, options.tune)
    except ValueError as error:
        sys.exit(f"evidence.py: {error}")
    places = Places(options.data, options.work, options.tune)
    results = tuning_results if options.tune else results
    waiting = waiting_runs(cells, options.seeds, read_results(results), places)
    minutes = sum(estimated_seconds(cell) for cell, _ in waiting) / 60
    print(f"{len(waiting)} runs to do: about {minutes:.0f} CPU minutes, {options.jobs} at a time.", flush=True)
    if not options.estimate:
        places.split()
        do(waiting, study, places, results, options.jobs)


def parse_options() -> argparse.Namespace:
    """The command's options."""
    parser = option_parser(__doc__)
    parser.add_argument("study", choices=NAMES)
    parser.add_argument("--data", type=Path, help="folder with train/ and dev/")
    parser.add_argument("--cells", nargs="+", default=[], metavar="CELL", help="only these cells (default: all)")
    parser.add_argument("--seeds", nargs="+", type=int, metavar="SEED", help="only these seeds (default: the cell's)")
    parser.add_argument("--work", type=Path, default=Path("runs/evidence"), help="folder for models and features")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="runs at a time")
    parser.add_argument("--estimate", action="store_true", help="only say how long the missing runs take")
    parser.add_argument("--tune", action="store_true", help="do the runs that choose settings, without dev")
    parser.add_argument("--report", action="store_true", help="only make the tables and plots")
    options = parser.parse_args()
    if not options.report:
        check_scenes(parser, options.data)
    return options


def waiting_runs(cells: list[Cell], seeds: list[int] | None, done: list[Run], places: Places) -> Waiting:
    """Runs that are not done, the first seed of all cells first, each after the runs that it continues.

    A run may be done although the work folder no longer has its model. It is repeated if a waiting run continues it.
    """
    finished = {(run["cell"], run["seed"]): run["options"] for run in done}
    waiting: dict[tuple[str, int], Cell] = {}
    for seed in seeds if seeds is not None else range(max(cell.num_seeds for cell in cells)):
        for cell in cells:
            is_done = finished.get((cell.name, seed)) == cell.definition
            if is_done or (seeds is None and seed >= cell.num_seeds):
                continue
            for one in with_beginnings([cell]):
                if one is cell or not places.has_model(one.name, seed):
                    waiting[one.name, seed] = one
    return [(cell, seed) for (_, seed), cell in waiting.items()]


def estimated_seconds(cell: Cell) -> float:
    """CPU seconds of a run."""
    clips = (
        0
        if cell.is_taught or cell.sounds_of is not None
        else cell.options["max_steps"] * cell.options.get(BATCH, BATCH_SIZE)
    )
    captions = cell.captions_a_clip * cell.options.get(BATCH, BATCH_SIZE)
    return START + CLIP * clips + CAPTIONS.get(cell.text, CAPTIONS["scratch"]) * captions


def do(waiting: Waiting, study: Study, places: Places, results: Path, jobs: int) -> None:
    """Do the waiting runs in several processes, and name those that failed at the end."""
    failed: list[str] = []
    depths = [len(with_beginnings([cell])) for cell, _ in waiting]
    with tqdm(total=len(waiting), unit="run") as progress:

        def run(shared_out: Waiting) -> None:
            names, log = run_alone(study, shared_out, places, results, progress)
            failed.extend(f"{name} (see {log})" for name in names)

        # Runs that continue others wait until these have ended.
        for depth in sorted(set(depths)):
            part = [job for job, its_depth in zip(waiting, depths, strict=True) if its_depth == depth]
            with ThreadPoolExecutor(jobs) as executor:
                list(executor.map(run, [part[first::jobs] for first in range(min(jobs, len(part)))]))
    if failed:
        sys.exit(f"Runs failed: {', '.join(failed)}")


def run_alone(study: Study, runs: Waiting, places: Places, results: Path, progress: tqdm) -> tuple[list[str], Path]:
    """Do runs one after another in a process of their own on one thread, and write its messages to a log.

    Returns:
        The names of the runs that did not end, because one of them failed, and the log.
    """
    left = [f"{cell.name}:{seed}" for cell, seed in runs]
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONPATH": os.pathsep.join(path for path in (str(HERE), os.environ.get("PYTHONPATH")) if path),
    }
    folder = places.model(*_first(runs))
    log = folder.with_name(f"{folder.name}.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    words = [study.name, str(places.scenes), str(places.work), str(results), *left]
    command = [sys.executable, "-m", "evidence_study.run", *words, *(["--tune"] if places.is_tuning else [])]
    with (
        open(log, "w", encoding="utf-8") as messages,
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=messages, text=True) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:  # the name of each run that ends
            left.remove(line.strip())
            progress.update()
    return left, log


def _first(runs: Waiting) -> tuple[str, int]:
    cell, seed = runs[0]
    return cell.name, seed


if __name__ == "__main__":
    main()
