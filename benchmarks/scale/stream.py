"""Measure training on a stream of 10 million rows with embeddings of 512 numbers, in Parquet files.

The files are one file of 250,000 rows under 40 names (hard links), so that 10 million rows take 0.5 GB. A run on them
is sampled: in each of ten windows, from the first rows to the last, steps are made as `AtriTrainer` makes them, with
batches of its data loader. A window begins at the place that a checkpoint made there would have. The model has no
audio tower, and the states of its frozen text tower are cached, so that the data is most of a step.

- `rows_per_cpu_second`: rows of steps, divided by the CPU time of the reading, the batches and the steps.
- `data_cpu_us_per_row`: CPU time of reading a row and putting it into a batch, in microseconds.
- `last_to_first_ratio`: CPU time of a step in the last window, divided by that in the first.
- `slowest_to_median_ratio`: the same of the slowest window and the median.
- `memory_growth_mb`: resident memory after the last window, minus that after the first.
- `open_cpu_seconds`: CPU time of opening the stream and making the trainer.

It prints one JSON line.
"""

import sys
from pathlib import Path


sys.path.insert(0, str(Path(__file__).parents[1]))
from shared.measuring import print_scale_report  # first: it sets one thread


# isort: split
import math
import os
import statistics
import tempfile
import time
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from shared.options import SEED, option_parser
from shared.processes import peak_memory, resident_memory
from torch.utils.data import DataLoader

from modeling_atri.corpora.streams import RowStream, open_stream
from modeling_atri.trainer import AtriTrainer, AtriTrainingArguments
from modeling_atri.trainer.data.streams.batches import StreamPlace
from modeling_atri.trainer.data.streams.dealing import SourcePlace
from modeling_atri.trainer.run.progress import brief_callback
from modeling_atri.trainer.scratch.model import ScratchArguments, model_from_scratch


ROWS, FILES, WIDTH = 10_000_000, 40, 512
BATCH, BUFFER, WINDOWS, STEPS = 1000, 4000, 10, 25
CAPTIONS = 1000  # different ones
LANGUAGE = "eng_Latn"
BARS = {"last_to_first_ratio": 1.15, "memory_growth_mb": 100}


def main() -> None:
    """Run the command."""
    parser = option_parser(__doc__, "two minutes", part=(1.0, "part of the 10 million rows"), seed=(0, SEED))
    parser.add_argument("--work", type=Path, help="existing folder for the files (default: a temporary one)")
    options = parser.parse_args()
    rows_of_file = max(BATCH * STEPS, int(ROWS * options.part) // FILES)
    with tempfile.TemporaryDirectory(dir=options.work) as name:
        write_files(Path(name) / "rows", rows_of_file, options.seed)
        figures = measure(Path(name), options.seed)
    figures["peak_memory_mb"] = peak_memory() // 2**20
    size = {"rows": rows_of_file * FILES, "width": WIDTH, "rows_of_steps": BATCH * STEPS * WINDOWS}
    print_scale_report("stream_10m", figures, BARS, size)


def write_files(folder: Path, number: int, seed: int) -> None:
    """Write a file of rows, and name it often."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    first = folder / "000.parquet"
    schema = pa.schema(
        {
            "audio_id": pa.string(),
            "audio_embedding": pa.list_(pa.float32(), WIDTH),
            "captions": pa.struct({LANGUAGE: pa.list_(pa.string())}),
        }
    )
    with pq.ParquetWriter(first, schema, compression="none", use_dictionary=False) as writer:
        for start in range(0, number, 10_000):
            count = min(10_000, number - start)
            vectors = rng.standard_normal((count, WIDTH), dtype=np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            captions = pa.array([[f"a sound of the kind {row % CAPTIONS}"] for row in range(count)])
            columns = [
                pa.array([f"clip {row}" for row in range(start, start + count)]),
                pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), WIDTH),
                pa.StructArray.from_arrays([captions], [LANGUAGE]),
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
    for name in range(1, FILES):
        os.link(first, folder / f"{name:03}.parquet")


def measure(work: Path, seed: int) -> dict[str, float]:
    """Make steps in each window."""
    start = time.process_time()
    trainer = make_trainer(work, seed)
    figures: dict[str, float] = {"open_cpu_seconds": time.process_time() - start}
    (source,) = trainer.train_dataset.stream.sources
    num_read = (STEPS + 1) * BATCH + 2 * BUFFER
    last = source.num_shards - math.ceil(num_read * source.num_shards / (source.num_rows or 1))
    seconds: list[tuple[float, float]] = []  # of the data and of the steps
    memory = []
    for shard in np.linspace(0, last, WINDOWS).astype(int).tolist():
        seconds.append(trainer.window(shard))
        memory.append(resident_memory() / 1e6)
    steps = [data + step for data, step in seconds]
    num_rows = BATCH * STEPS * WINDOWS
    figures |= {
        "rows_per_cpu_second": num_rows / sum(steps),
        "data_cpu_us_per_row": 1e6 * sum(data for data, _ in seconds) / num_rows,
        "last_to_first_ratio": steps[-1] / steps[0],
        "slowest_to_median_ratio": max(steps) / statistics.median(steps),
        "memory_growth_mb": memory[-1] - memory[0],
    }
    return {name: round(value, 3) for name, value in figures.items()}


class WindowTrainer(AtriTrainer):
    """Trains in windows of a stream, and takes the time of the batches and of the steps."""

    def window(self, shard: int) -> tuple[float, float]:
        """CPU seconds of the batches and of the steps from a shard on.

        The first step is not counted. It opens files and fills caches.
        """
        self.shard, self.marks = shard, []
        self.train()
        marks = self.marks[2:] + [time.process_time()]
        of_data = sum(end - start for start, end in zip(marks[::2], marks[1::2], strict=False))
        return of_data, marks[-1] - marks[0] - of_data

    def get_train_dataloader(self) -> DataLoader:
        """Batches from the shard on."""
        loader = super().get_train_dataloader()
        loader.batch_sampler.go_on(StreamPlace(sources=(SourcePlace(item=self.shard),)), 0)
        return loader

    def get_batch_samples(self, *call: Any) -> Any:
        """Take the time before and after a batch."""
        self.marks.append(time.process_time())
        found = super().get_batch_samples(*call)
        self.marks.append(time.process_time())
        return found


def make_trainer(work: Path, seed: int) -> WindowTrainer:
    """A trainer of a small model on the stream."""
    shards = open_stream(str(work / "rows"), languages=[LANGUAGE])
    captions = [f"a sound of the kind {number}" for number in range(CAPTIONS)]
    model, processor = model_from_scratch(captions, [LANGUAGE], ScratchArguments(), seed, shards.facts.embeddings)
    args = AtriTrainingArguments(
        output_dir=str(work / "run"),
        languages=[LANGUAGE],
        objective="kcl",
        per_device_train_batch_size=BATCH,
        shuffle_buffer=BUFFER,
        max_steps=STEPS + 1,
        save_strategy="no",
        logging_strategy="no",
        freeze_text=True,
        text_cache_dir=str(work / "states"),
        seed=seed,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
    )
    trainer = WindowTrainer(model, args, processor, RowStream((shards,)))
    trainer.remove_callback(brief_callback(args.disable_tqdm)[1])  # the report is the only line
    return trainer


if __name__ == "__main__":
    main()
