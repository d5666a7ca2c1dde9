"""What a command that encodes sounds prints at its end: figures, failures, and files that were passed over."""

from collections.abc import Mapping
from itertools import islice

from modeling_atri.files import printable
from modeling_atri.hub_cards.tables import counted, text_table


_SHOWN_FAILURES, _SHOWN_SUFFIXES = 5, 10
_EXTRA = "modeling_atri[av]"  # named by the errors of files that need it


def figures_table(figures: Mapping[str, object]) -> str:
    """A table with one row of figures, by their titles."""
    return text_table(list(figures), [list(figures.values())], align=">" * len(figures))


def print_failures(failures: Mapping[str, str], where: str) -> None:
    """Print the first failures with their reasons, after a phrase that says where all of them are."""
    if not failures:
        return
    print(f"{where} lists {counted(len(failures), 'failure')} and the reasons. The first:")
    for name, reason in islice(failures.items(), _SHOWN_FAILURES):
        print(f"  {printable(name)}: {printable(reason)}")
    if num_waiting := sum(_EXTRA in reason for reason in failures.values()):
        print(f"{counted(num_waiting, 'file')} can be read after `pip install '{_EXTRA}'`.")


def print_other_files(numbers: Mapping[str, int]) -> None:
    """Print the number of files of each suffix that is not that of a sound, the most frequent ones first."""
    if not numbers:
        return
    suffixes = sorted(numbers, key=lambda suffix: (-numbers[suffix], suffix))
    shown = [f"{numbers[suffix]} {suffix or 'without a suffix'}" for suffix in suffixes[:_SHOWN_SUFFIXES]]
    rest = sum(numbers[suffix] for suffix in suffixes[_SHOWN_SUFFIXES:])
    listed = ", ".join([*shown, *([f"{rest} others"] if rest else [])])
    print(f"Passed over, because their suffix is not that of a sound: {listed}.")
