"""What `test_sharded.py` runs in two processes whose parameters FSDP2 shards, and in one for comparison."""

import gc
import os
import shutil
import socket
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing

from modeling_atri import AtriModel
from modeling_atri.trainer.evaluation.retrieval import RetrievalSet
from modeling_atri.trainer.model.adapters import text_lora_config
from modeling_atri.trainer.step.sharded import is_sharded
from tests.helpers.processes import ADAM, BATCH_SIZE, CASES, NUM_CLIPS, refusal, run_case
from tests.helpers.streams import stream_of
from tests.helpers.tiny import tiny_config, tiny_model, tiny_processor
from tests.helpers.training import LANGUAGES, losses, make_arguments, make_rows, make_trainer, train, whole


FSDP = {"fsdp": True, "fsdp_config": {"version": 2}}
_TEN = {"num_train_epochs": 5}
FSDP_CASES = {
    "exact": CASES["kcl"],
    "at once": {**CASES["akcl at once"], **_TEN},
    "in chunks": {**CASES["cacl by Adam in chunks"], "optim": "sgd", "learning_rate": 0.01},
    "exact in chunks": CASES["kcl in chunks"],
    "teach": CASES["teach"],
    "everything": CASES["akcl, everything"],  # accumulated and clipped
    "equal rankings": CASES["akcl, equal rankings"],
    "checkpointed": CASES["kcl, accumulated in chunks"],
    "frozen audio": CASES["kcl, frozen audio"],
    "bf16": CASES["kcl in bf16"],
}
if "adapter" in CASES:
    FSDP_CASES["adapter"] = CASES["adapter"]

_RUN = {"objective": "akcl", "num_train_epochs": 2, "save_strategy": "steps", "save_steps": 1, **ADAM}
_RUN |= {"eval_strategy": "steps", "eval_steps": 1, "load_best_model_at_end": True, "num_train_epochs": 2}
_RUN |= {"metric_for_best_model": "eval_mean_text_to_audio_mean_rank"}


