"""Measure the way from the rows of a large data set to the first step of `atri train`.

Rows name recordings (a thousand small files, each named by many rows) and have five captions in each of eight
languages. In processes of their own:

- the first pass over the rows is killed (SIGKILL) when half of them are done, and started again. CPU time per row of
  both together, how many rows the second start took over, and the peak memory.
- `atri train` from the command to the beginning of the first step, with rows that were checked before: CPU and wall
  time, and the peak memory. The model is tiny, and its tokenizer is learned from the captions. The limit is one of CPU
  time, because wall time says little on a busy machine.
- the CPU time to look up the rows of a step of 24 clips, in a tenth of the rows and in all of them, in turns. Fewer
  rows would stay in the caches of the processor, and their pages in the process.

Prints one line of JSON.
"""

import sys
from pathlib import Path


sys.path.insert(0, str(Path(__file__).parents[1]))
from shared.measuring import cpu_seconds, print_scale_report  # first: it sets one thread


# isort: split
import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import tempfile
import time

import numpy as np
import soundfile
from shared.options import option_parser
from shared.processes import cpu_seconds_of_children, peak_memory


LANGUAGES = ["eng_Latn", "fra_Latn", "deu_Latn", "spa_Latn", "cat_Latn", "nld_Latn", "jpn_Jpan", "zho_Hans"]
WORDS = {"jpn_Jpan": "犬 が 遠く で 吠え 雨 の 音 と 風", "zho_Hans": "狗 在 远处 叫 雨 声 和 风 车"}
BARS = {"pass_cpu_us_per_row": 60, "first_step_cpu_s": 60, "first_step_peak_gb": 4, "step_data_time_ratio": 1.25}


