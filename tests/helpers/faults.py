"""Training runs that are killed and resumed until they end; what the tests of checkpoints run as a script.

`python -m tests.helpers.faults kill FOLDER [KILLS] [SEED]` kills runs of every case at random points with SIGKILL,
KILLS times or more (20) and each case at least once, resumes each from its last checkpoint, and compares what they
leave with runs that nobody stopped, bit for bit. `... full FOLDER` saves until there is no room.

Every run is a process of its own, forked once everything is imported. `break_at_places` breaks runs at chosen places.
"""

import gc
import io
import json
import os
import random
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback
from transformers.utils import is_peft_available

from modeling_atri import AtriModel
from modeling_atri.trainer import AtriTrainer
from modeling_atri.trainer.run.checkpoints import SavingError, checkpoints
from modeling_atri.trainer.run.manifest import checkpoint_fault
from tests.helpers.streams import stream_of
from tests.helpers.tiny import tiny_config, tiny_processor
from tests.helpers.training import make_arguments, make_rows, make_trainer


# Twenty clips in batches of four: five steps an epoch. Dropout, patch dropout and drop path in all of them.
NUM_CLIPS = 20
_MOST_KILLS = 5  # of a run; then it may end, which one that saves seldom never would
_COMMON = {
    "num_train_epochs": 3,
    "optim": "adamw_torch",
    "learning_rate": 3e-3,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 3,
    "max_grad_norm": 0.5,
    "patch_dropout": 0.25,
    "save_strategy": "steps",
    "save_steps": 2,
    "save_total_limit": 2,
    "logging_steps": 3,
}
_AUGMENTATION = {"mix_probability": 0.5, "gain_db": 6.0, "time_warp": 0.3, "time_masks": 1}
CASES: dict[str, dict[str, Any]] = {
    "kcl, drawn languages, from scratch": {
        **{"objective": "kcl", "languages_per_step": 2, "from_scratch": True, **_AUGMENTATION},
        **{"feature_cache_dir": "features", "dataloader_num_workers": 1, "save_steps": 3},
    },
    "akcl, accumulation, best model": {
        **{"objective": "akcl", "gradient_accumulation_steps": 2, "save_steps": 1, "num_train_epochs": 2},
        **{
            "eval_strategy": "steps",
            "eval_steps": 1,
            "load_best_model_at_end": True,
            "metric_for_best_model": "mean_audio_to_text_mAP@10",
        },
    },
    "cacl, text cache, epochs": {
        **{"objective": "cacl", "freeze_text": True, "text_cache_dir": "states", "logging_strategy": "epoch"},
        **{"eval_strategy": "epoch", "save_steps": 5, "max_steps": 13},
    },
    "mlclap, at every epoch's end": {
        **{"objective": "mlclap", "save_strategy": "epoch", "eval_strategy": "epoch", "logging_steps": 4},
    },
    "kcl, two workers, accumulation": {
        **{"objective": "kcl", "dataloader_num_workers": 2, "gradient_accumulation_steps": 2, **_AUGMENTATION},
        **{"save_steps": 1, "num_train_epochs": 2},
    },
    "mlclap, bad rows": {
        **{"objective": "mlclap", "on_bad_row": "skip", "bad_rows": (3, 11, 12), "dataloader_num_workers": 1},
        **{"max_audio_seconds": 0.3},
    },
    "kcl, stream, two workers": {
        **{
            "objective": "kcl",
            "dataloader_num_workers": 2,
            "shards": (7, 3, 10),
            "shuffle_buffer": 6,
            **_AUGMENTATION,
        },
        **{"save_steps": 1, "num_train_epochs": 2},
    },
    "cacl, stream": {
        **{"objective": "cacl", "shards": (7, 3, 10), "shuffle_buffer": 6, "save_steps": 1, "num_train_epochs": 2},
        **_AUGMENTATION,
    },
    "mlclap, stream of unknown length, bad rows": {
        **{"objective": "mlclap", "on_bad_row": "skip", "bad_rows": (3, 11, 12), "dataloader_num_workers": 1},
        **{"shards": (1, 19), "is_known": False, "max_steps": 13, "save_steps": 3, "from_scratch": True},
    },
    "akcl, one checkpoint": {"objective": "akcl", "save_total_limit": 1, "save_steps": 1, "num_train_epochs": 2},
    "cacl, in chunks": {
        **{"objective": "cacl", "audio_chunk_size": 2, "text_chunk_size": 3, "save_steps": 4, "max_steps": 11},
    },
}
if is_peft_available():
    CASES["kcl, adapter"] = {"objective": "kcl", "lora_rank": 2, "lora_dropout": 0.1, "save_steps": 1}


