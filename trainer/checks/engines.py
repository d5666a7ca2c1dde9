"""Check that training is spread over devices and processes in a way that the losses and the step support."""

import json
import os
from pathlib import Path
from typing import Any

import torch.distributed as dist
from accelerate import Accelerator, DistributedType
from accelerate.utils import parse_flag_from_env
from transformers import TrainingArguments


FSDP = "FSDP"
_KNOWN = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU, DistributedType.FSDP)


def chosen_engines(args: TrainingArguments) -> list[str]:
    """The engines besides plain data-parallel processes that the arguments or `accelerate launch` ask for."""
    chosen = {
        FSDP: args.fsdp or parse_flag_from_env("ACCELERATE_USE_FSDP"),
        "DeepSpeed": args.deepspeed or parse_flag_from_env("ACCELERATE_USE_DEEPSPEED"),
        "Megatron-LM": parse_flag_from_env("ACCELERATE_USE_MEGATRON_LM"),
        "a ParallelismConfig": args.parallelism_config or parse_flag_from_env("ACCELERATE_USE_PARALLELISM_CONFIG"),
    }
    return [engine for engine, is_chosen in chosen.items() if is_chosen]


def check_chosen_engine(args: TrainingArguments) -> None:
    """Raise a ValueError if the arguments or `accelerate launch` ask for an engine that is not supported.

    On CPUs Accelerate silently ignores some of these settings, so [`check_engine`] alone would not notice them.
    """
    for engine in chosen_engines(args):
        if engine != FSDP:
            raise ValueError(_refusal(engine))
        _check_fsdp_options(args)


def _check_fsdp_options(args: TrainingArguments) -> None:
    """Raise a ValueError for options of FSDP, of the arguments or the launcher, that are not supported."""
    config: Any = args.fsdp_config or {}
    if isinstance(config, str):
        config = json.loads(Path(config).read_text(encoding="utf-8"))
    config = {name.removeprefix("fsdp_"): value for name, value in config.items()}

    def option(name: str, variable: str, by_arguments: Any, by_launcher: str) -> Any:
        return config.get(name, by_arguments) if args.fsdp else os.environ.get(f"FSDP_{variable}", by_launcher)

    if int(option("version", "VERSION", 2, "1")) != 2:
        raise ValueError(
            "FSDP of version 1 is not supported, because it flattens the parameters that the optimizer and the "
            "checkpoints need apart. Use version 2 (`fsdp_config={'version': 2}`, or fsdp_version: 2 of accelerate)."
        )
    for name, variable, reason in (
        ("cpu_ram_efficient_loading", "CPU_RAM_EFFICIENT_LOADING", "it loses the statistics of the log-mel features"),
        ("cpu_offload", "OFFLOAD_PARAMS", "the losses need the logit scale on the training device"),
        (
            "activation_checkpointing",
            "ACTIVATION_CHECKPOINTING",
            "it draws another dropout in the second pass; use the argument `activation_checkpointing` instead",
        ),
    ):
        if str(option(name, variable, False, "false")).lower() in ("1", "true", "yes"):
            raise ValueError(f"`{name}` of FSDP is not supported, because {reason}. Set it to false.")
    if args.fsdp and option("xla", "XLA", False, "false"):
        raise ValueError("`xla` of `fsdp_config` is not supported. Leave it out.")


def check_engine(num_gpus: int, accelerator: Accelerator) -> None:
    """Raise a ValueError if Accelerate set up an engine that the losses and the step do not support."""
    if num_gpus > 1:
        raise ValueError(
            "DataParallel is not supported, because it splits the batch that the losses compare. Start one process "
            "per GPU (accelerate launch or torchrun), or make one GPU visible (CUDA_VISIBLE_DEVICES=0)."
        )
    engine = accelerator.distributed_type
    if engine not in _KNOWN or (engine == DistributedType.FSDP and not accelerator.is_fsdp2):
        raise ValueError(_refusal(engine.value))
    if accelerator.parallelism_config is not None:  # e.g. if the user set it up in an AcceleratorState
        raise ValueError(_refusal("a ParallelismConfig"))


def check_processes(args: TrainingArguments) -> None:
    """Raise a ValueError unless all processes train together, each on its own batches.

    Without `use_cpu`, torchrun's processes on a machine without GPUs would each train alone and write to one folder.
    """
    config = args.accelerator_config
    for name, value in (("split_batches", config.split_batches), ("dispatch_batches", config.dispatch_batches)):
        if value:
            raise ValueError(
                f"`{name}` of `accelerator_config` is not supported, because every process draws its own part of each "
                "step, `per_device_train_batch_size` clips. Leave it out."
            )
    started = dist.get_world_size() if dist.is_initialized() else int(os.environ.get("WORLD_SIZE", "1"))
    if started > args.world_size:
        raise ValueError(
            f"{started} processes were started, but this one would train alone and overwrite the others' output. On "
            "CPUs add `use_cpu=True` (--use_cpu true); on GPUs let torchrun or accelerate launch start them."
        )


def _refusal(engine: str) -> str:
    return (
        "The losses read the logit scale outside of the model's forward pass, and a step runs forward and backward "
        f"several times. This does not work with {engine}. Use one process, plain data-parallel processes (torchrun, "
        "or accelerate launch with distributed_type MULTI_GPU), or FSDP of version 2."
    )
