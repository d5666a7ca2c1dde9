"""Short captions that a study adds to those of the training scenes."""

import random
from functools import cache
from typing import Any

from .rules import Names, class_names, read_queries, short_captions


def with_short_captions(lines: list[dict[str, Any]], _: random.Random) -> list[dict[str, Any]]:
    """Give every scene two further captions in each language, the short forms of `short_captions`.

    Args:
        lines: lines of the metadata, with `captions` by language and the `triple` of each scene.

    Returns:
        New lines. Two of the seven captions of a scene are short, and a step draws one of them.
    """
    changed = []
    for line in lines:
        short = short_captions(line["triple"], _names())
        captions = {language: [*texts, *short[language]] for language, texts in line["captions"].items()}
        changed.append(line | {"captions": captions})
    return changed


@cache
def _names() -> Names:
    return class_names(read_queries())
