"""Explains the error of a training clip that cannot be used."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from modeling_atri.corpora.rows.bad_rows import BadRowError


@contextmanager
def bad_row_explained(on_bad_row: str) -> Iterator[None]:
    """Replace the stack of a data loader's worker in a `BadRowError` by advice on what to do."""
    try:
        yield
    except BadRowError as error:
        traceback.clear_frames(error.__traceback__)  # releases the workers, which then end
        sentence = str(error).rpartition(f"{BadRowError.__name__}: ")[2].strip()
        advice = "Mend it or leave it out; with `on_bad_row='skip'` training goes around such clips."
        if on_bad_row == "skip":
            advice = "Mend them, or train on other recordings: training can only go around some."
        raise BadRowError(f"{sentence} {advice}") from None