def make_run(case: str, folder: Path) -> AtriTrainer:
    """The trainer of a case, with caches below its folder."""
    options = _COMMON | CASES[case]
    model = _model(folder, options.pop("from_scratch", False), "lora_rank" in options)
    for name in ("feature_cache_dir", "text_cache_dir"):
        if name in options:
            options[name] = str(folder / options[name])
    rows = make_rows(NUM_CLIPS, num_groups=8 if "mix_probability" in options else None)
    for item in options.pop("bad_rows", ()):
        rows[item]["audio"] = {"path": None, "bytes": b"no sound"}
    shards, is_known = options.pop("shards", None), options.pop("is_known", True)
    rows = rows if shards is None else stream_of(rows, shards, is_known)
    args = make_arguments(folder / "run", **options)
    return make_trainer(args, rows, make_rows(6, seed=1) if "eval_strategy" in options else None, model=model)


def _model(folder: Path, from_scratch: bool, needs_folder: bool) -> AtriModel:
    config = tiny_config(hidden_dropout=0.1, drop_path_rate=0.1)
    config.text_config.dropout = 0.1
    torch.manual_seed(0)
    model = AtriModel(config)
    if not from_scratch:
        mel_norm = model.audio_model.mel_norm
        mel_norm.set_statistics(
            torch.full_like(mel_norm.running_mean, -20.0), torch.full_like(mel_norm.running_var, 300.0)
        )
    if not needs_folder:
        return model
    base = folder / "base"
    if not base.exists():
        model.save_pretrained(folder / "base.tmp")
        (folder / "base.tmp").rename(base)
    return AtriModel.from_pretrained(base)


def run(case: str, folder: Path) -> None:
    """Train from the last checkpoint, if there is one, to the end, and write down what came of it."""
    folder.mkdir(parents=True, exist_ok=True)
    trainer = make_run(case, folder)
    trainer.train(resume_from_checkpoint=any((folder / "run").glob("checkpoint-*")))
    trainer.save_model()
    history = [_without_times(entry) for entry in trainer.state.log_history if "train_runtime" not in entry]
    if trainer.is_world_process_zero():
        (folder / "history.json").write_text(json.dumps(history, sort_keys=True))


def _without_times(entry: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in entry.items() if not name.endswith(("_runtime", "_per_second"))}


def differences(first: Path, second: Path) -> list[str]:
    """What of a finished run a second does not have, bit for bit: logged losses and figures, weights, all states."""
    patterns = ("*.safetensors", "checkpoint-*/*.safetensors", "checkpoint-*/*.pt", "checkpoint-*/rng_state*.pth")
    patterns += ("checkpoint-*/stream_place_*.json",)
    names = [path.relative_to(first).as_posix() for pattern in patterns for path in first.glob(f"run/{pattern}")]
    names.append("history.json")
    different = [name for name in names if _content(first / name) != _content(second / name)]
    # A clip is noted when it is trained on, before the next checkpoint: those that are come in any order.
    log = "run/train_left_out.jsonl"
    lines = [sorted((_content(folder / log) or b"").splitlines()) for folder in (first, second)]
    return sorted([*different, log] if lines[0] != lines[1] else different)


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


# Processes


