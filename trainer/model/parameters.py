"""Chooses the trained parameters and their learning rates."""

from collections.abc import Collection
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import set_seed
from transformers.trainer_utils import unwrap_peft_model

from modeling_atri.configuration_atri import AtriAudioConfig
from modeling_atri.modeling_atri import AtriModel

from ..arguments import AtriTrainingArguments
from ..data.augmentation import Augmentation
from ..data.text_cache import check_cacheable
from ..objectives import find_objective
from .adapters import add_text_lora, check_adapter, check_base_on_hub, check_folder, has_adapter


if TYPE_CHECKING:
    from peft import PeftModel


def prepare_model(model: "AtriModel | PeftModel", args: AtriTrainingArguments, is_trained: bool) -> None:
    """Freeze parts of a model, add an adapter and set its patch dropout, as the arguments say.

    With `is_trained`, it must also be possible to save and push the model.

    Raises:
        ValueError: The trained weights could not be saved, cached or pushed as the arguments say.
    """
    base = unwrap_peft_model(model)
    freeze(base, audio=args.freeze_audio, text=args.freeze_text)
    if args.freeze_audio_head:
        base.audio_projection.requires_grad_(False)
    if find_objective(args.objective).has_teacher:
        for part in (base.audio_model, base.audio_projection, base.learned_logit_scale):
            part.requires_grad_(False)
    check_audio_options(base, args)
    if args.patch_dropout is not None:
        base.audio_model.config.patch_dropout = args.patch_dropout
    if args.lora_rank is not None:
        set_seed(args.seed)  # for the adapter's first weights; Trainer seeds later
        add_text_lora(base, args.lora_rank, args.lora_alpha, args.lora_dropout)
    if not is_trained:
        return
    if has_adapter(model):
        check_adapter(model, trains_text=not args.freeze_text)
        if args.push_to_hub:
            check_base_on_hub(model)
    check_folder(model, args.output_dir)
    if args.text_cache_dir is not None:
        check_cacheable(base)


def check_audio_options(model: AtriModel, args: AtriTrainingArguments) -> None:
    """Raise a ValueError for options that only work with the patches and log-mel features of CED."""
    config: Any = model.config.audio_config
    kind = config.model_type
    if kind == AtriAudioConfig.model_type:
        return
    found = [name for name in ("patch_dropout", "mix_probability") if getattr(args, name)]
    found += [item.name for item in fields(Augmentation) if getattr(args, item.name) != item.default]
    if found:
        raise ValueError(
            f"The audio tower is of type {kind!r}, but {' and '.join(f'`{name}`' for name in found)} would change "
            f"patches or log-mel features in decibels, which only CED ({AtriAudioConfig.model_type!r}) has. Leave "
            f"{'it' if len(found) == 1 else 'them'} out, or change the sound files themselves."
        )


def leaves_out_layers(model: "AtriModel | PeftModel") -> bool:
    """Whether the text tower leaves out random layers in training (LayerDrop), so that they get no gradient."""
    return getattr(unwrap_peft_model(model).text_model, "layerdrop", 0.0) > 0


def freeze(model: AtriModel, audio: bool = False, text: bool = False) -> None:
    """Freeze one or both towers. All other parameters stay trainable or frozen as they are."""
    if audio:
        model.audio_model.requires_grad_(False)
    if text:
        model.text_model.requires_grad_(False)


def parameter_groups(model: AtriModel, args: AtriTrainingArguments, decayed: Collection[str]) -> list[dict[str, Any]]:
    """Group parameters for an optimizer, with a learning rate for each tower (with its adapter) and for the heads.

    `decayed` names the parameters that weight decay applies to. The logit scale is never decayed.

    Returns:
        List of `dict` with `params`, `weight_decay` and `lr`.
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
            groups.setdefault((part, name in decayed and "learned_logit_scale." not in name), []).append(parameter)
    return [
        {
            "params": parameters,
            "weight_decay": args.weight_decay if decays else 0.0,
            "lr": args.learning_rate if rates[part] is None else rates[part],
        }
        for (part, decays), parameters in groups.items()
    ]


def fit_state_shapes(optimizer: torch.optim.Optimizer) -> None:
    """Give the loaded state of the logit scale its shape: in checkpoints of version 0.1 it is a scalar."""
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if name != "step" and isinstance(value, torch.Tensor) and value.ndim == 0 and parameter.shape == (1,):
                state[name] = value.reshape(1)
