"""The manifest of a checkpoint, and how damage to the checkpoint is found."""

import json
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME, TRAINER_STATE_NAME, TRAINING_ARGS_NAME

from modeling_atri.files import files_in


MANIFEST_NAME = "atri_checkpoint.json"
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
_RNG_STATES = "rng_state*.pth"
_BLOCK = 1 << 20  # bytes read at once


def write_manifest(folder: Path, facts: dict[str, Any]) -> None:
    """Add the manifest to a checkpoint: size and CRC-32 of every file, and the facts."""
    # Without the training arguments: they hold the Hub token, so they are not pushed, and resuming does not need them.
    paths = [path for path in files_in(folder) if path.name != TRAINING_ARGS_NAME]
    names = [path.relative_to(folder).as_posix() for path in paths]
    sizes = [path.stat().st_size for path in paths]
    with ThreadPoolExecutor() as pool:  # zlib releases the interpreter's lock
        checksums = list(pool.map(_checksum, paths))
    content = {"files": dict(zip(names, sizes, strict=True)), "crc32": dict(zip(names, checksums, strict=True))}
    (folder / MANIFEST_NAME).write_text(f"{json.dumps(content | facts, indent=2)}\n", encoding="utf-8")


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a checkpoint. It is empty if there is none, or if it is damaged."""
    try:
        content = json.loads((folder / MANIFEST_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def checkpoint_fault(folder: Path, reads_all: bool = True) -> str | None:
    """Say why training cannot be resumed from a checkpoint; None if it can.

    `reads_all` checks the content of the files too, not only their sizes.
    """
    fault = damage(folder, reads_all)
    if fault is None and not any(folder.glob(_RNG_STATES)):
        return "it holds no optimizer state (`save_only_model`); start from it as `model`"
    return fault


def damage(folder: Path, reads_all: bool = True) -> str | None:
    """Say what is wrong with a checkpoint, resumable or not; None if it is whole.

    Sizes and checksums are compared with the manifest. A checkpoint without one (of an earlier version, or of Trainer
    itself) must have the files that belong together, and its safetensors, torch and JSON files must be readable.
    """
    if not folder.is_dir():
        return "there is no such folder"
    try:
        if not (folder / MANIFEST_NAME).is_file():
            return _damage_without_manifest(folder, reads_all)
        return _damage_by_manifest(folder, reads_all)
    except OSError as error:  # the disk is damaged
        return f"it cannot be read ({error})"


def _damage_by_manifest(folder: Path, reads_all: bool) -> str | None:
    manifest = read_manifest(folder)
    sizes, checksums = manifest.get("files", {}), manifest.get("crc32", {})
    is_sound = isinstance(sizes, dict) and isinstance(checksums, dict) and len(sizes) > 0
    if not is_sound or not all(isinstance(size, int) for size in sizes.values()):
        return f"{MANIFEST_NAME} is damaged"
    for name, size in sizes.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size:,} of {size:,} bytes"
    if not reads_all:
        return None
    with ThreadPoolExecutor() as pool:
        found = pool.map(lambda name: _is_damaged(folder / name, checksums.get(name)), sizes)
        return next((f"{name} is damaged" for name, is_damaged in zip(sizes, found, strict=True) if is_damaged), None)


def _damage_without_manifest(folder: Path, reads_all: bool) -> str | None:
    names = {path.name for path in folder.iterdir()}
    if TRAINER_STATE_NAME not in names:  # Trainer writes it last
        return f"{TRAINER_STATE_NAME} is missing"
    if not any(path for pattern in _WEIGHTS for path in folder.glob(pattern)):
        return "it holds no weights"
    has_part = {name: name in names for name in (OPTIMIZER_NAME, SCHEDULER_NAME)}
    has_part[_RNG_STATES] = any(folder.glob(_RNG_STATES))
    if any(has_part.values()) and not all(has_part.values()):  # `save_only_model` saves none of them
        return f"{next(name for name, is_there in has_part.items() if not is_there)} is missing"
    return next((f"{path.name} is cut off" for path in files_in(folder) if _contradicts_itself(path, reads_all)), None)


def _is_damaged(path: Path, checksum: int | None) -> bool:
    # Manifests of earlier versions have no checksums.
    return _contradicts_itself(path) if checksum is None else _checksum(path) != checksum


def _checksum(path: Path) -> int:
    checksum, block = 0, memoryview(bytearray(_BLOCK))
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(block):
            checksum = zlib.crc32(block[:count], checksum)
    return checksum


def _contradicts_itself(path: Path, reads_all: bool = True) -> bool:
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt"):
                return False
        if path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
        if path.suffix in (".pt", ".pth", ".bin"):
            with zipfile.ZipFile(path) as file:
                return reads_all and file.testzip() is not None
    except (SafetensorError, ValueError, zipfile.BadZipFile):
        return True
    return False
