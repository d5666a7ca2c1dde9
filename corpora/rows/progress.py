"""The progress bar of checks that take long."""

from typing import Any

from tqdm.auto import tqdm


_SECONDS_BEFORE = 2.0  # most checks are over by then


def progress_bar(name: str, total: int | None, unit: str = " rows") -> "tqdm[Any]":
    """A bar on the standard error of a terminal, shown only after two seconds.

    Args:
        name: What is counted.
        total: Their number; None if it is not known.
        unit: Unit of the numbers.
    """
    return tqdm(total=total, desc=name, unit=unit, unit_scale=True, delay=_SECONDS_BEFORE, disable=None)
