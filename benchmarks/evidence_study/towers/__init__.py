"""The text towers of the studies.

`scratch` is a small tower with a tokenizer that was made from the training captions. `use` is Google's Universal
Sentence Encoder multilingual, frozen; its states are computed once for all runs.
"""

from collections.abc import Callable
from typing import Any

import torch
from teaching_study import use_text

from modeling_atri import AtriConfig, AtriModel, AtriProcessor
from modeling_atri.languages_atri import ATRI_LANGUAGES
from modeling_atri.trainer.scratch.model import ScratchArguments, caption_texts, model_from_scratch


def scratch_model(rows: Any, sizes: ScratchArguments, seed: int) -> tuple[AtriModel, AtriProcessor]:
    """A new model without any pretrained part. The tokenizer has seen the captions of all languages."""
    languages = list(ATRI_LANGUAGES)
    return model_from_scratch(caption_texts(rows, languages), languages, sizes, seed)


def use_model(rows: Any, sizes: ScratchArguments, seed: int) -> tuple[AtriModel, AtriProcessor]:
    """A new model whose text tower is the frozen pretrained encoder."""
    model, processor = scratch_model(rows, sizes, seed)
    tokenizer = use_text.use_tokenizer()
    config = model.config.to_dict()
    config["text_config"] = use_text.UseTextConfig(vocab_size=len(tokenizer)).to_dict()
    torch.manual_seed(seed)
    return AtriModel(AtriConfig.from_dict(config)), AtriProcessor(processor.feature_extractor, tokenizer)


# Each tower: what makes a model with it, and the training arguments that belong to it.
TOWERS: dict[str, tuple[Callable[[Any, ScratchArguments, int], tuple[AtriModel, AtriProcessor]], dict[str, Any]]] = {
    "scratch": (scratch_model, {}),
    "use": (use_model, {"freeze_text": True}),
}
