"""Writes checkpoints whole or not at all, and finds the one to resume from."""

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
_UNFINISHED = ".unfinished"  # folder of files that are being written, replaced or deleted
_REPLACED = "replaced-"


class SavingError(OSError):
    """The checkpoint or model `what` could not be written. The message names the last whole checkpoint."""

    def __init__(self, what: str, reason: str, run_folder: Path):
        last, _ = last_whole_checkpoint(run_folder)
        kept = "There is no checkpoint to go on from."
        if last is not None:
            kept = (
                f"{last} is whole: make room (a smaller `save_total_limit` needs less) and go on from it with "
                "resume_from_checkpoint."
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
    """Yield a folder to write a checkpoint to, which is renamed to `folder` once all of it is on the disk.

    Until then it is in `.unfinished` beside `folder`, where nothing looks for checkpoints. A killed process or a power
    cut never leaves an incomplete checkpoint, and a checkpoint of the same name is replaced only by a whole one. A
    manifest is added with the size and checksum of every file, which show damage, and the number of the save, which
    shows the order of saves.

    Args:
        folder (`Path`): Folder of the checkpoint.
        facts (`dict`): Further content of the manifest.
        is_writer (`bool`, *optional*, defaults to `True`): Whether this process renames the folder. The others may
            write into it too.
        anyone (callable, *optional*): Waits for all processes, and returns whether any of them called it with True.

    Raises:
        SavingError: The disk is full or cannot be written, on this or another process. Nothing is left behind.
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
    """Fail on all processes if one fails, so that no process waits for a failed one forever."""
    try:
        yield
    except Exception:
        anyone(True)
        raise
    if anyone(False):
        raise OSError("another process failed, and says why")


@contextmanager
def model_written_whole(folder: Path, run_folder: Path) -> Iterator[Path]:
    """Yield a folder to save a model to. Its files replace those in `folder` once all are on the disk, weights last.

    Raises:
        SavingError: The disk is full or cannot be written; `folder` is unchanged. The message names the last
            checkpoint in `run_folder`.
    """
    part = folder / _UNFINISHED / "model"
    try:
        with _clear_errors(f"The model in {folder}", run_folder):
            remove_unfinished_saves(folder)
            part.mkdir(parents=True)
            yield part
            # safetensors makes files that only their owner can read. Other files follow the user's umask.
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
    """Turn the error of a full disk into a `SavingError` that says how to go on."""
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_FULL:
            raise
        raise SavingError("A file of the run", str(error), run_folder) from error


def rotate_checkpoints(newest: Path, best: str | None, limit: int | None) -> None:
    """Delete checkpoints beside `newest` until `limit` are left: damaged ones first, then the oldest.

    `newest` and the best checkpoint are never deleted.
    """
    if not limit or limit < 0:
        return
    kept = {newest.resolve()} | ({Path(best).resolve()} if best else set())
    found = checkpoints(newest.parent)
    others = [path for path in reversed(found) if path.resolve() not in kept]
    others.sort(key=lambda path: damage(path, reads_all=False) is None)
    for path in others[: max(0, len(found) - max(limit, len(found) - len(others)))]:
        _delete_checkpoint(path)


def _delete_checkpoint(folder: Path) -> None:
    """Delete a checkpoint. It is moved away first, so that a partly deleted one never has its name."""
    doomed = folder.parent / _UNFINISHED / f"deleted-{folder.name}"
    doomed.parent.mkdir(exist_ok=True)
    folder.rename(doomed)
    shutil.rmtree(doomed)


def remove_unfinished_saves(run_folder: Path) -> None:
    """Remove the files that a process left in a run's folder when it was killed while saving or deleting."""
    restore_replaced(run_folder)
    shutil.rmtree(run_folder / _UNFINISHED, ignore_errors=True)


def restore_replaced(run_folder: Path) -> None:
    """Restore a checkpoint if a process was killed while it replaced the checkpoint by a new one."""
    for replaced in (run_folder / _UNFINISHED).glob(f"{_REPLACED}*"):
        folder = run_folder / replaced.name.removeprefix(_REPLACED)
        if not folder.exists():
            with suppress(FileNotFoundError):  # another process did it
                replaced.rename(folder)


@contextmanager
def _clear_errors(what: str, run_folder: Path) -> Iterator[None]:
    """Turn errors of writing into a `SavingError`. If contexts are nested, the error has the name of the outer one."""
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
    """List the checkpoints of a folder, whole or not, the last saved one first.

    The last saved one need not be that of the last step, because the folder may hold an earlier run, or the run may
    have gone back. Checkpoints of Trainer itself, or of an earlier version, have no number of their save; they count
    as saved before the others, in the order of their steps.
    """
    found = [path for path in run_folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*") if path.is_dir() and _step(path) >= 0]
    return sorted(found, key=_save_order, reverse=True)


def _save_number(folder: Path) -> int:
    """Number of the save in its folder, 0 if the manifest has none."""
    number = read_manifest(folder).get("save")
    return number if isinstance(number, int) else 0


def _save_order(folder: Path) -> tuple[float, int]:
    number = _save_number(folder)
    if number == 0 and damage(folder, reads_all=False) is not None:
        return math.inf, _step(folder)  # comes first, so that it is reported
    return number, _step(folder)


def last_whole_checkpoint(run_folder: Path, reads_all: bool = True) -> tuple[Path | None, dict[str, str]]:
    """Find the last saved checkpoint that training can be resumed from; `reads_all` is as in `checkpoint_fault`.

    Returns:
        The checkpoint, None if there is none, and the fault of each checkpoint that was saved later, by name.
    """
    faults: dict[str, str] = {}
    for folder in checkpoints(run_folder):
        fault = checkpoint_fault(folder, reads_all)
        if fault is None:
            return folder, faults
        faults[folder.name] = fault
    return None, faults


def resolve_checkpoint(wanted: str | os.PathLike | bool | None, run_folder: Path) -> str | None:
    """Find the whole checkpoint that training is to be resumed from; None if `wanted` is None or False.

    Args:
        wanted (`str`, `os.PathLike` or `bool`, *optional*): Folder of a checkpoint, or True for the last whole one of
            `run_folder`. A warning names damaged ones that were saved later.
        run_folder (`Path`): Folder of the run.

    Raises:
        ValueError: There is no such checkpoint, or it is damaged. The message names a whole one.
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
    """Warn if the last saved checkpoint is not that of the last step."""
    found = checkpoints(last.parent)
    later = [path.name for path in found[found.index(last) + 1 :] if _step(path) > _step(last)]
    if later:
        logger.warning(
            "Resuming from %s, which was saved last; %s of later steps are from before. To go on from one of them, "
            "name it as `resume_from_checkpoint`.",
            *(last, ", ".join(later)),
        )


def report_earlier_run(run_folder: Path) -> None:
    """Warn if the folder of a new run holds checkpoints."""
    if names := [path.name for path in checkpoints(run_folder)]:
        logger.warning(
            "%s holds checkpoints of an earlier run (%s). Until this one has saved its first, they are what "
            "`resume_from_checkpoint=True` goes on from; choose another `output_dir`, or move them away, to be sure.",
            *(run_folder, ", ".join(names)),
        )


def best_checkpoint(recorded: str, resumed_from: str) -> str | None:
    """Find a run's best checkpoint beside the one it is resumed from, even if the folder has moved.

    `recorded` is its path when it was saved. Returns None if it is lost.
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
