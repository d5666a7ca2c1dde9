"""Do one run of `teaching.py`: train, evaluate on dev, and print the result as one line of JSON.

    python -m teaching_study.run TEXT-WAY SEED DATA WORK

WORK keeps the model of each run, the archive of the embeddings of the training clips of each teacher, the features of
the sounds, and the states of the captions of the frozen text encoder.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

from modeling_atri import AtriConfig, AtriModel, AtriProcessor
from modeling_atri.encode import encode_folder
from modeling_atri.encode.fingerprints import audio_fingerprint
from modeling_atri.hub_cards.environment import describe_environment
from modeling_atri.languages_atri import ATRI_LANGUAGES
from modeling_atri.trainer import AtriTrainer, AtriTrainingArguments, load_rows
from modeling_atri.trainer.data.text_cache import TextCache
from modeling_atri.trainer.evaluation import RetrievalSet, retrieval_table
from modeling_atri.trainer.scratch.model import ScratchArguments, caption_texts, model_from_scratch

from . import use_text
from .cells import CELLS, ENGLISH, Cell, shared_settings


LANGUAGES = list(ATRI_LANGUAGES)


def main() -> None:
    """Run the command."""
    name, seed, data, work = sys.argv[1:]
    torch.set_num_threads(1)
    print(json.dumps(train_and_measure(CELLS[name], int(seed), Path(data), Path(work))))


def train_and_measure(cell: Cell, seed: int, data: Path, work: Path) -> dict[str, Any]:
    """Do the run of a cell and a seed, and return its line of the results."""
    settings, sizes, group = shared_settings()
    train, dev = (load_rows(data / part, languages=LANGUAGES, group_column=group) for part in ("train", "dev"))
    teacher = work / f"{cell.text}-{ENGLISH}-{seed}"
    output = work / f"{cell.name}-{seed}"
    if cell.is_taught:
        model, processor = AtriModel.from_pretrained(teacher), AtriProcessor.from_pretrained(teacher)
    else:
        model, processor = make_model(cell.text, train, sizes, seed)
    of_run: dict[str, Any] = {"seed": seed, "languages": LANGUAGES}
    if cell.is_taught:
        del settings["max_audio_seconds"], settings["patch_dropout"]  # no sound is read
    else:
        of_run["feature_cache_dir"] = str(work / "features")
    if cell.text == "use":
        of_run["text_cache_dir"] = str(work / "text_states")
    args = AtriTrainingArguments(str(output), **settings | of_run | cell.options)
    rows = taught_rows(data, teacher, args.teach_audio, group) if cell.is_taught else train
    audio_side = audio_fingerprint(model, processor) if cell.is_taught else None
    trainer = AtriTrainer(model, args, processor, train_dataset=rows)
    for row in (
        () if cell.is_taught else train
    ):  # not a part of the measured time, which the first run would otherwise spend on it
        trainer.feature_cache(row["audio"])
    seconds_of_states = None if cell.text == "scratch" else fill_text_cache(model, processor, train, args)
    began = time.process_time()
    trainer.train()
    cpu_seconds = time.process_time() - began
    trainer.save_model()
    if cell.way == ENGLISH:
        encode_folder(model, processor, data / "train", output / "archive")
    dev_set = RetrievalSet.from_rows(dev, LANGUAGES)
    return {
        "cell": cell.name,
        "seed": seed,
        "options": cell.options,
        "metrics": retrieval_table(trainer.embed(dev_set), dev_set.positives, "eng_Latn"),
        "cpu_seconds": round(cpu_seconds, 1),
        "cpu_seconds_of_text_states": seconds_of_states,
        "num_trained": sum(value.numel() for value in model.parameters() if value.requires_grad),
        "keeps_audio_side": None if audio_side is None else audio_fingerprint(model, processor) == audio_side,
        "environment": describe_environment(args.device),
    }


def make_model(text: str, train: Any, sizes: ScratchArguments, seed: int) -> tuple[AtriModel, AtriProcessor]:
    """A new model with its processor. The tokenizer from scratch has seen the captions of all languages."""
    model, processor = model_from_scratch(caption_texts(train, LANGUAGES), LANGUAGES, sizes, seed)
    if text == "scratch":
        return model, processor
    tokenizer = use_text.use_tokenizer()
    config = model.config.to_dict()
    config["text_config"] = use_text.UseTextConfig(vocab_size=len(tokenizer)).to_dict()
    torch.manual_seed(seed)
    return AtriModel(AtriConfig.from_dict(config)), AtriProcessor(processor.feature_extractor, tokenizer)


def fill_text_cache(model: AtriModel, processor: AtriProcessor, train: Any, args: AtriTrainingArguments) -> float:
    """Put the states of all training captions into the cache, and return the CPU seconds that this took.

    All runs share the cache, so only the first run computes the states.
    """
    captions = sorted(set(caption_texts(train, LANGUAGES)))
    began = time.process_time()
    cache = TextCache(model, args.text_cache_dir)
    for start in range(0, len(captions), 512):
        cache(**processor(text=captions[start : start + 512]))
    cache.close()
    return round(time.process_time() - began, 1)


def taught_rows(data: Path, teacher: Path, teach_audio: str, group: str) -> Any:
    """The training rows without their sounds: captions alone, or with the stored embedding of each clip."""
    options = {"languages": LANGUAGES, "group_column": group}
    if teach_audio == "none":
        return load_rows(data / "train", **options).remove_columns("audio")
    return load_rows(data / "train", audio_embeddings=teacher / "archive", **options)


if __name__ == "__main__":
    main()
