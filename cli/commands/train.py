"""`atri train`: train or fine-tune on any data of the row schema."""

import sys
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from modeling_atri.languages_atri import resolve_language

from ..loading import data_name, hub_id, load_model
from ..options import parse_options


DESCRIPTION = """\
Train an ATRI model on recordings with captions in several languages and save it, with its processor, to
--output_dir. With --eval_data, evaluate it and add results and a model card.

Data is a folder of sound files beside a metadata.jsonl with one line a clip,
  {"file_name": "dog.wav", "captions": {"eng_Latn": ["a dog barks"], "fra_Latn": ["un chien aboie"]}}
or the id of a Hub dataset of that schema. Captions are parallel: the c-th says the same in every language.

examples:
  atri train --train_data clips/train --eval_data clips/dev --languages en fr --output_dir runs/first
  atri train --model runs/first --train_data more_clips --output_dir runs/second --objective kcl --bf16
  atri train --model runs/first --train_data more_clips --output_dir runs/lora --lora_rank 16
  atri train --config run.yaml --seed 2
  atri train --config run.yaml --resume_from_checkpoint true

Without --languages, all eight of the paper are expected. Without --model, a small model is trained from scratch, with
a learning rate of 1e-3 unless you say another; with it, the default is the paper's 5e-6, and 1e-4 for the adapter of
--lora_rank. An adapter is saved without its base model, but loads, evaluates and trains on like any model.

With --save_steps 100 --save_total_limit 2, say, a run that was killed goes on from its last whole checkpoint as if it
had never stopped: give the same command again, with --resume_from_checkpoint true (or the folder of a checkpoint).
Ctrl-C and SIGTERM let the step end and save a checkpoint first; a second one stops at once.
"""


@dataclass
class DataArguments:
    """What is read."""

    train_data: str = field(metadata={"help": "Folder with metadata.jsonl, JSON lines file, or Hub dataset id."})
    train_split: str | None = field(default=None, metadata={"help": "Split (or subfolder) to train on."})
    eval_data: str | None = field(default=None, metadata={"help": "The same to evaluate on. Default: no evaluation."})
    eval_split: str | None = field(default=None, metadata={"help": "Split (or subfolder) to evaluate on."})
    model: str | None = field(
        default=None,
        metadata={"help": "Folder or Hub id of the model to start from. Default: a small one from scratch."},
    )


def main(argv: list[str]) -> int:
    """Run the command and return its exit status: that of the signal where one stopped it."""
    from modeling_atri.trainer.arguments import AtriTrainingArguments
    from modeling_atri.trainer.scratch.model import ScratchArguments

    adds = set(AtriTrainingArguments.__annotations__)
    common = {
        "output_dir",
        "seed",
        "max_steps",
        "weight_decay",
        "warmup_steps",
        "lr_scheduler_type",
        "bf16",
        "use_cpu",
    }
    common |= {"per_device_eval_batch_size", "gradient_accumulation_steps", "eval_strategy", "save_strategy"}
    common |= {"save_steps", "save_total_limit", "resume_from_checkpoint"}
    shown = (
        adds | common | {item.name for dataclass in (DataArguments, ScratchArguments) for item in fields(dataclass)}
    )
    data, sizes, args = parse_options(
        argv,
        (DataArguments, ScratchArguments, AtriTrainingArguments),
        DESCRIPTION,
        "atri train",
        shown - {"remove_unused_columns", "logging_nan_inf_filter"},
        defaults=_defaults,
    )
    from modeling_atri.trainer.run.preemption import TrainingStopped

    try:
        train(data, sizes, args)
    except TrainingStopped as stop:
        advice = "" if stop.checkpoint is None else " To go on, add --resume_from_checkpoint true."
        print(f"\natri train: {stop}{advice}", file=sys.stderr)
        return 128 + stop.signal
    return 0


def _defaults(given: set[str]) -> dict[str, Any]:
    """The paper's learning rate is for fine-tuning; from scratch, or for an adapter, it would be next to none."""
    if "model" not in given:
        return {"report_to": "none", "learning_rate": 1e-3}
    if "lora_rank" in given and "learning_rate" not in given:
        return {"report_to": "none", "text_learning_rate": 1e-4}
    return {"report_to": "none"}


def train(data: DataArguments, sizes, args) -> None:
    """Load, train, evaluate, save."""
    from modeling_atri.corpora.rows.load import load_rows
    from modeling_atri.trainer.model.adapters import has_adapter, train_adapter
    from modeling_atri.trainer.run.checkpoints import resolve_checkpoint
    from modeling_atri.trainer.run.preemption import stop_on_signal
    from modeling_atri.trainer.scratch.model import caption_texts, model_from_scratch
    from modeling_atri.trainer.step.distributed import told_by_main
    from modeling_atri.trainer.trainer import AtriTrainer

    from ..report import save_run

    wanted = _checkpoint(args.resume_from_checkpoint)
    checkpoint = told_by_main(lambda: resolve_checkpoint(wanted, Path(args.output_dir)))
    languages = [resolve_language(language) for language in args.languages]
    options = {"languages": languages, "group_column": args.group_column}
    left_out = {"train": [], "eval": []}
    takers = left_out if args.on_bad_row == "skip" else dict.fromkeys(left_out)
    train_rows = load_rows(data.train_data, data.train_split, left_out=takers["train"], **options)
    eval_rows = None
    if data.eval_data:
        eval_rows = load_rows(data.eval_data, data.eval_split, left_out=takers["eval"], **options)
    if data.model is None and checkpoint is not None:
        model, processor = load_model(checkpoint)  # a tokenizer learned anew, of other captions, would not fit
    elif data.model is None:
        model, processor = model_from_scratch(caption_texts(train_rows, languages), languages, sizes, args.seed)
    else:
        model, processor = load_model(data.model)
        if has_adapter(model):
            train_adapter(model)
    names = {
        "train": data_name(data.train_data, data.train_split),
        "train_hub_id": hub_id(data.train_data),
        "eval": data_name(data.eval_data, data.eval_split),
        "eval_hub_id": hub_id(data.eval_data),
    }
    names = {fact: name for fact, name in names.items() if name is not None}
    if args.group_column is not None:
        names["group_column"] = args.group_column
        args.group_column = None  # `load_rows` made it the column `group_id`
    facts = {"data": names} | ({"model": {"initialized_from": "scratch"}} if data.model is None else {})
    trainer = AtriTrainer(model, args, processor, train_dataset=train_rows, eval_dataset=eval_rows, facts=facts)
    for name, found in left_out.items():
        trainer.left_out[name] += found
    with stop_on_signal(trainer):
        trainer.train(resume_from_checkpoint=checkpoint)
    save_run(trainer)


def _checkpoint(name: str | None) -> str | bool | None:
    """`true` means the last checkpoint in the output folder, as in Trainer; `false` none."""
    return {"true": True, "false": None}.get(str(name).lower(), name)
