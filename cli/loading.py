"""Embeddings and devices that options of commands name, and the names of sources in results."""

from typing import TYPE_CHECKING, Any, cast

from modeling_atri.sources import parse_hub_dataset, public_name


if TYPE_CHECKING:
    from modeling_atri.embedding_store import StoredVectors
    from modeling_atri.hub_cards.results import DataNames


DATA_HELP = (
    "Folder of recordings with a metadata file; rows in .jsonl, .json, .csv, .parquet or .arrow; .tar or .zip "
    "archives; a pattern of such files ('shards/*.tar'); a folder of save_to_disk; or a Hub dataset (owner/name, "
    "owner/name:subset, hf://datasets/owner/name/files)."
)
EMBEDDINGS_HELP = (
    "Embeddings to use instead of recordings, looked up by audio_id or by the names of the recordings: a folder that "
    "`atri encode` wrote, a .npy file with ids beside it, or parquet files with an id and a vector column."
)
EMBEDDING_COLUMNS_HELP = (
    "Columns of ids and of vectors in the parquet files of --audio_embeddings. Default: those with a usual name, or "
    "the only ones of their type."
)
SPLIT_HELP = "Split, subfolder or part of a split (train[:10%%], train+validation)"


STREAMING_HELP = (
    "Read the data row by row in shards instead of loading it, so that its size does not matter. Files on the Hub are "
    "fetched one by one. Ids that occur twice are not found."
)


def open_embeddings(path: str | None, columns: list[str] | None) -> "StoredVectors | None":
    """Open the embeddings that `--audio_embeddings` and `--embedding_columns` name; None without them.

    Raises:
        ValueError: There is no such store, or not exactly two columns are named.
    """
    from modeling_atri.embedding_store import open_vectors

    if path is None:
        if columns:
            raise ValueError("--embedding_columns names columns of --audio_embeddings, which is missing. Pass both.")
        return None
    if columns and len(columns) != 2:
        raise ValueError(f"--embedding_columns takes two names, of ids and of vectors; got {' '.join(columns)}.")
    return open_vectors(path, *(columns or ()))


def check_device(name: str) -> None:
    """Raise a ValueError unless torch can compute on the device."""
    import torch

    try:
        torch.zeros(1, device=name).item()  # fails on `meta`, which holds no values
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


def data_names(data: Any, group_column: str | None) -> "DataNames":
    """The names of the data of a run, from the options `train_data`, `eval_data` and their splits."""
    train = [data.train_data] if isinstance(data.train_data, str) else data.train_data
    names = {
        "train": " + ".join(data_name(source, data.train_split) or "" for source in train),
        "train_hub_id": hub_id(train[0]) if len(train) == 1 else None,
        "eval": data_name(data.eval_data, data.eval_split),
        "eval_hub_id": hub_id(data.eval_data),
        "group_column": group_column,
    }
    return cast("DataNames", {fact: name for fact, name in names.items() if name is not None})
