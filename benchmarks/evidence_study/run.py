"""Do runs of `evidence.py` one after another: train, evaluate, and add each run to the results file.

    python -m evidence_study.run STUDY SCENES WORK RESULTS CELL:SEED ... [--tune]

The name of each run is printed when it has ended, and the other messages go to the standard error. The first run that
fails ends the process. SCENES has train/ and dev/. WORK keeps models, the features of the sounds, and the states of
frozen text encoders.
"""

import argparse
import math
import random
import resource
import shutil
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from consistency_study.results import add_run
from shared.scenes import read_scenes
from teaching_study.cells import shared_settings

from modeling_atri import AtriModel, AtriProcessor
from modeling_atri.encode import encode_folder
from modeling_atri.files import write_json_lines
from modeling_atri.hub_cards.environment import describe_environment
from modeling_atri.languages_atri import ATRI_LANGUAGES
from modeling_atri.trainer import AtriTrainer, AtriTrainingArguments, load_rows
from modeling_atri.trainer.data.text_cache import TextCache
from modeling_atri.trainer.evaluation import RetrievalSet, retrieval_table
from modeling_atri.trainer.metrics import text_to_audio_ranks
from modeling_atri.trainer.scratch.model import ScratchArguments, caption_texts

from .cells import BATCH, BATCH_SIZE, Cell, with_beginnings
from .curve import Curve
from .losses import LOSSES
from .own_loss import OwnLossTrainer
from .places import Places
from .studies import find_study
from .towers import TOWERS
from .training_rows import CHANGES


LANGUAGES = list(ATRI_LANGUAGES)
ENGLISH = LANGUAGES[0]


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("study", "scenes", "work", "results"):
        parser.add_argument(name)
    parser.add_argument("runs", nargs="+", metavar="CELL:SEED")
    parser.add_argument("--tune", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cells = {cell.name: cell for cell in with_beginnings(find_study(options.study).find([], options.tune))}
    places = Places(Path(options.scenes), Path(options.work), options.tune)
    for name in options.runs:
        cell, _, seed = name.rpartition(":")
        with redirect_stdout(sys.stderr):
            add_run(Path(options.results), train_and_measure(cells[cell], int(seed), places))
        print(name, flush=True)


def train_and_measure(cell: Cell, seed: int, places: Places) -> dict[str, Any]:
    """Do the run of a cell and a seed, and return its row of the results."""
    settings, sizes, group = shared_settings()
    source = changed_rows(cell, seed, places)
    train = load_rows(source, languages=LANGUAGES, group_column=group)
    dev_set = RetrievalSet.from_rows(
        load_rows(places.rows / "dev", languages=LANGUAGES, group_column=group), LANGUAGES
    )
    model, processor = first_model(cell, seed, places, train, sizes)
    args = training_arguments(cell, seed, places, settings)
    rows, seconds_of_archive = taught_rows(cell, seed, places, source, group) if cell.is_taught else (train, None)
    trainer = make_trainer(cell, model, args, processor, rows)
    curve = Curve(trainer, dev_set, cell.measure_every)
    trainer.add_callback(curve)
    seconds_of_states = fill_caches(trainer, model, processor, train)  # the measured time does not include these
    start = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    began = time.process_time()
    trainer.train()
    cpu_seconds = time.process_time() - began - curve.cpu_seconds
    trainer.save_model()
    shutil.rmtree(places.model(cell.name, seed) / "archive", ignore_errors=True)  # of an earlier model
    embeddings = trainer.embed(dev_set)
    ranks = [text_to_audio_ranks(embeddings.audio, text, dev_set.positives) for text in embeddings.text.values()]
    squares = [(value.detach() - start[name]).square().sum().item() for name, value in model.named_parameters()]
    return {
        "cell": cell.name,
        "seed": seed,
        "steps": cell.options["max_steps"],
        "options": cell.definition,
        "captions_a_clip": cell.captions_a_clip,
        "num_parameters": sum(value.numel() for value in model.parameters() if value.requires_grad),
        "metrics": retrieval_table(embeddings, dev_set.positives, ENGLISH),
        "last_loss": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry][-1],
        "distance_from_start": math.sqrt(sum(squares)),
        "cpu_seconds": round(cpu_seconds, 1),
        "cpu_seconds_of_text_states": seconds_of_states,
        "cpu_seconds_of_archive": seconds_of_archive,
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "environment": describe_environment(args.device),
        "doubled_ranks": (2 * np.stack(ranks)).astype(np.uint16),
        "curve": curve.points,
    }


