"""`atri train`: train or fine-tune on any data of the row schema."""

import sys
from copy import copy
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from modeling_atri.bounds import option
from modeling_atri.pretrained.loading import load_model

from ..loading import (
    DATA_HELP,
    EMBEDDING_COLUMNS_HELP,
    EMBEDDINGS_HELP,
    SPLIT_HELP,
    STREAMING_HELP,
    data_names,
)
from ..options import parse_options
from ..runs import checkpoint_to_resume, load_run_data


if TYPE_CHECKING:
    from modeling_atri import AtriModel, AtriProcessor
    from modeling_atri.trainer.arguments import AtriTrainingArguments
    from modeling_atri.trainer.scratch.model import ScratchArguments


DESCRIPTION = """\
Train an ATRI model on recordings with captions in several languages and save it, with its processor, to
--output_dir. With --eval_data, evaluate it and add results and a model card.

The data are a folder of sound files beside a metadata.jsonl with one line for each clip,
  {"file_name": "dog.wav", "captions": {"eng_Latn": ["a dog barks"], "fra_Latn": ["un chien aboie"]}}
or rows of that schema in another form. Captions are parallel: the c-th caption says the same in every language.

  clips, clips/metadata.csv                       folder of sounds with a metadata file (an AudioFolder), or the file
  rows.jsonl, rows.json, rows.csv                 rows that name sounds by paths relative to the file
  rows.parquet, rows.arrow, "data/*.parquet"      tables with embedded sounds or paths
  "shards/{000..009}.tar", set.zip, set.tar.gz    sounds with a metadata file, or with dog.json beside dog.flac
  folder of these, or of save_to_disk             splits are subfolders, or words of the names of files
  owner/name, owner/name:subset, hf://datasets/owner/name/files    the same on the Hub

examples:
  atri train --train_data clips/train --eval_data clips/dev --languages en fr --output_dir runs/first
  atri train --model runs/first --train_data more_clips --output_dir runs/second --objective kcl --bf16
  atri train --model runs/first --train_data more_clips --output_dir runs/lora --lora_rank 16
  atri train --train_data rows.jsonl --audio_embeddings embeddings --output_dir runs/stored
  atri train --train_data "shards/*.tar" more.parquet --streaming --data_weights 1 3 --max_steps 50000 \\
      --output_dir runs/streamed
  atri train --config run.yaml --seed 2
  atri train --config run.yaml --resume_from_checkpoint true

With --audio_embeddings, or with rows that contain their embeddings as lists in audio_embedding, no recording is read.
A model from scratch then has no audio tower. A model that is named with --model must be the one that made the
embeddings, or have no audio tower either.

With --streaming, rows are read file by file, checked when they are read, and shuffled by files and in blocks of rows.
Parquet files on this machine say how many rows they have; for other files, give --max_steps or --num_rows. Parts of
splits (train[:10%]) cannot be streamed. For a model from scratch, the tokenizer is learned from the first rows of the
files.

Without --languages, the data must have all eight languages of the paper. Without --model, a small model is trained
from scratch, with a default learning rate of 1e-3. With --model, the default is the paper's 5e-6, and 1e-4 for the
adapter of --lora_rank. An adapter is saved without its base model, but it can be loaded, evaluated and trained further
like any model.

A run that was killed can be resumed without a difference if it saved checkpoints, e.g. with --save_steps 100
--save_total_limit 2: give the same command again with --resume_from_checkpoint true, or with the folder of a
checkpoint. At Ctrl-C and SIGTERM, training finishes the step and saves a checkpoint. A second signal stops it at once.
"""


@dataclass
class DataArguments:
    """Data and model to start from."""

    train_data: list[str] = field(metadata={"help": f"{DATA_HELP} Several with --streaming."})
    train_split: str | None = option(None, f"{SPLIT_HELP} to train on.")
    streaming: bool = option(False, f"{STREAMING_HELP} Applies to --train_data.")
    data_weights: list[float] | None = option(
        None,
        "With --streaming and several --train_data: how often a row is taken from each. An epoch then ends when one "
        "of them has no more rows, and the next one begins with others of their files. Default: each row of all once.",
    )
    num_rows: int | None = option(
        None, "With --streaming: number of rows of an epoch, where the files do not say it. --max_steps needs none."
    )
    eval_data: str | None = option(None, "Data to evaluate on, of the same kinds. Default: no evaluation.")
    eval_split: str | None = option(None, f"{SPLIT_HELP} to evaluate on.")
    audio_embeddings: str | None = option(None, EMBEDDINGS_HELP)
    embedding_columns: list[str] | None = option(None, EMBEDDING_COLUMNS_HELP)
    model: str | None = option(
        None, "Folder or Hub id of the model to start from. Default: a small model from scratch."
    )


