"""A trainer's model to the Hub: what its card says, and pushes at the end and at checkpoints."""

import logging
import shutil
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import CommitInfo, ModelCard, ModelCardData, is_offline_mode
from huggingface_hub.errors import HTTPError, RepositoryNotFoundError
from transformers.trainer import TRAINING_ARGS_NAME
from transformers.trainer_utils import HubStrategy
from transformers.utils.hub import PushInProgress, hf_api

from modeling_atri.files import written_whole
from modeling_atri.hub_cards import make_model_card
from modeling_atri.hub_cards.authorship import CARD_NAME, write_card
from modeling_atri.hub_cards.environment import RESULTS_NAME, describe_environment, save_json
from modeling_atri.hub_cards.publish import publish, published_files
from modeling_atri.hub_cards.results import as_list, model_license, read_emissions, read_facts
from modeling_atri.sources import is_hub_id, public_name

from ..evaluation.measuring import current_results
from .facts import merge_facts, model_facts, training_facts


if TYPE_CHECKING:
    from ..trainer import AtriTrainer


logger = logging.getLogger(__name__)

_LAST_CHECKPOINT = "last-checkpoint"  # where `hub_strategy="checkpoint"` puts what training resumes from


def card_facts(trainer: "AtriTrainer") -> dict[str, Any]:
    """What the card of the model as it is now can say: figures only if they are of this state of training."""
    results = current_results(trainer)
    if results is None:
        environment = describe_environment(trainer.args.device)
        results = merge_facts({"training": training_facts(trainer), "environment": environment}, trainer.facts)
    return complete_results(trainer, results)


def complete_results(trainer: "AtriTrainer", results: dict[str, Any]) -> dict[str, Any]:
    """Results with what only the end of a run knows: duration, emissions, origin and licence of the weights."""
    config = trainer.atri_model.config
    # Anew: in results that were completed before, the origin is but a name.
    model = {"projection_dim": config.projection_dim} | model_facts(trainer.accelerator.unwrap_model(trainer.model))
    model |= trainer.facts.get("model", {})
    model |= origin_facts(model.get("initialized_from"))
    towers = [tower.name_or_path for tower in (config.audio_config, config.text_config) if tower.name_or_path]
    if "initialized_from" not in model and towers:  # of `modeling_atri.pretrained`
        towers = list(dict.fromkeys(towers))
        model |= {"initialized_from": " and ".join(towers), "weights_from": towers}
        if hub_ids := [name for name in towers if is_hub_id(name)]:
            model["base_model"] = hub_ids
    runtimes = [entry["train_runtime"] for entry in trainer.state.log_history if "train_runtime" in entry]
    training = results.get("training", {}) | ({"runtime_s": runtimes[-1]} if runtimes else {})
    # Without the tracker, the folder may hold the measurement of an earlier run.
    emissions = read_emissions(trainer.args.output_dir) if "codecarbon" in trainer.args.report_to else None
    return results | {"model": model, "training": training} | ({"emissions": emissions} if emissions else {})


def origin_facts(name: str | None) -> dict[str, Any]:
    """What is known of the model that training started from: `initialized_from`, `base_model` and `license`.

    A folder's card and results tell its base and licence, the Hub those of a repository, where it can be asked. Of a
    folder only the name is kept, not the path to it.
    """
    if name is None or name == "scratch":
        return {}
    folder = Path(name)
    if folder.is_dir():
        told = read_facts(folder)
        card = ModelCard.load(folder / CARD_NAME).data if (folder / CARD_NAME).is_file() else ModelCardData()
        facts = {
            "initialized_from": public_name(folder),
            "weights_from": told.get("model", {}).get("weights_from"),
            "base_model": as_list(card.base_model) or told.get("model", {}).get("base_model"),
            "license": card.license or model_license(told),
        }
    elif is_hub_id(name):
        facts = {"initialized_from": name} | _hub_facts(name)
    else:  # a folder that is gone
        facts = {"initialized_from": public_name(name)}
    return {key: value for key, value in facts.items() if value}


def _hub_facts(repo_id: str) -> dict[str, Any]:
    """`base_model`, and its licence where the Hub tells it; nothing if the Hub has no such repository."""
    base = {"base_model": [repo_id]}
    if is_offline_mode():
        return base
    try:
        card = hf_api().model_info(repo_id).card_data
    except RepositoryNotFoundError:  # the relative path of a folder that is gone looks the same
        return {}
    except (HTTPError, ValueError):  # out of reach
        return base
    return base | {"license": card.license if card else None}


