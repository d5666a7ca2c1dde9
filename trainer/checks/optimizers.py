"""Check that the optimizer and the scheduler of a run can be made, before anything is read."""

from copy import copy
from typing import Any

import torch
from torch import nn
from transformers import SchedulerType, Trainer, TrainingArguments, get_scheduler
from transformers.training_args import OptimizerNames


def check_optimizer(args: TrainingArguments) -> None:
    """Raise a ValueError unless the optimizer and the scheduler of the arguments can be made."""
    name, scheduler = OptimizerNames(args.optim).value, SchedulerType(args.lr_scheduler_type)
    scheduler_kwargs: Any = args.lr_scheduler_kwargs
    try:
        optimizer_class, options = Trainer.get_optimizer_cls_and_kwargs(args)
        optimizer = optimizer_class([nn.Parameter(torch.zeros(1))], **options)
    except (ImportError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"`optim` {name!r} cannot be made with these arguments: {str(error).rstrip('.')}. Otherwise change "
            "them, or use another optimizer, such as 'adamw_torch'."
        ) from error
    if args.optim_args:
        plain = copy(args)
        plain.optim_args = None
        if Trainer.get_optimizer_cls_and_kwargs(plain) == (optimizer_class, options):
            raise ValueError(f"`optim` {name!r} takes none of the `optim_args` {args.optim_args!r}. Leave them out.")
    try:
        get_scheduler(scheduler, optimizer, 0, 2, scheduler_specific_kwargs=scheduler_kwargs)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"The scheduler {scheduler.value!r} cannot be made with `lr_scheduler_kwargs` "
            f"{scheduler_kwargs!r}: {error}. Change one of the two."
        ) from error