def start(task: Callable[[], None], log: Path) -> int:
    """Fork a process that does a task; what it says goes to a file."""
    process = os.fork()
    if process:
        return process
    try:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        task()
    except BaseException:  # noqa: BLE001 - a fork must not go on as its parent
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def finish(process: int) -> int:
    """The exit status of a process, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def check_ended(status: int, log: Path) -> None:
    if status != 0:
        sys.exit(f"A run ended with status {status}:\n{log.read_text()[-6000:]}")


def kill_at_random(case: str, folder: Path, seconds: float, rng: random.Random) -> tuple[int, int]:
    """Kill and resume a run until it ends; how often it was killed, and how often inside a save."""
    log = folder.with_suffix(".log")
    kills = inside = 0
    while kills < _MOST_KILLS:
        process = start(lambda: run(case, folder), log)
        deadline = time.monotonic() + rng.uniform(0.05, 0.9) * seconds
        while (
            time.monotonic() < deadline and os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        ):
            time.sleep(0.001)
        os.kill(process, signal.SIGKILL)
        status = finish(process)
        if status != -signal.SIGKILL:
            check_ended(status, log)
            return kills, inside
        kills += 1
        inside += (folder / "run" / ".unfinished").exists()
    check_ended(finish(start(lambda: run(case, folder), log)), log)
    return kills, inside


def kill_randomly(folder: Path, num_kills: int, seed: int) -> None:
    """Runs of all cases in turn, until each was killed, and all together as many times."""
    rng = random.Random(seed)
    killed, killed_inside, number = dict.fromkeys(CASES, 0), 0, 0
    durations: dict[str, float] = {}
    while sum(killed.values()) < num_kills or not all(killed.values()):
        case = list(CASES)[number % len(CASES)]
        expected, broken = (folder / name for name in (f"expected {number % len(CASES)}", f"killed {number}"))
        if case not in durations:
            begin, log = time.monotonic(), folder / "log"
            check_ended(finish(start(lambda case=case, expected=expected: run(case, expected), log)), log)
            durations[case] = time.monotonic() - begin
        kills, inside = kill_at_random(case, broken, durations[case], rng)
        killed[case] += kills
        killed_inside, number = killed_inside + inside, number + 1
        print(f"{case}: killed {kills} times, {inside} inside a save", flush=True)
        if different := differences(expected, broken):
            sys.exit(f"{case}: not what a run that nobody stopped leaves: {different}")
    counts = {"runs": number, "kills": sum(killed.values()), "kills inside a save": killed_inside}
    print(json.dumps(counts | {"all equal": True}))


# Chosen places


def die_while_saving(name: str, times: int) -> None:
    """Make this process kill itself once half of a file has been written for the so-manieth time."""
    save, left = torch.save, [times]

    def half(content: Any, file: Any, *args: Any, **kwargs: Any) -> None:
        left[0] -= Path(file).name == name
        if left[0] > 0:
            save(content, file, *args, **kwargs)
            return
        save(content, whole := io.BytesIO())
        Path(file).write_bytes(whole.getvalue()[: whole.tell() // 2])
        os.kill(os.getpid(), signal.SIGKILL)

    torch.save = half


def die_while_moving(folder: Path, times: int) -> None:
    """Make this process kill itself once so many files were moved into a folder."""
    replace, left = os.replace, [times]

    def move(source: Any, target: Any) -> None:
        replace(source, target)
        left[0] -= Path(target).parent == folder
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    os.replace = move


class FullDisk(TrainerCallback):
    """From a step on, no file may grow larger than some bytes: writing beyond is an error of the system's."""

    def __init__(self, step: int, num_bytes: int):
        self.step, self.num_bytes = step, num_bytes

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.num_bytes, self.num_bytes))


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def inside_a_checkpoint(folder: Path) -> dict[str, Any]:
    """Killed with half an optimizer state written, and again when half of the final model had been moved."""
    case, log = "akcl, accumulation, best model", folder / "log"
    check_ended(finish(start(lambda: run(case, folder / "expected"), log)), log)

    def broken(prepare: Callable[[], None]) -> int:
        def task() -> None:
            prepare()
            run(case, folder / "killed")

        return finish(start(task, log))

    run_folder = folder / "killed" / "run"
    first = broken(lambda: die_while_saving("optimizer.pt", 4))
    found = {
        "status": first,
        "left": listing(run_folder),
        "part": listing(run_folder / ".unfinished" / "checkpoint-4"),
    }
    second = broken(lambda: die_while_moving(run_folder, 3))
    found |= {"second status": second, "left in the end": listing(run_folder)}
    check_ended(broken(lambda: None), log)
    return found | {"differences": differences(folder / "expected", folder / "killed"), "at last": listing(run_folder)}


def full_disk(folder: Path) -> dict[str, Any]:
    """No room for the second checkpoint: not for its weights, not for its optimizer state."""
    found = {}
    for name, num_bytes in {"weights": 20_000, "optimizer": 150_000}.items():
        log = folder / f"{name}.log"

        def task(name: str = name, num_bytes: int = num_bytes) -> None:
            trainer = make_run("mlclap, at every epoch's end", folder / name)
            trainer.add_callback(FullDisk(6, num_bytes))
            trainer.train()

        status = finish(start(task, log))
        found[name] = {"status": status, "left": listing(folder / name / "run"), "said": log.read_text()[-1500:]}
    return found


def fill(folder: Path) -> None:
    """Save until there is no room; what was said, and left."""
    trainer = make_run("mlclap, at every epoch's end", folder)
    trainer.args.save_total_limit = None
    try:
        trainer.train()
    except SavingError as error:
        run_folder = folder / "run"
        whole = [path.name for path in reversed(checkpoints(run_folder)) if checkpoint_fault(path) is None]
        print(json.dumps({"said": str(error), "left": listing(run_folder), "whole": whole}))


