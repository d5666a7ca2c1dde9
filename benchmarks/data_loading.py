"""Measure how many clips the loader of the training data delivers, in the main process and with workers.

    python benchmarks/data_loading.py | python -m json.tool --indent 1

The loader is that of `AtriTrainer`: it decodes files of ten seconds at 16 kHz (FLAC and WAV), computes the log-mel
features of CED-base, and makes tokens of a caption in each of eight languages (KCL) with a tokenizer of the same kind
as SONAR's, but with a small vocabulary. Nothing is cached. Each setting of `--dataloader_num_workers` has one epoch,
without training steps, so that the figures do not depend on the model.

- `cpu_ms_a_clip`: CPU time of all processes. `main_cpu_ms_a_clip` is the part of the main process, which also runs the
  training step.
- `clips_a_second`: wall-clock rate of all batches after the first one of each worker. It is meaningful only if the
  machine has a free core for each worker and the main process.
- `workers_for_the_step`: how many workers feed a step of `--clips-a-step` clips in `--step-seconds`, from the CPU time
  of a clip with one worker. `measured_workers_for_the_step` is the smallest number of workers whose rate suffices, or
  null.

It prints one JSON line. `results/data_loading.json` was written by the command above; its `load_average` says how busy
the machine was.
"""

from shared.measuring import print_report  # first: it sets one thread


# isort: split
import argparse
import json
import math
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import soundfile
from shared.options import SEED, option_parser
from shared.processes import cpu_seconds_of_children

from modeling_atri import AtriConfig, AtriFeatureExtractor, AtriModel, AtriProcessor
from modeling_atri.corpora.rows.load import load_rows
from modeling_atri.corpora.soundscapes.scenes import write_soundscapes
from modeling_atri.files import write_json_lines
from modeling_atri.languages_atri import ATRI_LANGUAGES
from modeling_atri.trainer import AtriTrainer, AtriTrainingArguments
from modeling_atri.trainer.scratch.tokenizer import train_tokenizer


FORMATS = ("wav", "flac")
CLIP_S = 10.0
# The model does nothing here. The features are those of CED-base, and of all other sizes of CED.
AUDIO = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 16}
TEXT = {"d_model": 16, "encoder_layers": 1, "encoder_ffn_dim": 16, "encoder_attention_heads": 1}


def main() -> None:
    """Run the command."""
    parser = option_parser(
        __doc__,
        "two minutes",
        clips=(480, "clips of an epoch"),
        clips_a_step=(24, "clips of a batch"),
        step_seconds=(0.3, "duration of a training step"),
        seed=(0, SEED),
    )
    parser.add_argument(
        "--workers", type=int, nargs="+", default=[0, 1, 2, 4], help="numbers of workers (default: 0 1 2 4)"
    )
    options = parser.parse_args()
    most = options.clips // options.clips_a_step - 1
    if max(options.workers) > most:
        parser.error(f"--workers {max(options.workers)} needs more --clips: a worker must make two batches.")
    found = {}
    with tempfile.TemporaryDirectory() as name:
        write_clips(Path(name), options)
        for audio_format in FORMATS:
            trainers = make_trainers(Path(name), audio_format, options)
            found[audio_format] = {workers: measure_epoch(trainer) for workers, trainer in trainers.items()}
    needed = options.clips_a_step / options.step_seconds
    print_report(
        "data_loading",
        needed_clips_a_second=round(needed, 1),
        formats={name: advice(figures, needed) | {"workers": figures} for name, figures in found.items()},
        cores=os.cpu_count(),
        load_average=round(os.getloadavg()[0], 1),
        clips=options.clips,
        clips_a_step=options.clips_a_step,
        step_seconds=options.step_seconds,
        seed=options.seed,
    )


def write_clips(folder: Path, options: argparse.Namespace) -> None:
    """Write the same generated scenes in each format, to folders with the names of the formats."""
    first, *others = FORMATS
    metadata = write_soundscapes(folder / first, options.clips, options.seed, duration_s=CLIP_S, audio_format=first)
    lines = [json.loads(line) for line in metadata.read_text(encoding="utf-8").splitlines()]
    for audio_format in others:
        (folder / audio_format).mkdir()
        named = [line | {"file_name": f"{line['audio_id']}.{audio_format}"} for line in lines]
        for line, other in zip(lines, named, strict=True):
            samples, rate = soundfile.read(folder / first / line["file_name"], dtype="int16")
            soundfile.write(folder / audio_format / other["file_name"], samples, rate)
        write_json_lines(folder / audio_format / metadata.name, named)


def make_trainers(folder: Path, audio_format: str, options: argparse.Namespace) -> dict[int, AtriTrainer]:
    """Make a trainer for each number of workers, on files of a format."""
    rows = load_rows(folder / audio_format, languages=ATRI_LANGUAGES)
    captions = (text for row in rows["captions"] for texts in row.values() for text in texts)
    tokenizer = train_tokenizer(captions, ATRI_LANGUAGES)
    model = AtriModel(AtriConfig(audio_config=AUDIO, text_config=TEXT | {"vocab_size": len(tokenizer)}))

    def make_trainer(workers: int) -> AtriTrainer:
        args = AtriTrainingArguments(
            str(folder / "run"),
            objective="kcl",
            languages=list(ATRI_LANGUAGES),
            per_device_train_batch_size=options.clips_a_step,
            dataloader_num_workers=workers,
            use_cpu=True,
            report_to="none",
            disable_tqdm=True,
            seed=options.seed,
        )
        return AtriTrainer(model, args, AtriProcessor(AtriFeatureExtractor(), tokenizer), train_dataset=rows)

    return {workers: make_trainer(workers) for workers in options.workers}


def measure_epoch(trainer: AtriTrainer) -> dict[str, float]:
    """The figures of one epoch of the trainer's loader."""
    first = max(1, trainer.args.dataloader_num_workers)
    begun = cpu_seconds()
    arrivals, num_clips = [time.perf_counter()], 0
    for batch in trainer.get_train_dataloader():
        arrivals.append(time.perf_counter())
        num_clips += len(batch["item_ids"])
    ended = cpu_seconds()  # the workers have ended
    cpu = {who: ended[who] - begun[who] for who in ended}
    clips_after = num_clips - first * trainer.args.per_device_train_batch_size
    return {
        "cpu_ms_a_clip": round(1000 * sum(cpu.values()) / num_clips, 2),
        "main_cpu_ms_a_clip": round(1000 * cpu["main"] / num_clips, 2),
        "clips_a_second": round(clips_after / (arrivals[-1] - arrivals[first]), 1),
    }


def cpu_seconds() -> dict[str, float]:
    """CPU time of this process, and of the workers that have ended."""
    return {"main": time.process_time(), "workers": cpu_seconds_of_children()}


def advice(figures: dict[int, dict[str, float]], needed: float) -> dict[str, Any]:
    """How many workers deliver as many clips a second as needed: computed, and measured."""
    one = figures.get(1)
    enough = [workers for workers, own in sorted(figures.items()) if workers and own["clips_a_second"] >= needed]
    of_worker = None if one is None else one["cpu_ms_a_clip"] - one["main_cpu_ms_a_clip"]
    return {
        "workers_for_the_step": of_worker and math.ceil(needed * of_worker / 1000),
        "measured_workers_for_the_step": enough[0] if enough else None,
    }


if __name__ == "__main__":
    main()
