"""What `test_distributed.py` runs in one process, in two and in three.

The ranks stand in the environment, as torchrun puts them there.
"""

import gc
import os
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
import torch.multiprocessing
from accelerate.parallelism_config import ParallelismConfig
from transformers.utils import is_peft_available

from modeling_atri import AtriModel
from modeling_atri.loss_atri import info_nce_loss
from modeling_atri.processes import num_processes
from modeling_atri.trainer.diagnostics.callback import DIAGNOSTICS_NAME, DiagnosticsCallback, read_diagnostics
from modeling_atri.trainer.evaluation.retrieval import RetrievalSet
from modeling_atri.trainer.losses import akcl_loss, akcl_weights
from modeling_atri.trainer.step.batch import SharedEmbeddings
from modeling_atri.trainer.step.cached import CachedEmbeddings
from modeling_atri.trainer.step.distributed import SharedRows, average_gradients, batch_shard
from modeling_atri.trainer.step.exact import language_by_language_backward
from tests.helpers.embedded import clip_vectors, soundless
from tests.helpers.tiny import CAPTIONS, tiny_config, tiny_model, tiny_processor
from tests.helpers.training import LANGUAGES, losses, make_arguments, make_rows, make_trainer, train, whole


# Eleven clips, six a step: the last step of an epoch has five, 3 + 2 on two processes and 2 + 2 + 1 on three,
# and so not as many chunks on each. Two epochs are four steps.
NUM_CLIPS, BATCH_SIZE = 11, 6
TEN_STEPS = {"num_train_epochs": 5}
ADAM = {"optim": "adamw_torch", "learning_rate": 1e-3}
BF16 = {"bf16": True, "optim": "adamw_torch", "learning_rate": 1e-4}
CASES = {
    "kcl": {"objective": "kcl", **TEN_STEPS},
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
    "akcl, equal rankings": {"objective": "akcl", "ranking_weight": 0.7, "num_groups": 4},
    "akcl at once": {"objective": "akcl", "exact_step": False},
    "akcl by Adam": {"objective": "akcl", **ADAM},
    "kcl, frozen audio": {"objective": "kcl", "freeze_audio": True},
    "kcl in chunks": {"objective": "kcl", "audio_chunk_size": 1, "text_chunk_size": 1},
    "kcl in bf16": {"objective": "kcl", **BF16},
    "cacl": {"objective": "cacl", "num_groups": 4},
    "cacl, accumulated": {
        "objective": "cacl",
        "gradient_accumulation_steps": 2,
        "accelerator_config": {"even_batches": False, "gradient_accumulation_kwargs": {"sync_each_batch": True}},
    },
    "cacl by Adam in chunks": {"objective": "cacl", "audio_chunk_size": 1, "text_chunk_size": 3, **ADAM, **TEN_STEPS},
    "cacl in bf16": {"objective": "cacl", **BF16},
    "kcl, accumulated in chunks": {
        "objective": "kcl",
        "gradient_accumulation_steps": 2,
        "audio_chunk_size": 1,
        "text_chunk_size": 2,
        "gradient_checkpointing": True,
    },
    "mlclap": {"objective": "mlclap", "embed_regularization": True},
    "from scratch": {"objective": "kcl", "from_scratch": True},
    "teach": {"objective": "teach", "num_groups": 4, "hold_languages": ["fr"], **TEN_STEPS},
    "teach at once, captions alone": {"objective": "teach", "exact_step": False, "has_sounds": False},
    "akcl on embeddings": {"objective": "akcl", "freeze_audio": True, "freeze_audio_head": True, "is_embedded": True},
    "text cache": {"objective": "kcl", "freeze_text": True, "text_cache_dir": "states"},
}
if is_peft_available():
    CASES["adapter"] = {"objective": "akcl", "lora_rank": 4, "num_groups": 4}
    CASES["adapter at once"] = {"objective": "cacl", "lora_rank": 4}
