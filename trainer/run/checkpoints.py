"""Checkpoints that are there whole or not at all, and what training is resumed from."""

import errno
import logging
import math
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers.trainer import TRAINING_ARGS_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from modeling_atri.files import files_in, sync_folder

from .manifest import checkpoint_fault, damage, read_manifest, write_manifest


logger = logging.getLogger(__name__)

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_UNFINISHED = ".unfinished"  # in a run's folder: what is being written, replaced, or deleted
_REPLACED = "replaced-"


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
    folder: Path,
    facts: dict[str, Any],
    is_writer: bool = True,
    anyone: Callable[[bool], bool] = lambda is_so: is_so,
) -> Iterator[Path]:
    """A folder to write a checkpoint to, which takes the name `folder` once all of it is on the disk.

    Until then it stands in `.unfinished` beside it, where nobody looks for checkpoints. The manifest that is added
    holds size and checksum of every file, so that a copy that was cut off or damaged can be told from a whole one, and
    the number of the save, so that the last can be told from others of the folder. Neither a killed process nor a
    power cut leaves a checkpoint that is not whole, and one of the same name is replaced by a whole one only.

    Args:
        folder: of the checkpoint.
        facts: what else the manifest says.
        is_writer: whether this process renames; the others may write into the folder too.
        anyone: waits for all processes, and says whether any of them called it with True.

    Raises:
        SavingError: the disk is full, or refuses, here or where another process writes. Nothing of it is left.
    """
    run_folder = folder.parent
    part = run_folder / _UNFINISHED / folder.name
    try:
        with _clear_errors(str(folder), run_folder):
            with _together(anyone):
                if is_writer:
                    remove_unfinished_saves(run_folder)
                    part.mkdir(parents=True)
            with _together(anyone):
                yield part
            with _together(anyone):
                if is_writer:
                    numbers = [_save_number(path) for path in checkpoints(run_folder)]
                    write_manifest(part, {"save": 1 + max(numbers, default=0)} | facts)
                    sync_folder(part)
                    if folder.exists():
                        folder.rename(part.with_name(f"{_REPLACED}{folder.name}"))
                    part.rename(folder)
                    sync_folder(run_folder, recursive=False)
    finally:
        if is_writer:
            remove_unfinished_saves(run_folder)


@contextmanager
def _together(anyone: Callable[[bool], bool]) -> Iterator[None]:
    """All processes go on from here or none: one that waited for another that failed would wait forever."""
    try:
        yield
    except Exception:
        anyone(True)
        raise
    if anyone(False):
        raise OSError("another process failed, and says why")


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
            for path in sorted(files_in(part), key=lambda path: (path.match("*.safetensors"), path)):
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
    """Delete checkpoints until there are `limit` in the folder of `newest`: damaged ones, then those saved first.

    Neither `newest`, which is whole, nor the best is deleted.
    """
    if not limit or limit < 0:
        return
    kept = {newest.resolve()} | ({Path(best).resolve()} if best else set())
    found = checkpoints(newest.parent)
    others = [path for path in reversed(found) if path.resolve() not in kept]
    others.sort(key=lambda path: damage(path, reads_all=False) is None)
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
    restore_replaced(run_folder)
    shutil.rmtree(run_folder / _UNFINISHED, ignore_errors=True)


def restore_replaced(run_folder: Path) -> None:
    """Give a checkpoint back its name, if a process was killed before the one that was to replace it had taken it."""
    for replaced in (run_folder / _UNFINISHED).glob(f"{_REPLACED}*"):
        folder = run_folder / replaced.name.removeprefix(_REPLACED)
        if not folder.exists():
            with suppress(FileNotFoundError):  # another process did it
                replaced.rename(folder)


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


# Reading


