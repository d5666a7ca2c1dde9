"""`AtriModel` from pretrained weights: a tower of CED and a text encoder with fresh heads, or a released ML-CLAP."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from ..configuration_atri import AtriAudioConfig, AtriConfig
from ..feature_extraction_atri import AtriFeatureExtractor
from ..modeling_atri import AtriAudioModel, AtriModel, build_text_model
from ..processing_atri import AtriProcessor
from ..sources import check_source, public_name
from .checkpoints import read_checkpoint, read_weights
from .state_dicts import (
    convert_ced_state_dict,
    convert_m2m100_state_dict,
    convert_mlclap_state_dict,
    convert_sonar_state_dict,
    shorten,
)


logger = logging.getLogger(__name__)

# What CED's features must have been made with for `AtriFeatureExtractor` to make the same; the names are CedConfig's.
_CED_FEATURES = {"n_fft": 512, "win_size": 512, "hop_size": 160, "f_min": 0, "f_max": 8000, "center": True}


@dataclass
class Tower:
    """A pretrained encoder: its configuration, and its weights under the names of the model made from that."""

    config: PreTrainedConfig
    state_dict: dict[str, Tensor]


def from_audio_text_pretrained(
    audio_name_or_path: str | os.PathLike,
    text_name_or_path: str | os.PathLike,
    *,
    projection_dim: int = 1024,
    dtype: torch.dtype | str | None = None,
    audio_revision: str = "main",
    text_revision: str = "main",
    token: str | bool | None = None,
    cache_dir: str | os.PathLike | None = None,
    local_files_only: bool = False,
    model_class: type[AtriModel] = AtriModel,
) -> AtriModel:
    """What `AtriModel.from_audio_text_pretrained` does, on behalf of `model_class`; its documentation is there."""
    hub_kwargs = {"token": token, "cache_dir": cache_dir, "local_files_only": local_files_only}
    audio = load_audio_tower(audio_name_or_path, revision=audio_revision, **hub_kwargs)
    text = load_text_tower(text_name_or_path, revision=text_revision, **hub_kwargs)
    return join_towers(audio, text, projection_dim, dtype, model_class)


def from_mlclap_checkpoint(
    path: str | os.PathLike,
    audio_heads: int | None = None,
    text_heads: int | None = None,
    dtype: torch.dtype | str | None = None,
) -> AtriModel:
    """A released ML-CLAP checkpoint as `AtriModel`, in eval mode. Its processor needs `normalize_text=True`.

    Args:
        path: the file, such as `pretrain.pt` of https://github.com/zyyan4/ml-clap.
        audio_heads, text_heads (`int`, *optional*): attention heads. Default: those of the published towers.
        dtype (`torch.dtype` or `str`, *optional*, defaults to float32): of the weights.

    Raises:
        ValueError: the file cannot be read, or does not hold an ML-CLAP model; what is missing, unknown or mis-shaped
            is named.
    """
    config, state_dict = convert_mlclap_state_dict(read_checkpoint(path), audio_heads, text_heads)
    for tower in (config.audio_config, config.text_config):
        tower.name_or_path = "ML-CLAP"  # what the weights are, for their licence; the path is nobody else's business
    return _build(AtriModel, config, state_dict, dtype)


def load_audio_tower(name_or_path: str | os.PathLike, heads: int | None = None, **hub_kwargs: Any) -> Tower:
    """CED, or an audio tower that this package saved.

    Args:
        name_or_path: a file of CED's weights in either naming; a folder or Hub id of `CedForAudioClassification` or
            `CedModel` (`mispeech/ced-tiny`, `-mini`, `-small`, `-base`); or one of `AtriAudioModel` or `AtriModel`.
        heads (`int`, *optional*): attention heads. Default: from `config.json`, else those of the published model of
            this width.
        hub_kwargs: `revision`, `token`, `cache_dir`, `local_files_only`, as in `from_pretrained`.

    Raises:
        ValueError: no such file or folder, another kind of model, or weights that are missing, unknown or mis-shaped.
        OSError: there is no such Hub repository, or it cannot be reached.
    """
    name_or_path = check_source(name_or_path, "file or folder", needs_owner=False)
    if os.path.isfile(name_or_path):
        tower = Tower(*convert_ced_state_dict(read_checkpoint(name_or_path), heads))
        tower.config.name_or_path = "CED"
        return tower
    with _named(name_or_path):
        published, _ = PreTrainedConfig.get_config_dict(name_or_path, **hub_kwargs)
    model_type = published.get("model_type")
    if model_type in ("atri_audio_model", "atri"):
        config = AtriAudioConfig.from_pretrained(name_or_path, **hub_kwargs)
        wanted = _on_meta(AtriAudioModel._from_config, config).state_dict()
        tower = Tower(config, _load(AtriAudioModel, name_or_path, config, set(wanted), **hub_kwargs))
    elif model_type == "ced":
        _check_ced_features(published, name_or_path)
        heads = published.get("num_heads") if heads is None else heads
        tower = Tower(*convert_ced_state_dict(read_weights(name_or_path, **hub_kwargs), heads))
        _set_max_frames(tower.config, published.get("target_length", tower.config.max_frames), name_or_path)
    else:
        raise ValueError(
            f"{name_or_path} is of type {model_type!r}; the audio tower must be CED (mispeech/ced-base is of type "
            "'ced') or a saved AtriAudioModel or AtriModel."
        )
    tower.config.name_or_path = public_name(name_or_path)
    return tower


def load_text_tower(name_or_path: str | os.PathLike, heads: int | None = None, **hub_kwargs: Any) -> Tower:
    """SONAR, or any other encoder that transformers has.

    Args:
        name_or_path: a file of SONAR's text encoder in fairseq2's naming; or a folder or Hub id in transformers'
            layout: SONAR (`cointegrated/SONAR_200_text_encoder`), NLLB, whose encoder is taken, or any encoder that
            `AutoModel` knows, without its pooler.
        heads (`int`, *optional*): attention heads of a file. Default: those of the published model of this width.
            Folders have them in `config.json`.
        hub_kwargs: `revision`, `token`, `cache_dir`, `local_files_only`, as in `from_pretrained`.

    Raises:
        ValueError: no such file or folder, a model that is no text encoder, or weights that are missing or mis-shaped.
        OSError: there is no such Hub repository, or it cannot be reached.
    """
    name_or_path = check_source(name_or_path, "file or folder", needs_owner=False)
    if os.path.isfile(name_or_path):
        tower = Tower(*convert_sonar_state_dict(read_checkpoint(name_or_path), heads))
        tower.config.name_or_path = "SONAR"  # for its licence
        return tower
    with _named(name_or_path):
        config = AutoConfig.from_pretrained(name_or_path, **hub_kwargs)
    if heads is not None:
        raise ValueError(
            f"The attention heads of {name_or_path} are in its config.json; do not pass {heads} for them."
        )
    if config.model_type == "m2m_100":
        state_dict = convert_m2m100_state_dict(read_weights(name_or_path, **hub_kwargs), config)
    else:
        encoder = _on_meta(build_text_model, config)
        state_dict = _load(type(encoder), name_or_path, config, set(encoder.state_dict()), **hub_kwargs)
    config.name_or_path = public_name(name_or_path)
    return Tower(config, state_dict)


def join_towers(
    audio: Tower,
    text: Tower,
    projection_dim: int = 1024,
    dtype: torch.dtype | str | None = None,
    model_class: type[AtriModel] = AtriModel,
) -> AtriModel:
    """Two towers with fresh projection heads and `logit_scale`, drawn from torch's global generator, in eval mode."""
    config = AtriConfig(audio_config=audio.config, text_config=text.config, projection_dim=projection_dim)
    state_dict = {f"audio_model.{key}": value for key, value in audio.state_dict.items()}
    state_dict |= {f"text_model.{key}": value for key, value in text.state_dict.items()}
    # Not drawn, and float32 in a model of any dtype, as a weight that is loaded.
    state_dict["logit_scale"] = torch.tensor(float(config.logit_scale_init_value))
    model = _build(model_class, config, state_dict, dtype)
    logger.warning(
        "The projection heads (audio_projection, text_projection) and logit_scale are fresh, the towers pretrained. "
        "Train the model before you use its embeddings."
    )
    return model


