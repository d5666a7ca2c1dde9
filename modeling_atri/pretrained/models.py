"""`AtriModel` and `AtriProcessor` from the published weights of other projects."""

import os
from typing import Any

import torch
from transformers import AutoTokenizer

from ..feature_extraction_atri import AtriFeatureExtractor
from ..modeling_atri import AtriModel
from ..processing_atri import AtriProcessor
from ..sources import check_source
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
    tokenizer_name_or_path: str | os.PathLike, normalize_text: bool = False, **hub_kwargs: Any
) -> AtriProcessor:
    """Make the `AtriProcessor` of a model whose text tower was trained with this tokenizer.

    Args:
        tokenizer_name_or_path: folder or Hub id. SONAR and ML-CLAP use the tokenizer of
            `facebook/nllb-200-distilled-600M`.
        normalize_text (`bool`, *optional*, defaults to `False`): lower-case captions and strip punctuation, as
            ML-CLAP needs it.
        hub_kwargs: `revision`, `token`, `cache_dir`, `local_files_only`, as in `from_pretrained`.

    Raises:
        ValueError: there is no such folder, or the tokenizer puts the language code last.
        OSError: the Hub repository does not exist or cannot be reached.
    """
    tokenizer_name_or_path = check_source(tokenizer_name_or_path, "file or folder", needs_owner=False)
    with naming_source(tokenizer_name_or_path):
        tokenizer = AutoTokenizer.from_pretrained(tokenizer_name_or_path, **hub_kwargs)
    return AtriProcessor(AtriFeatureExtractor(), tokenizer, normalize_text=normalize_text)
