"""Checks that the weights of a checkpoint fit a model."""

import json
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

from modeling_atri.configuration_atri import LOGIT_SCALE


def check_weights_fit(model: nn.Module, folder: str) -> None:
    """Check all weights of a checkpoint before any of them is loaded.

    Raises:
        ValueError: Weights differ from those of the model in name or shape.
    """
    path = Path(folder) / SAFE_WEIGHTS_NAME
    if not path.is_file():  # an adapter, or several files, which are checked when they are loaded
        return
    own = model.state_dict()
    with safe_open(path, "pt") as file:
        saved = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 - no mapping
    if saved.pop("logit_scale", None) == []:  # of version 0.1; the model converts it when it is loaded
        saved[LOGIT_SCALE] = [1]
    places = {own[name].data_ptr() for name in saved.keys() & own.keys()}
    # Weights that share their memory are saved once.
    missing = [name for name in own.keys() - saved.keys() if own[name].data_ptr() not in places]
    other = dict.fromkeys(missing, "in the model alone")
    other |= dict.fromkeys(saved.keys() - own.keys(), "in the checkpoint alone")
    for name in saved.keys() & own.keys():
        if saved[name] != list(own[name].shape):
            other[name] = f"{_size(saved[name])} in the checkpoint, {_size(own[name].shape)} in the model"
    if other:
        first = min(other)
        raise ValueError(
            f"Training cannot be resumed from {folder}: it is a checkpoint of another model. {len(other)} weights "
            f"differ, such as {first} ({other[first]}). Resume with the model that the run began with, or start a new "
            "run from this one in another `output_dir`."
        )


def load_weights(folder: str) -> dict[str, Tensor]:
    """All weights that `save_pretrained` wrote to a folder, in one file or several."""
    index = Path(folder) / SAFE_WEIGHTS_INDEX_NAME
    names = {SAFE_WEIGHTS_NAME}
    if index.is_file():
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    return {name: weight for file in names for name, weight in load_file(Path(folder) / file).items()}


def _size(shape) -> str:
    return "x".join(map(str, shape)) or "one number"
