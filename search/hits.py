"""What a search finds: files, or moments in them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any


@dataclass(frozen=True)
class Hit:
    """A sound, or a moment in it, that was found.

    Args:
        path (`str`): path of the sound below `folder`, with `/` and in Unicode form NFC, as in the index.
        start_s, end_s (`float`): where the moment begins and ends, in seconds; 0 and the duration for a whole file.
        score (`float`): how well it fits. For a question of one part, this is the cosine similarity, from -1 to 1.
        metadata: the values of the columns that came from the side file, by column.
        duration_s (`float`): length of the whole sound in seconds.
        folder (`str`): absolute path or address of the folder that was indexed; empty for stored embeddings whose
            sounds are not known.
    """

    path: str
    start_s: float
    end_s: float
    score: float
    metadata: Mapping[str, Any] = field(default_factory=dict)
    duration_s: float = 0.0
    folder: str = ""

    @property
    def file(self) -> str:
        """Where the sound is: its path below the folder, joined to the folder."""
        return str(PurePosixPath(self.folder) / self.path) if self.folder else self.path
