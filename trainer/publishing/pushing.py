"""A Trainer that writes model cards from results, and pushes models without private files."""

import logging
import shutil
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo
from transformers.trainer import TRAINING_ARGS_NAME
from transformers.trainer_utils import HubStrategy
from transformers.utils.hub import PushInProgress, hf_api

from modeling_atri.files import written_whole
from modeling_atri.hub_cards.cards import DEFAULT_TITLE, write_model_card
from modeling_atri.hub_cards.publish import publish, published_files
from modeling_atri.hub_cards.repositories import clear_errors
from modeling_atri.hub_cards.results import Results, as_list

from ..run.resuming import ResumableTrainer


logger = logging.getLogger(__name__)

_LAST_CHECKPOINT = "last-checkpoint"  # folder of `hub_strategy="checkpoint"`, as in transformers


class PublishingTrainer(ResumableTrainer):
    """[`ResumableTrainer`] whose cards are made from results, and whose pushes leave out private files."""

    def results(self) -> Results:
        """Results of the model as it is now, which subclasses define."""
        raise NotImplementedError

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Create the repository on the Hub if it does not exist; errors say what to do."""
        with clear_errors(self.args.hub_model_id or Path(self.args.output_dir).absolute().name):
            super().init_hf_repo(token, private)

    def create_model_card(
        self,
        language: str | None = None,
        license: str | None = None,
        tags: str | list[str] | None = None,
        model_name: str | None = None,
        finetuned_from: str | None = None,
        tasks: str | list[str] | None = None,
        dataset_tags: str | list[str] | None = None,
        dataset: str | list[str] | None = None,
        dataset_args: str | list[str] | None = None,
    ) -> None:
        """Write the model card, and the results that it is made from, into the output folder.

        Args:
            language (`str`, *optional*): Language in the card's metadata. Default: those of training and evaluation.
            license (`str`, *optional*): License id of the weights.
            tags (`str` or list, *optional*): Further tags.
            model_name (`str`, *optional*): Heading of the card.
            finetuned_from (`str`, *optional*): Hub id of the base model.
            dataset_tags (`str` or list, *optional*): Hub ids of the training data.
            tasks, dataset, dataset_args: Ignored. The card has its own description of task and data.

        Raises:
            ValueError: The weights do not allow the license.
        """
        if not self.is_world_process_zero():
            return
        results = self.results()
        if license is not None:
            results["model"]["license"] = license
        if finetuned_from is not None:
            results["model"]["base_model"] = as_list(finetuned_from)
        if dataset_tags is not None:
            results["data"] = results.get("data", {}) | {"train_hub_id": dataset_tags}
        write_model_card(
            results,
            self.args.output_dir,
            path=self.hub_model_id,
            title=model_name or DEFAULT_TITLE,
            tags=as_list(tags),
            language=language,
        )

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **kwargs,
    ) -> "CommitInfo | Future[CommitInfo] | None":
        """Push model, processor, results and card to `args.hub_model_id` in one commit, and no other files.

        Arguments are those of [`~transformers.Trainer.push_to_hub`]; `kwargs` are arguments of `create_model_card`.

        Raises:
            ValueError: The Hub refused; the message says what to change.
            ConnectionError: The connection broke; the repository is unchanged.
        """
        args = self.args
        self.callback_handler.on_push_begin(args, self.state, self.control)
        token = token if token is not None else args.hub_token
        if self.hub_model_id is None:
            self.init_hf_repo(token=token, private=private)
        self.save_model(_internal_call=True)
        if not self.is_world_process_zero():
            return None
        self.create_model_card(**{"model_name": self.hub_model_id.split("/")[-1]} | kwargs)
        self._finish_current_push()
        options = {
            "private": private if private is not None else args.hub_private_repo,
            "token": token,
            "revision": revision if revision is not None else args.hub_revision,
            "base_model": kwargs.get("finetuned_from"),
        }
        push = partial(_publish, args.output_dir, self.hub_model_id, commit_message or "End of training", options)
        return push() if blocking else hf_api().run_as_future(push)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Push the model of a checkpoint in the background, as `hub_strategy` says."""
        args, is_pushing = self.args, self.push_in_progress is not None and not self.push_in_progress.is_done()
        if not self.is_world_process_zero() or args.hub_strategy == HubStrategy.END:
            return
        if is_pushing and not args.hub_always_push:
            return
        self.callback_handler.on_push_begin(args, self.state, self.control)
        # Pushed from the output folder, since the checkpoint may be deleted during the push.
        for name, path in published_files(Path(checkpoint_folder)).items():
            with written_whole(Path(args.output_dir) / name) as target, open(path, "rb") as source:
                shutil.copyfileobj(source, target)
        self.create_model_card(model_name=self.hub_model_id.split("/")[-1])
        message = f"Training in progress, step {self.state.global_step}"
        options = {"token": args.hub_token, "revision": args.hub_revision, "private": args.hub_private_repo}
        jobs = [hf_api().run_as_future(_publish, args.output_dir, self.hub_model_id, message, options)]
        if args.hub_strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
            last = args.hub_strategy == HubStrategy.CHECKPOINT
            job = hf_api().upload_folder(
                repo_id=self.hub_model_id,
                folder_path=checkpoint_folder,
                path_in_repo=_LAST_CHECKPOINT if last else Path(checkpoint_folder).name,
                commit_message=f"{message}, checkpoint",
                ignore_patterns=TRAINING_ARGS_NAME,  # a pickle with the token
                token=args.hub_token,
                revision=args.hub_revision,
                run_as_future=True,
            )
            jobs.append(job)
        for job in jobs:
            job.add_done_callback(partial(_report_failure, message))
        if is_pushing and not self.push_in_progress.is_done():
            self.push_in_progress.jobs.extend(jobs)
        else:
            self.push_in_progress = PushInProgress(jobs)


def _report_failure(message: str, job: Future) -> None:
    """Log the failure of a push in the background, whose result nobody asks for."""
    if not job.cancelled() and (error := job.exception()) is not None:
        logger.warning("%s: the push failed, and training goes on. %s", message, error)


def _publish(folder: str, repo_id: str, message: str, options: dict[str, Any]) -> CommitInfo:
    return publish(folder, repo_id, commit_message=message, **options).commit
