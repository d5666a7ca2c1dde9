"""A Trainer whose checkpoints are whole, and whose resumed runs equal runs without a stop."""

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME, TRAINER_STATE_NAME
from transformers.trainer_callback import ExportableState
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from modeling_atri.hub_cards.cards.authorship import kept_card
from modeling_atri.processes import told_by_main

from ..checks.engines import FSDP, chosen_engines
from ..data.streams.batches import StreamBatches, StreamPlace
from ..data.streams.saved_place import read_place, save_place
from ..model.adapters import has_adapter
from ..step.sharded import (
    copy_from_first,
    is_sharded,
    load_whole_state,
    plain_class,
    set_up_by_accelerate,
    whole_model,
)
from .checkpoints import (
    best_checkpoint,
    checkpoint_written_whole,
    model_written_whole,
    report_earlier_run,
    rotate_checkpoints,
)
from .divergence import LossWatch, check_weights
from .identity import run_facts, warn_of_other_run
from .sharded_optimizer import load_whole_optimizer_state, whole_optimizer_state
from .weights import check_weights_fit, load_weights


class SaveAfterEpochEnd(TrainerCallback):
    """Delays a checkpoint that is due at the last step of an epoch, or of the run, until the end of the epoch.

    Trainer evaluates and logs at the end of an epoch, after it has saved. A run that is resumed from such a checkpoint
    would skip that evaluation.
    """

    def __init__(self):
        self.is_due = False

    def on_train_begin(self, args, state, control, **kwargs):
        self.is_due = False  # forget what was due when an earlier call failed

    def on_step_end(self, args, state, control, **kwargs):
        if control.should_save and leaves_epoch(state, control):
            control.should_save, self.is_due = False, True

    def on_epoch_end(self, args, state, control, **kwargs):
        if self.is_due:
            control.should_save, self.is_due = True, False


def leaves_epoch(state: TrainerState, control: TrainerControl) -> bool:
    """Whether the last step was the last of its epoch, or of the run."""
    return control.should_training_stop or state.epoch == int(state.epoch)