def make_processor(
    tokenizer_name_or_path: str | os.PathLike, normalize_text: bool = False, **hub_kwargs: Any
) -> AtriProcessor:
    """The `AtriProcessor` of a model whose text tower reads the tokens of this tokenizer.

    Args:
        tokenizer_name_or_path: folder or Hub id; SONAR's and ML-CLAP's is that of `facebook/nllb-200-distilled-600M`.
        normalize_text (`bool`, *optional*, defaults to `False`): lower-case captions and strip punctuation, for
            ML-CLAP.
        hub_kwargs: `revision`, `token`, `cache_dir`, `local_files_only`, as in `from_pretrained`.

    Raises:
        ValueError: no such folder, or a tokenizer that puts the language code last.
        OSError: there is no such Hub repository, or it cannot be reached.
    """
    tokenizer_name_or_path = check_source(tokenizer_name_or_path, "file or folder", needs_owner=False)
    with _named(tokenizer_name_or_path):
        tokenizer = AutoTokenizer.from_pretrained(tokenizer_name_or_path, **hub_kwargs)
    return AtriProcessor(AtriFeatureExtractor(), tokenizer, normalize_text=normalize_text)


def _build(
    model_class: type[AtriModel], config: AtriConfig, state_dict: dict[str, Tensor], dtype: torch.dtype | str | None
) -> AtriModel:
    """The model with these very tensors where their dtype is right; what is missing is drawn."""
    with _quiet():
        return model_class.from_pretrained(
            None, config=config, state_dict=state_dict, dtype=torch.float32 if dtype is None else dtype
        )


