"""`atri teach`: teach languages to a model that knows one, from parallel captions."""

import sys
from copy import copy
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modeling_atri.bounds import option
from modeling_atri.hub_cards.cards import write_model_card
from modeling_atri.hub_cards.results import ModelFacts, Results, TeacherFacts
from modeling_atri.languages_atri import resolve_language, resolve_languages
from modeling_atri.modeling_atri import AtriModel
from modeling_atri.pretrained.text_only import without_audio_tower
from modeling_atri.trainer.arguments import AtriTrainingArguments
from modeling_atri.trainer.model.adapters import has_adapter, merge_adapter
from modeling_atri.trainer.publishing.results import model_facts
from modeling_atri.trainer.run.preemption import TrainingStopped, stop_on_signal
from modeling_atri.trainer.scratch.model import ScratchTextArguments
from modeling_atri.trainer.teach.taught_rows import check_teacher_column
from modeling_atri.trainer.trainer import AtriTrainer

from ..loading import DATA_HELP, EMBEDDING_COLUMNS_HELP, EMBEDDINGS_HELP, SPLIT_HELP, data_names
from ..options import parse_options
from ..printing.report import print_left_outs, print_results
from ..runs import checkpoint_to_resume, load_run_data
from ..teaching.measure import Measure, hold_back
from ..teaching.student import START_NAME, find_teacher, load_or_make_student
from ..teaching.wording import outcome, summary


if TYPE_CHECKING:
    from datasets import Dataset


DESCRIPTION = """\
Teach languages to an audio-text model that knows one. Its audio side is not changed, so all audio embeddings that it
has made stay valid. A text encoder is trained to give each caption, in any language, the embedding that the teacher
gives to the English version. The model is saved to --output_dir, with its processor, results and a model card.

The training data are parallel captions in several languages. No sound is needed:
  {"captions": {"eng_Latn": ["a dog barks"], "fra_Latn": ["un chien aboie"], "jpn_Jpan": ["犬が吠える"]}}
`atri translate` makes such rows from English captions. If the rows have sounds (`file_name`) or audio embeddings
(--audio_embeddings), a contrastive term with the frozen audio is added to the loss. To measure recall, pass such rows
as --eval_data.

The teacher is one of
  a CLAP model of transformers    the result has its audio tower, its audio head and its temperature
  an ATRI model                   the same; without --text_model, its own text side is trained further
  a PE-Audio or sentence-transformers model, or the column teacher_embedding of the training data
                                  the result has no audio tower: it searches audio embeddings in the teacher's space

examples:
  atri teach --teacher laion/larger_clap_general --text_model cointegrated/SONAR_200_text_encoder \\
      --train_data captions.jsonl --languages fr de ja --freeze_text --output_dir runs/clap8
  atri teach --teacher runs/english --train_data captions.jsonl --languages fr de --output_dir runs/english8
  atri teach --teacher runs/clap8 --train_data more.jsonl --languages fr de ja ca --hold_languages fr de ja \\
      --output_dir runs/clap9                                              # one more language

The text side:
  --text_model NAME --freeze_text    only a new head is trained; each caption is encoded once
  --text_model NAME --lora_rank 16   an adapter and the head, merged into the model at the end
  --text_model NAME                  the whole encoder and the head
  without --text_model               a small encoder from scratch, unless the teacher is an ATRI model

Default learning rates: 1e-3 for the head and for a text encoder of less than 30 M parameters, 1e-4 for an adapter, and
2e-5 for a larger text encoder, which would lose what it has learned at a higher rate. By default, training takes ten
epochs, or 1,500 steps if that is more.

To continue a run that was killed, use the same command with --resume_from_checkpoint true.
"""

_MIN_STEPS = 1500  # with so many, all languages reached the teacher's recall in `benchmarks/teaching.py`
_SMALL = 30_000_000  # parameters; published pretrained encoders are larger
_RATES = {"small": 1e-3, "adapter": 1e-4, "large": 2e-5}
_STATES_NAME = "text_states"  # folder of the states of a frozen text tower


