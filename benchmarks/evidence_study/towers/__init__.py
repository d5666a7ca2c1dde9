"""The text towers of the studies.

`scratch` is a small tower with a tokenizer that was made from the training captions. `use` is Google's Universal
Sentence Encoder multilingual, frozen; its states are computed once for all runs. `use-trained` is the same encoder,
trained.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from teaching_study import use_text

from modeling_atri import AtriConfig, AtriFeatureExtractor, AtriModel, AtriProcessor
from modeling_atri.configuration_atri import AtriEmbeddedAudioConfig
from modeling_atri.embedded_audio_atri import AtriEmbeddingExtractor
from modeling_atri.languages_atri import ATRI_LANGUAGES
from modeling_atri.trainer.scratch.model import ScratchArguments, caption_texts
from modeling_atri.trainer.scratch.tokenizer import train_tokenizer

from .trainable_use import TrainableUseConfig, load_wheel_weights


Made = tuple[AtriModel, AtriProcessor]


def scratch_model(rows: Any, sizes: ScratchArguments, seed: int) -> Made:
    """A new model without any pretrained part. The tokenizer has seen the captions of all languages."""
    tokenizer = _tokenizer(tuple(caption_texts(rows, list(ATRI_LANGUAGES))), sizes.vocab_size)
    torch.manual_seed(seed)
    return AtriModel(sizes.config(len(tokenizer))), AtriProcessor(AtriFeatureExtractor(), tokenizer)


@cache
def _tokenizer(captions: tuple[str, ...], vocab_size: int) -> Any:
    return train_tokenizer(captions, list(ATRI_LANGUAGES), vocab_size=vocab_size)


def use_model(rows: Any, sizes: ScratchArguments, seed: int) -> Made:
    """A new model whose text tower is the frozen pretrained encoder."""
    tokenizer = use_text.use_tokenizer()
    return _with_text_tower(use_text.UseTextConfig(vocab_size=len(tokenizer)), tokenizer, sizes, seed)


def trained_use_model(rows: Any, sizes: ScratchArguments, seed: int) -> Made:
    """A new model whose text tower is the pretrained encoder with trainable weights.

    The embeddings of the tokens of the training captions are trained, too. The audio tower and the heads begin as
    those of `use_model` with the same seed.
    """
    tokenizer = use_text.use_tokenizer()
    captions = list(caption_texts(rows, list(ATRI_LANGUAGES)))
    tokens = np.unique(np.concatenate(tokenizer(captions)["input_ids"]))
    config = TrainableUseConfig(vocab_size=len(tokenizer), num_trained_tokens=len(tokens))
    model, processor = _with_text_tower(config, tokenizer, sizes, seed)
    load_wheel_weights(model.text_model, tokens)
    frozen, _ = use_model(rows, sizes, seed)
    model.load_state_dict(frozen.state_dict(), strict=False)  # its encoder is not in torch
    return model, processor


def _with_text_tower(config: Any, tokenizer: Any, sizes: ScratchArguments, seed: int) -> Made:
    """A new model with another text tower."""
    settings = sizes.config(len(tokenizer)).to_dict() | {"text_config": config.to_dict()}
    torch.manual_seed(seed)
    return AtriModel(AtriConfig.from_dict(settings)), AtriProcessor(AtriFeatureExtractor(), tokenizer)


def without_audio_tower(model: AtriModel, processor: AtriProcessor, fingerprint: str) -> Made:
    """A new model for stored embeddings of sounds, with a new audio head on them.

    Args:
        model, processor: a model whose other parts the new one is like, and its processor.
        fingerprint: that of the audio side that made the embeddings, whose width is the model's.
    """
    config = model.config.to_dict()
    width = model.config.projection_dim
    audio = AtriEmbeddedAudioConfig(hidden_size=width, fingerprint=fingerprint, normalized=True)
    config["audio_config"] = audio.to_dict()
    extractor = AtriEmbeddingExtractor(feature_size=width)
    return AtriModel(AtriConfig.from_dict(config)), AtriProcessor(extractor, processor.tokenizer)


# Each tower: what makes a model with it, and the training arguments that belong to it.
TOWERS: dict[str, tuple[Callable[[Any, ScratchArguments, int], Made], dict[str, Any]]] = {
    "scratch": (scratch_model, {}),
    "use": (use_model, {"freeze_text": True}),
    "use-trained": (trained_use_model, {}),
}