# Three processes share steps less evenly than two, which are enough for what does not depend on the shares.
_IN_TWO = ["akcl at once", "akcl by Adam", "kcl in bf16", "cacl in bf16", "kcl, frozen audio", "from scratch"]
_IN_TWO += ["text cache", "akcl on embeddings", "adapter", "adapter at once"]
_IN_BOTH = ["kcl", "akcl, everything", "cacl by Adam in chunks"]
WORLDS = {
    2: [case for case in CASES if case in _IN_BOTH + _IN_TWO],
    3: [case for case in CASES if case not in _IN_TWO],
}


def run_case(case: dict[str, Any], folder: Path, world_size: int) -> dict[str, Any]:
    """Train; what it did to loss, gradients, weights, and to the embeddings of clips and captions held out."""
    # A rate at which rounding does not grow much within ten steps.
    options = {"num_train_epochs": 2, "learning_rate": 0.01, **case}
    num_groups = options.pop("num_groups", None)
    model = fresh_model() if options.pop("from_scratch", False) else tiny_model()
    if "lora_rank" in options:  # an adapter names the folder of its base
        model.save_pretrained(folder / "base")  # by the first process
        if world_size > 1:
            dist.barrier()
        model = AtriModel.from_pretrained(folder / "base")
    if "text_cache_dir" in options:
        options["text_cache_dir"] = str(folder / options["text_cache_dir"])
    rows = make_rows(NUM_CLIPS, num_groups=num_groups)
    if options.pop("is_embedded", False):
        rows = soundless(rows, clip_vectors(model, rows, finished=True))
    if not options.pop("has_sounds", True):
        rows = [{key: row[key] for key in row if key != "audio"} for row in rows]
    args = make_arguments(folder, per_device_train_batch_size=BATCH_SIZE // world_size, **options)
    trainer, recorder = train(args, rows, model)
    check_processes(trainer, world_size)
    held_out = trainer.embed(RetrievalSet.from_rows(make_rows(5, num_captions=1, seed=1), LANGUAGES))
    return {
        "losses": losses(trainer),
        "gradients": recorder.steps,
        "weights": {name: whole(weight) for name, weight in trainer.model.state_dict().items()},
        "embeddings": {"audio": held_out.audio, **held_out.text},
    }


def run_evaluation(folder: Path, world_size: int) -> dict[str, Any]:
    """Seven clips and thirty-five captions: neither can be shared evenly by two or three."""
    rows = make_rows(7, num_captions=5, num_groups=5)
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


def run_diagnostics(folder: Path, world_size: int) -> list[dict]:
    """Two epochs, each evaluated after; what rank zero writes, seen by all."""
    options = {"objective": "mlclap", "num_train_epochs": 2, "eval_strategy": "epoch", "learning_rate": 0.01}
    args = make_arguments(folder / "diagnosed", per_device_train_batch_size=BATCH_SIZE // world_size, **options)
    trainer = make_trainer(args, make_rows(NUM_CLIPS), make_rows(5, seed=1))
    check_processes(trainer, world_size)
    trainer.add_callback(DiagnosticsCallback(trainer))
    trainer.train()
    trainer.accelerator.wait_for_everyone()
    return read_diagnostics(folder / "diagnosed" / DIAGNOSTICS_NAME)


def run_primitives(rank: int) -> dict[str, Any]:
    """Of two: rank 0 has one row, rank 1 three; each has a parameter that the other's loss does not use."""
    rows = torch.arange(6.0).view(3, 2).add(10 * rank)[: 1 + 2 * rank].requires_grad_()
    shard = batch_shard(len(rows), rows.device)
    gathered = shard.gather(rows)
    (gathered * torch.arange(1.0, 9.0).view(4, 2) * (rank + 1)).sum().backward()

    parameters = [torch.nn.Parameter(torch.zeros(2, 2)) for _ in range(5)]
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


COLLECTIVES = ("all_gather", "all_reduce", "all_gather_into_tensor", "reduce_scatter_tensor", "broadcast", "barrier")
# Objectives and options whose messages are counted, with the eight languages of `CAPTIONS`.
COUNTED = {
    "akcl": {"objective": "akcl"},
    "akcl in chunks": {"objective": "akcl", "audio_chunk_size": 1, "text_chunk_size": 1},
    "kcl": {"objective": "kcl"},
    "akcl at once": {"objective": "akcl", "exact_step": False},
    "teach": {"objective": "teach", "hold_languages": ["fra_Latn"]},
}


def run_counted(folder: Path, world_size: int) -> dict[str, list[int]]:
    """Number of messages of each training step, of several objectives."""
    rows = make_rows(2 * world_size, languages=list(CAPTIONS))
    found = {}
    for name, options in COUNTED.items():
        args = make_arguments(
            folder / f"counted {name}", languages=list(CAPTIONS), per_device_train_batch_size=2, **options
        )
        trainer = make_trainer(args, rows)
        found[name] = counted_steps(trainer)
    return found


def counted_steps(trainer: Any) -> list[int]:
    """Train, and count the messages that Python code sends within each training step."""
    sent: list[str] = []
    steps: list[int] = []
    step = trainer.training_step

    def counting_step(*args: Any, **kwargs: Any) -> Any:
        sent.clear()
        loss = step(*args, **kwargs)
        steps.append(len(sent))
        return loss

    def counting(name: str, send: Any) -> Any:
        return lambda *args, **kwargs: sent.append(name) or send(*args, **kwargs)

    trainer.training_step = counting_step
    with ExitStack() as patches:
        for name in COLLECTIVES:
            patches.enter_context(mock.patch.object(dist, name, counting(name, getattr(dist, name))))
        trainer.train()
    return steps


SHARED_ROWS = {
    "exact": {},
    "exact in chunks": {"chunk_size": 1},
    "at once": {"by_language": False},
    "at once in chunks": {"by_language": False, "chunk_size": 2},
}
GRADIENT_SCALE = 1024.0  # as the scaler of fp16


def run_shared_rows(rank: int, world_size: int) -> dict[str, dict[str, torch.Tensor]]:
    """Gradients of own rows and of the temperature, in two batches that are accumulated, and those expected."""
    found = {}
    for name, options in SHARED_ROWS.items():
        batches = [shared_batch(seed, rank, world_size) for seed in range(2)]
        scale = torch.tensor([1.5], dtype=torch.float64, requires_grad=True)
        for batch in batches:
            shared_rows_backward(batch, scale, **options)
        expected_scale = scale.detach().clone().requires_grad_()
        for batch in batches:
            every, ids = batch["every"], batch["every_ids"]
            akcl_loss(every[0], every[1:], expected_scale.exp(), ids, anchor=1, weight=0.3).backward()
        if world_size > 1:
            dist.all_reduce(scale.grad)
        found[name] = {"scale": scale.grad / world_size / GRADIENT_SCALE, "expected scale": expected_scale.grad}
        for number, batch in enumerate(batches):
            found[name][f"rows {number}"] = batch["own"].grad / world_size / GRADIENT_SCALE
            found[name][f"expected rows {number}"] = batch["every"].grad[:, batch["rows"]]
    return found


def shared_batch(seed: int, rank: int, world_size: int) -> dict[str, Any]:
    """Clips and their captions in three languages, `(4, N, 6)`, and the rank + 2 clips of this process."""
    generator = torch.Generator().manual_seed(seed)
    counts = [2 + other for other in range(world_size)]
    every = torch.randn(4, sum(counts), 6, generator=generator, dtype=torch.float64)
    every = torch.nn.functional.normalize(every, dim=-1).requires_grad_()
    rows = slice(sum(counts[:rank]), sum(counts[: rank + 1]))
    ids = torch.arange(sum(counts)) % 4
    own = every.detach()[:, rows].clone().requires_grad_()
    return {"every": every, "every_ids": ids, "rows": rows, "own": own}


def shared_rows_backward(
    batch: dict[str, Any], scale: torch.Tensor, by_language: bool = True, chunk_size: int | None = None
) -> None:
    """The gradient of AKCL at the rows of this process, by the functions of a training step."""
    own, ids = batch["own"], batch["every_ids"][batch["rows"]]
    num_clips = own.shape[1]
    ranks = range(num_processes())
    shared = SharedRows([2 + rank for rank in ranks], holds_gradients=by_language)
    shard = shared.shard()

    def encode(view: torch.Tensor) -> CachedEmbeddings:
        flat = view.reshape(-1, view.shape[-1])
        return CachedEmbeddings(lambda rows: flat[rows] * 1.0, len(flat), flat.device, chunk_size)

    def backward(loss: torch.Tensor) -> None:
        (loss * GRADIENT_SCALE).backward(retain_graph=True)  # of the temperature's exponential

    if by_language:
        language_by_language_backward(
            lambda: SharedEmbeddings(encode(own[0]), shared),
            lambda k: SharedEmbeddings(encode(own[1 + k]), shared),
            lambda x, y: info_nce_loss(x, y, scale.exp(), ids, shard),
            akcl_weights(3, 1, 0.3),
            backward,
            anchor=1,
        )
        return
    audio, text = encode(own[0]), encode(own[1:])
    captions = text.leaf.view(3, num_clips, -1)
    backward(akcl_loss(audio.leaf, captions, scale.exp(), ids, anchor=1, weight=0.3, shard=shard))
    text.backward()
    audio.backward()


def run_layer_drop(folder: Path) -> list[float]:
    """Losses where each process leaves out other layers, and activations are checkpointed."""
    model = tiny_model()
    model.text_model.layerdrop = 0.5
    options = {"objective": "cacl", "gradient_checkpointing": True, "num_train_epochs": 4}
    trainer, _ = train(make_arguments(folder, per_device_train_batch_size=3, **options), make_rows(12), model)
    check_processes(trainer, 2)
    return losses(trainer)


def run_refused(folder: Path, world_size: int) -> dict[str, str]:
    """What a user reads who asks for an engine that shards the model, or forgets `use_cpu`."""
    asked_for = {
        "fsdp": {"fsdp": True, "fsdp_config": {"version": 1}},
        "tensor parallel": {"parallelism_config": ParallelismConfig(tp_size=world_size)},
        "replicated": {"parallelism_config": ParallelismConfig(dp_replicate_size=world_size)},
        "alone": {"use_cpu": False},
    }
    return {name: refusal(folder, **options) for name, options in asked_for.items()}


def refusal(folder: Path, model: AtriModel | None = None, **options: Any) -> str:
    try:
        train(make_arguments(folder, per_device_train_batch_size=2, **options), make_rows(6), model)
    except ValueError as error:
        return str(error)
    return "it trains"


def fresh_model() -> AtriModel:
    torch.manual_seed(0)
    return AtriModel(tiny_config())


def check_processes(trainer, world_size: int) -> None:
    """A launcher can start a single process without a word, which then equals one process."""
    if trainer.accelerator.num_processes != world_size:
        raise RuntimeError(f"{trainer.accelerator.num_processes} processes run, not {world_size}.")


def run_all(rank: int, world_size: int, port: int, folder: Path) -> None:
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world_size, "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in ranks.items()} | {"MASTER_ADDR": "127.0.0.1"}
    found = {name: run_case(CASES[name], folder, world_size) for name in WORLDS[world_size]}
    found["evaluation"] = run_evaluation(folder, world_size)
    found["diagnostics"] = run_diagnostics(folder, world_size)
    if world_size == 2:
        found["primitives"] = run_primitives(rank)
        found["layer drop"] = run_layer_drop(folder)
    found["counted"] = run_counted(folder, world_size)
    found["shared rows"] = run_shared_rows(rank, world_size)
    found["refused"] = run_refused(folder, world_size)
    torch.save(found, folder / f"rank{rank}.pt")
    dist.destroy_process_group()


def run_worlds(folder: Path) -> None:
    """Run the cases of `WORLDS` in as many processes, which write what they found below the folder."""
    tiny_processor()  # what trains its tokenizer is done once
    gc.freeze()  # the Trainer collects garbage after every training: not also over all that is imported
    for world_size in WORLDS:
        (folder / str(world_size)).mkdir()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        arguments = (world_size, port, folder / str(world_size))
        torch.multiprocessing.start_processes(run_all, arguments, world_size, start_method="fork")