# Options of transformers' TrainingArguments that `--help` shows, beside all of ours.
_COMMON_OPTIONS = {
    *("seed", "max_steps", "gradient_accumulation_steps", "per_device_eval_batch_size"),
    *("weight_decay", "warmup_steps", "lr_scheduler_type", "bf16", "use_cpu"),
    *("eval_strategy", "save_strategy", "save_steps", "save_total_limit"),
}


def main(argv: list[str]) -> int:
    """Run the command and return its exit status, which is that of the signal if one stopped it."""
    from modeling_atri.trainer.arguments import AtriTrainingArguments
    from modeling_atri.trainer.run.preemption import TrainingStopped
    from modeling_atri.trainer.scratch.model import ScratchArguments

    own = {item.name for dataclass in (DataArguments, ScratchArguments) for item in fields(dataclass)}
    own |= set(AtriTrainingArguments.__annotations__) - {"remove_unused_columns", "logging_nan_inf_filter"}
    dataclasses = (DataArguments, ScratchArguments, AtriTrainingArguments)
    data, sizes, args = parse_options(
        argv, dataclasses, DESCRIPTION, "atri train", own | _COMMON_OPTIONS, defaults=_defaults
    )
    try:
        train(data, sizes, args)
    except TrainingStopped as stop:
        advice = "" if stop.checkpoint is None else " To go on, add --resume_from_checkpoint true."
        print(f"\natri train: {stop}{advice}", file=sys.stderr)
        return 128 + stop.signal
    return 0


def _defaults(given: set[str]) -> dict[str, Any]:
    """Defaults of the learning rates. The paper's is for fine-tuning: a new model or adapter would hardly learn."""
    if "model" not in given:
        return {"report_to": "none", "learning_rate": 1e-3}
    if "lora_rank" in given and "learning_rate" not in given:
        return {"report_to": "none", "text_learning_rate": 1e-4}
    return {"report_to": "none"}


def train(data: DataArguments, sizes: "ScratchArguments", args: "AtriTrainingArguments") -> None:
    """Load data and model, train, evaluate and save."""
    from modeling_atri.trainer.run.preemption import stop_on_signal
    from modeling_atri.trainer.trainer import AtriTrainer

    from ..printing.report import save_run

    _check_streaming(data)
    checkpoint = checkpoint_to_resume(args)
    rows = load_run_data(data, args)
    if data.streaming and rows.train.num_rows is None and args.max_steps <= 0:
        raise ValueError(
            "The files do not say how many rows they have, so --num_train_epochs cannot be turned into steps. Add "
            "--max_steps, or --num_rows with the number of rows of an epoch."
        )
    model, processor = _load_or_make_model(data.model or checkpoint, rows.train, sizes, args)
    facts = {"data": data_names(data, args.group_column)}
    if data.model is None:
        facts["model"] = {"initialized_from": "scratch"}
    args = copy(args)
    args.group_column = None  # `load_rows` has read it into the column `group_id`
    trainer = AtriTrainer(model, args, processor, train_dataset=rows.train, eval_dataset=rows.eval, facts=facts)
    rows.tell(trainer)
    with stop_on_signal(trainer):
        trainer.train(resume_from_checkpoint=checkpoint)
    save_run(trainer)


def _check_streaming(data: DataArguments) -> None:
    """Raise a ValueError for options that need others."""
    if data.streaming:
        if data.data_weights is not None and len(data.data_weights) != len(data.train_data):
            raise ValueError(
                f"--data_weights takes a number for each of --train_data; got {len(data.data_weights)} for "
                f"{len(data.train_data)}."
            )
        return
    if len(data.train_data) > 1:
        raise ValueError(
            f"--train_data names {len(data.train_data)} data sets ({', '.join(data.train_data)}). Several are read as "
            "a stream: add --streaming. A pattern of files needs quotes, such as 'shards/*.tar'."
        )
    for name in ("data_weights", "num_rows"):
        if getattr(data, name) is not None:
            raise ValueError(f"--{name} is an option of --streaming, which is missing.")


def _load_or_make_model(
    source: str | None, rows: Any, sizes: "ScratchArguments", args: "AtriTrainingArguments"
) -> "tuple[AtriModel, AtriProcessor]":
    """Load a model, or make one from scratch.

    A run from scratch is resumed with the model of its checkpoint, because a tokenizer that is learned from other
    captions would not fit.
    """
    from modeling_atri.corpora.rows.lookup import embedding_facts
    from modeling_atri.corpora.streams import RowStream
    from modeling_atri.corpora.streams.first_rows import first_rows
    from modeling_atri.trainer.model.adapters import has_adapter, train_adapter
    from modeling_atri.trainer.scratch.model import caption_texts, model_from_scratch

    if source is None:
        is_stream = isinstance(rows, RowStream)
        texts = caption_texts(first_rows(rows) if is_stream else rows, args.languages)
        embeddings = rows.facts.embeddings if is_stream else embedding_facts(rows)
        return model_from_scratch(texts, args.languages, sizes, args.seed, embeddings)
    model, processor = load_model(source)
    if has_adapter(model):
        train_adapter(model)
    return model, processor
