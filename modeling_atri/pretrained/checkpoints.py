"""Weights of other projects: state dicts from files, folders and the Hub, read without running their code."""

import logging
import os
import pickle
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_utils import load_state_dict
from transformers.utils import (
    SAFE_WEIGHTS_INDEX_NAME,
    SAFE_WEIGHTS_NAME,
    WEIGHTS_INDEX_NAME,
    WEIGHTS_NAME,
    cached_file,
)
from transformers.utils import logging as transformers_logging
from transformers.utils.hub import get_checkpoint_shard_files

from .state_dicts import shorten


logger = logging.getLogger(__name__)

# In the order in which transformers looks for them.
_WEIGHT_FILES = (SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME, WEIGHTS_NAME, WEIGHTS_INDEX_NAME)
# Training scripts store the state dict under one of these keys, beside the optimizer. fairseq2 uses the first.
_WRAPPERS = ("model", "state_dict")
_PARALLEL_PREFIX = "module."  # of DistributedDataParallel


def read_checkpoint(path: str | os.PathLike) -> dict[str, Tensor]:
    """Read the state dict in a file of torch or safetensors.

    The file is memory-mapped, so tensors take memory only when they are used (torch's format from before version 1.6
    is read into memory). Pickles are loaded with `weights_only=True`. A state dict under the key `"model"` or
    `"state_dict"` is unwrapped, and the prefix of DistributedDataParallel is removed.

    Raises:
        ValueError: the file is damaged, not in one of these formats, or holds more than tensors and plain values.
        OSError: the file cannot be opened.
    """
    path = os.fspath(path)
    with open(path, "rb"):
        pass  # raises its own OSError; after this, an OSError of torch is about the content
    try:
        checkpoint = load_state_dict(path)
    except pickle.UnpicklingError as error:
        if needed := re.search(r"GLOBAL (\S+)", str(error)):
            raise ValueError(
                f"{path} holds an object of {needed[1]}; only tensors and plain values are read, because loading "
                "anything else can run code. If you trust the file, save its state dict alone and pass that."
            ) from error
        raise ValueError(f"{path} is not a checkpoint of torch, or it is damaged.") from error
    except (ImportError, MemoryError):
        raise
    except Exception as error:  # torch and safetensors raise errors of many classes for bytes that they did not write
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"{path} is not a checkpoint, or it is damaged{f': {reason}' if reason else ''}") from error
    state_dict = _unwrap(checkpoint, path)
    size = sum(value.numel() * value.element_size() for value in state_dict.values())
    logger.info(f"{path}: {len(state_dict)} tensors, {size / 1e6:,.1f} MB")
    return state_dict


def read_weights(name_or_path: str, **hub_kwargs: Any) -> dict[str, Tensor]:
    """Read the state dict of a folder or Hub repository in transformers' layout, in one file or in shards.

    `hub_kwargs` are `revision`, `token`, `cache_dir` and `local_files_only`, as in `from_pretrained`.

    Raises:
        ValueError: there are no weights, or they cannot be read.
        OSError: the Hub repository does not exist or cannot be reached.
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


def load_weights(
    model_class: type[PreTrainedModel],
    name_or_path: str,
    config: PreTrainedConfig,
    wanted: set[str],
    state_dict: dict[str, Tensor] | None = None,
    **hub_kwargs: Any,
) -> dict[str, Tensor]:
    """Load the weights named in `wanted` with the `from_pretrained` of their model, and check that all are there.

    `from_pretrained` renames weights of older versions. `state_dict` holds weights that are already loaded.

    Raises:
        ValueError: wanted weights are missing or of the wrong shape; `from_pretrained` would initialize them anew.
    """
    with quiet_transformers():
        model, info = model_class.from_pretrained(
            None if state_dict else name_or_path,
            config=config,
            state_dict=state_dict,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **hub_kwargs,
        )
    loaded = model.state_dict()
    learned = {
        key for key in wanted if loaded[key].is_floating_point()
    }  # buffers of integers, such as indices, are computed
    problems = [f"missing {key}" for key in sorted(info["missing_keys"] & learned)]
    problems += [
        f"{key} is {tuple(found)}, not {tuple(expected)}"
        for key, found, expected in sorted(info["mismatched_keys"])
        if key in wanted
    ]
    if problems:
        raise ValueError(
            f"The weights in {name_or_path} are not those of the {model_class.__name__} that its config.json "
            f"describes ({len(problems)} keys): {shorten(problems)}."
        )
    if unused := sorted(info["unexpected_keys"]):
        logger.warning(f"{len(unused)} weights in {name_or_path} are not of the encoder: {shorten(unused)}.")
    return {key: loaded[key] for key in wanted}


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence transformers' report of missing weights, where the caller reports them or expects them."""
    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)


@contextmanager
def naming_source(name_or_path: str) -> Iterator[None]:
    """Add the name of a folder or repository to errors that lack it: several of them are read for one model.

    Raises:
        OSError: the connection failed, or a file is missing.
        ValueError: a file is damaged. The libraries that read it raise errors of any class then.
    """
    try:
        yield
    except (ImportError, MemoryError):
        raise
    except (OSError, ValueError) as error:
        if name_or_path in str(error):
            raise
        kind = OSError if isinstance(error, OSError) else ValueError
        raise kind(f"{name_or_path} cannot be read: {error}") from error
    except Exception as error:
        raise ValueError(f"{name_or_path} cannot be read: {type(error).__name__}: {error}") from error


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
            f"{path} holds no state dict, neither at its top level nor under {' or '.join(map(repr, _WRAPPERS))}; "
            f"these are not tensors: {shorten(other)}. Save the state dict alone and pass that."
        )
    prefix = _PARALLEL_PREFIX if all(key.startswith(_PARALLEL_PREFIX) for key in checkpoint) else ""
    return {key.removeprefix(prefix): value.detach() for key, value in checkpoint.items()}