def as_ranks(task: Callable[[int], None], folder: Path) -> list[int]:
    """Start a task in two processes that know of one another."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder.mkdir(parents=True, exist_ok=True)

    def begin(rank: int) -> None:
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", LOCAL_WORLD_SIZE="2")
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        task(rank)

    return [start(lambda rank=rank: begin(rank), folder / f"rank {rank}.log") for rank in range(2)]


def two_processes(folder: Path) -> dict[str, Any]:
    """The second of two is killed while it saves its random numbers, and the first with it."""
    return killed_processes("akcl, accumulation, best model", folder)


def two_processes_on_a_stream(folder: Path) -> dict[str, Any]:
    """The same, on shards that do not split evenly."""
    return killed_processes("cacl, stream", folder)


def killed_processes(case: str, folder: Path) -> dict[str, Any]:
    folders = {name: folder / name for name in ("expected", "killed")}
    for process in as_ranks(lambda rank: run(case, folders["expected"]), folders["expected"]):
        check_ended(finish(process), folders["expected"] / "rank 0.log")

    def killed(rank: int) -> None:
        die_while_saving("rng_state_1.pth", 3)
        run(case, folders["killed"])

    processes = as_ranks(killed, folders["killed"])
    found = {"status": finish(processes[1])}
    os.kill(processes[0], signal.SIGKILL)
    finish(processes[0])
    found["left"] = listing(folders["killed"] / "run")
    for process in as_ranks(lambda rank: run(case, folders["killed"]), folders["killed"]):
        check_ended(finish(process), folders["killed"] / "rank 0.log")
    last = checkpoints(folders["killed"] / "run")[0]
    own = [path.name for pattern in ("rng_state*", "stream_place*") for path in last.glob(pattern)]
    return found | {"differences": differences(*folders.values()), "own": sorted(own)}


def full_processes(folder: Path) -> dict[str, Any]:
    """The first of two has no room for the second checkpoint; the second has, and would wait for the first."""

    def task(rank: int) -> None:
        trainer = make_run("mlclap, at every epoch's end", folder)
        if rank == 0:
            trainer.add_callback(FullDisk(5, 150_000))
        trainer.train()

    statuses = [finish(process) for process in as_ranks(task, folder)]
    said = [(folder / f"rank {rank}.log").read_text()[-1500:] for rank in range(2)]
    return {"statuses": statuses, "said": said, "left": listing(folder / "run")}


def processes_without_a_checkpoint(folder: Path) -> dict[str, Any]:
    """Two are to go on from nothing; the first looks, both end."""

    def task(rank: int) -> None:
        make_run("mlclap, at every epoch's end", folder).train(resume_from_checkpoint=True)

    statuses = [finish(process) for process in as_ranks(task, folder)]
    return {"statuses": statuses, "said": [(folder / f"rank {rank}.log").read_text()[-1500:] for rank in range(2)]}


def diverging_processes(folder: Path) -> dict[str, Any]:
    """One of two computes a loss that is no number in the second step."""

    def task(rank: int) -> None:
        trainer = make_run("mlclap, at every epoch's end", folder)
        spoil = trainer.atri_model.audio_projection.register_forward_hook
        spoil(lambda *call: call[-1] * float("nan") if rank == 1 and trainer.state.global_step == 1 else None)
        trainer.train()

    statuses = [finish(process) for process in as_ranks(task, folder)]
    return {"statuses": statuses, "said": [(folder / f"rank {rank}.log").read_text()[-1500:] for rank in range(2)]}


_MULTIPLE = (
    full_processes,
    processes_without_a_checkpoint,
    two_processes,
    two_processes_on_a_stream,
    diverging_processes,
)
PLACES = {part.__name__: part for part in (inside_a_checkpoint, full_disk, *_MULTIPLE)}


def break_at_places(folder: Path) -> None:
    """Write down in `found.json` what was found in each of `PLACES`."""
    tiny_processor()  # what trains its tokenizer is done once
    gc.freeze()
    found = {}
    for name, part in PLACES.items():
        (folder / name).mkdir(parents=True)
        found[name] = part(folder / name)
    (folder / "found.json").write_text(json.dumps(found))


def main(kind: str, folder: str, num_kills: str = "20", seed: str = "0") -> None:
    torch.set_num_threads(1)
    tiny_processor()
    gc.freeze()
    if kind == "kill":
        kill_randomly(Path(folder), int(num_kills), int(seed))
    else:
        fill(Path(folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
