"""`atri teach`: teach languages to a model that knows one, from parallel captions."""

import sys
from copy import copy
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from modeling_atri.bounds import option
from modeling_atri.configuration_atri import AtriEmbeddedAudioConfig
from modeling_atri.corpora.rows.load import load_rows
from modeling_atri.hub_cards.cards import write_model_card
from modeling_atri.hub_cards.results import ModelFacts, Results, TeacherFacts
from modeling_atri.languages_atri import resolve_language, resolve_languages
from modeling_atri.modeling_atri import AtriModel
from modeling_atri.pretrained.text_only import without_audio_tower
from modeling_atri.pretrained.towers import load_text_tower
from modeling_atri.processing_atri import AtriProcessor
from modeling_atri.sources import public_name
from modeling_atri.trainer.arguments import AtriTrainingArguments
from modeling_atri.trainer.model.adapters import has_adapter, merge_adapter
from modeling_atri.trainer.publishing.results import model_facts
from modeling_atri.trainer.run.checkpoints import resolve_checkpoint
from modeling_atri.trainer.run.preemption import TrainingStopped, stop_on_signal
from modeling_atri.trainer.scratch.model import ScratchTextArguments, caption_texts
from modeling_atri.trainer.step.distributed import told_by_main
from modeling_atri.trainer.teach.students import (
    audio_side_of,
    clap_audio_side,
    join_student,
    stored_audio_side,
    text_from_scratch,
)
from modeling_atri.trainer.teach.taught_rows import captions_in, teacher_vectors
from modeling_atri.trainer.teach.teachers import TEACHER_COLUMN, Teacher, load_teacher
from modeling_atri.trainer.trainer import AtriTrainer

from ..loading import (
    DATA_HELP,
    EMBEDDING_COLUMNS_HELP,
    EMBEDDINGS_HELP,
    SPLIT_HELP,
    data_names,
    load_model,
    open_embeddings,
    reason_of,
)
from ..options import parse_options
from ..outputs import check_output_folder
from ..report import print_left_outs, print_results
from ..teaching import Measure, Student, outcome, summary


if TYPE_CHECKING:
    from datasets import Dataset


DESCRIPTION = """\
Teach languages to an audio-text model that knows one, without touching its audio side: every embedding of a sound that
the model has made stays valid. A text encoder learns to give a caption in any language the embedding that the teacher
gives to its English version. The result is saved to --output_dir, with its processor, results and a model card.

The data are captions that say the same in several languages, one line each. No sound is needed:
  {"captions": {"eng_Latn": ["a dog barks"], "fra_Latn": ["un chien aboie"], "jpn_Jpan": ["犬が吠える"]}}
`atri translate` makes such rows of English captions. Rows with sounds (`file_name`) or with their embeddings
(--audio_embeddings) add a contrastive term with the frozen audio, and recall is measured on such rows (--eval_data).

The teacher is one of
  a CLAP model of transformers    the result has its audio tower, its audio head and its temperature
  an ATRI model                   the same; without --text_model its own text side is taught further
  a PE-Audio or sentence-transformers model, or the column teacher_embedding of the training data
                                  the result has no audio tower: it searches embeddings that the teacher has made

examples:
  atri teach --teacher laion/larger_clap_general --text_model cointegrated/SONAR_200_text_encoder \\
      --train_data captions.jsonl --languages fr de ja --freeze_text --output_dir runs/clap8
  atri teach --teacher runs/english --train_data captions.jsonl --languages fr de --output_dir runs/english8
  atri teach --teacher runs/clap8 --train_data more.jsonl --languages fr de ja ca --hold_languages fr de ja \\
      --output_dir runs/clap9                                              # one more language

The text side:
  --text_model NAME --freeze_text    only a new head is trained, on states that are computed once: seconds to minutes
  --text_model NAME --lora_rank 16   an adapter and the head, merged into the model at the end
  --text_model NAME                  the whole encoder and the head
  without --text_model               a small encoder from scratch, unless the teacher is an ATRI model

Default learning rates: 1e-3 for the head and for small encoders, which begin at random weights; 1e-4 for an adapter,
which begins at no change; 2e-5 for a large pretrained encoder, which a higher rate makes forget what it knows. By
default, training takes ten epochs, or 1,500 steps if that is more.

A run that was killed goes on with the same command and --resume_from_checkpoint true.
"""

_MIN_STEPS = 1500  # as many as the measured runs took to bring every language to the level of the teacher's
_SMALL = 30_000_000  # parameters; published pretrained encoders are larger
_MAX_HELD_BACK = 500
_RATES = {"small": 1e-3, "adapter": 1e-4, "large": 2e-5}
_START_NAME = "start"  # folder of the model that an adapter was begun on
_STATES_NAME = "text_states"  # folder of the states of a frozen text tower