def changed_rows(cell: Cell, seed: int, places: Places) -> Path:
    """The folder of the training rows, which are changed if the cell says so."""
    rows = places.rows / "train"
    if cell.rows is None:
        return rows
    lines = read_scenes(rows / "metadata.jsonl")
    for line in lines:
        line["audio_id"] = line["file_name"]  # as in the store of the teacher's embeddings
        line["file_name"] = str((rows / line["file_name"]).resolve())
    folder = places.model(cell.name, seed).parent / "rows" / f"{cell.rows}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    write_json_lines(folder / "metadata.jsonl", CHANGES[cell.rows](lines, random.Random(seed)))
    return folder


def first_model(
    cell: Cell, seed: int, places: Places, train: Any, sizes: ScratchArguments
) -> tuple[AtriModel, AtriProcessor]:
    """The model that a run begins with, and its processor."""
    if cell.begins_with is None:
        make, _ = TOWERS[cell.text]
        return make(train, sizes, seed)
    folder = places.model(cell.begins_with.name, seed)
    return AtriModel.from_pretrained(folder), AtriProcessor.from_pretrained(folder)


def training_arguments(cell: Cell, seed: int, places: Places, settings: dict[str, Any]) -> AtriTrainingArguments:
    """The training arguments of a run: the shared ones, those of the tower, and those of the cell."""
    of_run: dict[str, Any] = {"seed": seed, "languages": LANGUAGES, BATCH: BATCH_SIZE}
    if cell.is_taught:  # no sound is read
        settings = {key: value for key, value in settings.items() if key not in ("max_audio_seconds", "patch_dropout")}
    else:
        of_run["feature_cache_dir"] = str(places.work / "features")
    _, of_tower = TOWERS[cell.text]
    if of_tower.get("freeze_text"):
        of_run["text_cache_dir"] = str(places.work / "text_states")
    output = str(places.model(cell.name, seed))
    return AtriTrainingArguments(output, **settings | of_run | of_tower | cell.options)


def taught_rows(cell: Cell, seed: int, places: Places, source: Path, group: str) -> tuple[Any, float]:
    """The training rows without their sounds, and the CPU seconds that their embeddings took.

    They are captions alone, or captions with the teacher's embedding of each clip. The embeddings are computed once
    for all runs that a teacher teaches.
    """
    options: dict[str, Any] = {"languages": LANGUAGES, "group_column": group}
    if cell.options.get("teach_audio") == "none":
        return load_rows(source, **options).remove_columns("audio"), 0.0
    assert cell.begins_with is not None
    teacher = places.model(cell.begins_with.name, seed)
    archive, seconds = teacher / "archive", teacher / "archive_cpu_seconds"
    if not (archive.exists() and seconds.exists()):
        model, processor = AtriModel.from_pretrained(teacher), AtriProcessor.from_pretrained(teacher)
        shutil.rmtree(archive, ignore_errors=True)  # of a run that was stopped
        began = time.process_time()
        encode_folder(model, processor, places.scenes / "train", archive)
        seconds.write_text(f"{time.process_time() - began:.1f}", encoding="utf-8")
    return load_rows(source, audio_embeddings=archive, **options), float(seconds.read_text(encoding="utf-8"))


def make_trainer(
    cell: Cell, model: AtriModel, args: AtriTrainingArguments, processor: AtriProcessor, rows: Any
) -> AtriTrainer:
    """The trainer of a run, with the cell's own loss if it has one."""
    if cell.loss is None:
        return AtriTrainer(model, args, processor, train_dataset=rows)
    loss = LOSSES[cell.loss](args.per_device_train_batch_size)
    return OwnLossTrainer(loss, model, args, processor, train_dataset=rows)


_FILLED: set[str] = set()  # folders of features to which this process has added those of the training rows


def fill_caches(trainer: AtriTrainer, model: AtriModel, processor: AtriProcessor, train: Any) -> float | None:
    """Put the features of all sounds, and the states of all captions of a frozen text encoder, into their caches.

    Returns:
        CPU seconds that the states took in this run. All runs share the cache, so only the first one computes them.
        None if the text tower is trained.
    """
    args = trainer.args
    if args.feature_cache_dir is not None and args.feature_cache_dir not in _FILLED:
        for row in train:
            trainer.feature_cache(row["audio"])
        _FILLED.add(args.feature_cache_dir)
    if args.text_cache_dir is None:
        return None
    captions = sorted(set(caption_texts(train, LANGUAGES)))
    began = time.process_time()
    cache = TextCache(model, args.text_cache_dir)
    for start in range(0, len(captions), 512):
        cache(**processor(text=captions[start : start + 512]))
    cache.close()
    return round(time.process_time() - began, 1)


if __name__ == "__main__":
    main()
