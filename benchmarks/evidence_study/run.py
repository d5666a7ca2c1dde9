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
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from consistency_study.results import add_run
from shared.scenes import read_scenes
from teaching_study.cells import shared_settings
from teaching_study.run import fill_text_cache

from modeling_atri import AtriModel, AtriProcessor
from modeling_atri.encode import encode_folder
from modeling_atri.encode.fingerprints import audio_fingerprint
from modeling_atri.files import write_json_lines
from modeling_atri.hub_cards.environment import describe_environment
from modeling_atri.languages_atri import ATRI_LANGUAGES
from modeling_atri.trainer import AtriTrainer, AtriTrainingArguments, load_rows
from modeling_atri.trainer.evaluation import RetrievalSet, retrieval_table
from modeling_atri.trainer.metrics import text_to_audio_ranks
from modeling_atri.trainer.scratch.model import ScratchArguments

from .cells import BATCH, BATCH_SIZE, Cell, with_beginnings
from .curve import Curve
from .heads import HeadsRun, encoded_captions, states_of
from .losses import LOSSES
from .own_loss import OwnLossTrainer
from .places import Places
from .studies import find_study
from .towers import TOWERS, without_audio_tower
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
    source = rows_of(cell, seed, places, "train")
    options: dict[str, Any] = {"languages": LANGUAGES, "group_column": group}
    rows, seconds_of_archive = loaded_rows(cell, seed, places, source, options)
    stored = {} if cell.sounds_of is None else {"audio_embeddings": archive_of(cell.sounds_of, seed, places, "dev")[0]}
    dev = load_rows(rows_of(cell, seed, places, "dev"), **options | stored)
    dev_set = RetrievalSet.from_rows(dev, LANGUAGES)
    model, processor = first_model(cell, seed, places, rows, sizes)
    args = training_arguments(cell, seed, places, settings)
    trainer = make_trainer(cell, model, args, processor, rows)
    curve = Curve(trainer, dev_set, cell.measure_every)
    start = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    if cell.sounds_of is not None:
        folder = str(places.work / "text_states")
        encode = partial(encoded_captions, model=model, processor=processor, cache_folder=folder)
        heads = HeadsRun(trainer, states_of(rows, encode))
        began = time.process_time()
        last_loss, seconds_of_states = heads.train(), None
        cpu_seconds = time.process_time() - began
        embeddings = heads.embeddings(states_of(dev, encode))
    else:
        trainer.add_callback(curve)
        seconds_of_states = fill_caches(trainer, model, processor, rows)  # not a part of the measured time
        began = time.process_time()
        trainer.train()
        cpu_seconds = time.process_time() - began - curve.cpu_seconds
        trainer.save_model()
        for part in ("archive", "archive_dev"):
            shutil.rmtree(places.model(cell.name, seed) / part, ignore_errors=True)  # of an earlier model
        last_loss = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry][-1]
        embeddings = trainer.embed(dev_set)
    learnt = trainer.own_loss.figures() if isinstance(trainer, OwnLossTrainer) else {}
    ranks = [text_to_audio_ranks(embeddings.audio, text, dev_set.positives) for text in embeddings.text.values()]
    squares = [(value.detach() - start[name]).square().sum().item() for name, value in model.named_parameters()]
    return {
        "cell": cell.name,
        "seed": seed,
        "steps": cell.options["max_steps"],
        "options": cell.definition,
        "captions_a_clip": cell.captions_a_clip,
        "num_parameters": sum(value.numel() for value in model.parameters() if value.requires_grad),
        "metrics": retrieval_table(embeddings, dev_set.positives, ENGLISH) | learnt,
        "last_loss": last_loss,
        "distance_from_start": math.sqrt(sum(squares)),
        "cpu_seconds": round(cpu_seconds, 1),
        "cpu_seconds_of_text_states": seconds_of_states,
        "cpu_seconds_of_archive": seconds_of_archive,
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "environment": describe_environment(args.device),
        "doubled_ranks": (2 * np.stack(ranks)).astype(np.uint16),
        "curve": curve.points,
    }


