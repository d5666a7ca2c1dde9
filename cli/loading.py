"""What several commands read: a model, data, a device; and what results call them."""

from typing import TYPE_CHECKING

from modeling_atri.sources import check_source, is_hub_id, public_name


if TYPE_CHECKING:
    from modeling_atri import AtriModel, AtriProcessor


def load_model(path: str) -> "tuple[AtriModel, AtriProcessor]":
    """Model and processor of a folder or Hub id.

    Raises:
        ValueError: no such folder.
        OSError: transformers cannot load them; its message says why.
    """
    from modeling_atri import AtriModel, AtriProcessor

    check_source(path)
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
    return f"{public_name(source)}/{split}" if split else public_name(source)


def hub_id(source: str | None) -> str | None:
    """The source, if it is the id of a data set on the Hub."""
    return source if source is not None and is_hub_id(source) else None