@dataclass
class TeachArguments:
    """Data, and what to build the student of."""

    train_data: str = field(metadata={"help": f"Parallel captions, with or without sounds. {DATA_HELP}"})
    train_split: str | None = option(None, f"{SPLIT_HELP} to train on.")
    eval_data: str | None = option(
        None,
        "Sounds, or stored embeddings of them, with captions, to measure recall on. Default: the distance to the "
        "teacher is measured on captions that are held back from training.",
    )
    eval_split: str | None = option(None, f"{SPLIT_HELP} to evaluate on.")
    audio_embeddings: str | None = option(None, EMBEDDINGS_HELP)
    embedding_columns: list[str] | None = option(None, EMBEDDING_COLUMNS_HELP)
    text_model: str | None = option(
        None,
        "Text encoder to teach: folder or Hub id of SONAR, XLM-R or any encoder of transformers. Default: the text "
        "side of an ATRI teacher; for others a small encoder from scratch, with a tokenizer made from the captions.",
    )
    without_audio_tower: bool = option(
        False, "Save the text side alone, to search embeddings that the teacher has made or makes elsewhere."
    )
    trust_remote_code: bool = option(False, "Run code that comes with the teacher.")


@dataclass
class TeachingArguments(AtriTrainingArguments):
    """Arguments of a run with the objective `teach`. The anchor language is added to the languages."""

    objective: str = option("teach", "teach; `atri train` has the other objectives.", choices=["teach"])
    per_device_train_batch_size: int = option(64, "Rows of a batch on each device.")
    save_total_limit: int | None = option(1, "Number of checkpoints that are kept.")
    learning_rate: float = option(
        _RATES["small"],
        "Peak learning rate. If it is given, it holds for all parts that have no rate of their own. Default: 0.001 "
        "for the head; for the text encoder see above.",
    )

    def __post_init__(self):
        codes = resolve_languages(self.languages)
        anchor = resolve_language(self.anchor_language)
        self.languages = codes if anchor in codes else [anchor, *codes]
        super().__post_init__()


# Options that `--help` shows; those of sounds and of other objectives have no effect here.
_SHOWN = {
    *("teacher", "distill_weight", "teach_audio", "hold_languages", "languages", "anchor_language", "output_dir"),
    *("freeze_text", "text_cache_dir", "lora_rank", "lora_alpha", "languages_per_step", "text_chunk_size"),
    *("learning_rate", "text_learning_rate", "head_learning_rate", "per_device_train_batch_size", "num_train_epochs"),
    *("max_steps", "on_bad_row", "resume_from_checkpoint", "group_column", "seed", "bf16", "use_cpu", "warmup_steps"),
    *("save_steps", "save_total_limit", "eval_strategy", "lr_scheduler_type", "gradient_accumulation_steps"),
}


def main(argv: list[str]) -> int:
    """Run the command and return its exit status, which is that of the signal if one stopped it."""
    given: set[str] = set()

    def defaults(names: set[str]) -> dict[str, Any]:
        given.update(names)
        return {"report_to": "none"}

    dataclasses = (TeachArguments, ScratchTextArguments, TeachingArguments)
    shown = _SHOWN | {item.name for dataclass in dataclasses[:2] for item in fields(dataclass)}
    data, sizes, args = parse_options(argv, dataclasses, DESCRIPTION, "atri teach", shown, defaults=defaults)
    try:
        teach(data, sizes, args, given)
    except TrainingStopped as stop:
        advice = "" if stop.checkpoint is None else " To go on, add --resume_from_checkpoint true."
        print(f"\natri teach: {stop}{advice}", file=sys.stderr)
        return 128 + stop.signal
    return 0


