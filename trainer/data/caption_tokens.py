"""Tokens of captions, which are kept in memory so that each caption is tokenized once."""

from collections.abc import Sequence
from itertools import islice

from torch import Tensor

from modeling_atri.processing_atri import AtriProcessor
from modeling_atri.text_tokens_atri import pad


_MAX_REMEMBERED = 200_000  # captions: about 100 MB


class CaptionTokens:
    """Makes tokens as a processor does, and remembers those of the first captions that it gets.

    With a frozen text tower whose states are cached, tokenizing would otherwise take most of the time of a step.

    Args:
        processor (`AtriProcessor`): The processor. Its settings must not change while this object exists, except
            `max_text_length`.
        max_remembered (`int`, *optional*, defaults to 200000): Captions whose tokens are kept in memory.
    """

    def __init__(self, processor: AtriProcessor, max_remembered: int = _MAX_REMEMBERED):
        self.processor, self.max_remembered = processor, max_remembered
        self._known: dict[tuple[int, str, str], list[int]] = {}

    def __call__(self, captions: Sequence[str], languages: Sequence[str]) -> dict[str, Tensor]:
        """`input_ids` and `attention_mask`, int64 of shape `(captions, tokens)`, of captions in a language each.

        Raises:
            ValueError: The tokenizer lacks a language.
        """
        limit = self.processor.max_text_length
        keys = [(limit, code, caption) for code, caption in zip(languages, captions, strict=True)]
        made = self._make(list(dict.fromkeys(key for key in keys if key not in self._known)))
        rows = [made[key] if key in made else self._known[key] for key in keys]
        self._known.update(islice(made.items(), max(0, self.max_remembered - len(self._known))))
        return pad(rows, self.processor.tokenizer, True, limit)

    def _make(self, keys: Sequence[tuple[int, str, str]]) -> dict[tuple[int, str, str], list[int]]:
        if not keys:
            return {}
        _, languages, captions = zip(*keys, strict=True)
        tokens = self.processor(text=captions, language=languages)
        rows = zip(tokens["input_ids"], tokens["attention_mask"], strict=True)
        return dict(zip(keys, (ids[mask.bool()].tolist() for ids, mask in rows), strict=True))
