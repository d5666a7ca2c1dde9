"""What `test_distributed.py` runs in one process and, as a script (`two_processes.py FOLDER`), in each of two.

The ranks stand in the environment, as torchrun puts them there.
"""

import gc
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from transformers.utils import is_peft_available

from modeling_atri import AtriModel
from modeling_atri.trainer.distributed import average_gradients, batch_shard
from modeling_atri.trainer.evaluation import RetrievalSet
from tests.tiny import tiny_config, tiny_model
from tests.trainer.training import LANGUAGES, losses, make_arguments, make_rows, make_trainer, train


# Eleven clips, four a step: the last step has three, two on one of two processes and one on the other.
NUM_CLIPS, BATCH_SIZE = 11, 4
CASES = {
    "kcl": {"objective": "kcl"},
    "akcl": {"objective": "akcl", "anchor_language": "fra_Latn", "akcl_weight": 0.3, "num_groups": 4},
    "akcl, everything": {
        "objective": "akcl",
        "languages_per_step": 2,
        "gradient_accumulation_steps": 2,
        "max_grad_norm": 0.5,
        "num_groups": 4,
        "mix_probability": 0.5,
        "gain_db": 6.0,
        "time_warp": 0.3,
        "dataloader_num_workers": 1,
    },
    "akcl at once": {"objective": "akcl", "exact_step": False},
    "kcl, frozen audio": {"objective": "kcl", "freeze_audio": True},
    "cacl": {"objective": "cacl", "num_groups": 4},
    "mlclap": {"objective": "mlclap", "embed_regularization": True},
    "from scratch": {"objective": "kcl", "from_scratch": True},
    "text cache": {"objective": "kcl", "freeze_text": True, "text_cache_dir": "states"},
}
if is_peft_available():
    CASES["adapter"] = {"objective": "akcl", "lora_rank": 4, "num_groups": 4}
    CASES["adapter at once"] = {"objective": "cacl", "lora_rank": 4}


def run_case(name: str, folder: Path, world_size: int) -> dict[str, Any]:
    """Train an epoch; what it did to loss, gradients and weights."""
    options = dict(CASES[name])
    rows = make_rows(NUM_CLIPS, num_groups=options.pop("num_groups", None))
    model = fresh_model() if options.pop("from_scratch", False) else tiny_model()
    if "lora_rank" in options:  # an adapter names the folder of its base
        model.save_pretrained(folder / "base")  # by the first process
        if world_size > 1:
            dist.barrier()
        model = AtriModel.from_pretrained(folder / "base")
    if "text_cache_dir" in options:
        options["text_cache_dir"] = str(folder / options["text_cache_dir"])
    args = make_arguments(folder, per_device_train_batch_size=BATCH_SIZE // world_size, **options)
    trainer, recorder = train(args, rows, model)
    check_processes(trainer, world_size)
    return {"losses": losses(trainer), "gradients": recorder.steps, "weights": trainer.model.state_dict()}


def run_evaluation(folder: Path, world_size: int) -> dict[str, Any]:
    """Odd numbers of clips and captions."""
    rows = make_rows(7, num_captions=3, num_groups=5)
    trainer = make_trainer(make_arguments(folder), None, rows)
    check_processes(trainer, world_size)
    embeddings = trainer.embed(RetrievalSet.from_rows(rows, LANGUAGES))
    one_clip = trainer.embed(RetrievalSet.from_rows(make_rows(1, num_captions=1), LANGUAGES))
    return {
        "metrics": trainer.evaluate(),
        "audio": embeddings.audio,
        "text": embeddings.text,
        "one clip": one_clip.audio,
    }


def run_primitives(rank: int) -> dict[str, Any]:
    """Rank 0 has one row, rank 1 three; each has a parameter that the other's loss does not use."""
    rows = torch.arange(6.0).view(3, 2).add(10 * rank)[: 1 + 2 * rank].requires_grad_()
    shard = batch_shard(len(rows), rows.device)
    gathered = shard.gather(rows)
    (gathered * torch.arange(1.0, 9.0).view(4, 2) * (rank + 1)).sum().backward()

    parameters = [torch.nn.Parameter(torch.zeros(2, 2)) for _ in range(4)]
    parameters[3].requires_grad_(False)
    parameters[0].grad = torch.full((2, 2), 1.0 + rank)
    parameters[1 + rank].grad = torch.full((2, 2), 4.0)
    average_gradients(parameters)
    return {
        "place": (shard.offset, shard.world_size),
        "gathered": gathered.detach(),
        "gradient": rows.grad,
        "ids": shard.gather(torch.arange(len(rows)) + 10 * rank),
        "averaged": [None if parameter.grad is None else parameter.grad for parameter in parameters],
    }


def fresh_model() -> AtriModel:
    torch.manual_seed(0)
    return AtriModel(tiny_config())


def check_processes(trainer, world_size: int) -> None:
    if trainer.accelerator.num_processes != world_size:
        raise RuntimeError(f"{trainer.accelerator.num_processes} processes run, not {world_size}.")


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    gc.freeze()  # the Trainer collects garbage after every training: not also over all that is imported
    found = {}
    for name in CASES:
        found[name] = run_case(name, folder, world_size=2)
    found["evaluation"] = run_evaluation(folder, world_size=2)
    rank = dist.get_rank()
    found["primitives"] = run_primitives(rank)
    torch.save(found, folder / f"rank{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
