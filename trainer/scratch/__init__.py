"""A small model and its tokenizer, trained from scratch."""

from typing import TYPE_CHECKING

from modeling_atri.lazy import lazy_names


_MODULE_OF = {
    "ScratchArguments": "model",
    "caption_texts": "model",
    "model_from_scratch": "model",
    "train_tokenizer": "tokenizer",
}

__all__ = list(_MODULE_OF)
__getattr__ = lazy_names(__name__, _MODULE_OF)


if TYPE_CHECKING:
    from .model import ScratchArguments, caption_texts, model_from_scratch
    from .tokenizer import train_tokenizer
