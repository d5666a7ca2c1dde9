"""Measure the folder of features at 50,000 clips of a second: files, size, time of a write and of a read.

- `write_seconds_ratio`: wall time of adding an array, divided by that of a file for each, written whole and flushed
  to the disk, as it was done before. The two take turns, in blocks.
- `read_cpu_ratio`: CPU time of reading an array in random order, divided by that of `numpy.load` of a file for each.
- `bytes_read_ratio`: bytes that reading arrays asked the system for, divided by the size of the arrays.
- `open_seconds`: CPU time of a new process's object that reads which arrays there are.
- `float16_recall_change`: with --model and --data, the largest change of R@1, R@5, R@10 and mAP@10, in either
  direction and any language, in points, when features are rounded to float16; on the split `dev` of --data.

The benchmark fails if an array that was read differs from the one that was written. It prints one JSON line.
"""

import sys
from pathlib import Path


sys.path.insert(0, str(Path(__file__).parents[1]))
from shared.measuring import print_scale_report  # first: it sets one thread


# isort: split
import random
import tempfile
import time

import numpy as np
from shared.options import SEED, option_parser
from shared.processes import peak_memory

from modeling_atri.array_shards import KEY_BYTES, ArrayShards
from modeling_atri.corpora.rows.load import load_rows
from modeling_atri.files import written_whole
from modeling_atri.pretrained.loading import load_model
from modeling_atri.trainer.data.feature_cache import FeatureCache
from modeling_atri.trainer.evaluation.retrieval import RetrievalSet, embed_retrieval_set, retrieval_table


CLIPS, FRAMES, MEL_BINS = 50_000, 101, 64
BLOCK, FILES_IN_BLOCK, READ, READ_IN_BLOCK = 1000, 40, 2000, 100
BARS = {
    "files": 64,
    "write_seconds_ratio": 0.5,
    "read_cpu_ratio": 1.5,
    "bytes_read_ratio": 1.1,
    "open_seconds": 1.0,
    "float16_size_ratio": 0.6,
    "float16_recall_change": 1.0,
}


def main() -> None:
    """Run the command."""
    parser = option_parser(__doc__, "a minute", part=(1.0, "part of the 50,000 clips"), seed=(0, SEED))
    parser.add_argument("--model", type=Path, help="folder of a trained model, for float16_recall_change")
    parser.add_argument("--data", type=Path, help="folder of ESC-10 scenes, for float16_recall_change")
    parser.add_argument("--work", type=Path, help="existing folder for the files (default: a temporary one)")
    options = parser.parse_args()
    number = max(BLOCK, int(CLIPS * options.part))
    with tempfile.TemporaryDirectory(dir=options.work) as name:
        figures = measure_folder(Path(name), number, options.seed)
    if options.model and options.data:
        figures["float16_recall_change"] = recall_change(options.model, options.data / "dev")
    figures["peak_memory_mb"] = peak_memory() // 2**20
    bars = {name: bar for name, bar in BARS.items() if name in figures}
    print_scale_report("feature_cache", figures, bars, {"clips": number, "frames": FRAMES, "mel_bins": MEL_BINS})


def measure_folder(work: Path, number: int, seed: int) -> dict[str, float]:
    """Write and read arrays, and files of one each, in turns."""
    pool = np.random.default_rng(seed).normal(-40, 20, (64, FRAMES, MEL_BINS)).astype(np.float32)
    shards = ArrayShards(work / "shards", "float32")
    (work / "files").mkdir()
    seconds, files = {"shards": 0.0, "files": 0.0}, []
    for start in range(0, number, BLOCK):
        began = time.perf_counter()
        for index in range(start, min(start + BLOCK, number)):
            shards.put(key(index), pool[index % 64])
        seconds["shards"] += time.perf_counter() - began
        began = time.perf_counter()
        for index in range(start, start + FILES_IN_BLOCK):
            files.append(work / "files" / f"{index}.npy")
            with written_whole(files[-1]) as file:
                np.save(file, pool[index % 64])
        seconds["files"] += time.perf_counter() - began
    began = time.process_time()
    opened = ArrayShards(work / "shards", "float32")
    figures = {"open_seconds": round(time.process_time() - began, 3)}
    order = random.Random(seed).sample(range(number), min(READ, number))
    keys, paths = [key(index) for index in order], random.Random(seed).choices(files, k=len(order))
    cpu = cpu_of_files = asked = 0.0
    for start in range(0, len(order), READ_IN_BLOCK):
        block = slice(start, start + READ_IN_BLOCK)
        before, began = bytes_read(), time.process_time()
        kept = [opened.get(one) for one in keys[block]]
        cpu += time.process_time() - began
        asked += bytes_read() - before
        began = time.process_time()
        for path in paths[block]:
            np.load(path)
        cpu_of_files += time.process_time() - began
        if not all(np.array_equal(array, pool[index % 64]) for index, array in zip(order[block], kept, strict=True)):
            raise SystemExit("An array that was read differs from the one that was written.")
    half = ArrayShards(work / "half", "float16", "float16")
    for index in range(BLOCK):
        half.put(key(index), pool[index % 64].astype(np.float16))
    size = size_of(work / "shards")
    return figures | {
        "files": sum(path.is_file() for path in (work / "shards").rglob("*")),
        "gigabytes": round(size / 1e9, 3),
        "write_us": round(seconds["shards"] / number * 1e6),
        "write_seconds_ratio": round(seconds["shards"] / number / (seconds["files"] / len(files)), 3),
        "read_cpu_us": round(cpu / len(order) * 1e6),
        "read_cpu_ratio": round(cpu / cpu_of_files, 3),
        "bytes_read_ratio": round(asked / (len(order) * pool[0].nbytes), 3),
        "float16_size_ratio": round(size_of(work / "half") / BLOCK / (size / number), 3),
    }


def recall_change(model_folder: Path, data: Path) -> float:
    """The largest change of a figure of retrieval when features are rounded to float16, in points."""
    model, processor = load_model(str(model_folder))
    rows = load_rows(data)
    retrieval_set = RetrievalSet.from_rows(rows, list(rows[0]["captions"]))
    tables = []
    for dtype in ("float32", "float16"):
        cache = FeatureCache(processor.feature_extractor, dtype=dtype)
        embeddings = embed_retrieval_set(model.eval(), processor, retrieval_set, batch_size=16, read_features=cache)
        tables.append(retrieval_table(embeddings, retrieval_set.positives, next(iter(rows[0]["captions"]))))
    changes = [
        100 * abs(tables[0][figure] - tables[1][figure]) for figure in tables[0] if "R@" in figure or "mAP" in figure
    ]
    return round(max(changes), 3)


def key(index: int) -> bytes:
    """The key of an array; keys are digests, so their bits are spread."""
    return np.random.default_rng(index).bytes(KEY_BYTES)


def bytes_read() -> int:
    """Bytes that this process has asked the system for."""
    counts = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(counts["rchar"])


def size_of(folder: Path) -> int:
    """Size of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
