"""A small model and its tokenizer, trained from scratch."""

from typing import TYPE_CHECKING

from modeling_atri.lazy import lazy_names


if TYPE_CHECKING:
    from .model import ScratchArguments as ScratchArguments
    from .model import caption_texts as caption_texts
    from .model import model_from_scratch as model_from_scratch
    from .tokenizer import train_tokenizer as train_tokenizer

__getattr__, __all__ = lazy_names(__name__, __file__)
