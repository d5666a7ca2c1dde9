"""Training that goes wrong ends at once, and says where."""

from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from accelerate.utils import gather_object
from torch import Tensor
from transformers import TrainerCallback, TrainerControl

from .checkpoints import last_whole_checkpoint


if TYPE_CHECKING:
    from .resuming import ResumableTrainer


_READS_EVERY_LOSS = ("cpu",)  # devices where reading a number is no wait
_MOST_UNREAD = 100  # losses; then they are read though nothing is logged


class TrainingDivergedError(ValueError):
    """A loss or a weight that is no finite number; the message says which, where, and what to go on from."""


class _Loss(NamedTuple):
    """Of one batch: where it stood, its clips, and the sum of the losses that are not logged yet, on their device."""

    step: int
    epoch: float
    items: list[int]
    total: Tensor


class LossWatch(TrainerCallback):
    """Ends training at the first loss that is not finite, before anything of it is saved.

    On a CPU every loss is read; elsewhere only when logs, evaluations or checkpoints wait for the device anyway, or
    when 100 are unread. All processes read the losses of all, so that they end together.
    """

    def __init__(self, trainer: "ResumableTrainer"):
        self.trainer = trainer
        self._batches: deque[list[int]] = deque()  # drawn, not trained yet
        self._unread: list[_Loss] = []

    def note(self, batches: Sequence[dict[str, Any]]) -> None:
        """Remember which clips the next batches hold."""
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
            self.check()

    def on_epoch_end(self, args, state, control, **kwargs):
        if _waits(control):
            self.check()

    def on_train_end(self, args, state, control, **kwargs):
        self.check()
        check_weights(self.trainer)

    def _take(self, step: int, epoch: float) -> None:
        items = self._batches.popleft() if self._batches else []
        self._unread.append(_Loss(step, epoch, items, self.trainer._tr_loss.clone()))

    def check(self) -> None:
        """Read the losses that were not read yet.

        Raises:
            TrainingDivergedError: one of them, of any process, is not finite.
        """
        if not self._unread:
            return
        unread, self._unread = self._unread, []
        totals = torch.stack([loss.total for loss in unread])
        everywhere = self.trainer.accelerator.gather(totals[None])  # (processes, losses)
        bad = (~everywhere.isfinite()).any(0).tolist()
        if any(bad):
            self._raise(unread[bad.index(True)], everywhere[:, bad.index(True)].tolist())

    def _raise(self, loss: _Loss, totals: list[float]) -> None:
        items = gather_object([loss.items])  # of each process
        guilty = [clip for clips, total in zip(items, totals, strict=True) if not _is_finite(total) for clip in clips]
        rows = self.trainer.train_dataset
        names = ", ".join(repr(rows[item]["audio_id"]) for item in guilty)
        value = next(total for total in totals if not _is_finite(total))
        raise TrainingDivergedError(
            f"The loss of step {loss.step} (epoch {loss.epoch:.2f}) is {value}. Its batch held the clips {names}. "
            f"{_causes(self.trainer)}"
        )


def check_weights(trainer: "ResumableTrainer") -> None:
    """Raise a TrainingDivergedError if a trained weight is no finite number, as after gradients that overflowed."""
    named = [(name, weight) for name, weight in trainer.model.named_parameters() if weight.requires_grad]
    if not named:
        return
    finite = torch.stack([weight.detach().isfinite().all() for _, weight in named]).tolist()
    if not all(finite):
        raise TrainingDivergedError(
            f"After step {trainer.state.global_step} (epoch {trainer.state.epoch or 0:.2f}) the loss is still finite, "
            f"but {finite.count(False)} weights are not, such as {named[finite.index(False)][0]}. {_causes(trainer)}"
        )


def _causes(trainer: "ResumableTrainer") -> str:
    args = trainer.args
    precision = "numbers too large for fp16 (bf16 has room for them), " if args.fp16 else ""
    last, _ = last_whole_checkpoint(Path(args.output_dir))
    kept = (
        "There is no checkpoint to go on from"
        if last is None
        else f"The last good checkpoint is {last}; go on from it with resume_from_checkpoint"
    )
    return (
        f"Likely causes: a learning rate that is too high (it is {args.learning_rate:g}), {precision}or broken "
        f"recordings among these clips. Nothing of this was saved. {kept}, once the cause is gone."
    )


def _waits(control: TrainerControl) -> bool:
    """Whether the device is waited for anyway."""
    return control.should_log or control.should_evaluate or control.should_save


def _is_finite(value: float) -> bool:
    return value - value == 0
