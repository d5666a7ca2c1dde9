"""Check that a run can go on while the parameters of its model are sharded over the processes."""

from collections.abc import Sequence

import torch

from modeling_atri.modeling_atri import AtriModel

from ..arguments import AtriTrainingArguments
from ..model.adapters import is_frozen


def check_sharded_run(args: AtriTrainingArguments, model: AtriModel, layer_classes: Sequence[str] | None) -> None:
    """Raise a ValueError if a run cannot go on while the parameters of the model are sharded (FSDP2).

    Args:
        args: Arguments of the run.
        model: The model.
        layer_classes: Names of the classes whose modules are sharded one by one; None for the model's own choice.
    """
    classes = {type(module).__name__ for module in model.modules()}
    if unknown := [name for name in layer_classes or () if name not in classes]:
        raise ValueError(
            f"`transformer_layer_cls_to_wrap` of FSDP names {', '.join(unknown)}, but the model has no such module. "
            "Leave the option out: the layers of both towers are then sharded one by one."
        )
    if args.device.type == "cpu" and torch.accelerator.is_available():
        raise ValueError(
            "FSDP2 shards over the GPUs of this machine, but `use_cpu` is set. Leave out `use_cpu`, or hide the GPUs "
            "(CUDA_VISIBLE_DEVICES='')."
        )
    if args.text_cache_dir is not None:
        raise ValueError(
            "`text_cache_dir` is not supported with FSDP, because the processes run the text tower for different "
            "numbers of captions, but all of them are needed to gather its parameters. Leave out one of the two; "
            "a frozen text tower with a cache needs little memory without FSDP."
        )
    if getattr(model.text_model, "layerdrop", 0.0) > 0 and not is_frozen(model.text_model):
        raise ValueError(
            f"LayerDrop is not supported with FSDP, because each process would leave out other layers, but all of "
            f"them are needed to gather a layer's parameters. Set `model.text_model.layerdrop` to 0; it is "
            f"{model.text_model.layerdrop}."
        )