@dataclass
class TeachArguments:
    """The data, and the parts of the model to teach."""

    train_data: str = field(metadata={"help": f"Parallel captions, with or without sounds. {DATA_HELP}"})
    train_split: str | None = option(None, f"{SPLIT_HELP} to train on.")
    eval_data: str | None = option(
        None,
        "Sounds or stored embeddings, with captions, to measure recall on. Default: the cosine to the teacher is "
        "measured on captions that are held back from training.",
    )
    eval_split: str | None = option(None, f"{SPLIT_HELP} to evaluate on.")
    audio_embeddings: str | None = option(None, EMBEDDINGS_HELP)
    embedding_columns: list[str] | None = option(None, EMBEDDING_COLUMNS_HELP)
    text_model: str | None = option(
        None,
        "Text encoder to teach: folder or Hub id of SONAR, XLM-R or any encoder of transformers. Default: the text "
        "side of an ATRI teacher; for other teachers, a small encoder from scratch with a new tokenizer.",
    )
    without_audio_tower: bool = option(
        False, "Save the text side alone, to search audio embeddings that are made elsewhere with the teacher."
    )
    trust_remote_code: bool = option(False, "Run code from the repository of the teacher.")


@dataclass
class TeachingArguments(AtriTrainingArguments):
    """Arguments of a run with the objective `teach`. The anchor language is added to the languages."""

    objective: str = option("teach", "teach; `atri train` has the other objectives.", choices=["teach"])
    per_device_train_batch_size: int = option(64, "Rows of a batch on each device.")
    save_total_limit: int | None = option(1, "Number of checkpoints that are kept.")
    learning_rate: float = option(
        _RATES["small"],
        "Peak learning rate. If you pass it, it applies to all parts without a rate of their own. Default: 0.001 for "
        "the head; the defaults for the text encoder are given above.",
    )

    def __post_init__(self):
        codes = resolve_languages(self.languages)
        anchor = resolve_language(self.anchor_language)
        self.languages = codes if anchor in codes else [anchor, *codes]
        super().__post_init__()


# Options that `--help` shows. Options for sounds and for other objectives are left out, because they have no effect.
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

    `given` names the options that the user passed. Others may be changed to suit the student and the data.
    """
    checkpoint = checkpoint_to_resume(args)
    loaded = load_run_data(data, args, needs_sound=False)
    rows, held_back = (loaded.train, None) if data.eval_data else hold_back(loaded.train, args)
    teacher = find_teacher(args, data.trust_remote_code, rows)
    student = load_or_make_student(data.text_model, sizes, args, rows, teacher, checkpoint, data.trust_remote_code)
    args = _fitted(args, student.model, len(rows), given)
    facts = Results(data=data_names(data, args.group_column), model=_origin(student.model))
    trainer = AtriTrainer(
        student.model,
        args,
        student.processor,
        train_dataset=rows,
        eval_dataset=loaded.eval,
        facts=facts,
        teacher=teacher,
    )
    if teacher is None and held_back is not None:  # the trainer has checked the vectors of the rows to train on
        check_teacher_column(held_back, student.model.config.projection_dim, args.languages[0])
    loaded.tell(trainer)
    measure = Measure(trainer, teacher)
    trainer.embedding_listeners.append(measure.take_recall)
    if trainer.is_world_process_zero():
        print(summary(trainer, student, teacher, loaded.eval, held_back), flush=True)
    with stop_on_signal(trainer):
        trainer.train(resume_from_checkpoint=checkpoint)
    return _finish(trainer, measure, data, held_back)


def _fitted(args: TeachingArguments, model: AtriModel, num_rows: int, given: set[str]) -> TeachingArguments:
    """The arguments, with learning rates, number of epochs and cache that suit the student and the data."""
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
    """The origin of a student for its results, if its configuration does not name the models that it comes from."""
    config: Any = model.config
    named = any(one.name_or_path for one in (config, config.audio_config, config.text_config))
    return {} if named else {"initialized_from": "scratch"}


def _finish(trainer: AtriTrainer, measure: Measure, data: TeachArguments, held_back: "Dataset | None") -> Results:
    """Measure and save the taught model, write its card, and print one sentence with the result."""
    model, folder = trainer.atri_model, str(trainer.args.output_dir)
    if has_adapter(model):
        merge_adapter(model)
        if Path(str(model.config.name_or_path)) == Path(folder, START_NAME):
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
