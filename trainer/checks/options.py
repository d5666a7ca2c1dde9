"""Options of transformers that would have no effect in this package, or a wrong one, are refused with the reason."""

from typing import Any

from transformers import TrainingArguments, integrations

from modeling_atri.bounds import is_number


_NO_LOGITS = (
    "evaluation embeds every clip and caption once and has no logits, labels or loss; use `evaluate`, or `embed` and "
    "your own figures"
)
_FULL_EVAL = (
    "evaluation computes with the weights as they are; to measure a model in half precision, load it with "
    "dtype=torch.bfloat16 and evaluate it without training"
)
_RANDOM = "every epoch draws batches of clips at random, because the losses compare the clips of a batch"
_LIGER = "Liger has no kernels for this model"

# Options of `TrainingArguments` with the values that are allowed, and why there are no others.
REFUSED_OPTIONS: dict[str, tuple[tuple[Any, ...], str]] = {
    "remove_unused_columns": (
        (False,),
        "the model's forward pass does not take the captions and ids that the collator needs",
    ),
    "label_smoothing_factor": ((0,), "the ATRI objectives have no class labels"),
    "train_sampling_strategy": (("random",), _RANDOM),
    "length_column_name": (("length",), f"it belongs to `train_sampling_strategy`, and {_RANDOM}"),
    "bf16_full_eval": ((False,), _FULL_EVAL),
    "fp16_full_eval": ((False,), _FULL_EVAL),
    "prediction_loss_only": ((False,), _NO_LOGITS),
    "eval_do_concat_batches": ((True,), _NO_LOGITS),
    "eval_use_gather_object": ((False,), _NO_LOGITS),
    "eval_accumulation_steps": ((None,), _NO_LOGITS),
    "include_for_metrics": (([], None), _NO_LOGITS),
    "batch_eval_metrics": ((False,), _NO_LOGITS),
    "label_names": ((None, []), _NO_LOGITS),
    "use_liger_kernel": ((False,), _LIGER),
    "liger_kernel_config": ((None, {}), _LIGER),
    "use_cache": ((False,), "encoders have no cache of keys and values"),
    "include_num_input_tokens_seen": (
        ("no", False),
        "a step reads clips and captions, whose features and tokens cannot be added up",
    ),
    "logging_nan_inf_filter": ((False,), "a loss that is not finite ends the run, and must be seen"),
    "debug": (
        ("", [], None),
        "its hooks cannot read the masks that the model's layers pass to each other; a run ends at the first loss "
        "that is not finite anyway, and the error names its clips",
    ),
    "enable_jit_checkpoint": (
        (False,),
        "a checkpoint is saved before a run is stopped by `atri train`, and in Python by "
        "`modeling_atri.trainer.run.preemption.stop_on_signal`",
    ),
    "ddp_static_graph": (
        (None, False),
        "a step runs the model several times, and averages the gradients of the processes itself",
    ),
    "optim_target_modules": (
        (None, []),
        "it belongs to optimizers that make their own groups of parameters, which are not supported",
    ),
}

# Optimizers that make their own groups of parameters: the learning rates of the parts would be lost.
_OWN_GROUPS = ("galore", "apollo", "lomo", "adalomo")

# Options whose smaller values fail late, or do nothing without a word.
_LEAST = {
    "gradient_accumulation_steps": 1,
    "per_device_eval_batch_size": 1,
    "dataloader_num_workers": 0,
    "weight_decay": 0,
}

# Arguments of `Trainer` that would have no effect, or a wrong one.
REFUSED_ARGUMENTS = {
    "compute_metrics": "retrieval is evaluated on whole sets; use `evaluate`, or `embed` and your own metrics",
    "preprocess_logits_for_metrics": _NO_LOGITS,
    "compute_loss_func": "the `objective` of the arguments is the loss; override `compute_loss_from_embeddings` for "
    "another loss",
}

# What to install for each tracker of `report_to`, and its name in transformers' function `is_NAME_available`.
_TRACKERS = {
    "azure_ml": ("azureml-sdk", "azureml"),
    "comet_ml": ("comet-ml", "comet"),
    "mlflow": ("mlflow", "mlflow"),
    "neptune": ("neptune", "neptune"),
    "tensorboard": ("tensorboard", "tensorboard"),
    "trackio": ("trackio", "trackio"),
    "wandb": ("wandb", "wandb"),
    "codecarbon": ("codecarbon", "codecarbon"),
    "clearml": ("clearml", "clearml"),
    "dagshub": ("dagshub mlflow", "dagshub"),
    "flyte": ("flytekit", "flytekit"),
    "dvclive": ("dvclive", "dvclive"),
    "swanlab": ("swanlab", "swanlab"),
}


def check_refused_options(args: TrainingArguments) -> None:
    """Raise a ValueError for values that would have no effect, or a wrong one, before anything is set up."""
    for name, (allowed, reason) in REFUSED_OPTIONS.items():
        value = getattr(args, name)
        if value not in allowed:
            raise ValueError(f"`{name}` must be {allowed[0]!r}, because {reason}; got {value!r}.")
    optimizer = str(getattr(args.optim, "value", args.optim))
    if optimizer.startswith(_OWN_GROUPS):
        raise ValueError(
            f"`optim` {optimizer!r} is not supported, because it makes its own groups of parameters, and the learning "
            "rates of the towers and the heads would be lost. Use another, such as 'adamw_torch' or 'adamw_bnb_8bit'."
        )
    for name, least in _LEAST.items():
        value = getattr(args, name)
        if not (is_number(value) and value >= least):
            raise ValueError(f"`{name}` must be at least {least}; got {value!r}.")
    if args.max_steps == 0 or (args.max_steps < 0 and args.num_train_epochs <= 0):
        raise ValueError(
            f"`num_train_epochs` {args.num_train_epochs!r} and `max_steps` {args.max_steps!r} train nothing. Give a "
            "positive number of epochs or steps; to evaluate a model without training, call `evaluate` alone."
        )
    if args.save_strategy == "steps" and args.save_steps <= 0:
        raise ValueError(
            f"`save_steps` must be above 0; got {args.save_steps!r}. To save nothing, set `save_strategy` to 'no'."
        )
    if args.activation_checkpointing_kwargs and not (args.activation_checkpointing or args.gradient_checkpointing):
        raise ValueError("`activation_checkpointing_kwargs` belongs to `activation_checkpointing`: set that to True.")


def check_trackers(report_to: str | list[str] | None) -> None:
    """Raise a ValueError for trackers that `report_to` names and that are not known, or whose package is missing.

    `"all"` means those that are installed, as in transformers, even if there are none.
    """
    names = [report_to] if isinstance(report_to, str) else list(report_to or [])
    if names in ([], ["none"], ["all"]):
        return
    for name in names:
        if name == "kubeflow" and integrations.is_kubeflow_available():  # transformers adds it inside a TrainJob
            continue
        if name not in _TRACKERS:
            raise ValueError(
                f"`report_to` must be 'none', 'all', or names among {', '.join(_TRACKERS)}; got {name!r}."
            )
        package, module = _TRACKERS[name]
        if not getattr(integrations, f"is_{module}_available")():
            raise ValueError(
                f"`report_to` names {name!r}, but its package is not installed or not set up. Run `pip install "
                f"{package}`, or set `report_to` to 'none'."
            )
