"""Check that training is spread over devices and processes in a way that the losses and the step support."""

import os

import torch.distributed as dist
from accelerate import Accelerator, DistributedType
from accelerate.utils import parse_flag_from_env
from transformers import TrainingArguments
from transformers.training_args import ParallelMode

from .fsdp_options import check_fsdp_options


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
        check_fsdp_options(args)


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
    if FSDP in chosen_engines(args) and args.parallel_mode != ParallelMode.DISTRIBUTED:
        raise ValueError(
            "FSDP shards a model over several processes, but this process was started alone. Start them with torchrun "
            "or accelerate launch, or leave out `fsdp`."
        )


def _refusal(engine: str) -> str:
    return (
        "The losses read the logit scale outside of the model's forward pass, and a step runs forward and backward "
        f"several times. This does not work with {engine}. Use one process, plain data-parallel processes (torchrun, "
        "or accelerate launch with distributed_type MULTI_GPU), or FSDP of version 2."
    )
