"""A row with what is wrong with it."""

from dataclasses import dataclass, field
from typing import Any

from ..bad_rows import BadRow, Problem


@dataclass
class CheckedRow:
    """A row and what is wrong with it.

    Args:
        place: Where it is in its source, as `"line 3"`.
        name: The recording's file name, if it has one. Ids default to it.
        path: Path of the recording on disk, if it is nothing but a file.
        content_id: A digest of the recording, if it has no name and the row no id. Ids default to it.
        audio_id, group_id: As the row gives them; None if it does not, or they are wrong.
        captions: Clean captions by FLORES-200 code; None if there are none.
        problems: What is wrong with the row.
        number: Number of the row among all rows; None for a line that is not a row.
        position: Number of the row, or of the line that is not a row, in the order of the source.
        is_soundless: Whether a recording was looked for and the row names none.
        seconds: Length of the recording; None if it is not known.
        vectors: The vectors of the row, by column.
    """

    place: str
    name: str | None = None
    path: str | None = None
    content_id: str | None = None
    audio_id: str | None = None
    group_id: str | None = None
    captions: dict[str, list[str]] | None = None
    problems: list[Problem] = field(default_factory=list)
    number: int | None = None
    position: int = 0
    is_soundless: bool = False
    seconds: float | None = None
    vectors: dict[str, Any] = field(default_factory=dict)

    def as_bad_row(self) -> BadRow:
        name = self.audio_id or self.name
        # Text that is not valid Unicode could not be written to the list of rows left out.
        name = name and name.encode(errors="backslashreplace").decode()
        return BadRow(self.place, name, self.problems[0].kind, "; ".join(problem.text for problem in self.problems))
