"""Students: models with the audio side of a teacher, and a text side that is trained towards its embeddings."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from modeling_atri.configuration_atri import AtriConfig
from modeling_atri.modeling_atri import AtriModel
from modeling_atri.pretrained.audio_sides import AudioSide
from modeling_atri.pretrained.joining import join_sides
from modeling_atri.pretrained.towers import Tower
from modeling_atri.processing_atri import AtriProcessor
from modeling_atri.text_model_atri import build_text_model

from ..scratch.model import ScratchTextArguments
from ..scratch.tokenizer import train_tokenizer


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


def join_student(
    audio: AudioSide, extractor: Any, text: Tower, tokenizer: PreTrainedTokenizerBase, seed: int
) -> tuple[AtriModel, AtriProcessor]:
    """Join a teacher's audio side, with its feature extractor, and a text tower. Returns the model and its processor.

    The model is in eval mode. The head of the text tower is new, drawn with `seed`.
    """
    torch.manual_seed(seed)
    model = join_sides(AtriModel, audio, text)
    processor = AtriProcessor(extractor, tokenizer)
    processor.limit_text_length(model.max_text_tokens)
    return model, processor
