"""Measure a training step of the quickstart with different settings of OpenMP's threads, while cores are busy.

Each setting has a process of its own, because OpenMP reads its variables when torch is loaded. The processes hold the
model, scenes and batches of `atri quickstart` and take turns, a step each: first on the machine as it is found, then
beside as many endless loops as there are cores. Wall time tells how long one waits, and CPU time what it costs. Both
are medians, and the ratios are medians of the ratios in one round, because others may use the machine too:
`load_average` says how many processes wanted a core.

    python benchmarks/waiting_threads.py

It prints one JSON line. Two runs are kept: `results/waiting_threads.json` of a machine on which nothing else ran, and
`results/waiting_threads_crowded.json` of a crowded one.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from shared.options import ROUNDS, SEED, option_parser


SETTINGS = {
    "OpenMP's default": {},
    "atri": {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
CHOSEN = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def main() -> None:
    """Run the command."""
    parser = option_parser(
        __doc__, "two minutes or more", rounds=(5, ROUNDS), batch_size=(64, "scenes"), seed=(0, SEED)
    )
    parser.add_argument("--worker", type=Path, help="folder of scenes; takes a step for each line of its input")
    options = parser.parse_args()
    if options.worker is not None:
        work(options.worker, options.batch_size, options.seed)
        return
    with tempfile.TemporaryDirectory() as folder:
        workers = {name: start_worker(Path(folder), options, variables) for name, variables in SETTINGS.items()}
        loads = {
            name: measure(workers, options.rounds, busy)
            for name, busy in {"as found": False, "with busy loops": True}.items()
        }
        for worker in workers.values():
            worker.communicate(timeout=60)
    print(json.dumps({"benchmark": "waiting_threads", "cores": os.cpu_count(), "rounds": options.rounds} | loads))


def start_worker(folder: Path, options, variables: dict[str, str]) -> subprocess.Popen:
    """Start the process of a setting, and wait until it is ready. The first one writes the scenes."""
    environment = {name: value for name, value in os.environ.items() if name not in CHOSEN} | variables
    command = [
        sys.executable,
        __file__,
        "--worker",
        folder,
        "--batch-size",
        options.batch_size,
        "--seed",
        options.seed,
    ]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    worker = subprocess.Popen(list(map(str, command)), env=environment, text=True, **pipes)
    take_step(worker)  # the first step computes the features
    return worker


def measure(workers: dict[str, subprocess.Popen], rounds: int, busy: bool) -> dict:
    """Let the workers take turns. Returns their medians, ratios to the first of them, and the load of the machine."""
    with busy_loops(os.cpu_count() if busy else 0):
        steps = {name: [] for name in workers}
        for _ in range(rounds):
            for name, worker in workers.items():
                steps[name].append(take_step(worker))
    first = next(iter(steps.values()))
    figures = {"load_average": round(os.getloadavg()[0], 1)}
    for name, own in steps.items():
        figures[name] = {
            f"{kind}_s": round(statistics.median(step[kind] for step in own), 2) for kind in ("wall", "cpu")
        } | {
            f"{kind}_ratio": round(statistics.median(a[kind] / b[kind] for a, b in zip(own, first, strict=True)), 2)
            for kind in ("wall", "cpu")
        }
    return figures


@contextmanager
def busy_loops(count: int):
    """Keep a number of cores busy. Gives the processes that do so."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield loops
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def take_step(worker: subprocess.Popen) -> dict[str, float]:
    """Let a worker take a step, and return its wall and CPU seconds."""
    worker.stdin.write("step\n")
    worker.stdin.flush()
    return json.loads(worker.stdout.readline())


def work(folder: Path, batch_size: int, seed: int) -> None:
    """Take a training step for each line of standard input, and print its seconds."""
    from transformers import TrainerCallback  # with the environment of this process

    from modeling_atri.corpora.soundscapes.scenes import write_soundscapes
    from modeling_atri.languages_atri import ATRI_LANGUAGES
    from modeling_atri.trainer import AtriTrainer, AtriTrainingArguments, load_rows
    from modeling_atri.trainer.scratch import ScratchArguments, caption_texts, model_from_scratch

    class TakeTurns(TrainerCallback):
        """Lets each step wait for a line."""

        def on_step_begin(self, *args, **kwargs):
            if not sys.stdin.readline():
                sys.exit()
            self.start = time.perf_counter(), time.process_time()

        def on_step_end(self, *args, **kwargs):
            wall, cpu = time.perf_counter() - self.start[0], time.process_time() - self.start[1]
            print(json.dumps({"wall": wall, "cpu": cpu}), flush=True)

    if not (folder / "scenes" / "metadata.jsonl").exists():
        write_soundscapes(folder / "scenes", batch_size, seed)
    rows = load_rows(folder / "scenes")
    model, processor = model_from_scratch(
        caption_texts(rows, ATRI_LANGUAGES), ATRI_LANGUAGES, ScratchArguments(), seed
    )
    args = AtriTrainingArguments(
        output_dir=str(folder / "run"),
        objective="akcl",
        max_steps=10_000,  # more than there are lines
        per_device_train_batch_size=batch_size,
        learning_rate=1e-3,
        patch_dropout=0.3,
        seed=seed,
        feature_cache_dir=str(folder / "features"),
        logging_strategy="no",
        save_strategy="no",
        disable_tqdm=True,
        report_to="none",
    )
    AtriTrainer(model, args, processor, rows, callbacks=[TakeTurns()]).train()


if __name__ == "__main__":
    main()
