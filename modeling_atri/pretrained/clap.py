"""Models whose audio side is that of a published CLAP: audio embeddings are theirs, so archives stay valid."""

import logging
import os
from dataclasses import replace
from typing import Any

import torch
from transformers import AutoConfig, ClapAudioModelWithProjection, ClapModel, PreTrainedConfig

from ..configuration_atri import LOGIT_SCALE
from ..modeling_atri import AtriModel
from ..sources import check_source, public_name
from .audio_encoders import audio_config_of, saved_class
from .audio_sides import AudioSide
from .checkpoints import load_weights, naming_source
from .joining import join_sides
from .towers import Tower, load_text_tower


logger = logging.getLogger(__name__)

# Both heads are a linear layer, ReLU and a second linear layer.
_HEAD_RENAMES = {"linear1": "fc1", "linear2": "fc2"}
# `ClapModel` has a temperature for each direction. This one is of `logits_per_audio`. Both are logarithms of factors.
_LOGIT_SCALE = "logit_scale_a"


def from_clap_pretrained(
    clap_name_or_path: str | os.PathLike,
    text: str | os.PathLike | Tower,
    *,
    dtype: torch.dtype | str | None = None,
    clap_revision: str = "main",
    text_revision: str = "main",
    **hub_kwargs: Any,
) -> AtriModel:
    """Join the audio side of a CLAP model and a text tower, in eval mode.

    Audio tower, audio head and temperature are CLAP's, so the audio embeddings of the model are those of
    `ClapModel.get_audio_features`, and embeddings that CLAP has made of clips of up to one window stay valid. A CLAP
    with fusion is used without it (`is_longer` is False), and a warning says so. The head of the text tower is newly
    initialized (with torch's global generator), so the text side must be trained, see `atri teach`. CLAP's own text
    tower is not kept: it embeds a text by its first token, where `AtriModel` takes the mean over all tokens, so its
    text embeddings would differ.

    Args:
        clap_name_or_path (`str` or `os.PathLike`): folder or Hub id of a `ClapModel` or
            `ClapAudioModelWithProjection` (`laion/clap-htsat-unfused`, `laion/larger_clap_general`, ...).
        text (`str`, `os.PathLike` or `Tower`): the text tower, as in [`AtriModel.from_audio_text_pretrained`], or one
            that was loaded before.
        dtype (`torch.dtype` or `str`, *optional*, defaults to float32): dtype of the weights.
        clap_revision, text_revision (`str`, *optional*, defaults to `"main"`): branch, tag or commit on the Hub.
        hub_kwargs: `token`, `cache_dir`, `local_files_only`, as in `from_pretrained`.

    Raises:
        ValueError: it is another kind of model, has no audio projection or another kind of it, or weights are missing
            or of the wrong shape. The error names them.
        OSError: the Hub repository does not exist or cannot be reached.
    """
    side = load_clap_audio_side(clap_name_or_path, revision=clap_revision, **hub_kwargs)
    if not isinstance(text, Tower):
        text = load_text_tower(text, revision=text_revision, **hub_kwargs)
    model = join_sides(AtriModel, side, text, dtype)
    logger.warning(
        "The audio side is CLAP's and both towers are pretrained, but the projection head of the text "
        "(text_projection) is newly initialized. Train it before you embed texts, for example with `atri teach`."
    )
    return model


def load_clap_audio_side(name_or_path: str | os.PathLike, **hub_kwargs: Any) -> AudioSide:
    """Load audio tower, audio head and temperature of a CLAP model; see [`from_clap_pretrained`]."""
    name_or_path = check_source(name_or_path, needs_owner=False)
    with naming_source(name_or_path):
        config = AutoConfig.from_pretrained(name_or_path, trust_remote_code=False, **hub_kwargs)
    model_class = _clap_class(config, name_or_path)
    if config.projection_hidden_act != "relu":
        raise ValueError(
            f"The audio projection of {name_or_path} has the activation {config.projection_hidden_act!r}, but the "
            "head of an AtriModel has ReLU, so its embeddings cannot be kept. Load it as an audio tower under a new "
            "head, with `AtriModel.from_audio_text_pretrained` or `atri convert --audio`."
        )
    audio_config = audio_config_of(config, name_or_path, **hub_kwargs)
    with torch.device("meta"):
        names = model_class._from_config(config).state_dict()
    wanted = {name for name in names if name.startswith(("audio_model.", "audio_projection.", _LOGIT_SCALE))}
    weights = load_weights(model_class, name_or_path, config, wanted, **hub_kwargs)
    if audio_config.enable_fusion:
        logger.warning(
            "The audio tower of %s fuses parts of long clips, and the feature extractor of transformers draws those "
            "parts at random. It also draws a short clip to fuse where a call has no long one. The embeddings of "
            "this model are those of the tower without fusion, always the same for a clip. Stored embeddings that "
            "were made with the fusion differ from them, so embed those clips again (`atri encode`).",
            name_or_path,
        )
    audio_config.name_or_path = public_name(name_or_path)
    converted = {_renamed(name): value for name, value in weights.items()}
    side = AudioSide(audio_config, config.projection_dim, converted)
    if LOGIT_SCALE not in converted:
        return side
    converted[LOGIT_SCALE] = converted[LOGIT_SCALE].float().reshape(1)
    return replace(side, logit_scale=converted[LOGIT_SCALE].item())


def _clap_class(config: PreTrainedConfig, name_or_path: str) -> type[ClapModel] | type[ClapAudioModelWithProjection]:
    """The class to load a checkpoint with, if it has an audio projection that an `AtriModel` can have."""
    if config.model_type == "clap":
        return ClapModel
    if config.model_type == "clap_audio_model" and saved_class(config) in (ClapAudioModelWithProjection, None):
        return ClapAudioModelWithProjection
    if config.model_type == "clap_audio_model":
        found = "has the audio tower of CLAP without the projection to its embedding space"
    elif config.model_type in ("pe_audio", "pe_audio_video"):
        found = f"is of type {config.model_type!r}, whose audio head is a norm and one linear layer instead of two"
    else:
        found = f"is of type {config.model_type!r}, not 'clap'"
    raise ValueError(
        f"{name_or_path} {found}, so its audio embeddings cannot be kept. Name a ClapModel or "
        "ClapAudioModelWithProjection here, or load this one as an audio tower under a new head, with "
        "`AtriModel.from_audio_text_pretrained` or `atri convert --audio`."
    )


def _renamed(name: str) -> str:
    if name == _LOGIT_SCALE:
        return LOGIT_SCALE
    part, _, rest = name.partition(".")
    if part == "audio_model":
        return f"audio_model.encoder.{rest}"
    layer, _, kind = rest.partition(".")
    return f"{part}.{_HEAD_RENAMES[layer]}.{kind}"
