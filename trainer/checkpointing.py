"""Checkpoints that are there whole or not at all, and what training is resumed from."""

import errno
import json
import logging
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME, TRAINER_STATE_NAME, TRAINING_ARGS_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from modeling_atri.files import sync_folder

from .arguments import AtriTrainingArguments


logger = logging.getLogger(__name__)

MANIFEST_NAME = "atri_checkpoint.json"
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_UNFINISHED = ".unfinished"  # in a run's folder: what is being written, or deleted
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
_RNG_STATES = "rng_state*.pth"
_RUN_ARGUMENTS = (
    *("learning_rate", "lr_scheduler_type", "warmup_steps", "weight_decay", "optim", "max_grad_norm"),
    *("adam_beta1", "adam_beta2", "adam_epsilon", "num_train_epochs", "max_steps", "seed", "data_seed"),
    *("per_device_train_batch_size", "gradient_accumulation_steps", "dataloader_drop_last", "bf16", "fp16"),
)
_NOT_OF_THE_RUN = {"feature_cache_dir", "text_cache_dir", "remove_unused_columns", "logging_nan_inf_filter"}


class SavingError(OSError):
    """A checkpoint or model that could not be written; the message says why, and what there still is.

    Args:
        what: could not be written.
        reason: why.
        run_folder: whose last whole checkpoint is named.
    """

    def __init__(self, what: str, reason: str, run_folder: Path):
        last, _ = last_whole_checkpoint(run_folder)
        kept = (
            "There is no checkpoint to go on from."
            if last is None
            else (
                f"{last} is whole: make room (a smaller `save_total_limit` needs less) and go on from it with "
                "resume_from_checkpoint."
            )
        )
        super().__init__(f"{what} could not be written ({reason}). {kept}")
        self.reason = reason


# Writing


@contextmanager
def checkpoint_written_whole(
    folder: Path, facts: dict[str, Any], is_writer: bool = True, barrier: Callable[[], None] = lambda: None
) -> Iterator[Path]:
    """A folder to write a checkpoint to, which takes the name `folder` once all of it is on the disk.

    Until then it stands in `.unfinished` beside it, where nobody looks for checkpoints. The manifest that is added
    holds the size of every file, so that a copy that was cut off can be told from a whole one. Neither a killed
    process nor a power cut leaves a checkpoint that is not whole, and one of the same name is replaced by a whole one
    only.

    Args:
        folder: of the checkpoint.
        facts: what else the manifest says.
        is_writer: whether this process renames; the others may write into the folder too.
        barrier: waits for all processes.

    Raises:
        SavingError: the disk is full, or refuses. Nothing of it is left.
    """
    run_folder = folder.parent
    part = run_folder / _UNFINISHED / folder.name
    try:
        with _clear_errors(str(folder), run_folder):
            if is_writer:
                remove_unfinished_saves(run_folder)
                part.mkdir(parents=True)
            barrier()
            yield part
            barrier()
            if is_writer:
                _write_manifest(part, facts)
                sync_folder(part)
                if folder.exists():
                    folder.rename(part.with_name(f"replaced-{folder.name}"))
                part.rename(folder)
                sync_folder(run_folder, recursive=False)
    finally:
        if is_writer:
            remove_unfinished_saves(run_folder)
    barrier()


@contextmanager
def model_written_whole(folder: Path, run_folder: Path) -> Iterator[Path]:
    """A folder to save a model to, whose files replace those in `folder` once all are on the disk, the weights last.

    Args:
        folder: of the model. What else is in it stays.
        run_folder: whose checkpoints a failure names.

    Raises:
        SavingError: the disk is full, or refuses; `folder` is as it was.
    """
    part = folder / _UNFINISHED / "model"
    try:
        with _clear_errors(f"The model in {folder}", run_folder):
            remove_unfinished_saves(folder)
            part.mkdir(parents=True)
            yield part
            # safetensors makes its files for their owner alone; all others are as the user's umask has it.
            mode = (part / TRAINING_ARGS_NAME).stat().st_mode
            for path in part.rglob("*.safetensors"):
                path.chmod(mode)
            sync_folder(part)
            for path in sorted(_files(part), key=lambda path: (path.match("*.safetensors"), path)):
                target = folder / path.relative_to(part)
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(path, target)
    finally:
        remove_unfinished_saves(folder)


