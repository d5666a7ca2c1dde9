"""A warning about captions of which the tokenizer knows nothing, because it was not trained on their language."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from modeling_atri.corpora.rows.captions import captions_of
from modeling_atri.hub_cards.tables import counted
from modeling_atri.processing_atri import AtriProcessor

from .batches import without_audio


logger = logging.getLogger(__name__)

_MOST_LOOKED_AT = 1000  # rows, and different captions of each language


def warn_of_unknown_captions(processor: AtriProcessor, captions: Mapping[str, Iterable[str]]) -> None:
    """Log one warning for each language with captions of which the tokenizer makes only unknown tokens, or none.

    Numbers and letters count as known, so that a caption with a rare sign does not. Of each language, up to 1000
    different captions are tokenised, which are spread evenly over all of them.

    Args:
        processor (`AtriProcessor`): Has the tokenizer.
        captions (mapping): Captions by language.
    """
    for language, texts in captions.items():
        different = _different(texts)
        looked_at = [different[index] for index in _spread(len(different))]
        unknown = _unknown(processor, looked_at, language) if looked_at else []
        if unknown:
            logger.warning(
                "The tokenizer knows nothing of %d of %s in %s, such as %r: they become unknown tokens only, or none, "
                "so the model cannot tell them apart. Use a model whose tokenizer was trained on the language and its "
                "script, or leave the language out.",
                *(len(unknown), counted(len(looked_at), "different caption"), language, unknown[0]),
            )


def _different(texts: Iterable[str]) -> Sequence[str]:
    """Each caption once. Those in a column that is mapped from disk stay there."""
    return texts.different() if hasattr(texts, "different") else list(dict.fromkeys(texts))


def sample_captions(rows: Sequence[dict], languages: Sequence[str]) -> dict[str, list[str]]:
    """The captions of up to 1000 checked rows, by language. Recordings are not read."""
    light = without_audio(rows)
    captions: dict[str, list[str]] = {language: [] for language in languages}
    for index in _spread(len(light)):
        row: dict[str, Any] = light[index]
        for language, texts in captions_of(row, languages, row["audio_id"]).items():
            captions[language] += texts
    return captions


def _spread(count: int) -> list[int]:
    """Up to 1000 of `count` places, evenly spread."""
    return np.linspace(0, count - 1, min(count, _MOST_LOOKED_AT)).astype(int).tolist()


def _unknown(processor: AtriProcessor, captions: list[str], language: str) -> list[str]:
    tokenizer = processor.tokenizer
    tokens = {name: ids.numpy() for name, ids in processor(text=captions, language=language).items()}
    specials = set(tokenizer.all_special_ids)
    ids = np.unique(tokens["input_ids"]).tolist()
    names = zip(ids, tokenizer.convert_ids_to_tokens(ids), strict=True)
    words = [number for number, name in names if number not in specials and any(map(str.isalnum, name))]
    is_word = np.isin(tokens["input_ids"], words)
    # Signs alone are known: `!?` is not a caption in a language that the tokenizer lacks.
    is_unknown = (tokens["input_ids"] == tokenizer.unk_token_id) & (tokens["attention_mask"] > 0)
    is_content = ~np.isin(tokens["input_ids"], [*specials, *_spaces(tokenizer, ids)])
    says_nothing = ~is_word.any(axis=1) & (is_unknown.any(axis=1) | ~is_content.any(axis=1))
    return [captions[index] for index in np.flatnonzero(says_nothing)]


def _spaces(tokenizer: Any, ids: list[int]) -> list[int]:
    """Tokens that are nothing but a space, which SentencePiece writes as a low line."""
    names = zip(ids, tokenizer.convert_ids_to_tokens(ids), strict=True)
    return [number for number, name in names if not name.strip("\u2581 ")]