def rows_of(cell: Cell, seed: int, places: Places, part: str) -> Path:
    """The folder of the rows of train/ or dev/. Those of train/ are changed if the cell says so.

    The rows are written anew if they are changed, or if the rows of a tuning run are looked up in a store, which has
    the names of the files below train/.
    """
    rows, change = places.rows / part, cell.rows if part == "train" else None
    if change is None and not (cell.sounds_of is not None and places.is_tuning):
        return rows
    lines = read_scenes(rows / "metadata.jsonl")
    for line in lines:
        file = (rows / line["file_name"]).resolve()
        line["file_name"] = str(file)
        line["audio_id"] = str(file.relative_to((places.scenes / "train").resolve()))  # as in stores of embeddings
    if change is not None:
        lines = CHANGES[change](lines, random.Random(seed))
    folder = places.model(cell.name, seed).parent / "rows" / f"{part}-{change}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    write_json_lines(folder / "metadata.jsonl", lines)
    return folder


def first_model(
    cell: Cell, seed: int, places: Places, train: Any, sizes: ScratchArguments
) -> tuple[AtriModel, AtriProcessor]:
    """The model that a run begins with, and its processor."""
    if cell.begins_with is not None:
        return model_of(cell.begins_with, seed, places)
    make, _ = TOWERS[cell.text]
    model, processor = make(train, sizes, seed)
    if cell.sounds_of is None:
        return model, processor
    earlier, of_earlier = model_of(cell.sounds_of, seed, places)
    torch.manual_seed(seed)
    return without_audio_tower(model, processor, audio_fingerprint(earlier, of_earlier))


def model_of(cell: Cell, seed: int, places: Places) -> tuple[AtriModel, AtriProcessor]:
    """The model of a run that ended, and its processor."""
    folder = places.model(cell.name, seed)
    return AtriModel.from_pretrained(folder), AtriProcessor.from_pretrained(folder)


def training_arguments(cell: Cell, seed: int, places: Places, settings: dict[str, Any]) -> AtriTrainingArguments:
    """The training arguments of a run: the shared ones, those of the tower, and those of the cell."""
    of_run: dict[str, Any] = {"seed": seed, "languages": LANGUAGES, BATCH: BATCH_SIZE}
    if cell.is_taught or cell.sounds_of is not None:  # no sound is read
        settings = {key: value for key, value in settings.items() if key not in ("max_audio_seconds", "patch_dropout")}
    else:
        of_run["feature_cache_dir"] = str(places.work / "features")
    _, of_tower = TOWERS[cell.text]
    if of_tower.get("freeze_text"):
        of_run["text_cache_dir"] = str(places.work / "text_states")
    output = str(places.model(cell.name, seed))
    return AtriTrainingArguments(output, **settings | of_run | of_tower | cell.options)


def loaded_rows(
    cell: Cell, seed: int, places: Places, source: Path, options: dict[str, Any]
) -> tuple[Any, float | None]:
    """The training rows with their sounds or stored embeddings of them, and the CPU seconds that these took.

    The rows of a taught run have the teacher's embeddings, or captions alone.
    """
    if cell.is_taught and cell.options.get("teach_audio") == "none":
        return load_rows(source, **options).remove_columns("audio"), 0.0
    embedded_by = cell.begins_with if cell.is_taught else cell.sounds_of
    if embedded_by is None:
        return load_rows(source, **options), None
    archive, seconds = archive_of(embedded_by, seed, places, "train")
    return load_rows(source, audio_embeddings=archive, **options), seconds


def archive_of(cell: Cell, seed: int, places: Places, part: str) -> tuple[Path, float]:
    """The embeddings of the scenes of train/ or dev/ by the model of a run, and the CPU seconds that they took.

    They are computed once for all runs that need them.
    """
    if places.is_tuning:
        part = "train"  # the scenes that tuning runs are evaluated on are in train/, too
    folder = places.model(cell.name, seed)
    archive = folder / ("archive" if part == "train" else f"archive_{part}")
    seconds = archive.with_name(f"{archive.name}_cpu_seconds")
    if not (archive.exists() and seconds.exists()):
        model, processor = model_of(cell, seed, places)
        shutil.rmtree(archive, ignore_errors=True)  # of a run that was stopped
        began = time.process_time()
        encode_folder(model, processor, places.scenes / part, archive)
        seconds.write_text(f"{time.process_time() - began:.1f}", encoding="utf-8")
    return archive, float(seconds.read_text(encoding="utf-8"))


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
    return fill_text_cache(model, processor, train, args)


if __name__ == "__main__":
    main()
