"""A saved model with its processor, and a sentence that says why one cannot be loaded."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..sources import check_source, nearest_path


if TYPE_CHECKING:
    from ..modeling_atri import AtriModel
    from ..processing_atri import AtriProcessor


def load_model(path: str, trust_remote_code: bool = False) -> "tuple[AtriModel, AtriProcessor]":
    """Load the model and the processor of a folder or Hub id; its code as well if that is trusted.

    Raises:
        ValueError: there is no such model, or it is damaged or of another kind.
        ImportError: a package that it needs is not installed.
        MemoryError or torch.OutOfMemoryError: it does not fit into memory.
    """
    import torch

    from modeling_atri import AtriModel, AtriProcessor  # of the package, which also registers the Auto classes

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