class ResumableTrainer(Trainer):
    """[`~transformers.Trainer`] whose runs can be killed at any moment and resumed without a difference.

    - Checkpoints and models appear whole or not at all.
    - Training ends at a loss that is not finite, and weights that are not finite are never saved.
    - Losses that are not logged yet, and the evaluation at the end of an epoch, survive a stop.
    """

    train_dataset: Any  # checked rows, or a `TrainingStream`
    model: Any  # never None
    optimizer: Any  # not None in a run
    lr_scheduler: Any

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._loss_watch = LossWatch(lambda: self._tr_loss, self.accelerator.gather, self._name_of)
        self._stream_batches: StreamBatches | None = None  # of a run on a stream
        self._run_facts: dict[str, Any] = {}  # part of every checkpoint's manifest
        self.add_callback(SaveAfterEpochEnd())
        self.add_callback(self._loss_watch)

    def get_batch_samples(
        self, epoch_iterator: Iterator, num_batches: int, device: torch.device
    ) -> tuple[list, Tensor | int | None]:
        """Get the batches of the next step. Their clips are remembered until their losses are read."""
        batches, num_items = super().get_batch_samples(epoch_iterator, num_batches, device)
        if self._stream_batches is not None:
            self._stream_batches.note_used(len(batches))
        self._loss_watch.note(batches)
        return batches, num_items

    def _name_of(self, item: int) -> str:
        """The `audio_id` of a clip of one of the last batches."""
        if self._stream_batches is not None:
            return self._stream_batches.name_of(item)
        return self.train_dataset[item]["audio_id"]

    def _evaluate(
        self, trial: Any, ignore_keys_for_eval: list[str] | None, skip_scheduler: bool = False
    ) -> dict[str, float]:
        # Otherwise retrieval would fail on such weights, without saying when they appeared.
        check_weights(self.model, self.args, self.state)
        return super()._evaluate(trial, ignore_keys_for_eval, skip_scheduler)

    # Sharded parameters

    def create_accelerator_and_postprocess(self) -> None:
        """Set up Accelerate. With FSDP2, also on CPUs, and with parameters of full precision."""
        chosen = chosen_engines(self.args)
        with set_up_by_accelerate(FSDP in chosen):
            super().create_accelerator_and_postprocess()
        if self.is_fsdp_enabled:
            self.accelerator.state.fsdp_plugin.mixed_precision_policy = None

    def _wrap_model(self, model: nn.Module, training: bool = True, dataloader: Any = None) -> nn.Module:
        if self.is_fsdp_enabled and training and not is_sharded(model):
            copy_from_first(model)
        return super()._wrap_model(model, training, dataloader)

    def whole_parameters(self) -> AbstractContextManager[None]:
        """Keep all parameters on every process within the context, if they are sharded."""
        reshards = self.is_fsdp_enabled and self.accelerator.state.fsdp_plugin.reshard_after_forward
        return whole_model(self.model, reshards)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model as `save_pretrained` does, by the main process. All processes must call this method."""
        if not is_sharded(self.model):
            super().save_model(output_dir, _internal_call)
            return
        state_dict = self.accelerator.get_state_dict(self.model)
        with plain_class(self.model):
            self._save(output_dir or self.args.output_dir, state_dict=state_dict)
        if self.args.push_to_hub and not _internal_call:
            self.push_to_hub(commit_message="Model save", revision=self.args.hub_revision)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not is_sharded(self.model):
            super()._save_optimizer_and_scheduler(output_dir)
            return
        state = whole_optimizer_state(self.optimizer, self.args.should_save)
        if self.args.should_save:
            torch.save(state, Path(output_dir) / OPTIMIZER_NAME)
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULER_NAME)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None or not is_sharded(self.model):
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        state = torch.load(Path(checkpoint) / OPTIMIZER_NAME, map_location="cpu", weights_only=True)
        load_whole_optimizer_state(self.optimizer, state)
        self.lr_scheduler.load_state_dict(torch.load(Path(checkpoint) / SCHEDULER_NAME, weights_only=True))

    def _load_best_model(self) -> None:
        if not is_sharded(self.model):
            super()._load_best_model()
            return
        load_whole_state(self.model, load_weights(str(self.state.best_model_checkpoint)))

    # Resuming

    def _begin_run(self, checkpoint: str | None) -> None:
        """Name a new run, or keep the name of a resumed one."""
        facts = run_facts(self.args, self.train_dataset, checkpoint)
        self._run_facts = facts | {"run": told_by_main(lambda: facts["run"])}
        if checkpoint is None and self.args.should_save:
            report_earlier_run(Path(self.args.output_dir))

    def _init_training_state(
        self,
        max_steps: int,
        num_update_steps_per_epoch: int,
        num_train_epochs: int,
        resume_from_checkpoint: str | None,
        trial: Any,
    ) -> tuple[int, int]:
        start = super()._init_training_state(
            max_steps, num_update_steps_per_epoch, num_train_epochs, resume_from_checkpoint, trial
        )
        if resume_from_checkpoint is not None:
            if self._stream_batches is not None:
                self._find_place(self._stream_batches, Path(resume_from_checkpoint), *start)
            warn_of_other_run(resume_from_checkpoint, self._run_facts)  # by now, nothing has refused to go on
            self._find_best_checkpoint(resume_from_checkpoint)
            if self.state.global_step >= max_steps:  # Trainer would make another step
                return num_train_epochs, 0
        return start

    def _find_place(self, batches: StreamBatches, checkpoint: Path, num_epochs: int, num_used: int) -> None:
        """Go on in the stream where the run was when it was saved."""
        place = read_place(checkpoint, batches, self.train_dataset.digest(), self.train_dataset.times())
        if self.args.ignore_data_skip:  # as for rows in memory, the epoch begins anew
            place = StreamPlace(num_epochs)
        batches.go_on(place, num_used)

    def _find_best_checkpoint(self, checkpoint: str) -> None:
        """Find the best checkpoint. If it is lost, forget its figure too, so that a later model can be the best."""
        # Read from the file, because Trainer forgets a best checkpoint whose folder has moved.
        recorded = TrainerState.load_from_json(str(Path(checkpoint) / TRAINER_STATE_NAME)).best_model_checkpoint
        if recorded is None:
            return
        self.state.best_model_checkpoint = told_by_main(lambda: best_checkpoint(recorded, checkpoint))
        if self.state.best_model_checkpoint is None:
            self.state.best_metric = self.state.best_global_step = None

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        check_weights_fit(self.model if model is None else model, resume_from_checkpoint)
        if self.is_fsdp_enabled and not has_adapter(self.model):
            load_whole_state(self.model, load_weights(resume_from_checkpoint))
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        super()._load_rng_state(checkpoint)
        # One for each process that saved. If there were more or fewer of them, each process takes their mean.
        found = {path.name: path for path in Path(checkpoint).glob("unlogged_loss_*.json")}
        if len(found) == self.args.world_size and self._unlogged_name in found:
            found = {self._unlogged_name: found[self._unlogged_name]}
        if found:
            unlogged = [json.loads(path.read_text(encoding="utf-8")) for path in found.values()]
            loss = sum(entry["loss"] for entry in unlogged) / len(unlogged)
            self._tr_loss = torch.tensor(loss, device=self.args.device)
            self._globalstep_last_logged = unlogged[0]["last_logged_step"]
            # The next log adds these losses up, but they are not part of this call's mean loss.
            self._total_loss_scalar = -self.accelerator.gather(self._tr_loss[None]).mean().item()

    @property
    def _unlogged_name(self) -> str:
        """Name of the file with the losses of this process that are not logged yet. Trainer does not save them."""
        return f"unlogged_loss_{self.args.process_index}.json"

    # Saving

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Save as the parent does, but whole or not at all, and only finite weights."""
        self._loss_watch.check(self.args)
        check_weights(self.model, self.args, self.state)
        if self.hp_search_backend is None and trial is None:
            self.store_flos()
        folder = Path(self._get_output_dir(trial)) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        if self.state.best_global_step == self.state.global_step:
            self.state.best_model_checkpoint = str(folder)
        with checkpoint_written_whole(folder, self._run_facts, self.args.should_save, self._anyone) as part:
            self.save_model(str(part), _internal_call=True)
            if not self.args.save_only_model:
                self._save_progress(part)
            if self.args.should_save:
                exportable = [*self.callback_handler.callbacks, self.control]
                exportable = [callback for callback in exportable if isinstance(callback, ExportableState)]
                self.state.stateful_callbacks |= TrainerState(stateful_callbacks=exportable).stateful_callbacks
                self.state.save_to_json(str(part / TRAINER_STATE_NAME))
        if self.args.push_to_hub:
            self._push_from_checkpoint(str(folder))
        if self.args.should_save:
            rotate_checkpoints(folder, self.state.best_model_checkpoint, self.args.save_total_limit)

    def _anyone(self, is_so: bool) -> bool:
        """Whether `is_so` is true on any process. Waits for all processes."""
        return bool(self.accelerator.gather(torch.tensor([int(is_so)], device=self.args.device)).any())

    def _save_progress(self, folder: Path) -> None:
        """Save everything but the model that the next step depends on."""
        self._save_optimizer_and_scheduler(str(folder))
        self._save_scaler(str(folder))
        self._save_rng_state(str(folder))
        unlogged = {"loss": self._tr_loss.item(), "last_logged_step": self._globalstep_last_logged}
        (folder / self._unlogged_name).write_text(json.dumps(unlogged), encoding="utf-8")
        if self._stream_batches is not None:
            save_place(folder, self._stream_batches, self.train_dataset.digest(), self.train_dataset.times())

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        if not self.args.should_save:
            super()._save(output_dir, state_dict)
            return
        run_folder = Path(self.args.output_dir)
        with model_written_whole(Path(output_dir or run_folder), run_folder) as part, kept_card(part):
            super()._save(str(part), state_dict)
