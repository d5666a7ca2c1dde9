"""Check the options of FSDP, of the arguments or of `accelerate launch`."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from accelerate.utils.constants import FSDP_AUTO_WRAP_POLICY
from transformers import TrainingArguments


_YES, _NO = ("1", "true", "yes", "y", "t", "on"), ("0", "false", "no", "n", "f", "off", "none", "")
_WORDS = ("full_shard", "shard_grad_op", "auto_wrap")  # of the old form of `fsdp`
_STATE_DICTS = ("FULL_STATE_DICT", "SHARDED_STATE_DICT")  # our checkpoints are those of one process with both
_REFUSED = {
    "cpu_ram_efficient_loading": "it loses the statistics of the log-mel features",
    "cpu_offload": "the losses need the logit scale on the training device",
    "activation_checkpointing": (
        "it draws another dropout in the second pass; use the argument `activation_checkpointing` instead"
    ),
    "activation_checkpointing_offload": "it belongs to FSDP's own activation checkpointing, which is not supported",
    "xla": "it is another engine",
    "xla_fsdp_v2": "it is another engine",
    "xla_fsdp_grad_ckpt": "it is another engine",
}
# Of version 1, which Accelerate ignores with version 2.
_WITHOUT_EFFECT = (
    "backward_prefetch",
    "forward_prefetch",
    "use_orig_params",
    "sync_module_states",
    "limit_all_gathers",
)
_OF_VARIABLES = {
    "VERSION": "version",
    "CPU_RAM_EFFICIENT_LOADING": "cpu_ram_efficient_loading",
    "OFFLOAD_PARAMS": "cpu_offload",
    "ACTIVATION_CHECKPOINTING": "activation_checkpointing",
    "ACTIVATION_CHECKPOINTING_OFFLOAD": "activation_checkpointing_offload",
    "RESHARD_AFTER_FORWARD": "reshard_after_forward",
    "AUTO_WRAP_POLICY": "auto_wrap_policy",
    "MIN_NUM_PARAMS": "min_num_params",
    "STATE_DICT_TYPE": "state_dict_type",
    "IGNORED_MODULES": "ignored_modules",
}


def as_choice(fsdp: Any) -> Any:
    """The value of `fsdp`, where "true" and "false", as other options of the command line take them, are booleans."""
    if isinstance(fsdp, str) and fsdp.strip().lower() in _YES:
        return True
    return None if isinstance(fsdp, str) and fsdp.strip().lower() in _NO else fsdp


def check_fsdp_options(args: TrainingArguments) -> None:
    """Raise a ValueError for options of FSDP that are unknown, or that training does not support."""
    options = _of_arguments(args) if args.fsdp else _of_launcher()
    if "version" not in options and not args.fsdp:
        options["version"] = 1  # the default of Accelerate
    _check_version(options.get("version", 2))
    for name, value in options.items():
        _check_option(name, value)


def _of_arguments(args: TrainingArguments) -> dict[str, Any]:
    """The options in `fsdp_config`, which may be a file, a JSON object or a dict, and in the old form of `fsdp`."""
    config = args.fsdp_config or {}
    if isinstance(config, str):
        config = _read_config(config)
    if not isinstance(config, Mapping):
        raise ValueError(f"`fsdp_config` must be a JSON object such as {{'version': 2}}; got {config!r}.")
    options = {str(name).removeprefix("fsdp_"): value for name, value in config.items()}
    words = args.fsdp.split() if isinstance(args.fsdp, str) else args.fsdp
    for word in words if isinstance(words, list) else ():
        name = str(getattr(word, "value", word))
        if name == "offload":
            options["cpu_offload"] = True
        elif name not in _WORDS:
            raise ValueError(
                f"`fsdp` has no option {name!r}. Use `fsdp=True` (--fsdp), and `fsdp_config` for options."
            )
    return options


def _read_config(given: str) -> Any:
    """The content of a file, or a JSON object that was given as text."""
    place = "`fsdp_config`"
    try:
        if not given.lstrip().startswith("{"):
            place = f"`fsdp_config` {given}"
            given = Path(given).read_text(encoding="utf-8")
        return json.loads(given)
    except OSError as error:
        raise ValueError(
            f"{place} cannot be read: {error.strerror}. Name a JSON file, or pass a JSON object."
        ) from error
    except ValueError as error:
        raise ValueError(f"{place} is not valid JSON: {error}.") from error


def _of_launcher() -> dict[str, Any]:
    """The options that `accelerate launch` put into the environment."""
    values = {name: os.environ.get(f"FSDP_{variable}") for variable, name in _OF_VARIABLES.items()}
    return {name: value for name, value in values.items() if value is not None}


def _check_version(version: Any) -> None:
    if str(version) == "1":
        raise ValueError(
            "FSDP of version 1 is not supported, because it flattens the parameters that the optimizer and the "
            "checkpoints need apart. Use version 2 (`fsdp_config={'version': 2}`, or fsdp_version: 2 of accelerate)."
        )
    if isinstance(version, bool) or str(version) != "2":
        raise ValueError(f"The `version` of FSDP must be 2; got {version!r}.")


def _check_option(name: str, value: Any) -> None:
    if name in _REFUSED:
        if _as_bool(name, value):
            raise ValueError(f"`{name}` of FSDP is not supported, because {_REFUSED[name]}. Set it to false.")
    elif name in _CHECKS:
        is_right, allowed = _CHECKS[name]
        if not is_right(value):
            raise ValueError(f"`{name}` of FSDP must be {allowed}; got {value!r}.")
    elif name == "ignored_modules":
        if value:
            raise ValueError(
                "`ignored_modules` of FSDP is not supported, because the gradients of modules that are not sharded "
                "would not be averaged over the processes. Leave it out."
            )
    elif name not in ("version", "reshard_after_forward", "xla_fsdp_settings", *_WITHOUT_EFFECT):
        known = sorted({"version", "reshard_after_forward", *_CHECKS})
        raise ValueError(f"`fsdp_config` has no option {name!r}. Its options are {', '.join(known)}.")
    if name == "reshard_after_forward":
        _as_bool(name, value)


def _as_bool(name: str, value: Any) -> bool:
    word = str(value).strip().lower()
    if word not in _YES + _NO:
        raise ValueError(f"`{name}` of FSDP must be true or false; got {value!r}.")
    return word in _YES


def _is_count(value: Any) -> bool:
    return (isinstance(value, int) and not isinstance(value, bool) and value >= 0) or (
        isinstance(value, str) and value.strip().isdigit()
    )


def _are_names(value: Any) -> bool:
    names = [value] if isinstance(value, str) else value
    return value is None or (isinstance(names, list) and all(isinstance(name, str) for name in names))


_CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "auto_wrap_policy": (lambda value: str(value).upper() in FSDP_AUTO_WRAP_POLICY, ", ".join(FSDP_AUTO_WRAP_POLICY)),
    "state_dict_type": (lambda value: str(value).upper() in _STATE_DICTS, " or ".join(_STATE_DICTS)),
    "min_num_params": (_is_count, "a number of parameters, 0 or more"),
    "transformer_layer_cls_to_wrap": (_are_names, "a name of a class, or a list of names"),
}