def _load(
    model_class: type[PreTrainedModel],
    name_or_path: str,
    config: PreTrainedConfig,
    wanted: set[str],
    **hub_kwargs: Any,
) -> dict[str, Tensor]:
    """The weights in `wanted` of a model, by its own `from_pretrained`, which would make up what is missing."""
    with _quiet():
        model, info = model_class.from_pretrained(
            name_or_path, config=config, output_loading_info=True, ignore_mismatched_sizes=True, **hub_kwargs
        )
    problems = [f"missing {key}" for key in sorted(info["missing_keys"] & wanted)]
    problems += [
        f"{key} is {tuple(found)}, not {tuple(expected)}"
        for key, found, expected in sorted(info["mismatched_keys"])
        if key in wanted
    ]
    if problems:
        raise ValueError(
            f"The weights in {name_or_path} are not those of {model_class.__name__} as its config.json describes it "
            f"({len(problems)} keys): {shorten(problems)}."
        )
    if unused := sorted(info["unexpected_keys"]):
        logger.warning(f"{len(unused)} weights in {name_or_path} are not of the encoder: {shorten(unused)}.")
    state_dict = model.state_dict()
    return {key: state_dict[key] for key in wanted}


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' own report of what it did not find: here that is known, and said or raised."""
    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)


@contextmanager
def _named(name_or_path: str) -> Iterator[None]:
    """Errors of the connection name no repository; where several are read, they should."""
    try:
        yield
    except OSError as error:
        if name_or_path in str(error):
            raise
        raise OSError(f"{name_or_path} cannot be read: {error}") from error


def _on_meta(build: Callable[[PreTrainedConfig], PreTrainedModel], config: PreTrainedConfig) -> PreTrainedModel:
    """The model without memory for its weights."""
    with torch.device("meta"):
        return build(config)


def _check_ced_features(published: dict[str, Any], name_or_path: str) -> None:
    other = [
        f"{name} {published[name]} (not {value})"
        for name, value in _CED_FEATURES.items()
        if published.get(name, value) != value
    ]
    if other:
        raise ValueError(
            f"{name_or_path} was trained on other log-mel spectrograms than AtriFeatureExtractor makes: "
            f"{', '.join(other)}."
        )


def _set_max_frames(config: AtriAudioConfig, max_frames: int, name_or_path: str) -> None:
    """Frames that no patch covers leave no trace in the shapes, but long clips are cut after them."""
    columns = config.patch_grid[1]
    if max_frames // config.patch_size[1] != columns:
        raise ValueError(
            f"The config.json of {name_or_path} has target_length {max_frames}, but the weights are for {columns} "
            f"patches of {config.patch_size[1]} frames."
        )
    config.max_frames = max_frames


__all__ = [
    "Tower",
    "from_audio_text_pretrained",
    "from_mlclap_checkpoint",
    "join_towers",
    "load_audio_tower",
    "load_text_tower",
    "make_processor",
]
