"""Splits of a data set by their names, and parts and sums of them as `datasets` writes them."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import datasets

from .layout import UNNAMED, match_split


_OPTIONS = "`train_split` and `eval_split` in `atri train`"

Part = tuple[str, str]  # a split, and which of its rows: `[:10%]`, or nothing for all of them


def parse_split(
    split: str | None, known: Sequence[str], name: str, hint: str = "", must_name: bool = False
) -> list[Part]:
    """Parse `"train"`, `"train[:10%]"`, `"train+test"` or `"all"`. Other spellings match (`dev` for `validation`).

    Args:
        split: None takes the only split, or the one without a name.
        known: The splits that there are.
        name, hint: Name of the data set, and beginning of the message, if the split does not exist.
        must_name: Whether a single split must be named, too.

    Raises:
        ValueError: if a split does not exist, or one of several must be named.
    """
    if split is None:
        only = UNNAMED if UNNAMED in known else known[0] if len(known) == 1 and not must_name else None
        return [(_known(only, split, known, name, hint), "")]
    if split == "all" and split not in known:
        return [(part, "") for part in known]
    parts = []
    for word in split.split("+"):
        match = re.fullmatch(r"\s*([^\[\]]+?)\s*(\[.*\](?:\(.*\))?)?\s*", word)
        found = match_split(match[1], known) if match else None
        parts.append((_known(found, split, known, name, hint), (match and match[2]) or ""))
    return parts


def _known(found: str | None, split: str | None, known: Sequence[str], name: str, hint: str) -> str:
    if found is not None:
        return found
    if list(known) == [UNNAMED]:
        raise ValueError(f"{name} has no splits, but `split` is {split!r}: please leave it out.")
    named = ", ".join(filter(None, known))
    if hint:
        raise ValueError(f"{hint}The splits are {named}: please choose one with `split` ({_OPTIONS}).")
    raise ValueError(f"{name} has the splits {named}: please name one as `split` ({_OPTIONS}); got {split!r}.")


def take_parts(parts: Sequence[Part], splits: Mapping[str, datasets.Dataset], split: str | None) -> datasets.Dataset:
    """Return the rows of parts of splits, one after the other. Embedded recordings are not copied.

    Raises:
        ValueError: if a part is not written as `datasets` writes it.
    """
    if len(parts) == 1 and not parts[0][1]:
        return splits[parts[0][0]]
    # Names such as `train-clean` are not allowed by `datasets`, so numbers stand for them.
    numbers = {known: f"s{number}" for number, known in enumerate(splits)}
    try:
        spec = datasets.ReadInstruction.from_spec("+".join(numbers[known] + rows for known, rows in parts))
        instructions: list[Any] = spec.to_absolute({numbers[known]: len(rows) for known, rows in splits.items()})
    except (ValueError, AssertionError) as error:
        raise ValueError(
            f"The split {split!r} is not understood. Write train, train[:100], train[10%:20%] or train+test."
        ) from error
    by_number = {numbers[known]: rows for known, rows in splits.items()}
    found = []
    for part in instructions:
        rows = by_number[part.splitname]
        found.append(rows.select(range(part.from_ or 0, len(rows) if part.to is None else part.to)))
    return datasets.concatenate_datasets(found)
