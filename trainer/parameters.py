"""Which parameters are trained, and how fast."""

from collections.abc import Collection
from typing import Any

from torch import nn

from modeling_atri.modeling_atri import AtriModel

from .arguments import AtriTrainingArguments


def freeze(model: AtriModel, audio: bool = False, text: bool = False) -> None:
    """Freeze towers; the projections and the logit scale stay as they are, and so does what the caller froze."""
    if audio:
        model.audio_model.requires_grad_(False)
    if text:
        model.text_model.requires_grad_(False)


def is_frozen(module: nn.Module) -> bool:
    """Whether no parameter of the module is trained."""
    return not any(parameter.requires_grad for parameter in module.parameters())


def parameter_groups(model: AtriModel, args: AtriTrainingArguments, decayed: Collection[str]) -> list[dict[str, Any]]:
    """Groups for an optimizer, with a learning rate for each tower, adapters included, and for the heads.

    Args:
        model: as it is without the wrappers of PEFT and of several processes.
        args: learning rates and weight decay.
        decayed: names of the parameters that weight decay applies to; never to the logit scale.
    """
    rates = {
        "audio_model.": args.audio_learning_rate,
        "text_model.": args.text_learning_rate,
        "": args.head_learning_rate,
    }
    groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            part = next(prefix for prefix in rates if name.startswith(prefix))
            groups.setdefault((part, name in decayed and name != "logit_scale"), []).append(parameter)
    return [
        {
            "params": parameters,
            "weight_decay": args.weight_decay if decays else 0.0,
            "lr": args.learning_rate if rates[part] is None else rates[part],
        }
        for (part, decays), parameters in groups.items()
    ]
