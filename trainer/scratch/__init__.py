"""A small model and its tokenizer, trained from scratch."""

from typing import TYPE_CHECKING

from modeling_atri.lazy import lazy_names


if TYPE_CHECKING:
    from .model import ScratchArguments, caption_texts, model_from_scratch
    from .tokenizer import train_tokenizer

__getattr__, __all__ = lazy_names(__name__, __file__)
