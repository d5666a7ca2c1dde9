"""Tables of text in which characters may be two columns wide, cut to the width of a terminal."""

import unicodedata
from collections.abc import Sequence


_MIN_CELL = 12  # columns to which a cell may be cut
_GAP = "  "


def display_width(text: str) -> int:
    """The number of columns that a text takes in a terminal: two for each wide character of East Asian scripts."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def cut_to(text: str, width: int) -> str:
    """A text of at most `width` columns; the end of a longer one is replaced by an ellipsis."""
    if display_width(text) <= width:
        return text
    kept, used = [], 1
    for char in text:
        used += display_width(char)
        if used > width:
            break
        kept.append(char)
    return f"{''.join(kept)}…"


def fitting_table(header: Sequence[str], rows: Sequence[Sequence[str]], align: str, width: int | None = None) -> str:
    """A table of aligned text.

    Args:
        header: titles of the columns.
        rows: cells, one for each column.
        align: `<` or `>` for each of the first columns, which are always shown whole. All further columns are aligned
            left. They are shown as far as they fit: the last one that does is cut, and those after it are left out.
        width (*optional*): number of columns of the terminal. Default: all is shown.
    """
    lines = [
        [" ".join(cell.split()) if place >= len(align) else cell for place, cell in enumerate(line)]
        for line in [header, *rows]
    ]
    widths = [max(map(display_width, column)) for column in zip(*lines, strict=True)]
    if width is not None:
        left = width - sum(widths[: len(align)]) - len(_GAP) * (len(align) - 1)
        num_shown = len(align)
        for place in range(len(align), len(widths)):
            left -= len(_GAP)
            if left < min(widths[place], _MIN_CELL):
                break
            widths[place] = min(widths[place], left)
            left -= widths[place]
            num_shown += 1
        widths = widths[:num_shown]
    sides = align + "<" * (len(header) - len(align))
    return "\n".join(
        _GAP.join(
            _padded(cell, of_column, side) for cell, of_column, side in zip(line, widths, sides, strict=False)
        ).rstrip()
        for line in lines
    )


def _padded(cell: str, width: int, side: str) -> str:
    cell = cut_to(cell, width)
    space = " " * (width - display_width(cell))
    return space + cell if side == ">" else cell + space
