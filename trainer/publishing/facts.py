"""What results say of the model, the training and the data they come from."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from transformers.trainer_utils import unwrap_peft_model

from modeling_atri.corpora.rows.bad_rows import BadRow, count_kinds
from modeling_atri.modeling_atri import AtriModel

from ..evaluation.retrieval import RetrievalSet
from ..model.adapters import adapter_facts
from ..objectives import find_objective


if TYPE_CHECKING:
    from peft import PeftModel

    from ..trainer import AtriTrainer


def evaluation_facts(retrieval_set: RetrievalSet, anchor: str, left_out: Sequence[BadRow] = ()) -> dict[str, Any]:
    """What was evaluated on, and what not; `anchor` counts where the set has it, as in `retrieval_table`."""
    languages = list(retrieval_set.captions)
    counts = {"left_out": count_kinds(left_out)} if left_out else {}
    return {
        "num_clips": len(retrieval_set.audios),
        "num_captions_per_language": len(retrieval_set.positives),
        "languages": languages,
        "anchor_language": anchor if anchor in languages else languages[0],
        **counts,
    }


def model_facts(model: "AtriModel | PeftModel") -> dict[str, Any]:
    """Size and origin of a model; with an adapter, its make and how much is trained."""
    # Of a part that is trained beside an adapter, PEFT keeps the original too; it is no part of the model.
    parameters = {name: one for name, one in model.named_parameters() if ".original_module." not in name}
    facts: dict[str, Any] = {"num_parameters": sum(parameter.numel() for parameter in parameters.values())}
    if name := unwrap_peft_model(model).config._name_or_path:  # without, it may be from scratch, or from local towers
        facts["initialized_from"] = name
    adapter = adapter_facts(model)
    if adapter is None:
        return facts
    trained = sum(parameter.numel() for parameter in parameters.values() if parameter.requires_grad)
    return facts | {"adapter": adapter, "num_trained_parameters": trained}


def merge_facts(known: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """What is known and what the caller says, which goes before it, part by part."""
    both = {part: known[part] | given[part] for part in known.keys() & given.keys()}
    return known | given | both


def training_facts(trainer: "AtriTrainer") -> dict[str, Any]:
    """How far training has come, and the arguments that shape the result."""
    args, state = trainer.args, trainer.state
    best_is_loaded = args.load_best_model_at_end and not trainer.is_in_train
    return {
        "objective": args.objective,
        "anchor_language": args.anchor_language if find_objective(args.objective).has_anchor else None,
        "akcl_weight": args.loss_options.get("akcl_weight"),
        "ranking_weight": args.ranking_weight or None,
        "languages": args.languages,
        "languages_per_step": args.languages_per_step,
        "caption_choice": args.caption_choice,
        "frozen": [tower for tower in ("audio", "text") if getattr(args, f"freeze_{tower}")],
        "num_train_clips": None if trainer.train_dataset is None else len(trainer.train_dataset),
        "left_out": count_kinds(trainer.bad_rows.rows()) or None,
        "max_audio_seconds": args.max_audio_seconds,
        "steps": state.global_step,
        "best_step": state.best_global_step if best_is_loaded else None,
        "epochs": state.epoch,
        "batch_size": trainer._train_batch_size * args.gradient_accumulation_steps * args.world_size,
        "processes": args.world_size,
        "learning_rate": args.learning_rate,
        **{f"{part}_learning_rate": getattr(args, f"{part}_learning_rate") for part in ("audio", "text", "head")},
        "lr_scheduler_type": args.lr_scheduler_type.value,
        "weight_decay": args.weight_decay,
        "mix_probability": args.mix_probability,
        "augmentation": None if args.augmentation is None else asdict(args.augmentation),
        "patch_dropout": trainer.atri_model.audio_model.config.patch_dropout,
        "precision": {"no": "fp32"}.get(args.mixed_precision, args.mixed_precision),
        "seed": args.seed,
        "data_seed": trainer.data_collator.seed,
    }