def run_saved(folder: Path, num_processes: int, checkpoint: Path | None = None, **options: Any) -> dict[str, Any]:
    """Four steps that are each saved and evaluated, or the rest of them after a checkpoint."""
    options = _RUN | options | {"per_device_train_batch_size": BATCH_SIZE // num_processes}
    trainer = make_trainer(make_arguments(folder, **options), make_rows(NUM_CLIPS), make_rows(7, seed=1))
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    trainer.save_model()
    evaluated = [{name: value for name, value in entry.items() if "text_to" in name} for entry in _log(trainer)]
    return {
        "losses": losses(trainer),
        "evaluated": evaluated,
        "best": Path(trainer.state.best_model_checkpoint).name,
        "weights": {name: whole(weight) for name, weight in trainer.model.state_dict().items()},
    }


def _log(trainer: Any) -> list[dict[str, float]]:
    return [entry for entry in trainer.state.log_history if "eval_mean_text_to_audio_R@1" in entry]


def run_different_starts(folder: Path, rank: int) -> dict[str, torch.Tensor]:
    """Weights after a step from models that each process made with other random numbers."""
    torch.manual_seed(rank)
    args = make_arguments(folder, objective="kcl", per_device_train_batch_size=3, learning_rate=0.0, **FSDP)
    trainer, _ = train(args, make_rows(6), AtriModel(tiny_config()))
    trainer.save_model(str(folder / "saved"))
    return {name: whole(weight) for name, weight in trainer.model.state_dict().items()}


def run_shards(folder: Path) -> dict[str, Any]:
    """How much of the model a process has after training, and embeddings from uneven numbers of batches."""
    args = make_arguments(folder, objective="kcl", per_device_train_batch_size=2, per_device_eval_batch_size=1, **FSDP)
    trainer, _ = train(args, make_rows(4))
    own = sum(parameter.to_local().numel() for parameter in trainer.model.parameters())
    embeddings = trainer.embed(RetrievalSet.from_rows(make_rows(3, num_captions=1, seed=1), LANGUAGES))
    again = trainer.embed(RetrievalSet.from_rows(make_rows(3, num_captions=1, seed=1), LANGUAGES))
    return {
        "is sharded": is_sharded(trainer.model),
        "own": own,
        "all": sum(parameter.numel() for parameter in trainer.model.parameters()),
        "own again": sum(parameter.to_local().numel() for parameter in trainer.model.parameters()),
        "embeddings": embeddings.audio,
        "again": again.audio,
    }


def run_refused(folder: Path) -> dict[str, str]:
    """What a user reads whose options do not work with sharded parameters."""
    layerdrop = tiny_model()
    layerdrop.text_model.layerdrop = 0.1
    cached = {"freeze_text": True, "text_cache_dir": str(folder / "states")}
    return {"text cache": refusal(folder, **FSDP, **cached), "layerdrop": refusal(folder, layerdrop, **FSDP)}


def run_cases(rank: int, port: int, folder: Path, cases: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Train in each case as one of two processes."""
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in ranks.items()} | {"MASTER_ADDR": "127.0.0.1"}
    found: dict[str, Any] = {}
    for name, options in cases.items():
        (folder / name).mkdir(exist_ok=True)
        found[name] = run_case(options | FSDP, folder / name, world_size=2)
    return found


def run_exact_rank(rank: int, port: int, folder: Path) -> None:
    torch.save(run_cases(rank, port, folder, {"exact": FSDP_CASES["exact"]}), folder / f"rank{rank}.pt")
    dist.destroy_process_group()


def run_rank(rank: int, port: int, folder: Path) -> None:
    found = run_cases(rank, port, folder, FSDP_CASES)
    found["plain"] = run_case(CASES["akcl"], folder / "plain", world_size=2)  # the same processes without FSDP
    found["saved"] = run_saved(folder / "saved", 2, **FSDP)
    found["resumed"] = run_saved(folder / "resumed", 2, folder / "saved" / "checkpoint-2", **FSDP)
    found["from one"] = run_saved(folder / "from one", 2, folder / "one" / "checkpoint-2", **FSDP)
    if "adapter" in CASES:
        found["adapter saved"] = run_adapter(folder / "adapter saved")
        checkpoint = folder / "adapter saved" / "checkpoint-2"
        found["adapter resumed"] = run_adapter(folder / "adapter resumed", checkpoint)
        found |= run_peft_models(folder)
    found |= run_streams(folder)
    found["different starts"] = run_different_starts(folder / "starts", rank)
    found["shards"] = run_shards(folder / "shards")
    found["refused"] = run_refused(folder / "refused")
    torch.save(found, folder / f"rank{rank}.pt")
    dist.destroy_process_group()


def run_streams(folder: Path) -> dict[str, Any]:
    """A run on a stream with DDP and with FSDP2, and one that goes on from the checkpoint of the latter."""
    checkpoint = folder / "stream, fsdp" / "checkpoint-3"
    return {
        "stream": run_stream(folder / "stream"),
        "stream, fsdp": run_stream(folder / "stream, fsdp", **FSDP),
        "stream, resumed": run_stream(folder / "stream, resumed", checkpoint, **FSDP),
    }


def run_peft_models(folder: Path) -> dict[str, Any]:
    """A `PeftModel` with FSDP2, a run that goes on from its checkpoint, and one from that of one process."""
    own, alone = (folder / name / "checkpoint-2" for name in ("peft", "peft alone"))
    return {
        "peft": run_peft_model(folder / "peft", 2, **FSDP),
        "peft resumed": run_peft_model(folder / "peft resumed", 2, own, **FSDP),
        "peft from one": run_peft_model(folder / "peft from one", 2, alone, **FSDP),
    }


def run_stream(folder: Path, checkpoint: Path | None = None, **engine: Any) -> dict[str, Any]:
    """Five steps on a stream that each process reads its part of, saved after the third; its batches."""
    rows = make_rows(NUM_CLIPS, num_captions=1, num_groups=4)
    options = {"objective": "akcl", "max_steps": 5, "save_strategy": "steps", "save_steps": 3, "shuffle_buffer": 4}
    options |= {"per_device_train_batch_size": BATCH_SIZE // 2, "learning_rate": 0.01}
    trainer = make_trainer(make_arguments(folder, **options, **engine), stream_of(rows, [4, 1, 6]))
    batches, prepare = [], trainer._prepare_inputs

    def kept(inputs: dict[str, Any]) -> dict[str, Any]:
        batches.append({name: value for name, value in inputs.items() if name != "left_out"})
        return prepare(inputs)

    trainer._prepare_inputs = kept
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    return {
        "losses": losses(trainer),
        "batches": batches,
        "weights": {name: whole(weight) for name, weight in trainer.model.state_dict().items()},
    }


def run_peft_model(folder: Path, num_processes: int, checkpoint: Path | None = None, **engine: Any) -> dict[str, Any]:
    """Four steps of a `PeftModel`, each saved and evaluated, or the rest of them after a checkpoint."""
    from peft import get_peft_model

    model = AtriModel.from_pretrained(folder.parent / "one")
    torch.manual_seed(0)  # of the adapter
    peft_model = get_peft_model(model, text_lora_config(model, rank=4))
    options = _RUN | {"per_device_train_batch_size": BATCH_SIZE // num_processes} | engine
    args = make_arguments(folder, **options)
    trainer = make_trainer(args, make_rows(NUM_CLIPS), make_rows(7, seed=1), peft_model)
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    trainer.save_model()
    return {
        "losses": losses(trainer),
        "best": Path(trainer.state.best_model_checkpoint).name,
        "weights": {name: whole(weight) for name, weight in trainer.model.state_dict().items()},
    }


def run_adapter(folder: Path, checkpoint: Path | None = None) -> dict[str, torch.Tensor]:
    model = AtriModel.from_pretrained(folder.parent / "one")
    options = _RUN | {"lora_rank": 4, "per_device_train_batch_size": 3} | FSDP
    trainer = make_trainer(make_arguments(folder, **options), make_rows(NUM_CLIPS), make_rows(7, seed=1), model)
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    return {name: whole(weight) for name, weight in trainer.model.state_dict().items()}


def run_one(rank: int, folder: Path, continues: bool) -> None:
    """A run in one process, or the rest of a run with FSDP2."""
    if not continues:
        torch.save(run_saved(folder / "one", 1), folder / "one.pt")
        if "adapter" in CASES:
            torch.save(run_peft_model(folder / "peft alone", 1), folder / "peft alone.pt")
        return
    copied = folder / "continued in one"
    shutil.copytree(folder / "saved" / "checkpoint-2", copied / "checkpoint-2")
    torch.save(run_saved(copied, 1, copied / "checkpoint-2"), folder / "continued.pt")


def run_fsdp(folder: Path) -> None:
    """One process, then two with FSDP2, which go on from its checkpoint, too, then one that goes on from theirs."""
    tiny_processor()
    gc.freeze()
    _start(run_one, (folder, False), 1)
    _start(run_rank, (_free_port(), folder), 2)
    _start(run_one, (folder, True), 1)


def run_exact(folder: Path) -> None:
    """Two processes with FSDP2 in one case."""
    tiny_processor()
    gc.freeze()
    _start(run_exact_rank, (_free_port(), folder), 2)


# Forked, and not after a backward pass in this process.
_start = partial(torch.multiprocessing.start_processes, start_method="fork")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