@contextmanager
def full_disk_explained(run_folder: Path) -> Iterator[None]:
    """Turn a full disk, whatever was to be written to it, into a `SavingError` that says how to go on."""
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_FULL:
            raise
        raise SavingError("A file of the run", str(error), run_folder) from error


def rotate_checkpoints(newest: Path, best: str | None, limit: int | None) -> None:
    """Delete checkpoints until there are `limit` in the folder of `newest`: damaged ones first, then the oldest.

    Neither `newest`, which is whole, nor the best is deleted.
    """
    if not limit or limit < 0:
        return
    kept = {newest.resolve()} | ({Path(best).resolve()} if best else set())
    found = checkpoints(newest.parent)
    others = [path for path in found if path.resolve() not in kept]
    others.sort(key=lambda path: (checkpoint_fault(path) is None, path.stat().st_mtime_ns, _step(path)))
    for path in others[: max(0, len(found) - max(limit, len(found) - len(others)))]:
        delete_checkpoint(path)


def delete_checkpoint(folder: Path) -> None:
    """Delete a checkpoint so that at no time a part of it goes by its name."""
    if not folder.exists():
        return
    doomed = folder.parent / _UNFINISHED / f"deleted-{folder.name}"
    doomed.parent.mkdir(exist_ok=True)
    folder.rename(doomed)
    shutil.rmtree(doomed)


def remove_unfinished_saves(run_folder: Path) -> None:
    """Remove what a process that was killed while it saved, or deleted, has left in a run's folder."""
    shutil.rmtree(run_folder / _UNFINISHED, ignore_errors=True)


@contextmanager
def _clear_errors(what: str, run_folder: Path) -> Iterator[None]:
    """Turn what a full disk makes of writing into a `SavingError`; of one inside another, the outer's name counts."""
    try:
        yield
    except SavingError as error:
        raise SavingError(what, error.reason, run_folder) from error
    except (OSError, SafetensorError, RuntimeError) as error:  # of files, of safetensors, of torch.save
        free = shutil.disk_usage(next(path for path in (run_folder, *run_folder.parents) if path.exists())).free
        reason = f"{free / 1e6:,.1f} MB are free; {str(error).strip().splitlines()[0]}"
        raise SavingError(what, reason, run_folder) from error


def _write_manifest(folder: Path, facts: dict[str, Any]) -> None:
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in _files(folder)}
    # It holds the hub token, so it is not pushed with a checkpoint, and nothing is resumed from it.
    sizes.pop(TRAINING_ARGS_NAME, None)
    (folder / MANIFEST_NAME).write_text(f"{json.dumps({'files': sizes} | facts, indent=2)}\n", encoding="utf-8")


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


# Reading


def checkpoints(run_folder: Path) -> list[Path]:
    """The checkpoints of a run, whole or not, the one of the last step first."""
    found = [path for path in run_folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*") if path.is_dir() and _step(path) >= 0]
    return sorted(found, key=_step, reverse=True)


def last_whole_checkpoint(run_folder: Path) -> tuple[Path | None, dict[str, str]]:
    """The whole checkpoint of the last step, and what is wrong with each later one."""
    faults: dict[str, str] = {}
    for folder in checkpoints(run_folder):
        fault = checkpoint_fault(folder)
        if fault is None:
            return folder, faults
        faults[folder.name] = fault
    return None, faults


def checkpoint_fault(folder: Path) -> str | None:
    """Why training cannot be resumed from a folder, None if it can.

    By the sizes in its manifest; without one (of earlier versions, or of Trainer itself), by the files that belong
    together, and by how safetensors, torch and JSON files end.
    """
    manifest = folder / MANIFEST_NAME
    if not folder.is_dir():
        return "there is no such folder"
    if not manifest.is_file():
        return _fault_without_manifest(folder)
    try:
        sizes = json.loads(manifest.read_text(encoding="utf-8"))["files"]
    except ValueError:
        return f"{MANIFEST_NAME} is cut off"
    for name, size in sizes.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size:,} of {size:,} bytes"
    return None