def teach(data: TeachArguments, sizes: ScratchTextArguments, args: TeachingArguments, given: set[str]) -> Results:
    """Load data and teacher, make the student, teach it, measure and save it; return the results.

    `given` names the options that were given; the others may be chosen to fit the student and the data.
    """

    check_output_folder(str(args.output_dir))
    name = args.resume_from_checkpoint
    wanted = {"true": True, "false": None}.get(str(name).lower(), name)
    checkpoint = told_by_main(lambda: resolve_checkpoint(wanted, Path(str(args.output_dir))))
    options: dict[str, Any] = {
        "languages": args.languages,
        "group_column": args.group_column,
        "audio_embeddings": open_embeddings(data.audio_embeddings, data.embedding_columns),
    }
    left_out: dict[str, list] = {"train": [], "eval": []}
    takers = left_out if args.on_bad_row == "skip" else dict.fromkeys(left_out)
    rows = load_rows(data.train_data, data.train_split, left_out=takers["train"], needs_sound=False, **options)
    eval_rows = held_back = None
    if data.eval_data:
        eval_rows = load_rows(data.eval_data, data.eval_split, left_out=takers["eval"], **options)
    else:
        rows, held_back = _hold_back(rows, args)
    teacher = _load_teacher(data, args, rows)
    student = _load_or_make_student(data, sizes, args, rows, teacher, checkpoint)
    args = _fitted(args, student.model, len(rows), given)
    facts = Results(data=data_names(data, args.group_column), model=_origin(student.model))
    trainer = AtriTrainer(
        student.model,
        args,
        student.processor,
        train_dataset=rows,
        eval_dataset=eval_rows,
        facts=facts,
        teacher=teacher,
    )
    for part, found in left_out.items():
        trainer.left_out[part] += found
    measure = Measure(trainer, teacher)
    trainer.embedding_listeners.append(measure.take_recall)
    if trainer.is_world_process_zero():
        print(summary(trainer, student, teacher, eval_rows, held_back), flush=True)
    with stop_on_signal(trainer):
        trainer.train(resume_from_checkpoint=checkpoint)
    return _finish(trainer, measure, data, held_back)


