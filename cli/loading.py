"""Loading of models and checks of devices for all commands, and the names of sources in results."""

from typing import TYPE_CHECKING

from modeling_atri.sources import check_source, is_hub_id, public_name


if TYPE_CHECKING:
    from modeling_atri import AtriModel, AtriProcessor


def load_model(path: str) -> "tuple[AtriModel, AtriProcessor]":
    """Load the model and the processor of a folder or Hub id.

    Raises:
        ValueError: there is no such folder.
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
    except (RuntimeError, AssertionError) as error:  # torch without CUDA raises an AssertionError
        raise ValueError(f"The device {name!r} cannot be used: {str(error).splitlines()[0]}") from error


def data_name(source: str | None, split: str | None = None) -> str | None:
    """The name of a source in results: its Hub id, or the last part of its path; then the split."""
    if source is None:
        return None
    return f"{public_name(source)}/{split}" if split else public_name(source)


def hub_id(source: str | None) -> str | None:
    """The source, if it is the id of a data set on the Hub."""
    return source if source is not None and is_hub_id(source) else None