def resolve_checkpoint(wanted: str | os.PathLike | bool | None, run_folder: Path) -> str | None:
    """The whole checkpoint that training is to be resumed from, None for none.

    Args:
        wanted: a folder; True for the last whole checkpoint of the run, with a warning that names those after it.
        run_folder: with the checkpoints of the run.

    Raises:
        ValueError: there is none, or the folder's is damaged; the message says what is wrong, and what to use.
    """
    if wanted is None or wanted is False:
        return None
    if wanted is True:
        last, faults = last_whole_checkpoint(run_folder)
        passed_over = "; ".join(f"{name}: {fault}" for name, fault in faults.items())
        if last is None:
            raise ValueError(
                f"There is no checkpoint in {run_folder} to resume from"
                f"{f' that is whole ({passed_over})' if faults else ''}. Leave out `resume_from_checkpoint` to start "
                "from the beginning."
            )
        if faults:
            logger.warning("Resuming from %s; passed over, since they are damaged: %s.", last, passed_over)
        return str(last)
    folder = Path(wanted)
    fault = checkpoint_fault(folder)
    if fault is not None:
        last, _ = last_whole_checkpoint(folder.parent)
        advice = "There is no whole checkpoint beside it." if last is None else f"The last whole one is {last}."
        raise ValueError(f"Training cannot be resumed from {folder}: {fault}. {advice}")
    return str(folder)


def best_checkpoint(best_step: int | None, resumed_from: str) -> str | None:
    """The checkpoint of the best step beside the one that was resumed from, also where the run's folder has moved."""
    if not best_step:
        return None
    folder = Path(resumed_from).with_name(f"{PREFIX_CHECKPOINT_DIR}-{best_step}")
    fault = checkpoint_fault(folder)
    if fault is None:
        return str(folder)
    logger.warning("The best model so far, %s, is lost: %s.", folder, fault)
    return None


def _fault_without_manifest(folder: Path) -> str | None:
    names = {path.name for path in folder.iterdir()}
    if TRAINER_STATE_NAME not in names:  # the last that Trainer writes
        return f"{TRAINER_STATE_NAME} is missing"
    if not any(path for pattern in _WEIGHTS for path in folder.glob(pattern)):
        return "it holds no weights"
    has_part = {name: name in names for name in (OPTIMIZER_NAME, SCHEDULER_NAME)}
    has_part[_RNG_STATES] = any(folder.glob(_RNG_STATES))
    if any(has_part.values()) and not all(has_part.values()):  # `save_only_model` saves none of them
        return f"{next(name for name, is_there in has_part.items() if not is_there)} is missing"
    return next((f"{path.name} is cut off" for path in _files(folder) if _is_cut_off(path)), None)


def _is_cut_off(path: Path) -> bool:
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt"):
                return False
        if path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
    except (SafetensorError, ValueError):
        return True
    return path.suffix in (".pt", ".pth", ".bin") and not zipfile.is_zipfile(path)


def _step(folder: Path) -> int:
    number = folder.name.removeprefix(f"{PREFIX_CHECKPOINT_DIR}-")
    return int(number) if number.isdecimal() else -1


# What a run is


def run_arguments(args: AtriTrainingArguments, num_clips: int) -> dict[str, Any]:
    """The arguments, and the number of clips, that decide what training computes, as JSON has them."""
    given = args.to_dict()
    own = [name for name in AtriTrainingArguments.__annotations__ if name not in _NOT_OF_THE_RUN]
    chosen = {name: given[name] for name in dict.fromkeys([*own, *_RUN_ARGUMENTS])}
    return json.loads(json.dumps(chosen | {"processes": args.world_size, "training clips": num_clips}))


def warn_of_other_arguments(checkpoint: str, arguments: dict[str, Any]) -> None:
    """Log a warning that names the arguments which are others than those of the run that is resumed."""
    manifest = Path(checkpoint) / MANIFEST_NAME
    if not manifest.is_file():
        return
    before = json.loads(manifest.read_text(encoding="utf-8")).get("arguments", {})
    changed = [
        f"{name} is {arguments[name]!r}, was {before[name]!r}"
        for name in arguments.keys() & before.keys()
        if arguments[name] != before[name]
    ]
    if changed:
        logger.warning(
            "The run resumed from %s had other arguments: %s. It goes on, but not as it would have without a stop.",
            *(checkpoint, "; ".join(sorted(changed))),
        )
