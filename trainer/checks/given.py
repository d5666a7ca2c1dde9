"""What is given to an `AtriTrainer`, and what a subclass overrides: refused where it would have no effect."""

from collections.abc import Mapping
from typing import Any

from modeling_atri.processing_atri import AtriProcessor

from ..arguments import AtriTrainingArguments
from .optimizers import check_optimizer
from .options import REFUSED_ARGUMENTS


def one_processor(processor: Any, processing_class: Any) -> AtriProcessor:
    """The processor of a trainer, given by either name."""
    if processor is None and processing_class is None:
        raise ValueError("AtriTrainer needs the `processor` of the model: `AtriProcessor.from_pretrained(...)`.")
    if None not in (processor, processing_class) and processor is not processing_class:
        raise ValueError("`processor` and `processing_class` are two names of one argument. Pass one of them.")
    return processing_class if processor is None else processor


def checked_arguments(model: Any, model_init: Any, args: Any) -> AtriTrainingArguments:
    """The arguments, if they are of the right kind, and there is a model or a function that makes it."""
    if (model is None) == (model_init is None):
        given = "neither" if model is None else "both"
        raise ValueError(f"AtriTrainer needs either a `model` or a `model_init` that makes one; got {given}.")
    if not isinstance(args, AtriTrainingArguments):
        raise ValueError(
            f"`args` must be AtriTrainingArguments, which name the objective and the languages; got a "
            f"{type(args).__name__}."
        )
    return args


def check_given(args: AtriTrainingArguments, options: Mapping[str, Any]) -> None:
    """Raise a ValueError for further arguments of `Trainer` that would have no effect."""
    for name, reason in REFUSED_ARGUMENTS.items():
        if options.get(name) is not None:
            raise ValueError(f"AtriTrainer takes no `{name}`: {reason}.")
    optimizer, _ = options.get("optimizers") or (None, None)
    if optimizer is None:
        check_optimizer(args)
        return
    for name in ("audio_learning_rate", "text_learning_rate", "head_learning_rate", "lora_rank"):
        if getattr(args, name) is not None:
            raise ValueError(
                f"`{name}` would have no effect on the parameters of an optimizer that was made before. Pass "
                f"`optimizer_cls_and_kwargs` instead of `optimizers`, or leave out `{name}`."
            )


def check_overrides(trainer: type, args: AtriTrainingArguments, has_own_step: bool) -> None:
    """Raise a ValueError if a subclass computes the loss of a whole batch at once, but chunks are wanted."""
    if args.is_chunked and has_own_step:
        raise ValueError(
            f"{trainer.__name__} overrides `compute_loss`, which encodes the whole batch at once, so the chunk sizes "
            "would have no effect. Override `compute_loss_from_embeddings` instead, or leave out `audio_chunk_size` "
            "and `text_chunk_size`."
        )
