"""Loading of models and checks of devices for all commands, and the names of sources in results."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from modeling_atri.sources import check_source, nearest_path, parse_hub_dataset, public_name


if TYPE_CHECKING:
    from modeling_atri import AtriModel, AtriProcessor
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


def load_model(path: str, trust_remote_code: bool = False) -> "tuple[AtriModel, AtriProcessor]":
    """Load the model and the processor of a folder or Hub id; its code as well if that is trusted.

    Raises:
        ValueError: there is no such model, or it is damaged or of another kind.
        ImportError: a package that it needs is not installed.
        MemoryError or torch.OutOfMemoryError: it does not fit into memory.
    """
    import torch

    from modeling_atri import AtriModel, AtriProcessor

    is_folder = os.path.isdir(check_source(path))
    if is_folder:
        _check_model_folder(Path(path))
    try:
        options: dict[str, Any] = {"trust_remote_code": True} if trust_remote_code else {}
        model = AtriModel.from_pretrained(path, **options)
        processor = AtriProcessor.from_pretrained(path, **options)
    except (ImportError, MemoryError, torch.OutOfMemoryError):
        raise
    # The libraries that read the files raise errors of any class where a file is damaged or made by another program.
    except Exception as error:
        reason = reason_of(error)
        if is_folder:
            raise ValueError(
                f"The model in {path!r} cannot be loaded: {reason} If a file of it is damaged, copy or save the model "
                "again."
            ) from error
        near = nearest_path(path)
        hint = f" Did you mean the folder {near!r}?" if near else ""
        raise ValueError(f"There is no folder {path!r}, and no such model from the Hub: {reason}{hint}") from error
    if is_folder:
        _check_tokenizer_folder(Path(path), processor)
    processor.limit_text_length(model.max_text_tokens)
    return model, processor


def _check_model_folder(folder: Path) -> None:
    """Raise a ValueError unless a folder has the configuration of an ATRI model, or of an adapter."""
    if (folder / "adapter_config.json").exists():
        return
    path = folder / "config.json"
    if not path.exists():
        names = sorted(entry.name for entry in folder.iterdir())
        held = f"It holds {', '.join(names[:5])}{' and more' if len(names) > 5 else ''}." if names else "It is empty."
        raise ValueError(
            f"The folder {str(folder)!r} is not that of a saved model, because it has no config.json. {held} Name a "
            "folder that `atri train`, `atri convert` or `save_pretrained` has written."
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read: {error}. Copy or save the model again.") from error
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind != "atri":
        raise ValueError(
            f"The model in {str(folder)!r} is not of this package: the `model_type` in its config.json is {kind!r} "
            "instead of 'atri'. `atri convert` makes a model from the weights of CED, SONAR or ML-CLAP."
        )


def _check_tokenizer_folder(folder: Path, processor: "AtriProcessor") -> None:
    """Raise a ValueError if the tokenizer has no file. Some tokenizers are then loaded without a vocabulary."""
    names = list(processor.tokenizer.vocab_files_names.values())
    if names and not any((folder / name).exists() for name in names):
        raise ValueError(
            f"The model in {str(folder)!r} has no tokenizer: there is no {' or '.join(names)}. Copy or save it again."
        )


def reason_of(error: BaseException) -> str:
    """Why a model cannot be loaded, in a sentence. transformers wraps the errors of the Hub in general advice."""
    from huggingface_hub import errors
    from huggingface_hub.utils import httpx

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, errors.GatedRepoError):
            return "access to it must be requested on its page. Log in with `hf auth login` once it is granted."
        if isinstance(cause, errors.RepositoryNotFoundError):
            return "the Hub does not have it, or it is private and you are not logged in (`hf auth login`)."
        if isinstance(cause, (httpx.TransportError, errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError)):
            return "the Hub cannot be reached, and there is no copy in the cache. Check the network."
        cause = cause.__cause__ or cause.__context__
    text = " ".join(str(error).split()) or "no reason is given"
    named = text if isinstance(error, (ValueError, OSError)) else f"{type(error).__name__}: {text}"
    return named if named.endswith((".", "!")) else f"{named}."


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
    names = {
        "train": data_name(data.train_data, data.train_split),
        "train_hub_id": hub_id(data.train_data),
        "eval": data_name(data.eval_data, data.eval_split),
        "eval_hub_id": hub_id(data.eval_data),
        "group_column": group_column,
    }
    return cast("DataNames", {fact: name for fact, name in names.items() if name is not None})