def main() -> None:
    """Run the command."""
    parser = option_parser(__doc__, "about three minutes", part=(1.0, "fraction of a million rows"))
    parser.add_argument("--folder", default=None, help="folder for the data set (default: a temporary one)")
    parser.add_argument("--child", nargs=argparse.REMAINDER, help="used by the benchmark itself")
    options = parser.parse_args()
    if options.child:
        CHILDREN[options.child[0]](*options.child[1:])
        return
    num_rows = max(2000, round(1_000_000 * options.part))
    folder = Path(tempfile.mkdtemp(prefix="atri_rows_", dir=options.folder))
    try:
        write_data(folder / "all", num_rows)
        figures = measure_pass(folder / "all", num_rows) | measure_first_step(folder)
        few = max(1000, num_rows // 10)
        write_data(folder / "few", few)
        figures |= run_child("steps", str(folder / "few"), str(folder / "all"))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    size = {"rows": num_rows, "languages": len(LANGUAGES), "captions": 5, "files": min(num_rows, 1000)}
    print_scale_report("rows_1m", figures, BARS, size)


def write_data(folder: Path, num_rows: int) -> None:
    """Write a data set whose rows differ in their captions."""
    rng = np.random.default_rng(0)
    (folder / "sounds").mkdir(parents=True)
    num_files = min(num_rows, 1000)
    for number in range(num_files):
        noise = 0.1 * rng.standard_normal(4000).astype(np.float32)
        soundfile.write(folder / "sounds" / f"{number:04d}.wav", noise, 16_000)
    vocabulary = {
        code: WORDS[code].split() if code in WORDS else [f"{code[0]}{word}é" for word in _words(rng)]
        for code in LANGUAGES
    }
    captions = []
    for places in rng.integers(2**31, size=(2000, len(LANGUAGES), 5, 8)).tolist():
        texts = {
            code: [" ".join(words[place % len(words)] for place in caption) for caption in of_language]
            for (code, words), of_language in zip(vocabulary.items(), places, strict=True)
        }
        captions.append(json.dumps(texts, ensure_ascii=False).replace('["', '["%d '))
    with open(folder / "metadata.jsonl", "w", encoding="utf-8") as file:
        for number in range(num_rows):
            own = captions[number % 2000].replace("%d", str(number))
            name = f"sounds/{number % num_files:04d}.wav"
            file.write(f'{{"file_name": "{name}", "audio_id": "clip {number:07d}", "captions": {own}}}\n')


def _words(rng: np.random.Generator) -> list[str]:
    letters = "abcdefghiklmnoprstuv"
    words = zip(rng.integers(len(letters), size=(2000, 9)).tolist(), rng.integers(2, 9, 2000).tolist(), strict=True)
    return ["".join(letters[place] for place in places[:length]) for places, length in words]


def measure_pass(folder: Path, num_rows: int) -> dict[str, float]:
    """Run the first pass, kill it half way, and run it to its end."""
    process = subprocess.Popen(_command("load", str(folder)), stdout=subprocess.DEVNULL)
    parts = folder / ".atri_rows"
    block_rows = 2**24 / ((folder / "metadata.jsonl").stat().st_size / num_rows)
    wanted, before = num_rows / block_rows / 2, cpu_seconds_of_children()
    while process.poll() is None and len(list(parts.glob("*/parts/*.arrow"))) < wanted:
        time.sleep(0.02)
    num_parts = len(list(parts.glob("*/parts/*.arrow")))
    if process.poll() is None:
        process.send_signal(signal.SIGKILL)
    process.wait()
    rest = run_child("load", str(folder))
    seconds = cpu_seconds_of_children() - before
    again = run_child("load", str(folder))
    return {
        "pass_cpu_us_per_row": round(1e6 * (seconds - 2 * again["start_cpu_s"]) / num_rows, 1),
        "pass_parts_taken_over": num_parts,
        "pass_peak_gb": rest["peak_gb"],
        "again_cpu_us_per_row": round(1e6 * again["load_cpu_s"] / num_rows, 2),
        "again_peak_gb": again["peak_gb"],
    }


def measure_first_step(folder: Path) -> dict[str, float]:
    """Run `atri train` on rows that were checked before."""
    words = ["train", "--train_data", str(folder / "all"), "--output_dir", str(folder / "run"), "--languages"]
    words += [*LANGUAGES, "--max_steps", "1", "--use_cpu", "--audio_layers", "1", "--text_layers", "1"]
    words += ["--audio_hidden_size", "32", "--text_hidden_size", "32", "--per_device_train_batch_size", "8"]
    return {f"first_step_{name}": value for name, value in run_child("train", *words).items()}


def _command(*words: str) -> list[str]:
    return [sys.executable, __file__, "--child", *words]


def run_child(*words: str) -> dict[str, float]:
    """Run a part of the benchmark in a process of its own, and return the figures in its last line."""
    start = str(time.time())
    found = subprocess.run(_command(*words), capture_output=True, text=True, env=os.environ | {"ATRI_START": start})
    if found.returncode:
        raise SystemExit(f"{' '.join(words)} failed:\n{found.stdout}\n{found.stderr}")
    return json.loads(found.stdout.strip().splitlines()[-1])


def _peak_gb() -> float:
    return round(peak_memory() / 2**30, 2)


def load(folder: str) -> None:
    """Load the rows once."""
    from modeling_atri.corpora.rows.load import load_rows

    start = time.process_time()
    rows = load_rows(folder, languages=LANGUAGES)
    seconds = time.process_time() - start
    print(json.dumps({"rows": len(rows), "start_cpu_s": start, "load_cpu_s": seconds, "peak_gb": _peak_gb()}))


def train(*words: str) -> None:
    """Run `atri train` up to its first step."""
    from modeling_atri.cli.main import main as atri
    from modeling_atri.trainer import AtriTrainer

    step = AtriTrainer.training_step

    def first_step(*args, **kwargs):
        figures = {
            "wall_s": round(time.time() - float(os.environ["ATRI_START"]), 1),
            "cpu_s": round(time.process_time(), 1),
            "peak_gb": _peak_gb(),
        }
        print(json.dumps(figures), flush=True)
        step(*args, **kwargs)
        os._exit(0)

    AtriTrainer.training_step = first_step
    sys.exit(atri(list(words)))


def steps(few: str, many: str) -> None:
    """Look up the rows of steps in small and in large data sets, in turns."""
    from modeling_atri.corpora.rows.load import load_rows
    from modeling_atri.trainer.data.batches import DrawnRows, EpochBatchSampler

    batches = {}
    for name, folder in (("few", few), ("many", many)):
        rows = DrawnRows(load_rows(folder, languages=LANGUAGES), mix_probability=0.5, stand_ins=True)
        batches[name] = rows, iter(EpochBatchSampler(len(rows), 24, seed=0))
    times = {name: [] for name in batches}
    for number in range(40):
        for name, (rows, sampler) in batches.items():
            seconds = cpu_seconds(lambda rows=rows, sampler=sampler: [rows[draw] for draw in next(sampler)])
            if number:  # the first one draws the order of the epoch
                times[name].append(seconds)
    pairs = [many / few for few, many in zip(times["few"], times["many"], strict=True)]
    figures = {f"step_data_cpu_ms_{name}": round(1e3 * statistics.median(values), 2) for name, values in times.items()}
    print(json.dumps(figures | {"step_data_time_ratio": round(statistics.median(pairs), 2)}))


CHILDREN = {"load": load, "train": train, "steps": steps}

if __name__ == "__main__":
    main()
