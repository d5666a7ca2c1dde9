"""`atri translate`, killed with SIGKILL at random points and started again until it has come to its end.

`python -m tests.trainer.data.translation_kills FOLDER KILLS SEED` translates FOLDER/data with FOLDER/model to
FOLDER/whole without a stop, and to FOLDER/killed with KILLS of them, and prints as JSON how many lines of the journal
each kill found. Every run is a process of its own, forked once everything is imported.
"""

import json
import os
import random
import signal
import sys
import time
from importlib import import_module
from pathlib import Path

from modeling_atri.cli.main import main
from modeling_atri.trainer.data.translation_journal import JOURNAL_NAME


def start(folder: Path, output: str) -> int:
    """A process that translates; its id."""
    process = os.fork()
    if process:
        return process
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    words = [str(folder / "data"), str(folder / output), "--model", str(folder / "model"), "--languages", "fr", "ja"]
    words += ["--batch_size", "4", "--num_beams", "2", "--max_new_tokens", "16", "--quality", "round_trip"]
    os._exit(main(["translate", *words, "--license", "cc-by-nc-4.0"]))


def num_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def run(folder: Path, num_kills: int, seed: int) -> list[int]:
    began = time.perf_counter()
    process = start(folder, "whole")
    assert os.waitpid(process, 0)[1] == 0
    seconds = time.perf_counter() - began
    draw, found = random.Random(seed), []
    while len(found) < num_kills:
        process = start(folder, "killed")
        time.sleep(draw.uniform(0.05, 0.35) * seconds)
        os.kill(process, signal.SIGKILL)
        if os.waitpid(process, 0)[1] != signal.SIGKILL:
            break  # it had come to its end
        found.append(num_lines(folder / "killed" / JOURNAL_NAME))
    assert os.waitpid(start(folder, "killed"), 0)[1] == 0
    return found


if __name__ == "__main__":
    for module in ("modeling_atri.cli.report", "modeling_atri.trainer.data.translation"):
        import_module(module)
    import_module("transformers.models.m2m_100.modeling_m2m_100")
    print(json.dumps(run(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
