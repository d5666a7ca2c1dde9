"""Loading of models and checks of devices for all commands, and the names of sources in results."""

from typing import TYPE_CHECKING

from modeling_atri.sources import check_source, parse_hub_dataset, public_name


if TYPE_CHECKING:
    from modeling_atri import AtriModel, AtriProcessor


DATA_HELP = (
    "Folder of recordings with a metadata file; rows in .jsonl, .json, .csv, .parquet or .arrow; .tar or .zip "
    "archives; a pattern of such files ('shards/*.tar'); a folder of save_to_disk; or a Hub dataset (owner/name, "
    "owner/name:subset, hf://datasets/owner/name/files)."
)
SPLIT_HELP = "Split, subfolder or part of a split (train[:10%%], train+validation)"


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
    """The name of a source in results: what names it on the Hub, or the last part of its path; then the split."""
    if source is None:
        return None
    found = parse_hub_dataset(source)
    name = public_name(source)
    if found is not None:
        name = ":".join(filter(None, (found.repo, found.subset))) + (f"/{found.files}" if found.files else "")
    return f"{name}/{split}" if split else name


def hub_id(source: str | None) -> str | None:
    """The id of a data set on the Hub; None for a path."""
    found = None if source is None else parse_hub_dataset(source)
    return None if found is None else found.repo
