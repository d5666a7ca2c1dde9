"""Train on generated sounds at the paper's sizes: speed, whether memory stays flat, and whether a resume is equal.

    python benchmarks/gpu_soak.py epoch                    # an epoch of KCL in eight languages
    python benchmarks/gpu_soak.py resume                   # six steps, and the last three again from a checkpoint
    python benchmarks/gpu_soak.py epoch --device cpu --tiny

The model is the paper's (CED-Base and SONAR's text encoder, 852 M parameters, random weights). `AtriTrainer` reads
sound files of ten seconds, computes their features in workers, and trains in bfloat16 autocast with dropout and Adam.
The sounds are soundscapes that are made here, `--sounds` of them, each of which is the recording of several clips.

`epoch` makes one pass over `--clips` clips, or stops after `--seconds`, and prints

- `steps_per_s`, `clips_per_s`: wall time from the fifth step to the last, with data loading.
- `waiting`: the part of this time in which the training loop waited for data.
- `allocated_growth`, `reserved_growth`, `resident_growth`: how much the memory of tensors, of torch on the GPU, and of
  the process grows in a hundred steps, as a part of what it is. It is the slope of a straight line through the values
  after each step from the fifth on. The memory of the process counts only on the GPU, where nothing else lies in it.
- `losses`: the logged losses. Random weights learn little; the losses must be finite.

`resume` saves a checkpoint after three of six steps, fills the weights with noise, and goes on from the checkpoint. It
needs 11 GB on the disk for the paper's sizes. It prints the losses of both runs after the checkpoint, the largest
difference between them, and the part of the weights that are equal bit for bit. On a CPU all must be. On a GPU torch's
deterministic algorithms are used where there are some, and the losses must agree to 1e-3.

Each prints one line of JSON.
"""

import os


os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")  # if several GPUs are visible, Trainer refuses to split the batch

from shared.measuring import print_report, row  # first: it sets one thread


# isort: split
import argparse
import gc
import math
import shutil
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from shared.gpu_options import add_device_options, check_device, check_options, device_facts
from shared.options import SEED, option_parser
from training_step.gpu_steps import TINY_SIZES
from transformers import TrainerCallback

from modeling_atri import AtriConfig, AtriFeatureExtractor, AtriModel, AtriProcessor
from modeling_atri.corpora.soundscapes.scenes import make_soundscapes
from modeling_atri.languages_atri import ATRI_LANGUAGES
from modeling_atri.trainer import AtriTrainer, AtriTrainingArguments
from modeling_atri.trainer.scratch import train_tokenizer


WARM_UP = 4  # steps that do not count
SAVED_AFTER, LAST = 3, 6  # steps of `resume`
FLAT = 0.01  # memory may grow by so much of itself in a hundred steps
NUMBERS = {
    "clips": (1920, "clips of the epoch"),
    "sounds": (240, "different sounds"),
    "batch-size": (24, "clips of a step"),
    "languages": (8, "number of languages, 2 to 8"),
    "workers": (8, "processes that read sounds"),
    "seconds": (120.0, "an epoch that takes longer is stopped"),
    "seed": (0, SEED),
}


def main() -> None:
    """Run the command."""
    options = parse_options()
    check_device(options.device)
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        clips = make_clips(Path(folder), options)
        figures = (run_epoch if options.what == "epoch" else run_resumed)(Path(folder), clips, options)
    print_report(
        f"gpu_soak_{options.what}",
        **figures,
        **{name: getattr(options, name) for name in ("clips", "sounds", "batch_size", "languages", "workers", "seed")},
        **device_facts(options.device),
    )


def parse_options() -> argparse.Namespace:
    """The command's options."""
    parser = option_parser(__doc__, "two minutes each on an H200-class card", **NUMBERS)
    parser.add_argument("what", choices=("epoch", "resume"))
    parser.add_argument("--work", type=Path, help="folder for temporary files (default: the system's)")
    add_device_options(parser)
    options = parser.parse_args()
    check_options(parser, options, "sounds", "batch_size")
    least = max(WARM_UP + 3, LAST) * options.batch_size  # enough for a slope and for the steps of `resume`
    if options.clips < least:
        parser.error(f"--clips must be at least {least}, {least // options.batch_size} batches; got {options.clips}.")
    if options.work is not None:
        options.work.mkdir(parents=True, exist_ok=True)
    return options


