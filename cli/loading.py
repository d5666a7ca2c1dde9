"""What several commands read: a model, data, a device; and what results call them."""

import re
from pathlib import Path
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from modeling_atri import AtriModel, AtriProcessor


def load_model(path: str) -> "tuple[AtriModel, AtriProcessor]":
    """Model and processor of a folder or Hub id.

    Raises:
        ValueError: no such folder.
        OSError: transformers cannot load them; its message says why.
    """
    from modeling_atri import AtriModel, AtriProcessor

    if not Path(path).is_dir() and (Path(path).is_absolute() or path.startswith(".") or path.count("/") != 1):
        raise ValueError(f"There is no folder {path!r}. Name the folder of a saved model, or a Hub id (owner/name).")
    return AtriModel.from_pretrained(path), AtriProcessor.from_pretrained(path)


def check_device(name: str) -> None:
    """Raise a ValueError unless torch can compute on the device."""
    import torch

    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        raise ValueError(f"The device {name!r} cannot be used: {str(error).splitlines()[0]}") from error


def data_name(source: str | None, split: str | None) -> str | None:
    """What results call a source: a Hub id, or the folder's name without the path to it."""
    if source is None:
        return None
    name = Path(source).name if Path(source).exists() else source
    return f"{name}/{split}" if split else name


def hub_id(source: str | None) -> str | None:
    """The source, if it is the id of a data set on the Hub."""
    is_id = source is not None and re.fullmatch(r"[\w.-]+/[\w.-]+", source) and not Path(source).exists()
    return source if is_id else None
