"""Measure the memory of several `atri encode` at the same time on one machine, and what one process needs instead.

Each process encodes a folder of its own with the same model, whose audio tower has the size of CED-base (86 million
parameters, 0.35 GB) with random weights. While they run, the kernel's figures of their memory are read (Linux only):

- `together_gb`: the largest sum of proportional set sizes. A page that several processes share counts once.
- `private_gb_each`: what a process does not share with others, at that moment, on average.
- `shared_gb`: the rest, once for all of them: the code of the libraries, and weights that are mapped from the file.
- `one_process_gb`: the largest size of one process that encodes all folders with as many threads that decode.
- `saved_ratio`: the latter divided by the former.

With --processes 16 it is the case of a machine with many cores; the default fits a small one. The benchmark prints one
JSON line.
"""

import sys
from pathlib import Path


sys.path.insert(0, str(Path(__file__).parents[1]))
from shared.measuring import print_scale_report  # first: it sets one thread


# isort: split
import subprocess
import tempfile
import time

import numpy as np
import soundfile
import torch
from shared.options import SEED, option_parser

from modeling_atri import AtriConfig, AtriFeatureExtractor, AtriModel, AtriProcessor
from modeling_atri.trainer.scratch.tokenizer import train_tokenizer


BASE = {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072, "num_hidden_layers": 12}
TEXT = {"vocab_size": 600, "d_model": 32, "encoder_layers": 1, "encoder_ffn_dim": 32, "encoder_attention_heads": 2}
CLIPS, SECONDS = 4, 4  # in each folder
BARS = {"saved_ratio": 0.6}


def main() -> None:
    """Run the command."""
    options = option_parser(
        __doc__,
        "two minutes",
        part=(1.0, "part of the processes, at least two"),
        processes=(4, "processes at the same time"),
        seed=(0, SEED),
    ).parse_args()
    number = max(2, round(options.processes * options.part))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_model(folder / "model", options.seed)
        write_clips(folder / "sounds", number, options.seed)
        together = run([command(folder, f"{place}", 1) for place in range(number)])
        alone = run([command(folder, "", number)])
    figures = {
        "together_gb": together["pss"],
        "private_gb_each": round(together["private"] / number, 3),
        "shared_gb": round(together["pss"] - together["private"], 3),
        "one_process_gb": alone["pss"],
        "saved_ratio": round(alone["pss"] / together["pss"], 3),
    }
    print_scale_report("encode_processes", figures, BARS, {"processes": number, "clips": CLIPS * number})


def command(folder: Path, part: str, num_workers: int) -> list[str]:
    """The command line that encodes one folder, or with "" all of them."""
    places = [str(folder / "sounds" / part), str(folder / f"out{part}"), "--model", str(folder / "model")]
    program = "from modeling_atri.cli.main import main; raise SystemExit(main())"
    return [sys.executable, "-c", program, "encode", *places, "--num_workers", str(num_workers)]


def run(commands: list[list[str]]) -> dict[str, float]:
    """Run commands at the same time; the largest sum of their sizes, and what was private then, in GB."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    running = [subprocess.Popen(command, **quiet) for command in commands]
    largest = {"pss": 0.0, "private": 0.0}
    while any(process.poll() is None for process in running):
        sizes = [size for process in running if (size := memory(process.pid))]
        total = {name: round(sum(size[name] for size in sizes), 3) for name in largest}
        largest = max(largest, total, key=lambda found: found["pss"])
        time.sleep(0.1)
    if failed := [process.args for process in running if process.returncode]:
        raise SystemExit(f"These commands failed: {failed}")
    return largest


def memory(pid: int) -> dict[str, float] | None:
    """Proportional and private size of a process in GB; None once it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except (ProcessLookupError, FileNotFoundError):
        return None
    kilobytes = {name: int(value.split()[0]) for name, value in (line.split(":", 1) for line in lines)}
    private = kilobytes["Private_Clean"] + kilobytes["Private_Dirty"]
    return {"pss": kilobytes["Pss"] * 1024 / 1e9, "private": private * 1024 / 1e9}


def save_model(folder: Path, seed: int) -> None:
    """Save a model with an audio tower of the size of CED-base."""
    torch.manual_seed(seed)
    model = AtriModel(AtriConfig(audio_config=BASE, text_config=TEXT)).eval()
    with torch.no_grad():
        model.audio_model.mel_norm.set_statistics(torch.full((64,), -20.0), torch.full((64,), 400.0))
    model.save_pretrained(folder)
    tokenizer = train_tokenizer(["A dog barks while rain falls."] * 3, vocab_size=TEXT["vocab_size"])
    AtriProcessor(AtriFeatureExtractor(), tokenizer).save_pretrained(folder)


def write_clips(folder: Path, number: int, seed: int) -> None:
    """Write short clips of noise to folders."""
    generator = np.random.default_rng(seed)
    for place in range(number):
        (folder / str(place)).mkdir(parents=True)
        for clip in range(CLIPS):
            noise = generator.normal(scale=0.1, size=SECONDS * 16_000)
            soundfile.write(folder / str(place) / f"{clip}.wav", noise, 16_000)


if __name__ == "__main__":
    main()