# Data and model


def make_clips(folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Write the sounds, and return the rows of the clips, each with one of them."""
    count, shares = options.sounds, max(1, options.workers)
    jobs = [(folder, count, share, shares, options.seed) for share in range(shares)]
    with ProcessPoolExecutor(shares) as pool:
        scenes = [scene for part in pool.map(write_sounds, *zip(*jobs, strict=True)) for scene in part]
    languages = ATRI_LANGUAGES[: options.languages]
    return [
        {
            "audio": scene["audio"],
            "audio_id": f"{number}",
            "captions": {code: scene["captions"][code] for code in languages},
        }
        for number in range(options.clips)
        for scene in [scenes[number % count]]
    ]


def write_sounds(folder: Path, count: int, share: int, shares: int, seed: int) -> list[dict[str, Any]]:
    """Write a share of the sounds as WAV files; their paths and captions."""
    scenes = make_soundscapes(count, seed, duration_s=10.0)
    written = []
    for number in range(share, count, shares):
        scene, path = scenes[number], folder / f"{number}.wav"
        soundfile.write(path, scene["audio"]["array"], scene["audio"]["sampling_rate"], subtype="PCM_16")
        written.append({"audio": str(path), "captions": scene["captions"]})
    return written


def make_trainer(
    folder: Path, clips: list[dict[str, Any]], options: argparse.Namespace, *callbacks: TrainerCallback, **given: Any
) -> AtriTrainer:
    """A trainer of the model with random weights."""
    args = AtriTrainingArguments(
        str(folder),
        objective="kcl",
        languages=list(ATRI_LANGUAGES[: options.languages]),
        per_device_train_batch_size=options.batch_size,
        num_train_epochs=1,
        learning_rate=1e-5,
        bf16=True,
        use_cpu=options.device == "cpu",
        dataloader_num_workers=options.workers,
        dataloader_pin_memory=options.device == "cuda",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=options.seed,
        **given,
    )
    texts = {text for clip in clips for captions in clip["captions"].values() for text in captions}
    tokenizer = train_tokenizer(sorted(texts), args.languages, vocab_size=1000)
    torch.manual_seed(options.seed)
    model = AtriModel(AtriConfig(**TINY_SIZES if options.tiny else {}))
    processor = AtriProcessor(AtriFeatureExtractor(), tokenizer)
    trainer = AtriTrainer(model, args, processor, clips, callbacks=list(callbacks))
    for callback in [kept for kept in trainer.callback_handler.callbacks if "Printer" in type(kept).__name__]:
        trainer.remove_callback(callback)  # only the report goes to standard output
    return trainer


def logged_losses(trainer: AtriTrainer) -> list[float]:
    """The losses that a run logged."""
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


# An epoch


class Watch(TrainerCallback):
    """Notes time and memory of each step, and stops a run that takes too long."""

    def __init__(self, seconds: float, on_gpu: bool):
        self.ends: list[float] = []
        self.waited: list[float] = []
        self.memory: dict[str, list[int]] = {"resident": [], "allocated": [], "reserved": []}
        self._seconds, self._on_gpu = seconds, on_gpu

    def on_step_begin(self, args, state, control, **kwargs):
        self.waited.append(time.perf_counter() - self.ends[-1] if self.ends else 0.0)

    def on_step_end(self, args, state, control, **kwargs):
        if self._on_gpu:
            torch.cuda.synchronize()
            self.memory["allocated"].append(torch.cuda.memory_allocated())
            self.memory["reserved"].append(torch.cuda.memory_reserved())
        self.memory["resident"].append(resident_bytes())
        self.ends.append(time.perf_counter())
        if self.ends[-1] - self.ends[0] > self._seconds:
            control.should_training_stop = True


def run_epoch(folder: Path, clips: list[dict[str, Any]], options: argparse.Namespace) -> dict[str, Any]:
    """Figures of one epoch, or of as much of it as the time allowed."""
    on_gpu = options.device == "cuda"
    watch = Watch(options.seconds, on_gpu)
    trainer = make_trainer(folder, clips, options, watch, logging_steps=10)
    trainer.train()
    num_steps, losses = len(watch.ends), logged_losses(trainer)
    if num_steps < WARM_UP + 3:
        raise SystemExit(f"Only {num_steps} steps were made in {options.seconds} s; give --seconds more.")
    if not all(map(math.isfinite, losses)):
        raise SystemExit(f"A loss is not finite: {losses}.")
    seconds = watch.ends[-1] - watch.ends[WARM_UP]
    speed = (num_steps - 1 - WARM_UP) / seconds
    growth = {f"{name}_growth": growth_of(values[WARM_UP:]) for name, values in watch.memory.items() if values}
    kinds = ("allocated", "reserved", "resident") if on_gpu else ()
    peak = {"peak_gb": round(torch.cuda.max_memory_allocated() / 1e9, 3)} if on_gpu else {}
    return {
        "rows": [row("growth of memory in 100 steps", k, growth[f"{k}_growth"], f"<= {FLAT}") for k in kinds],
        "steps": num_steps,
        "steps_of_epoch": trainer.state.max_steps,
        "steps_per_s": round(speed, 4),
        "clips_per_s": round(speed * options.batch_size, 2),
        "waiting": round(sum(watch.waited[WARM_UP + 1 :]) / seconds, 4),
        **growth,
        **peak,
        "losses": losses,
    }


def growth_of(values: list[int]) -> float:
    """Growth in a hundred steps by the straight line through the values, as a part of their mean."""
    slope = np.polynomial.Polynomial.fit(np.arange(len(values)), values, 1).convert().coef
    return round(100 * float(slope[1] if len(slope) > 1 else 0.0) / float(np.mean(values)), 6)


def resident_bytes() -> int:
    """Memory of this process that is not shared with others."""
    fields = Path("/proc/self/statm").read_text(encoding="utf-8").split()
    return (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE")


# A resumed run


class SaveOnce(TrainerCallback):
    """Saves one checkpoint."""

    def on_step_end(self, args, state, control, **kwargs):
        control.should_save = state.global_step == SAVED_AFTER


def run_resumed(folder: Path, clips: list[dict[str, Any]], options: argparse.Namespace) -> dict[str, Any]:
    """Figures of a run, and of one that goes on from its checkpoint."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS needs it to be deterministic
    torch.use_deterministic_algorithms(True, warn_only=True)
    trainer = make_trainer(folder / "run", clips, options, SaveOnce(), max_steps=LAST, logging_steps=1)
    check_disk(folder, trainer.model)
    start = time.perf_counter()
    trainer.train()
    first_seconds = time.perf_counter() - start
    expected = {name: weight.detach().cpu().clone() for name, weight in trainer.model.state_dict().items()}
    losses = logged_losses(trainer)[SAVED_AFTER:]
    del trainer
    gc.collect()  # so that two models never lie on the GPU
    again = make_trainer(folder / "again", clips, options, max_steps=LAST, logging_steps=1)
    with torch.no_grad():
        for parameter in again.model.parameters():
            parameter.normal_()
    start = time.perf_counter()
    again.train(resume_from_checkpoint=str(folder / "run" / f"checkpoint-{SAVED_AFTER}"))
    resumed = logged_losses(again)[SAVED_AFTER:]
    assert len(losses) == len(resumed) == LAST - SAVED_AFTER
    difference = max(abs(ours / theirs - 1) for ours, theirs in zip(resumed, losses, strict=True))
    found = again.model.state_dict()
    same = sum(int((found[name].cpu() == weight).sum()) for name, weight in expected.items())
    part = same / sum(weight.numel() for weight in expected.values())
    rows = [row("loss of a resumed run", "relative difference", difference, "<= 0.001")]
    if options.device == "cpu":
        rows.append(row("weights of a resumed run", "part that is equal bit for bit", part, ">= 1"))
    return {
        "rows": rows,
        "losses": losses,
        "resumed_losses": resumed,
        "largest_difference": difference,
        "equal_weights": round(part, 6),
        "seconds": round(first_seconds, 1),
        "resumed_seconds": round(time.perf_counter() - start, 1),
    }


def check_disk(folder: Path, model: torch.nn.Module) -> None:
    """End the command if a checkpoint does not fit on the disk: weights and two moments of Adam, and some more."""
    needed = 1.1 * 3 * sum(parameter.nbytes for parameter in model.parameters())
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise SystemExit(
            f"The checkpoint needs {needed / 1e9:.1f} GB, but {folder} has {free / 1e9:.1f} GB. Name a folder on "
            "another disk with --work."
        )


if __name__ == "__main__":
    main()