def write_model_card(
    trainer: "AtriTrainer",
    language: str | list[str] | None = None,
    license: str | None = None,
    tags: str | list[str] | None = None,
    model_name: str | None = None,
    finetuned_from: str | list[str] | None = None,
    dataset: str | list[str] | None = None,
) -> None:
    """Write card and results of the trainer's model into its output folder; arguments go before what is known."""
    facts = card_facts(trainer)
    given = {"license": license, "base_model": as_list(finetuned_from) or None}
    facts["model"] |= {key: value for key, value in given.items() if value is not None}
    if dataset is not None:
        facts["data"] = facts.get("data", {}) | {"train_hub_id": dataset}
    # Results of an earlier run in this folder would be pushed as this model's.
    save_json(facts, Path(trainer.args.output_dir) / RESULTS_NAME)
    path = trainer.hub_model_id or trainer.args.output_dir
    card = make_model_card(facts, path, **({"title": model_name} if model_name else {}))
    card.data.tags += [tag for tag in as_list(tags) if tag not in card.data.tags]
    if language is not None:
        card.data.language = language
    write_card(card, trainer.args.output_dir)


def push_model(
    trainer: "AtriTrainer",
    commit_message: str | None,
    blocking: bool,
    token: str | None,
    revision: str | None,
    private: bool | None,
    **card: Any,
) -> "CommitInfo | Future[CommitInfo] | None":
    """Save, describe and push the trainer's model; the body of `AtriTrainer.push_to_hub`."""
    args = trainer.args
    trainer.callback_handler.on_push_begin(args, trainer.state, trainer.control)
    token = token if token is not None else args.hub_token
    if trainer.hub_model_id is None:
        trainer.init_hf_repo(token=token, private=private)
    trainer.save_model(_internal_call=True)
    if not trainer.is_world_process_zero():
        return None
    trainer.create_model_card(**{"model_name": trainer.hub_model_id.split("/")[-1]} | card)
    trainer._finish_current_push()
    options = {
        "private": private if private is not None else args.hub_private_repo,
        "token": token,
        "revision": revision if revision is not None else args.hub_revision,
        "base_model": card.get("finetuned_from"),
    }
    message = commit_message or "End of training"
    if blocking:
        return _publish(args.output_dir, trainer.hub_model_id, message, options)
    return hf_api().run_as_future(_publish, args.output_dir, trainer.hub_model_id, message, options)


def push_checkpoint(trainer: "AtriTrainer", checkpoint_folder: str) -> None:
    """Push the model of a checkpoint in the background, as `hub_strategy` says."""
    args = trainer.args
    if not trainer.is_world_process_zero() or args.hub_strategy == HubStrategy.END:
        return
    if not args.hub_always_push and trainer.push_in_progress is not None and not trainer.push_in_progress.is_done():
        return
    trainer.callback_handler.on_push_begin(args, trainer.state, trainer.control)
    # The checkpoint may be deleted while the push goes on.
    for name, path in published_files(Path(checkpoint_folder)).items():
        with written_whole(Path(args.output_dir) / name) as target, open(path, "rb") as source:
            shutil.copyfileobj(source, target)
    trainer.create_model_card(model_name=trainer.hub_model_id.split("/")[-1])
    step = f"Training in progress, step {trainer.state.global_step}"
    options = {"token": args.hub_token, "revision": args.hub_revision, "private": args.hub_private_repo}
    jobs = [hf_api().run_as_future(_publish, args.output_dir, trainer.hub_model_id, step, options)]
    if args.hub_strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
        last = args.hub_strategy == HubStrategy.CHECKPOINT
        job = hf_api().upload_folder(
            repo_id=trainer.hub_model_id,
            folder_path=checkpoint_folder,
            path_in_repo=_LAST_CHECKPOINT if last else Path(checkpoint_folder).name,
            commit_message=f"{step}, checkpoint",
            ignore_patterns=TRAINING_ARGS_NAME,  # pickled, with the token
            token=args.hub_token,
            revision=args.hub_revision,
            run_as_future=True,
        )
        jobs.append(job)
    for job in jobs:
        job.add_done_callback(partial(_tell_failure, step))
    if trainer.push_in_progress is None or trainer.push_in_progress.is_done():
        trainer.push_in_progress = PushInProgress(jobs)
    else:
        trainer.push_in_progress.jobs.extend(jobs)


def _tell_failure(step: str, job: Future) -> None:
    """Nobody asks a push in the background how it went."""
    if not job.cancelled() and (error := job.exception()) is not None:
        logger.warning("%s: the push failed, and training goes on. %s", step, error)


def _publish(folder: str, repo_id: str, message: str, options: dict[str, Any]) -> CommitInfo:
    return publish(folder, repo_id, commit_message=message, **options).commit
