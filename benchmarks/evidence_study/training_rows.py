"""Changes of the training rows that a cell may ask for."""

import random
from collections.abc import Callable
from functools import partial
from typing import Any

from query_set.training import with_short_captions


Rows = list[dict[str, Any]]
Change = Callable[[Rows, random.Random], Rows]

SOURCE_LANGUAGE = "eng_Latn"
NOISY_SHARES = (0.1, 0.3, 0.5)
SCARCE_SHARE = 0.1
WEAK_LANGUAGES = {"ca": "cat_Latn", "ja": "jpn_Jpan"}


def with_wrong_captions(rows: Rows, rng: random.Random, language: str, share: float) -> Rows:
    """Replace a share of a language's captions by those of other scenes.

    A caption is replaced by the caption of the same number of a scene with another triple, so it is wrong, but has the
    same form.

    Args:
        rows: lines of the metadata of the scenes.
        rng: draws the captions and their replacements.
        language: the language.
        share: share of all its captions, from 0 to 1.
    """
    places = [(row, number) for row in range(len(rows)) for number in range(len(rows[row]["captions"][language]))]
    captions = [list(row["captions"][language]) for row in rows]
    for row, number in rng.sample(places, round(share * len(places))):
        others = [other["captions"][language] for other in rows if other["triple"] != rows[row]["triple"]]
        captions[row][number] = rng.choice([other[number] for other in others if number < len(other)])
    return _with_captions(rows, language, captions)


def with_few_captions(rows: Rows, rng: random.Random, language: str, share: float) -> Rows:
    """Keep a language's captions of a share of the scenes. The other scenes get the English captions in their place.

    Every row needs captions in all languages, so this is what one can do where translations are missing.

    Args:
        rows, rng, language: see [`with_wrong_captions`].
        share: share of the scenes that keep their captions, from 0 to 1.
    """
    kept = set(rng.sample(range(len(rows)), round(share * len(rows))))
    captions = [
        list(row["captions"][language if number in kept else SOURCE_LANGUAGE]) for number, row in enumerate(rows)
    ]
    return _with_captions(rows, language, captions)


def _with_captions(rows: Rows, language: str, captions: list[list[str]]) -> Rows:
    return [
        row | {"captions": row["captions"] | {language: of_row}} for row, of_row in zip(rows, captions, strict=True)
    ]


def noisy(short: str, share: float) -> str:
    """The name of the change with a share of wrong captions."""
    return f"noise{round(100 * share)}-{short}"


def scarce(short: str) -> str:
    """The name of the change with few captions."""
    return f"few-{short}"


# Each takes the lines of train's metadata and a generator that has the seed of the run, and returns new lines.
CHANGES: dict[str, Change] = {"short-captions": with_short_captions}
CHANGES |= {
    noisy(short, share): partial(with_wrong_captions, language=language, share=share)
    for short, language in WEAK_LANGUAGES.items()
    for share in NOISY_SHARES
}
CHANGES |= {
    scarce(short): partial(with_few_captions, language=language, share=SCARCE_SHARE)
    for short, language in WEAK_LANGUAGES.items()
}
