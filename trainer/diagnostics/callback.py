"""A callback that measures the data distribution error and the modality alignment direction error in training."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from modeling_atri.files import json_line, write_json_lines

from ..data.collator import AtriDataCollator
from ..data.streams.training_stream import TrainingStream
from ..evaluation.retrieval import RetrievalEmbeddings, RetrievalSet
from .alignment_error import summarize_alignment
from .distribution_error import DistributionErrors, Sampling, caption_counts


if TYPE_CHECKING:
    from ..trainer import AtriTrainer


DIAGNOSTICS_NAME = "diagnostics.jsonl"


class DiagnosticsCallback(TrainerCallback):
    """Logs the errors of ATRI's theory and writes them to `{output_dir}/diagnostics.jsonl`, one line per measurement.

    - At the end of an epoch: the data distribution error, `{"kind": "distribution", "epoch", "step", ...}` with the
      keys of `DistributionErrors.of_epoch`. It is the exact error of the draws. With `on_bad_row="skip"`, these are
      the draws before other clips took the place of clips that cannot be read. It is logged as
      `distribution_error_{key}`.
    - At every evaluation: the modality alignment direction error, `{"kind": "alignment", "epoch", "step", "set", ...}`
      with the keys of `summarize_alignment`, computed from the embeddings of the evaluation. The mean angle of the
      clips, in degrees, is logged as `{set}_alignment_error`.

    A new run replaces the file. A resumed run keeps the lines that were written before its checkpoint.

    Args:
        trainer (`AtriTrainer`): The trainer that the callback is added to.

    Raises:
        ValueError: The trainer's collator is not an `AtriDataCollator`, so its draws are not known.

    Example:

    ```python
    >>> trainer.add_callback(DiagnosticsCallback(trainer))
    ```
    """

    def __init__(self, trainer: "AtriTrainer"):
        if not isinstance(trainer.data_collator, AtriDataCollator):
            raise ValueError(
                f"The draws of a {type(trainer.data_collator).__name__} are not known. Use an AtriDataCollator, or "
                "leave out the DiagnosticsCallback."
            )
        self.trainer = trainer
        self._errors: DistributionErrors | None = None
        trainer.embedding_listeners.append(self._on_embeddings)

    @property
    def path(self) -> Path:
        """The file of the measurements."""
        return Path(self.trainer.args.output_dir) / DIAGNOSTICS_NAME

    def on_train_begin(self, args, state, control, **kwargs):
        if not state.is_world_process_zero:
            return
        kept = []
        if state.global_step > 0:  # resumed
            is_over = state.global_step >= state.max_steps
            kept = [line for line in read_diagnostics(self.path) if line["step"] <= state.global_step]
            # The error of an unfinished epoch will be measured at its end.
            kept = [line for line in kept if is_over or line["kind"] != "distribution" or line["epoch"] % 1 == 0]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_json_lines(self.path, kept)
        self._errors = self._distribution_errors()

    def on_epoch_end(self, args, state, control, **kwargs):
        if self._errors is None:  # not the main process
            return
        num_steps = len(self._errors.sampling.batches(len(self._errors.counts)))
        batches = round(state.epoch * num_steps)  # since the start of the run
        epoch = (batches - 1) // num_steps
        errors = self._errors.of_epoch(epoch, batches - epoch * num_steps)
        self._report("distribution", errors, {f"distribution_error_{name}": error for name, error in errors.items()})

    def _distribution_errors(self) -> DistributionErrors:
        trainer = self.trainer
        if isinstance(trainer.train_dataset, TrainingStream):
            raise ValueError(
                "The distribution error needs the number of captions of every training row before the first step, "
                "which a stream does not tell. Leave out the diagnostics, or load the rows without streaming."
            )
        sampling = Sampling.from_arguments(trainer.args, trainer.data_collator.draws)
        sampling = replace(sampling, batch_size=trainer._train_batch_size)
        return DistributionErrors(sampling, caption_counts(trainer.train_dataset, sampling.draws.languages))

    def _on_embeddings(self, prefix: str, retrieval_set: RetrievalSet, embeddings: RetrievalEmbeddings) -> None:
        if not self.trainer.is_world_process_zero():
            return
        anchor = self.trainer.args.anchor_language
        summary = summarize_alignment(embeddings.audio, embeddings.text, retrieval_set.owners, anchor)
        self._report("alignment", {"set": prefix, **summary}, {f"{prefix}_alignment_error": summary["audio"]["mean"]})

    def _report(self, kind: str, content: dict[str, Any], logs: dict[str, float]) -> None:
        state, control = self.trainer.state, self.trainer.control
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = {"kind": kind, "epoch": state.epoch or 0.0, "step": state.global_step, **content}
        with open(self.path, "ab", buffering=0) as file:
            file.write(json_line(line))
        should_log = control.should_log
        self.trainer.log(logs)
        control.should_log = should_log  # `log` resets it, and the log of the loss may still be due


def read_diagnostics(path: Path) -> list[dict[str, Any]]:
    """The measurements in a file that `DiagnosticsCallback` wrote, or an empty list if there is no such file."""
    if not path.exists():
        return []
    lines = path.read_bytes().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith(b"\n")]  # without a line break, its process died
