"""Pretrained towers: CED or another encoder of transformers for audio; SONAR or another one for text."""

import os
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from transformers import AutoConfig, M2M100Config, PreTrainedConfig, PreTrainedModel

from ..audio_encoders_atri import audio_part
from ..configuration_atri import AtriAudioConfig, AtriConfig, AtriEmbeddedAudioConfig
from ..remote_towers_atri import trusting
from ..sources import check_source, public_name
from ..text_model_atri import build_text_model
from .audio_encoders import load_audio_encoder, load_saved_encoder
from .checkpoints import load_weights, naming_source, read_checkpoint, read_weights
from .state_dicts import (
    convert_ced_state_dict,
    convert_m2m100_state_dict,
    convert_sonar_state_dict,
    select_audio_state_dict,
)


# Settings under which CED's features equal those of `AtriFeatureExtractor`, in the names of CedConfig.
_CED_FEATURES = {"n_fft": 512, "win_size": 512, "hop_size": 160, "f_min": 0, "f_max": 8000, "center": True}


@dataclass
class Tower:
    """A pretrained encoder: its configuration, and the state dict of the model that the configuration describes."""

    config: PreTrainedConfig
    state_dict: dict[str, Tensor]


def load_audio_tower(
    name_or_path: str | os.PathLike, heads: int | None = None, trust_remote_code: bool = False, **hub_kwargs: Any
) -> Tower:
    """Load CED, another audio encoder of transformers, or the audio tower of a model that this package saved.

    Args:
        name_or_path: a weight file of CED in either naming; or a folder or Hub id of CED (`mispeech/ced-tiny`,
            `-mini`, `-small`, `-base`), of an audio model of transformers (CLAP, AST, Whisper, wav2vec2, HuBERT,
            WavLM, PE-Audio, ...), of which the encoder is taken, or of an `AtriModel` or its audio tower.
        heads (`int`, *optional*): number of attention heads of CED. Default: from `config.json`, otherwise that of
            the published model of this width.
        trust_remote_code (`bool`, *optional*, defaults to `False`): run the model code of a repository.
        hub_kwargs: `revision`, `token`, `cache_dir`, `local_files_only`, as in `from_pretrained`.

    Raises:
        ValueError: there is no such file or folder, it is not an audio model, or its weights are missing, unknown, or
            of the wrong shape.
        OSError: the Hub repository does not exist or cannot be reached.
    """
    name_or_path = check_source(name_or_path, "file or folder", needs_owner=False)
    if os.path.isfile(name_or_path):
        tower = Tower(*convert_ced_state_dict(read_checkpoint(name_or_path), heads))
        tower.config.name_or_path = "CED"
        return tower
    with naming_source(name_or_path):
        published, _ = PreTrainedConfig.get_config_dict(name_or_path, **hub_kwargs)
        model_type = published.get("model_type")
    if model_type in (AtriConfig.model_type, AtriAudioConfig.model_type):
        tower = _saved_tower(name_or_path, model_type, trust_remote_code, **hub_kwargs)
    elif model_type == "ced":
        _check_ced_features(published, name_or_path)
        heads = published.get("num_heads") if heads is None else heads
        tower = Tower(*convert_ced_state_dict(read_weights(name_or_path, **hub_kwargs), heads))
        _set_max_frames(tower.config, published.get("target_length", tower.config.max_frames), name_or_path)
    elif heads is not None:
        raise ValueError(_heads_are_known(name_or_path, heads))
    else:
        tower = Tower(*load_audio_encoder(name_or_path, trust_remote_code, **hub_kwargs))
    tower.config.name_or_path = public_name(name_or_path)
    return tower


