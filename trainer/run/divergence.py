"""Ends training at the first loss or weight that is not a finite number."""

import math
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from accelerate.utils import gather_object
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..step.sharded import is_sharded, own_values
from .checkpoints import last_whole_checkpoint


_READS_EVERY_LOSS = ("cpu",)  # devices where reading a number does not wait for others
_MOST_UNREAD = 100  # losses that are kept unread if nothing is logged


class TrainingDivergedError(ValueError):
    """A loss or a weight is not finite. The message says which one, at which step, and how to go on."""


class _Loss(NamedTuple):
    """Step and epoch of a batch, its clips, and the sum of the losses since the last log, on the training device."""

    step: int
    epoch: float
    items: list[int]
    total: Tensor


class LossWatch(TrainerCallback):
    """Ends training at the first loss that is not finite, before anything of it is saved.

    On a CPU every loss is read. On other devices losses are read only if a log, an evaluation or a checkpoint waits
    for the device anyway, or if 100 are unread. Each process reads the losses of all processes, so that they end
    together.

    `total_loss` returns the sum of the losses since the last log, `gather` joins the tensors of all processes as
    `Accelerator.gather` does, and `audio_id` returns the id of the training clip of a row.
    """

    def __init__(
        self, total_loss: Callable[[], Tensor], gather: Callable[[Tensor], Tensor], audio_id: Callable[[int], str]
    ):
        self._total_loss, self._gather, self._audio_id = total_loss, gather, audio_id
        self._batches: deque[list[int]] = deque()  # batches that were drawn and not trained on yet
        self._unread: list[_Loss] = []

    def note(self, batches: Sequence[dict[str, Any]]) -> None:
        """Remember the clips of the next batches."""
        self._batches = deque(batch["item_ids"].tolist() if "item_ids" in batch else [] for batch in batches)

    def on_train_begin(self, args, state, control, **kwargs):
        self._batches.clear()
        self._unread.clear()

    def on_substep_end(self, args, state, control, **kwargs):
        # Trainer counts a step once its last batch is done.
        self._take(state.global_step + 1, state.epoch or 0.0)

    def on_step_end(self, args, state, control, **kwargs):
        self._take(state.global_step, state.epoch)
        if _waits(control) or args.device.type in _READS_EVERY_LOSS or len(self._unread) >= _MOST_UNREAD:
            self.check(args)

    def on_epoch_end(self, args, state, control, **kwargs):
        if _waits(control):
            self.check(args)

    def on_train_end(self, args, state, control, model=None, **kwargs):
        self.check(args)
        check_weights(model, args, state)

    def _take(self, step: int, epoch: float) -> None:
        items = self._batches.popleft() if self._batches else []
        self._unread.append(_Loss(step, epoch, items, self._total_loss().clone()))

    def check(self, args: TrainingArguments) -> None:
        """Read the losses that were not read yet.

        Raises:
            TrainingDivergedError: A loss of any process is not finite.
        """
        if not self._unread:
            return
        unread, self._unread = self._unread, []
        totals = torch.stack([loss.total for loss in unread])
        everywhere = self._gather(totals[None])  # (processes, losses)
        bad = (~everywhere.isfinite()).any(0).tolist()
        if any(bad):
            self._raise(unread[bad.index(True)], everywhere[:, bad.index(True)].tolist(), args)

    def _raise(self, loss: _Loss, totals: list[float], args: TrainingArguments) -> None:
        items = gather_object([loss.items])  # of each process
        guilty = [
            clip for clips, total in zip(items, totals, strict=True) if not math.isfinite(total) for clip in clips
        ]
        names = ", ".join(repr(self._audio_id(item)) for item in guilty)
        value = next(total for total in totals if not math.isfinite(total))
        raise TrainingDivergedError(
            f"The loss of step {loss.step} (epoch {loss.epoch:.2f}) is {value}. Its batch held the clips {names}. "
            f"{_causes(args)}"
        )


def check_weights(model: nn.Module, args: TrainingArguments, state: TrainerState) -> None:
    """Raise a TrainingDivergedError if a trained weight is not finite, which overflowing gradients cause."""
    named = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    if not named:
        return
    finite = torch.stack([own_values(weight.detach()).isfinite().all() for _, weight in named]).int()
    if is_sharded(model):  # all processes end together
        dist.all_reduce(finite, dist.ReduceOp.MIN)
    are_finite = finite.bool().tolist()
    if not all(are_finite):
        raise TrainingDivergedError(
            f"After step {state.global_step} (epoch {state.epoch or 0:.2f}) the loss is still finite, "
            f"but {are_finite.count(False)} weights are not, such as {named[are_finite.index(False)][0]}. "
            f"{_causes(args)}"
        )


def _causes(args: TrainingArguments) -> str:
    precision = "numbers too large for fp16 (bf16 has a larger range), " if args.fp16 else ""
    last, _ = last_whole_checkpoint(Path(args.output_dir))
    kept = "There is no checkpoint to go on from"
    if last is not None:
        kept = f"The last good checkpoint is {last}; go on from it with resume_from_checkpoint"
    return (
        f"Likely causes: a learning rate that is too high (it is {args.learning_rate:g}), {precision}or broken "
        f"recordings among these clips. Nothing of this was saved. {kept}, once the cause is removed."
    )


def _waits(control: TrainerControl) -> bool:
    """Whether training waits for the device anyway."""
    return control.should_log or control.should_evaluate or control.should_save
