"""Weights as they come from outside: state dicts in files, folders and on the Hub, read without running any code."""

import logging
import os
import pickle
import re
from collections.abc import Mapping
from typing import Any

from safetensors import SafetensorError
from torch import Tensor
from transformers.modeling_utils import load_state_dict
from transformers.utils import (
    SAFE_WEIGHTS_INDEX_NAME,
    SAFE_WEIGHTS_NAME,
    WEIGHTS_INDEX_NAME,
    WEIGHTS_NAME,
    cached_file,
)
from transformers.utils.hub import get_checkpoint_shard_files

from .state_dicts import shorten


logger = logging.getLogger(__name__)

# In the order in which transformers looks for them.
_WEIGHT_FILES = (SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME, WEIGHTS_NAME, WEIGHTS_INDEX_NAME)
# Training scripts keep the state dict beside optimizer and step under one of these; fairseq2 under the first.
_WRAPPERS = ("model", "state_dict")
_PARALLEL_PREFIX = "module."  # of DistributedDataParallel


def read_checkpoint(path: str | os.PathLike) -> dict[str, Tensor]:
    """The state dict in a file of torch or safetensors.

    The file is memory-mapped (torch's format from before 1.6 is read into memory): tensors take memory as they are
    touched. Pickles are loaded with `weights_only=True`. A state dict that lies under `"model"` or `"state_dict"`
    is taken out, and DistributedDataParallel's prefix dropped.

    Raises:
        ValueError: not a file of these formats, cut off, or with more in it than tensors and plain values.
        OSError: the file cannot be opened.
    """
    path = os.fspath(path)
    with open(path, "rb"):
        pass  # what cannot be opened says so itself; what torch cannot read then is no fault of the path
    try:
        checkpoint = load_state_dict(path)
    except pickle.UnpicklingError as error:
        if needed := re.search(r"GLOBAL (\S+)", str(error)):
            raise ValueError(
                f"{path} holds an object of {needed[1]}; only tensors and plain values are read, because loading "
                "anything else can run code. Where you trust the file, save its state dict alone and pass that."
            ) from error
        raise ValueError(f"{path} is not a checkpoint of torch, or it is damaged.") from error
    except (RuntimeError, EOFError, OSError, SafetensorError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"{path} is not a checkpoint, or it is damaged{f': {reason}' if reason else ''}") from error
    state_dict = _unwrap(checkpoint, path)
    size = sum(value.numel() * value.element_size() for value in state_dict.values())
    logger.info(f"{path}: {len(state_dict)} tensors, {size / 1e6:,.1f} MB")
    return state_dict


def read_weights(name_or_path: str, **hub_kwargs: Any) -> dict[str, Tensor]:
    """The state dict of a folder or Hub repository in transformers' layout, in one file or in shards.

    Args:
        name_or_path: the folder, or the id of the repository.
        hub_kwargs: `revision`, `token`, `cache_dir`, `local_files_only`, as in `from_pretrained`.

    Raises:
        ValueError: it has no weights, or they cannot be read.
        OSError: there is no such repository, or it cannot be reached.
    """
    for file_name in _WEIGHT_FILES:
        path = cached_file(name_or_path, file_name, _raise_exceptions_for_missing_entries=False, **hub_kwargs)
        if path is None:
            continue
        if not file_name.endswith(".index.json"):
            return read_checkpoint(path)
        state_dict: dict[str, Tensor] = {}
        for shard in get_checkpoint_shard_files(name_or_path, path, **hub_kwargs)[0]:
            state_dict |= read_checkpoint(shard)
        return state_dict
    raise ValueError(f"{name_or_path} has no weights: there is none of {', '.join(_WEIGHT_FILES)}.")


def _unwrap(checkpoint: Any, path: str) -> dict[str, Tensor]:
    for wrapper in _WRAPPERS:
        if isinstance(checkpoint, Mapping) and isinstance(checkpoint.get(wrapper), Mapping):
            checkpoint = checkpoint[wrapper]
            break
    if not isinstance(checkpoint, Mapping) or not checkpoint:
        raise ValueError(f"{path} holds a {type(checkpoint).__name__} without content or names, not a state dict.")
    other = [f"{key} ({type(value).__name__})" for key, value in checkpoint.items() if not isinstance(value, Tensor)]
    if other:
        raise ValueError(
            f"{path} holds no state dict at its top, nor under {' or '.join(map(repr, _WRAPPERS))}; these are not "
            f"tensors: {shorten(other)}. Save the state dict alone and pass that."
        )
    prefix = _PARALLEL_PREFIX if all(key.startswith(_PARALLEL_PREFIX) for key in checkpoint) else ""
    return {key.removeprefix(prefix): value.detach() for key, value in checkpoint.items()}


__all__ = ["read_checkpoint", "read_weights"]
