"""Results of a trained or evaluated model: facts of the evaluation, the model and the training."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from transformers import TrainerState
from transformers.trainer_utils import unwrap_peft_model

from modeling_atri.configuration_atri import AtriEmbeddedAudioConfig, code_of_audio
from modeling_atri.corpora.rows.bad_rows import BadRow, count_kinds
from modeling_atri.hub_cards.cards.origin import with_origin
from modeling_atri.hub_cards.results import (
    UNKNOWN_MAKER,
    Emissions,
    EvaluatedOn,
    ModelFacts,
    Results,
    TeacherFacts,
    TrainingFacts,
)
from modeling_atri.modeling_atri import AtriModel

from ..arguments import AtriTrainingArguments
from ..evaluation.retrieval import RetrievalSet
from ..model.adapters import adapter_facts
from ..objectives import find_objective


if TYPE_CHECKING:
    from peft import PeftModel


def evaluation_facts(retrieval_set: RetrievalSet, anchor: str, left_out: Sequence[BadRow] = ()) -> EvaluatedOn:
    """Describe an evaluation set. As in `retrieval_table`, its first language replaces a missing `anchor`."""
    languages = list(retrieval_set.captions)
    facts = EvaluatedOn(
        num_clips=len(retrieval_set.audios),
        num_captions_per_language=len(retrieval_set.positives),
        languages=languages,
        anchor_language=anchor if anchor in languages else languages[0],
    )
    return facts | {"left_out": count_kinds(left_out)} if left_out else facts


def model_facts(model: "AtriModel | PeftModel") -> ModelFacts:
    """Describe size and origin of a model, and its adapter if it has one."""
    # PEFT keeps the original of a part that is trained beside an adapter. It is not used by the model.
    parameters = [one for name, one in model.named_parameters() if ".original_module." not in name]
    facts = ModelFacts(num_parameters=sum(parameter.numel() for parameter in parameters))
    if name := unwrap_peft_model(model).config._name_or_path:  # empty for models from scratch and from local towers
        facts["initialized_from"] = name
    audio = unwrap_peft_model(model).config.audio_config
    if isinstance(audio, AtriEmbeddedAudioConfig):
        facts["audio_embedded_by"] = audio.source or UNKNOWN_MAKER
    if code_of_audio(audio):
        facts["trust_remote_code"] = True
    if (adapter := adapter_facts(model)) is not None:
        facts["adapter"] = adapter
        facts["num_trained_parameters"] = sum(one.numel() for one in parameters if one.requires_grad)
    return facts


def training_facts(
    args: AtriTrainingArguments,
    state: TrainerState,
    *,
    train_batch_size: int,
    num_train_clips: int | None,
    left_out: Sequence[BadRow],
    patch_dropout: float,
    data_seed: int,
    best_is_loaded: bool,
    teacher: TeacherFacts | None = None,
    teach_audio: str | None = None,
    stream: str | None = None,
) -> TrainingFacts:
    """Describe how far training has come, and the arguments that shape its outcome. See [`TrainingFacts`].

    `train_batch_size` counts the clips of one process. `best_is_loaded` says whether the model is the best of the run.
    `teacher` and `teach_audio` are those of the `TeachingData` of the run. `stream` is the name of the stream of a run
    on one.
    """
    objective = find_objective(args.objective)
    return {
        "objective": args.objective,
        "anchor_language": args.anchor_language if objective.has_anchor or objective.has_teacher else None,
        "akcl_weight": args.loss_options.get("akcl_weight"),
        "ranking_weight": args.ranking_weight or None,
        "teacher": teacher,
        "distill_weight": args.loss_options.get("distill_weight"),
        "teach_audio": teach_audio or args.loss_options.get("teach_audio"),
        "hold_languages": args.hold_languages,
        "languages": args.languages,
        "languages_per_step": args.languages_per_step,
        "caption_choice": args.caption_choice,
        "frozen": _frozen_towers(args),
        "num_train_clips": num_train_clips,
        **({} if stream is None else {"stream": stream}),
        "left_out": count_kinds(left_out) or None,
        "max_audio_seconds": None if objective.has_teacher else args.max_audio_seconds,
        "steps": state.global_step,
        "best_step": state.best_global_step if best_is_loaded else None,
        "epochs": state.epoch,
        "batch_size": train_batch_size * args.gradient_accumulation_steps * args.world_size,
        "processes": args.world_size,
        "learning_rate": args.learning_rate,
        "audio_learning_rate": args.audio_learning_rate,
        "text_learning_rate": args.text_learning_rate,
        "head_learning_rate": args.head_learning_rate,
        "lr_scheduler_type": args.lr_scheduler_type.value,
        "weight_decay": args.weight_decay,
        "mix_probability": args.mix_probability,
        "augmentation": None if args.augmentation is None else asdict(args.augmentation),
        "patch_dropout": patch_dropout,
        "precision": {"no": "fp32"}.get(args.mixed_precision, args.mixed_precision),
        "seed": args.seed,
        "data_seed": data_seed,
    }


def _frozen_towers(args: AtriTrainingArguments) -> list[str]:
    is_frozen = {"audio": args.freeze_audio or find_objective(args.objective).has_teacher, "text": args.freeze_text}
    return [tower for tower, is_so in is_frozen.items() if is_so]


def complete_results(
    results: Results,
    model: "AtriModel | PeftModel",
    given: ModelFacts,
    log_history: Sequence[Mapping[str, Any]],
    emissions: Emissions | None,
) -> Results:
    """Add to results what is known at the end of a run: origin and license of the weights, duration, emissions.

    The caller's facts in `given` replace those found in the model, which must not be wrapped for several processes.
    """
    config = unwrap_peft_model(model).config
    facts = ModelFacts(projection_dim=config.projection_dim) | model_facts(model) | given
    towers = [tower.name_or_path for tower in (config.audio_config, config.text_config) if tower.name_or_path]
    training = results.get("training", {})
    runtimes = [entry["train_runtime"] for entry in log_history if "train_runtime" in entry]
    if runtimes:
        training = training | {"runtime_s": runtimes[-1]}
    results = results | {"model": with_origin(facts, towers), "training": training}
    return results | {"emissions": emissions} if emissions else results
