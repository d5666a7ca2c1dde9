"""Load audio encoders of transformers and their feature extractors, also from the checkpoints of larger models."""

from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import AutoConfig, AutoFeatureExtractor, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_MAPPING
from transformers.utils import FEATURE_EXTRACTOR_NAME, PROCESSOR_NAME, cached_file

from ..audio_encoders_atri import audio_part
from ..audio_tower_atri import build_audio_model
from ..window_features_atri import AtriWindowFeatureExtractor, describe_windows
from .checkpoints import load_weights, naming_source


def load_audio_encoder(
    name_or_path: str, trust_remote_code: bool = False, **hub_kwargs: Any
) -> tuple[PreTrainedConfig, dict[str, Tensor]]:
    """Load the audio encoder of a folder or Hub repository.

    The checkpoint may be of the encoder alone, of a model with a task head (`ASTForAudioClassification`,
    `Wav2Vec2ForCTC`), of an encoder with a decoder (Whisper), or of a model of sounds and texts (`ClapModel`,
    `PeAudioModel`). The other parts are not loaded.

    Returns:
        The configuration and the state dict of an `AtriAudioTower`.

    Raises:
        ValueError: it is not an audio model, its weights are missing or of the wrong shape, or its code comes from the
            repository and `trust_remote_code` is not set.
        OSError: the Hub repository does not exist or cannot be reached.
    """
    with naming_source(name_or_path):
        config = AutoConfig.from_pretrained(name_or_path, trust_remote_code=trust_remote_code, **hub_kwargs)
    return load_encoder_of(config, name_or_path, trust_remote_code, **hub_kwargs)


def load_encoder_of(
    config: PreTrainedConfig, name_or_path: str, trust_remote_code: bool = False, **hub_kwargs: Any
) -> tuple[PreTrainedConfig, dict[str, Tensor]]:
    """Same as [`load_audio_encoder`], for a configuration that is already loaded."""
    part = audio_config_of(config, name_or_path, trust_remote_code, **hub_kwargs)
    with torch.device("meta"):  # takes no memory: only the class and the names of the weights are needed
        encoder: Any = build_audio_model(part).encoder
    model_class, prefix = _place_of(encoder, config, name_or_path)
    wanted = {f"{prefix}{key}" for key in encoder.state_dict()}
    state_dict = load_weights(model_class, name_or_path, config, wanted, **hub_kwargs)
    return part, {f"encoder.{key.removeprefix(prefix)}": value for key, value in state_dict.items()}


def load_saved_encoder(
    config: PreTrainedConfig, state_dict: dict[str, Tensor], name_or_path: str
) -> dict[str, Tensor]:
    """The state dict of the `AtriAudioTower` within that of a saved `AtriModel`."""
    with torch.device("meta"):
        encoder: Any = build_audio_model(config).encoder
    prefix = "audio_model.encoder."
    weights = {key.removeprefix(prefix): value for key, value in state_dict.items() if key.startswith(prefix)}
    loaded = load_weights(type(encoder), name_or_path, config, set(encoder.state_dict()), weights)
    return {f"encoder.{key}": value for key, value in loaded.items()}


def audio_config_of(
    config: PreTrainedConfig, name_or_path: str, trust_remote_code: bool = False, **hub_kwargs: Any
) -> PreTrainedConfig:
    """The configuration of the audio tower within that of a model, with the windows of its feature extractor.

    Raises:
        ValueError: it is not an audio model, or it cannot be used as a tower.
    """
    part = audio_part(config)
    try:
        if _has_feature_extractor(name_or_path, **hub_kwargs):
            extractor = load_window_extractor(name_or_path, trust_remote_code, **hub_kwargs)
            describe_windows(part, extractor)
        with torch.device("meta"):
            build_audio_model(part)
    except ValueError as error:
        raise ValueError(f"{name_or_path} cannot be the audio tower: {error}") from error
    return part


def load_window_extractor(
    name_or_path: str, trust_remote_code: bool = False, **hub_kwargs: Any
) -> AtriWindowFeatureExtractor:
    """The feature extractor of an audio model, for clips of any length.

    Raises:
        ValueError: the settings of the feature extractor are missing, or it cannot be used.
        OSError: the Hub repository does not exist or cannot be reached.
    """
    if not _has_feature_extractor(name_or_path, **hub_kwargs):
        raise ValueError(
            f"{name_or_path} has no {FEATURE_EXTRACTOR_NAME}, the settings of its feature extractor. Copy this file "
            "from the model that it was fine-tuned from into the same folder."
        )
    with naming_source(name_or_path):
        extractor = AutoFeatureExtractor.from_pretrained(
            name_or_path, trust_remote_code=trust_remote_code, **hub_kwargs
        )
        return AtriWindowFeatureExtractor(extractor)


def saved_class(config: PreTrainedConfig) -> type[PreTrainedModel] | None:
    """The class of transformers that saved a checkpoint; None if transformers does not have this class."""
    for name in config.architectures or ():
        saved: Any = getattr(transformers, name, object)
        is_model = isinstance(saved, type) and issubclass(saved, PreTrainedModel)
        if is_model and isinstance(config, saved.config_class):
            return saved
    found: Any = MODEL_MAPPING.get(type(config), None)
    return found


def _has_feature_extractor(name_or_path: str, **hub_kwargs: Any) -> bool:
    names = (FEATURE_EXTRACTOR_NAME, PROCESSOR_NAME)
    options = {"_raise_exceptions_for_missing_entries": False, **hub_kwargs}
    return any(cached_file(name_or_path, name, **options) is not None for name in names)


def _place_of(
    encoder: PreTrainedModel, config: PreTrainedConfig, name_or_path: str
) -> tuple[type[PreTrainedModel], str]:
    """The class to load a checkpoint with, and the prefix of the encoder's weights in it."""
    model_class = saved_class(config)
    is_alone = type(encoder).__name__ in (config.architectures or ())  # `saved_class` does not find `WhisperEncoder`
    if is_alone or model_class is None or isinstance(encoder, model_class):
        return type(encoder), ""
    with torch.device("meta"):
        whole = model_class._from_config(config)
    for name, module in whole.named_modules():
        if type(module) is type(encoder):
            return model_class, f"{name}." if name else ""
    raise ValueError(
        f"{name_or_path} is a {model_class.__name__}, which contains no {type(encoder).__name__}, so it cannot be the "
        "audio tower."
    )
