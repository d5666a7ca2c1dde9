"""`atri translate`, killed with SIGKILL at random points and started again until it has come to its end.

Every run is a process of its own, forked once everything is imported.
"""

import json
import os
import random
import signal
import time
from importlib import import_module
from pathlib import Path

from modeling_atri.cli.main import main
from modeling_atri.corpora.translation.journal import JOURNAL_NAME


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


def has_ended(process: int) -> bool:
    return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def run(folder: Path, num_kills: int, seed: int) -> None:
    """Translate FOLDER/data with FOLDER/model to FOLDER/whole without a stop, and to FOLDER/killed with some.

    Print, as JSON, how many lines of the journal each kill found.
    """
    for module in ("modeling_atri.cli.printing.report", "modeling_atri.corpora.translation.translate"):
        import_module(module)
    import_module("transformers.models.m2m_100.modeling_m2m_100")
    assert os.waitpid(start(folder, "whole"), 0)[1] == 0
    journal, draw, found = folder / "killed" / JOURNAL_NAME, random.Random(seed), []
    step = round(1.6 * num_lines(folder / "whole" / JOURNAL_NAME) / num_kills)
    while len(found) < num_kills:
        # At a random point of whatever comes after so many more lines: reading, computing, writing.
        limit = num_lines(journal) + draw.randrange(step)
        process = start(folder, "killed")
        while num_lines(journal) < limit and not has_ended(process):
            time.sleep(0.001)
        time.sleep(draw.uniform(0.0, 0.03))
        os.kill(process, signal.SIGKILL)
        if os.waitpid(process, 0)[1] != signal.SIGKILL:
            break  # it had come to its end
        found.append(num_lines(journal))
    assert os.waitpid(start(folder, "killed"), 0)[1] == 0
    print(json.dumps(found))
