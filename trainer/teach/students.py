"""Students: models with the audio side of a teacher, and a text side that is to learn the teacher's embeddings."""

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from modeling_atri.configuration_atri import LOGIT_SCALE, AtriConfig, AtriEmbeddedAudioConfig
from modeling_atri.embedded_audio_atri import AtriEmbeddingExtractor
from modeling_atri.modeling_atri import AtriModel
from modeling_atri.pretrained.clap import load_clap_audio_side
from modeling_atri.pretrained.joining import build_model
from modeling_atri.pretrained.models import make_feature_extractor
from modeling_atri.pretrained.towers import Tower
from modeling_atri.processing_atri import AtriProcessor
from modeling_atri.sources import public_name
from modeling_atri.text_model_atri import build_text_model

from ..scratch.model import ScratchTextArguments
from ..scratch.tokenizer import train_tokenizer


# Parts of a model that text training leaves as they are; their weights begin with these names.
_AUDIO_SIDE = ("audio_model.", "audio_projection.", LOGIT_SCALE)


@dataclass(frozen=True)
class AudioSide:
    """What a student takes over from its teacher.

    Args:
        config: Configuration of the audio tower.
        projection_dim (`int`): Width of the embedding space.
        has_head (`bool`): Whether a projection follows the tower.
        logit_scale (`float`): Logarithm of the inverse temperature.
        state_dict: Weights of tower, projection and logit scale, as an `AtriModel` names them.
        extractor: Feature extractor.
    """

    config: PreTrainedConfig
    projection_dim: int
    has_head: bool
    logit_scale: float
    state_dict: dict[str, Tensor]
    extractor: Any


def text_from_scratch(
    captions: Iterable[str], languages: Sequence[str], sizes: ScratchTextArguments, seed: int
) -> tuple[Tower, PreTrainedTokenizerBase]:
    """Make a text tower with random weights, and a tokenizer that is trained from captions.

    Args:
        captions: Texts in all languages.
        languages: Languages that get a code in the tokenizer.
        sizes ([`~trainer.scratch.model.ScratchTextArguments`]): Sizes of the tower.
        seed (`int`): Seed of the weights.
    """
    tokenizer = train_tokenizer(captions, languages, vocab_size=sizes.vocab_size)
    config: Any = AtriConfig(text_config=sizes.text_config(len(tokenizer))).text_config
    torch.manual_seed(seed)
    return Tower(config, build_text_model(config).state_dict()), tokenizer


def audio_side_of(model: AtriModel, processor: AtriProcessor) -> AudioSide:
    """The audio side of a model, whose weights are shared, not copied."""
    config: Any = copy.deepcopy(model.config.audio_config)
    config.name_or_path = public_name(model.config.name_or_path) if model.config.name_or_path else ""
    return AudioSide(
        config,
        model.config.projection_dim,
        model.config.has_audio_head,
        float(model.config.logit_scale_init_value),
        {name: value for name, value in model.state_dict().items() if name.startswith(_AUDIO_SIDE)},
        processor.feature_extractor,
    )


def clap_audio_side(name_or_path: str) -> AudioSide:
    """The audio side of a CLAP model of transformers: its tower, its projection and its temperature.

    Raises:
        ValueError: Its weights are incomplete, or its projection is of another kind.
    """
    side = load_clap_audio_side(name_or_path)
    state_dict = {LOGIT_SCALE: torch.tensor([float(AtriConfig.logit_scale_init_value)])} | side.state_dict
    extractor = make_feature_extractor(name_or_path)
    return AudioSide(side.config, side.projection_dim, True, float(state_dict[LOGIT_SCALE]), state_dict, extractor)


def stored_audio_side(width: int, source: str | None) -> AudioSide:
    """In place of an audio side: embeddings of `width` numbers that the model `source` makes."""
    config = AtriEmbeddedAudioConfig(hidden_size=width, source=source, normalized=True)
    scale = float(AtriConfig.logit_scale_init_value)
    state_dict = {LOGIT_SCALE: torch.tensor([scale])}
    return AudioSide(config, width, False, scale, state_dict, AtriEmbeddingExtractor(width, source))


def join_student(
    audio: AudioSide, text: Tower, tokenizer: PreTrainedTokenizerBase, seed: int
) -> tuple[AtriModel, AtriProcessor]:
    """A model in eval mode of an audio side and a text tower, and its processor.

    The head of the text tower is new, drawn with `seed`.
    """
    config = AtriConfig(
        audio_config=audio.config,
        text_config=text.config,
        projection_dim=audio.projection_dim,
        has_audio_head=audio.has_head,
        logit_scale_init_value=audio.logit_scale,
    )
    state_dict = audio.state_dict | {f"text_model.{name}": value for name, value in text.state_dict.items()}
    torch.manual_seed(seed)
    model = build_model(AtriModel, config, state_dict, torch.float32)
    model.config.name_or_path = ""  # it is made of parts, which have their names
    processor = AtriProcessor(audio.extractor, tokenizer)
    processor.limit_text_length(model.max_text_tokens)
    return model, processor
