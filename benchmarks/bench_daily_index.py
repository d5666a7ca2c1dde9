"""Measure a daily run of `atri index` over a folder of many files in which nothing is new.

The CPU time, user and system together, of the whole command is measured, in a process of its own each time:

- `daily`: `atri index SOUNDS INDEX` over all files.
- `start`: the same over a folder of one file. This is the floor: starting Python, and importing what the run needs.
- `walk`: a bare walk of the folder that asks for the size and the time of change of every file.

The files are tiny and all different. The index is written with random vectors in place of those of a model, because
the run compares files and reads no vector; the command then must find nothing to encode, or the benchmark fails. It
prints one JSON line.
"""

from shared.measuring import medians, print_report, ratio, row, seconds_in_turns  # first: it sets one thread


# isort: split
import io
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile
from shared.options import ROUNDS, SEED, option_parser
from shared.processes import cpu_seconds_of_children

from modeling_atri.audio_io.discovery import search_folder
from modeling_atri.files import content_digest
from modeling_atri.search.index.tables import IndexedSound, IndexFacts, IndexTables


DIM = 512
FILES_PER_FOLDER = 1000
FILES_AT_ONCE = 2000
NOTHING_NEW = ["0", "0", "0"]  # encoded, moved, dropped
WALK = "import os, sys; [os.stat(os.path.join(p, f)) for p, _, fs in os.walk(sys.argv[1]) for f in fs]"


def main() -> None:
    """Run the command."""
    options = option_parser(
        __doc__,
        "four minutes",
        files=(50_000, "files in the folder"),
        rounds=(3, ROUNDS),
        seed=(0, SEED),
    ).parse_args()
    with tempfile.TemporaryDirectory() as name:
        folders = {"daily": Path(name, "many"), "start": Path(name, "one")}
        for folder, number in ((folders["daily"], options.files), (folders["start"], 1)):
            write_sounds(folder / "sounds", number, options.seed)
            write_index(folder / "index", folder / "sounds", options.seed)
        commands = {
            way: [
                sys.executable,
                "-m",
                "modeling_atri.cli.main",
                "index",
                str(folder / "sounds"),
                str(folder / "index"),
            ]
            for way, folder in folders.items()
        }
        commands["walk"] = [sys.executable, "-c", WALK, str(folders["daily"])]
        seconds = seconds_in_turns(commands, options.rounds, cpu_seconds_of_command)
    rows = [
        row(
            f"a daily run over {options.files:,} files, nothing new",
            "seconds of CPU",
            statistics.median(seconds["daily"]),
            "<= 10",
        ),
        row(
            f"a daily run over {options.files:,} files, nothing new",
            "times a run over one file",
            ratio(seconds, "daily", "start"),
            "<= 2",
        ),
    ]
    print_report("daily_index", rows=rows, seconds=medians(seconds, 2), **vars(options))


def write_sounds(folder: Path, number: int, seed: int) -> None:
    """Write short WAV files that differ in the bytes behind their sound, a thousand in each folder."""
    buffer = io.BytesIO()
    soundfile.write(buffer, np.random.default_rng(seed).normal(scale=0.1, size=4000), 16_000, format="WAV")
    content = buffer.getvalue()
    for index in range(number):
        below = folder / f"{index // FILES_PER_FOLDER:03}"
        if index % FILES_PER_FOLDER == 0:
            below.mkdir(parents=True)
        (below / f"{index:06}.wav").write_bytes(content + index.to_bytes(4, "little"))


def write_index(path: Path, sounds: Path, seed: int) -> None:
    """Write the index that an earlier run would have left, with random vectors."""
    tables = IndexTables.create(path, IndexFacts("/no/model", "0" * 32, DIM, (), 10.12, 5.06))
    generator = np.random.default_rng(seed)
    batch = []
    for name, found in search_folder(sounds).sounds.items():
        vector = generator.standard_normal(DIM).astype(np.float32)
        vector /= np.linalg.norm(vector)
        facts = (found.size, found.mtime_ns, content_digest(found.path))
        batch.append(IndexedSound(name, str(sounds), 0.25, [(0.0, 0.25)], vector[None], vector, *facts))
        if len(batch) == FILES_AT_ONCE:
            tables.append(batch)
            batch = []
    tables.append(batch)
    tables.compact()


def cpu_seconds_of_command(command: list[str]) -> float:
    """CPU time of a command in a process of its own."""
    before = cpu_seconds_of_children()
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    seconds = cpu_seconds_of_children() - before
    if "index" in command and said.splitlines()[1].split()[1:4] != NOTHING_NEW:
        raise SystemExit(f"The run found something to do:\n{said}")
    return seconds


if __name__ == "__main__":
    main()
