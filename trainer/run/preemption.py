"""Saves a checkpoint before training stops on Ctrl-C or on SIGTERM from a machine that is taken away."""

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from transformers import Trainer, TrainerCallback

from .checkpoints import last_whole_checkpoint
from .resuming import leaves_epoch


_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class TrainingStopped(Exception):  # noqa: N818 - nothing went wrong
    """Training stopped after a `step` because a signal asked for it.

    `signal` is the number of the signal, and `checkpoint` the last whole checkpoint of the run, or None.
    """

    def __init__(self, number: int, step: int, run_folder: Path):
        # The checkpoint was just written and there may be little time, so it is not read again.
        last, _ = last_whole_checkpoint(run_folder, reads_all=False)
        kept = "there is no checkpoint to go on from" if last is None else f"{last} is saved"
        super().__init__(f"stopped after step {step} by {signal.Signals(number).name}; {kept}.")
        self.signal, self.checkpoint = number, last


class _SaveAndStop(TrainerCallback):
    def __init__(self):
        self.asked_by: int | None = None  # number of the signal

    def on_step_end(self, args, state, control, **kwargs):
        if self.asked_by is not None and not leaves_epoch(state, control):
            control.should_save = True

    def on_epoch_end(self, args, state, control, **kwargs):
        if self.asked_by is not None:
            control.should_save = True

    def on_save(self, args, state, control, **kwargs):
        # With `should_training_stop`, Trainer would end as if all were done, and might delete this checkpoint.
        if self.asked_by is not None:
            raise TrainingStopped(self.asked_by, state.global_step, Path(args.output_dir))


@contextmanager
def stop_on_signal(trainer: Trainer) -> Iterator[None]:
    """Let training finish its step, save a checkpoint and end at the first SIGINT or SIGTERM inside the context.

    The second signal has its usual effect. With several processes, signals have their usual effect at once, because
    the processes would not agree on the step.

    Args:
        trainer (`Trainer`): Trainer whose `train` is called inside, in the main thread.

    Raises:
        TrainingStopped: A signal arrived, and training has stopped.
    """
    if trainer.args.world_size > 1:
        yield
        return
    callback, process = _SaveAndStop(), os.getpid()
    # Handlers that were not set from Python are left alone, because they could not be restored.
    before = {number: handler for number in _SIGNALS if (handler := signal.getsignal(number)) is not None}

    def ask(number: int, frame: object) -> None:
        if os.getpid() == process:
            callback.asked_by = number
            _handle(before)
            if os.name == "posix" and (handler := signal.getsignal(signal.SIGCHLD)) is not None:
                # torch's handler would interrupt the step or the save when a worker ends.
                before[signal.SIGCHLD] = handler
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        elif number == signal.SIGTERM:  # in a worker of the data loader, which ignores Ctrl-C
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    trainer.add_callback(callback)
    _handle(dict.fromkeys(before, ask))
    try:
        yield
    except RuntimeError as error:  # the step waited for a worker that got the signal too
        if callback.asked_by is None:
            raise
        step, run_folder = trainer.state.global_step, Path(trainer.args.output_dir)
        raise TrainingStopped(callback.asked_by, step, run_folder) from error
    finally:
        _handle(before)
        trainer.remove_callback(callback)


def _handle(handlers: Mapping[signal.Signals, Callable[[int, FrameType | None], Any] | int]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
