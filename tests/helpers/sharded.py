"""What `test_sharding.py` runs: training steps with FSDP in two processes."""

import os
import socket
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import Tensor
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    set_model_state_dict,
)
from torch.distributed.fsdp import fully_shard

from modeling_atri import AtriModel
from tests.helpers.tiny import tiny_model, tiny_processor


NUM_STEPS = 2
WHOLE = StateDictOptions(full_state_dict=True)
FROM_FIRST = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)


def batch(rank: int, step: int) -> dict[str, Tensor]:
    """Three clips of other lengths, and their captions, for each process and step."""
    generator = torch.Generator().manual_seed(10 * step + rank)
    mask = (torch.arange(140) < torch.tensor([40, 140, 60 + 20 * rank])[:, None]).long()
    features = -20 + 15 * torch.randn(3, 140, 64, generator=generator)
    text = ["a dog barks", f"rain {step}", f"un chien aboie {rank}"]
    tokens = tiny_processor()(text=text, language=["en", "en", "fr"])
    return {"input_features": features, "input_features_mask": mask, "return_loss": True, **tokens}


def shard(model: AtriModel) -> AtriModel:
    """As FSDP is meant to be used: each layer, then the rest."""
    for layer in (*model.audio_model.layers, *model.text_model.layers):
        fully_shard(layer)
    return fully_shard(model)


def train_sharded(rank: int, file: Path) -> None:
    """Train on this process's batches; the first process saves the weights."""
    dist.init_process_group("gloo", rank=rank, world_size=2)
    torch.set_num_threads(1)
    model = shard(tiny_model().train())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for step in range(NUM_STEPS):
        model(**batch(rank, step)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    trained = get_model_state_dict(model, options=WHOLE)
    other = shard(tiny_model(seed=1))
    set_model_state_dict(other, dict(trained), options=FROM_FIRST)  # it changes what it is given
    again = get_model_state_dict(other, options=WHOLE)
    if rank == 0:
        torch.save({"trained": trained, "again": again}, file)
    dist.destroy_process_group()


def run_processes(file: Path) -> None:
    """Train in two processes."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.multiprocessing.start_processes(train_sharded, (file,), nprocs=2, start_method="fork")