def checkpoints(run_folder: Path) -> list[Path]:
    """The checkpoints of a folder, whole or not, the one that was saved last first.

    It need not be that of the last step: another run may have been there before, or this one have gone back. Of those
    that were saved by Trainer itself, or an earlier version, only steps are known; they count as saved before others.
    """
    found = [path for path in run_folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*") if path.is_dir() and _step(path) >= 0]
    return sorted(found, key=lambda path: (_save_number(path) or _unknown_number(path), _step(path)), reverse=True)


def _save_number(folder: Path) -> int:
    """Which save of its folder a checkpoint was, 0 if it does not say so."""
    number = read_manifest(folder).get("save")
    return number if isinstance(number, int) else 0


def _unknown_number(folder: Path) -> float:
    """A damaged one may have been the last: first, it is passed over and named, not overlooked."""
    return 0 if damage(folder, reads_all=False) is None else math.inf


def last_whole_checkpoint(run_folder: Path, reads_all: bool = True) -> tuple[Path | None, dict[str, str]]:
    """The checkpoint that was saved last of those that can be resumed from, and what is wrong with each later one.

    `reads_all` as in `checkpoint_fault`.
    """
    faults: dict[str, str] = {}
    for folder in checkpoints(run_folder):
        fault = checkpoint_fault(folder, reads_all)
        if fault is None:
            return folder, faults
        faults[folder.name] = fault
    return None, faults


def resolve_checkpoint(wanted: str | os.PathLike | bool | None, run_folder: Path) -> str | None:
    """The whole checkpoint that training is to be resumed from, None for none.

    Args:
        wanted: a folder; True for the last whole checkpoint that was saved, with a warning that names those that are
            passed over.
        run_folder: with the checkpoints of the run.

    Raises:
        ValueError: there is none, or the folder's is damaged; the message says what is wrong, and what to use.
    """
    if wanted is None or wanted is False:
        return None
    if wanted is True:
        restore_replaced(run_folder)
        last, faults = last_whole_checkpoint(run_folder)
        passed_over = "; ".join(f"{name}: {fault}" for name, fault in faults.items())
        if last is None:
            raise ValueError(
                f"There is no checkpoint in {run_folder} to resume from"
                f"{f' that is whole ({passed_over})' if faults else ''}. Leave out `resume_from_checkpoint` to start "
                "from the beginning."
            )
        if faults:
            logger.warning("Resuming from %s; passed over: %s.", last, passed_over)
        _report_later_steps(last)
        return str(last)
    folder = Path(wanted)
    restore_replaced(folder.parent)
    fault = checkpoint_fault(folder)
    if fault is not None:
        last, _ = last_whole_checkpoint(folder.parent)
        advice = "There is no whole checkpoint beside it." if last is None else f"The last whole one is {last}."
        raise ValueError(f"Training cannot be resumed from {folder}: {fault}. {advice}")
    return str(folder)


def _report_later_steps(last: Path) -> None:
    """Say so if the last checkpoint that was saved is not that of the last step."""
    found = checkpoints(last.parent)
    later = [path.name for path in found[found.index(last) + 1 :] if _step(path) > _step(last)]
    if later:
        logger.warning(
            "Resuming from %s, which was saved last; %s of later steps are from before. To go on from one of them, "
            "name it as `resume_from_checkpoint`.",
            *(last, ", ".join(later)),
        )


def report_earlier_run(run_folder: Path) -> None:
    """Warn of checkpoints that are there already when a run starts from the beginning."""
    if names := [path.name for path in checkpoints(run_folder)]:
        logger.warning(
            "%s holds checkpoints of an earlier run (%s). Until this one has saved its first, they are what "
            "`resume_from_checkpoint=True` goes on from; choose another `output_dir`, or move them away, to be sure.",
            *(run_folder, ", ".join(names)),
        )


def best_checkpoint(recorded: str, resumed_from: str) -> str | None:
    """A run's best checkpoint beside the one it is resumed from, also where its folder has moved; None if it is lost.

    Args:
        recorded: where it was.
        resumed_from: a checkpoint of the same run.
    """
    folder = Path(resumed_from).with_name(Path(recorded).name)
    fault = damage(folder)
    runs = {read_manifest(path).get("run") for path in (folder, Path(resumed_from))}
    if fault is None and len(runs - {None}) == 2:
        fault = "that of this name is another run's"
    if fault is None:
        return str(folder)
    logger.warning("The best model so far, %s, is lost: %s. The best is chosen anew from here on.", folder, fault)
    return None


def _step(folder: Path) -> int:
    number = folder.name.removeprefix(f"{PREFIX_CHECKPOINT_DIR}-")
    return int(number) if number.isdecimal() else -1
