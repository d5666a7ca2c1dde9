"""Rows, arguments and trainers that the tests of training share."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback

from modeling_atri import AtriModel
from modeling_atri.trainer import AtriTrainer, AtriTrainingArguments
from tests.helpers.tiny import CAPTIONS, tiny_model, tiny_processor


LANGUAGES = ["eng_Latn", "fra_Latn", "jpn_Jpan"]


def make_rows(
    num_rows: int,
    languages: Sequence[str] = LANGUAGES,
    num_captions: int = 2,
    num_groups: int | None = None,
    seed: int = 0,
) -> list[dict]:
    """Clips of noise of 0.2 to 0.6 s; captions of several lengths that tell clip, index and language apart.

    With `num_groups`, rows i and i + num_groups are positives of one another.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(num_rows):
        samples = rng.normal(scale=10.0 ** rng.uniform(-3, -1), size=rng.integers(3200, 9600)).astype(np.float32)
        captions = {
            language: [
                " ".join([CAPTIONS[language]] * (1 + (number + place) % 2)) + f" {number} {c}"
                for c in range(num_captions)
            ]
            for place, language in enumerate(languages)
        }
        row = {"audio": {"array": samples, "sampling_rate": 16000}, "audio_id": f"clip {number}", "captions": captions}
        rows.append(row if num_groups is None else row | {"group_id": f"group {number % num_groups}"})
    return rows


def make_arguments(folder: Any, **changes: Any) -> AtriTrainingArguments:
    """Of one epoch on the CPU in batches of four, by plain SGD, without clipping and without a word."""
    options = {
        "output_dir": str(folder),
        "languages": LANGUAGES,
        "objective": "akcl",
        "optim": "sgd",
        "learning_rate": 0.05,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 0.0,
        "per_device_train_batch_size": 4,
        "num_train_epochs": 1,
        "use_cpu": True,
        "dataloader_pin_memory": False,
        "report_to": "none",
        "save_strategy": "no",
        "logging_steps": 1,
        "disable_tqdm": True,
    }
    return AtriTrainingArguments(**options | changes)


class GradientRecorder(TrainerCallback):
    """Keeps the gradients with which each optimizer step is made."""

    def __init__(self):
        self.steps: list[dict[str, torch.Tensor]] = []

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        names = [(name.removeprefix("module."), parameter) for name, parameter in model.named_parameters()]
        gradients = {name: parameter.grad for name, parameter in names if parameter.grad is not None}
        self.steps.append({name: whole(gradient).clone() for name, gradient in gradients.items()})


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor that FSDP2 may have sharded."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def make_trainer(
    args: AtriTrainingArguments, rows: Any, eval_rows: Any = None, model: AtriModel | None = None, **options: Any
) -> AtriTrainer:
    """A trainer of the tiny model, which prints nothing."""
    trainer = AtriTrainer(model or tiny_model(), args, tiny_processor(), rows, eval_rows, **options)
    for callback in [kept for kept in trainer.callback_handler.callbacks if "Printer" in type(kept).__name__]:
        trainer.remove_callback(callback)
    return trainer


def train(
    args: AtriTrainingArguments, rows: Any, model: AtriModel | None = None
) -> tuple[AtriTrainer, GradientRecorder]:
    """A trainer that was trained, and the gradients of its steps."""
    recorder = GradientRecorder()
    trainer = make_trainer(args, rows, model=model, callbacks=[recorder])
    trainer.train()
    return trainer, recorder


def losses(trainer: AtriTrainer) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def assert_same_gradients(first: dict, second: dict, tolerance: float) -> None:
    """The same parameters have gradients, equal to `tolerance` of the largest entry of all."""
    assert first.keys() == second.keys()
    largest = max(float(gradient.abs().max()) for gradient in second.values())
    assert largest > 1e-3, "gradients of nothing"
    for name, gradient in first.items():
        difference = float((gradient - second[name]).abs().max())
        assert difference <= tolerance * largest, f"{name}: {difference / largest:.1e} of the largest entry"


def assert_same_weights(first: AtriModel | dict, second: AtriModel | dict, tolerance: float = 0.0) -> None:
    first, second = (model if isinstance(model, dict) else model.state_dict() for model in (first, second))
    assert first.keys() == second.keys()
    for name, weight in first.items():
        torch.testing.assert_close(
            weight, second[name], rtol=0, atol=tolerance, msg=lambda text, name=name: f"{name}: {text}"
        )
