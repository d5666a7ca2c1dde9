"""Names under which people know options from other programs."""

from collections.abc import Collection


# Names of one option, which commands call differently. A name is understood where exactly one of its row is an option.
_ROWS = (
    ("learning_rate", "lr"),
    ("num_train_epochs", "epochs", "epoch", "num_epochs", "n_epochs", "max_epochs"),
    ("per_device_train_batch_size", "batch_size", "train_batch_size", "per_gpu_train_batch_size", "bs", "b"),
    ("per_device_eval_batch_size", "eval_batch_size", "per_gpu_eval_batch_size"),
    ("gradient_accumulation_steps", "grad_accum", "accumulation_steps", "gradient_accumulation"),
    ("dataloader_num_workers", "num_workers", "workers", "j"),
    ("weight_decay", "wd"),
    ("warmup_steps", "warmup"),
    ("max_steps", "steps", "num_steps", "num_train_steps"),
    ("resume_from_checkpoint", "resume"),
    ("lr_scheduler_type", "scheduler", "lr_scheduler"),
    ("lora_rank", "lora_r"),
    ("model", "model_name_or_path", "model_name", "model_path", "model_id", "pretrained", "m"),
    ("train_data", "data", "dataset", "dataset_name", "train_dataset", "train_file", "train_dir", "data_dir"),
    ("eval_data", "eval_dataset", "validation_data", "validation_file", "eval_file", "eval_dir", "dev_data"),
    ("languages", "language", "langs", "lang"),
    ("output_dir", "output", "out", "out_dir", "outdir", "output_path", "output_folder", "save_dir", "o"),
    ("folder", "input", "input_dir", "i"),
    ("repo_id", "hub_model_id", "repo"),
    ("message", "commit_message"),
    ("pull_request", "create_pr"),
)
NAMES = tuple(name for row in _ROWS for name in row)


def own_name(name: str, known: Collection[str]) -> str:
    """The option that a name means to a command.

    Args:
        name: a name as it was given, without dashes in front; dashes in it are read as underscores.
        known: names of the command's options.

    Returns:
        `name` itself with underscores if it is known, or if no option or several fit. Otherwise that option.
    """
    name = name.replace("-", "_")
    if name in known:
        return name
    meant = [option for row in _ROWS if name in row for option in row if option in known]
    return meant[0] if len(meant) == 1 else name