def _hold_back(rows: "Dataset", args: TeachingArguments) -> "tuple[Dataset, Dataset | None]":
    """Divide rows into those to train on and, if there are enough, those to measure on: no caption is in both."""
    first = [captions[args.anchor_language][0] for captions in rows.with_format(None)["captions"]]
    texts = list(dict.fromkeys(first))
    count = min(_MAX_HELD_BACK, len(texts) // 20)
    if count == 0:
        return rows, None
    chosen = {texts[place] for place in np.random.default_rng(args.seed).permutation(len(texts))[:count]}
    train = rows.select([place for place, text in enumerate(first) if text not in chosen])
    known = set(captions_in(train, args.anchor_language))
    held = rows.select([place for place, text in enumerate(first) if text in chosen])
    held = held.select(
        [place for place, row in enumerate(held) if known.isdisjoint(row["captions"][args.anchor_language])]
    )
    return train, held if len(held) else None


def _load_teacher(data: TeachArguments, args: TeachingArguments, rows: "Dataset") -> Teacher | None:
    """The teacher that the options name; None if the training rows have its vectors."""
    if args.teacher is not None:
        try:
            return load_teacher(args.teacher, args.anchor_language, data.trust_remote_code, args.device)
        except (ValueError, ImportError, MemoryError, torch.OutOfMemoryError):
            raise
        # The libraries that read the files raise errors of any class where a file is damaged.
        except Exception as error:
            raise ValueError(f"The teacher {args.teacher!r} cannot be loaded: {reason_of(error)}") from error
    if TEACHER_COLUMN not in rows.column_names:
        raise ValueError(
            f"There is no teacher. Name a model with --teacher, or give the training data a column {TEACHER_COLUMN} "
            "with the vector of each row."
        )
    return None


def _load_or_make_student(
    data: TeachArguments,
    sizes: ScratchTextArguments,
    args: TeachingArguments,
    rows: "Dataset",
    teacher: Teacher | None,
    checkpoint: str | None,
) -> Student:
    """The model to teach: that of a run that is resumed, an ATRI teacher itself, or one made of its parts."""
    start = Path(str(args.output_dir), _START_NAME)
    is_itself = teacher is not None and teacher.kind == "atri" and data.text_model is None
    if args.hold_languages and not is_itself:
        raise ValueError(
            "--hold_languages keeps languages that the teacher's own text side knows, so it needs an ATRI teacher and "
            "no --text_model."
        )
    if checkpoint is not None:
        continued = args.lora_rank is not None and not is_itself
        source = start if continued else args.teacher if args.lora_rank is not None else checkpoint
        model, processor = load_model(str(source))
        if args.lora_rank is None:  # for results: the checkpoint is not where the weights come from
            model.config.name_or_path = str(args.teacher) if is_itself else ""
    elif is_itself:
        model, processor = load_model(str(args.teacher))
    else:
        model, processor = _make_student(data, sizes, args, rows, teacher)
    if has_adapter(model):
        raise ValueError(
            f"{args.teacher!r} is an adapter. Save it as a whole model first: load it, call "
            "`modeling_atri.trainer.model.adapters.merge_adapter(model)`, and save model and processor."
        )
    if args.lora_rank is not None and checkpoint is None and not is_itself:
        # An adapter refers to the model that it was begun on by its name.
        model.save_pretrained(start)
        processor.save_pretrained(start)
        model, processor = load_model(str(start))
    text = (
        f"that of {public_name(str(args.teacher))}" if is_itself else data.text_model or "a small encoder from scratch"
    )
    embedded = isinstance(model.config.audio_config, AtriEmbeddedAudioConfig)
    audio = "none: the result searches embeddings that the teacher has made" if embedded else "that of the teacher"
    return Student(model, processor, text, audio)


def _make_student(
    data: TeachArguments,
    sizes: ScratchTextArguments,
    args: TeachingArguments,
    rows: "Dataset",
    teacher: Teacher | None,
) -> tuple[AtriModel, AtriProcessor]:
    """Join the audio side of the teacher, if it has one, and the text encoder that the options name."""
    if data.text_model is None:
        if args.freeze_text or args.lora_rank is not None:
            wrong = "--freeze_text" if args.freeze_text else "--lora_rank"
            raise ValueError(
                f"{wrong} keeps what a text encoder knows, but a new encoder knows nothing. Name one that is trained "
                "with --text_model."
            )
        captions = caption_texts(rows, args.languages)
        text, tokenizer = text_from_scratch(captions, args.languages, sizes, args.seed)
    else:
        text = load_text_tower(data.text_model)
        tokenizer = _tokenizer_of(data.text_model)
    if teacher is not None and teacher.kind == "atri":
        audio = audio_side_of(*load_model(str(args.teacher)))
    elif teacher is not None and teacher.kind == "clap":
        audio = clap_audio_side(str(args.teacher))
    else:
        width = teacher_vectors(rows[0]).shape[1] if teacher is None else teacher.width
        audio = stored_audio_side(width, None if teacher is None else teacher.name)
    return join_student(audio, text, tokenizer, args.seed)


def _tokenizer_of(text_model: str) -> PreTrainedTokenizerBase:
    try:
        return AutoTokenizer.from_pretrained(text_model)
    except (ValueError, OSError, KeyError) as error:
        raise ValueError(
            f"{text_model!r} has no tokenizer that can be loaded. Name a folder or Hub id with the text encoder and "
            "its tokenizer, such as cointegrated/SONAR_200_text_encoder."
        ) from error


def _fitted(args: TeachingArguments, model: AtriModel, num_rows: int, given: set[str]) -> TeachingArguments:
    """The arguments with the learning rates, the number of epochs and the cache that fit the student and the data."""
    args = copy(args)
    args.group_column = None  # `load_rows` has read it into the column `group_id`
    if not {"learning_rate", "text_learning_rate"} & given and not args.freeze_text:
        is_small = model.text_model.num_parameters() < _SMALL
        args.text_learning_rate = _RATES["adapter" if args.lora_rank is not None else "small" if is_small else "large"]
    if not {"num_train_epochs", "max_steps"} & given:
        rows_a_step = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
        steps_an_epoch = max(1, num_rows // rows_a_step)
        args.num_train_epochs = max(args.num_train_epochs, -(-_MIN_STEPS // steps_an_epoch))
    if args.freeze_text and args.text_cache_dir is None:
        args.text_cache_dir = str(Path(str(args.output_dir), _STATES_NAME))
    return args


def _origin(model: AtriModel) -> ModelFacts:
    """What results say of a student's origin, where its configuration has no name of a model that it was made of."""
    config: Any = model.config
    named = any(one.name_or_path for one in (config, config.audio_config, config.text_config))
    return {} if named else {"initialized_from": "scratch"}


def _finish(trainer: AtriTrainer, measure: Measure, data: TeachArguments, held_back: "Dataset | None") -> Results:
    """Measure and save the taught model, write its card, and say in a sentence what came of it."""
    model, folder = trainer.atri_model, str(trainer.args.output_dir)
    if has_adapter(model):
        merge_adapter(model)
        if Path(str(model.config.name_or_path)) == Path(folder, _START_NAME):
            model.config.name_or_path = ""
    if held_back is not None:
        measure.take_cosines(held_back)
    results = trainer.results(evaluate=trainer.eval_dataset is not None)
    if data.without_audio_tower:
        source = (results["training"]["teacher"] or TeacherFacts()).get("name")
        trainer.model, trainer.processor = without_audio_tower(model, trainer.processor, source)
        trainer.processing_class = trainer.processor
        results["model"] |= model_facts(trainer.model)
    trainer.save_model(folder, _internal_call=True)  # it is pushed below, together with results and card
    if trainer.is_world_process_zero():
        write_model_card(results, folder)
        if "metrics" in results:
            print_results(results)
        print_left_outs(folder, ("train", "eval"))
        print(f"\n{outcome(results)}\n\nSaved model, processor, results and model card to {folder}.")
    if trainer.args.push_to_hub:
        trainer.push_to_hub()
        if trainer.is_world_process_zero():
            print(f"Pushed to {trainer.hub_model_id}.")
    return results
