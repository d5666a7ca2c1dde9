"""`AtriModel` and `AtriProcessor` from the published weights of other projects."""

import os
from typing import Any

import torch
from transformers import AutoTokenizer, PreTrainedConfig

from ..configuration_atri import AtriAudioConfig, AtriConfig
from ..feature_extraction_atri import AtriFeatureExtractor
from ..modeling_atri import AtriModel
from ..processing_atri import AtriProcessor
from ..sources import check_source
from .audio_encoders import load_window_extractor
from .checkpoints import naming_source, read_checkpoint
from .joining import build_model
from .state_dicts import convert_mlclap_state_dict


def from_audio_text_pretrained(
    audio_name_or_path: str | os.PathLike,
    text_name_or_path: str | os.PathLike,
    *,
    model_class: type[AtriModel] = AtriModel,
    **options: Any,
) -> AtriModel:
    """Same as `model_class.from_audio_text_pretrained`; see [`AtriModel.from_audio_text_pretrained`]."""
    return model_class.from_audio_text_pretrained(audio_name_or_path, text_name_or_path, **options)


def from_mlclap_checkpoint(
    path: str | os.PathLike,
    audio_heads: int | None = None,
    text_heads: int | None = None,
    dtype: torch.dtype | str | None = None,
) -> AtriModel:
    """Load a released ML-CLAP checkpoint as an `AtriModel` in eval mode. Its processor needs `normalize_text=True`.

    Args:
        path: the checkpoint file, such as `pretrain.pt` of https://github.com/zyyan4/ml-clap.
        audio_heads, text_heads (`int`, *optional*): numbers of attention heads. Default: those of the published
            towers.
        dtype (`torch.dtype` or `str`, *optional*, defaults to float32): dtype of the weights.

    Raises:
        ValueError: the file cannot be read or does not hold an ML-CLAP model. The error names the keys that are
            missing, unknown, or of the wrong shape.
    """
    config, state_dict = convert_mlclap_state_dict(read_checkpoint(path), audio_heads, text_heads)
    for tower in (config.audio_config, config.text_config):
        tower.name_or_path = "ML-CLAP"  # decides about the license; the local path is not stored
    return build_model(AtriModel, config, state_dict, dtype)


def make_processor(
    tokenizer_name_or_path: str | os.PathLike,
    normalize_text: bool = False,
    audio: str | os.PathLike | None = None,
    trust_remote_code: bool = False,
    audio_revision: str = "main",
    **hub_kwargs: Any,
) -> AtriProcessor:
    """Make the `AtriProcessor` of a model whose text tower was trained with this tokenizer.

    Args:
        tokenizer_name_or_path: folder or Hub id. SONAR and ML-CLAP use the tokenizer of
            `facebook/nllb-200-distilled-600M`.
        normalize_text (`bool`, *optional*, defaults to `False`): lower-case captions and strip punctuation, as
            ML-CLAP needs it.
        audio (`str` or `os.PathLike`, *optional*): the model that the audio tower was loaded from. Default: CED.
        trust_remote_code (`bool`, *optional*, defaults to `False`): run the code of a feature extractor from the
            audio model's repository.
        audio_revision (`str`, *optional*, defaults to `"main"`): branch, tag or commit of the audio model.
        hub_kwargs: `revision` of the tokenizer, `token`, `cache_dir`, `local_files_only`, as in `from_pretrained`.

    Raises:
        ValueError: there is no such folder, the tokenizer puts the language code last, or the settings of the audio
            model's feature extractor are missing.
        OSError: the Hub repository does not exist or cannot be reached.
    """
    tokenizer_name_or_path = check_source(tokenizer_name_or_path, "file or folder", needs_owner=False)
    with naming_source(tokenizer_name_or_path):
        tokenizer = AutoTokenizer.from_pretrained(tokenizer_name_or_path, **hub_kwargs)
    extractor = make_feature_extractor(audio, trust_remote_code, **hub_kwargs | {"revision": audio_revision})
    return AtriProcessor(extractor, tokenizer, normalize_text=normalize_text)


def make_feature_extractor(
    audio: str | os.PathLike | None = None, trust_remote_code: bool = False, **hub_kwargs: Any
) -> Any:
    """Make the feature extractor of the audio tower that `load_audio_tower` loads from the same source.

    Returns:
        `AtriFeatureExtractor` for CED, otherwise an `AtriWindowFeatureExtractor` with the settings of the audio model,
        or the extractor of a saved `AtriModel`.
    """
    if audio is None:
        return AtriFeatureExtractor()
    audio = check_source(audio, "file or folder", needs_owner=False)
    if os.path.isfile(audio):
        return AtriFeatureExtractor()
    with naming_source(audio):
        model_type = PreTrainedConfig.get_config_dict(audio, **hub_kwargs)[0].get("model_type")
        if model_type == AtriConfig.model_type:
            options = hub_kwargs | {"trust_remote_code": trust_remote_code}
            return AtriProcessor.from_pretrained(audio, **options).feature_extractor
    if model_type in ("ced", AtriAudioConfig.model_type):
        return AtriFeatureExtractor()
    return load_window_extractor(audio, trust_remote_code, **hub_kwargs)