def load_text_tower(
    name_or_path: str | os.PathLike, heads: int | None = None, trust_remote_code: bool = False, **hub_kwargs: Any
) -> Tower:
    """Load SONAR, or another text encoder of transformers.

    Args:
        name_or_path: a weight file of SONAR's text encoder in fairseq2's naming; or a folder or Hub id in
            transformers' layout: SONAR (`cointegrated/SONAR_200_text_encoder`), NLLB, of which the encoder is taken,
            or any encoder that `AutoModel` knows, which is loaded without its pooler.
        heads (`int`, *optional*): number of attention heads, for files alone: a folder has it in `config.json`.
            Default: that of the published model of this width.
        trust_remote_code (`bool`, *optional*, defaults to `False`): run the code of a repository to read its
            configuration. The text tower itself must be a class of transformers.
        hub_kwargs: `revision`, `token`, `cache_dir`, `local_files_only`, as in `from_pretrained`.

    Raises:
        ValueError: there is no such file or folder, the model is not a text encoder, or weights are missing or of the
            wrong shape.
        OSError: the Hub repository does not exist or cannot be reached.
    """
    name_or_path = check_source(name_or_path, "file or folder", needs_owner=False)
    if os.path.isfile(name_or_path):
        tower = Tower(*convert_sonar_state_dict(read_checkpoint(name_or_path), heads))
        tower.config.name_or_path = "SONAR"
        return tower
    config, encoder = read_text_encoder(name_or_path, heads, trust_remote_code, **hub_kwargs)
    if encoder is None:
        state_dict = convert_m2m100_state_dict(read_weights(name_or_path, **hub_kwargs), cast(M2M100Config, config))
    else:
        state_dict = load_weights(type(encoder), name_or_path, config, set(encoder.state_dict()), **hub_kwargs)
    config.name_or_path = public_name(name_or_path)
    return Tower(config, state_dict)


def read_text_encoder(
    name_or_path: str, heads: int | None = None, trust_remote_code: bool = False, **hub_kwargs: Any
) -> tuple[PreTrainedConfig, PreTrainedModel | None]:
    """The configuration of the text encoder in a folder or repository, and the encoder without weights.

    Arguments and errors are those of [`load_text_tower`], which also loads the weights. SONAR and NLLB have None in
    the place of the encoder.
    """
    with naming_source(name_or_path):
        config = AutoConfig.from_pretrained(name_or_path, trust_remote_code=trust_remote_code, **hub_kwargs)
    if heads is not None:
        raise ValueError(_heads_are_known(name_or_path, heads))
    if audio_part(config) is not config:
        raise ValueError(
            f"{name_or_path} is of type {config.model_type!r}, a model of sounds and texts. Name a text encoder alone."
        )
    if config.model_type == "m2m_100":
        return config, None
    with torch.device("meta"):  # takes no memory: only the class and the names of the weights are needed
        return config, build_text_model(config)


def _saved_tower(name_or_path: str, model_type: str, trust_remote_code: bool, **hub_kwargs: Any) -> Tower:
    """The audio tower of a saved `AtriModel`, or a saved CED tower."""
    if model_type == AtriAudioConfig.model_type:
        config: Any = AtriAudioConfig.from_pretrained(name_or_path, **hub_kwargs)
    else:
        with trusting(name_or_path, hub_kwargs) if trust_remote_code else nullcontext():
            config = AtriConfig.from_pretrained(name_or_path, **hub_kwargs).audio_config
    if config.model_type == AtriEmbeddedAudioConfig.model_type:
        return Tower(config, {})
    state_dict = read_weights(name_or_path, **hub_kwargs)
    if config.model_type == AtriAudioConfig.model_type:
        return Tower(config, select_audio_state_dict(state_dict, config))
    return Tower(config, load_saved_encoder(config, state_dict, name_or_path))


def _heads_are_known(name_or_path: str, heads: int) -> str:
    return f"The number of attention heads of {name_or_path} is in its config.json, so leave out {heads}."


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
    """Set the length of a chunk, which the shapes of the weights give only up to the last whole patch."""
    columns = config.patch_grid[1]
    if max_frames // config.patch_size[1] != columns:
        raise ValueError(
            f"The config.json of {name_or_path} has target_length {max_frames}, but the weights are for {columns} "
            f"patches of {config.patch_size[1]} frames."
        )
    config.max_frames = max_frames
