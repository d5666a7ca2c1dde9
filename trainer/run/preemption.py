"""Training that is asked to stop, by Ctrl-C or a machine that is taken away, saves first."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from transformers import TrainerCallback

from .checkpoints import last_whole_checkpoint
from .resuming import ResumableTrainer, leaves_epoch


_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class TrainingStopped(Exception):  # noqa: N818 - nothing went wrong
    """Training was asked to stop; `signal` says by what, `checkpoint`, if there is one, what to go on from."""

    def __init__(self, trainer: ResumableTrainer, number: int):
        # Not to read it again: there may be no time, and it was written just now.
        last, _ = last_whole_checkpoint(Path(trainer.args.output_dir), reads_all=False)
        kept = "there is no checkpoint to go on from" if last is None else f"{last} is saved"
        super().__init__(f"stopped after step {trainer.state.global_step} by {signal.Signals(number).name}; {kept}.")
        self.signal, self.checkpoint = number, last


class _SaveAndStop(TrainerCallback):
    def __init__(self, trainer: ResumableTrainer):
        self.trainer = trainer
        self.asked_by: int | None = None

    def on_step_end(self, args, state, control, **kwargs):
        if self.asked_by is not None and not leaves_epoch(state, control):
            control.should_save = True

    def on_epoch_end(self, args, state, control, **kwargs):
        if self.asked_by is not None:
            control.should_save = True

    def on_save(self, args, state, control, **kwargs):
        # Not `should_training_stop`: Trainer would end as if all were done, and may delete this checkpoint.
        if self.asked_by is not None:
            raise TrainingStopped(self.trainer, self.asked_by)


@contextmanager
def stop_on_signal(trainer: ResumableTrainer) -> Iterator[None]:
    """Inside, the first SIGINT or SIGTERM lets training finish its step, save a checkpoint and end.

    The second acts as ever. Several processes would not agree on the step: there, signals act as ever at once.

    Args:
        trainer (`ResumableTrainer`): whose `train` is called inside, in the main thread.

    Raises:
        TrainingStopped: in place of the signal.
    """
    if trainer.args.world_size > 1:
        yield
        return
    callback, process = _SaveAndStop(trainer), os.getpid()
    # One that was not handled from Python could not be given back: it acts as ever.
    before = {number: handler for number in _SIGNALS if (handler := signal.getsignal(number)) is not None}

    def ask(number: int, frame: object) -> None:
        if os.getpid() == process:
            callback.asked_by = number
            _handle(before)
            if os.name == "posix" and (handler := signal.getsignal(signal.SIGCHLD)) is not None:
                # torch's would break off the step, or the save, where it hears of a worker's end.
                before[signal.SIGCHLD] = handler
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        elif number == signal.SIGTERM:  # a loader's worker; Ctrl-C is none of its business
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    trainer.add_callback(callback)
    _handle(dict.fromkeys(before, ask))
    try:
        yield
    except RuntimeError as error:  # the step waited for a loader's worker that got the signal too
        if callback.asked_by is None:
            raise
        raise TrainingStopped(trainer, callback.asked_by) from error
    finally:
        _handle(before)
        trainer.remove_callback(callback)


def _handle(handlers: dict[int, object]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
