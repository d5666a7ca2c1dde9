"""Facts of rows that were checked, for those that use the rows: the Trainer, evaluation, other processes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple
from weakref import WeakKeyDictionary

import datasets
import numpy as np

from ..lookup import EmbeddingLookup
from .lengths import FileStates, file_states


class StoredPlace(NamedTuple):
    """The folder of files that hold checked rows, and the folder of the data set as its caller named it."""

    folder: str
    data_folder: str


@dataclass(frozen=True)
class CheckedFacts:
    """What a check found out about a data set.

    Args:
        languages: FLORES-200 codes of the captions that every row has.
        needs_sound: whether each row has a recording or an embedding.
        states: sizes, times of the last change and numbers of samples of the rows' files, `(rows, 3)`, int64; -1 where
            they are not known. None if rows have embeddings or captions alone.
        digest: digest of ids, captions and groups, as [`arrow_digest`] makes it; None if it was not computed.
        place: where other processes can map the rows; None if they are in memory.
    """

    languages: tuple[str, ...]
    needs_sound: bool
    states: np.ndarray | None = None
    digest: str | None = None
    place: StoredPlace | None = None

    def count_longer(self, seconds: float) -> int | None:
        """Count the recordings that are longer than `seconds`; None if some lengths are not known."""
        if self.states is None or (self.states[:, 2] < 0).any():
            return None
        return int((self.states[:, 2] / 16_000 > seconds).sum())


# A data set never changes, apart from its format; what is made of it is another object.
_FACTS: "WeakKeyDictionary[datasets.Dataset, CheckedFacts]" = WeakKeyDictionary()


def note_checked(rows: datasets.Dataset, facts: CheckedFacts) -> None:
    """Remember that rows were checked, as long as this object exists."""
    _FACTS[rows] = facts


def facts_of(rows: object) -> CheckedFacts | None:
    """Facts of rows that were checked in this process; None for other rows, or if their format was changed since."""
    if not isinstance(rows, datasets.Dataset) or rows not in _FACTS:
        return None
    form = rows.format
    is_plain = form["type"] is None or isinstance(form["format_kwargs"].get("transform"), EmbeddingLookup)
    return _FACTS[rows] if is_plain and form["columns"] == rows.column_names else None


def are_unchanged(rows: datasets.Dataset, facts: CheckedFacts) -> bool:
    """Whether the files of rows have the sizes and times that they had when the rows were checked."""
    if facts.states is None or "audio" not in rows.column_names:
        return True
    paths = paths_of(rows)
    is_file = facts.states[:, 0] >= 0
    states = file_states([path for path, is_one in zip(paths, is_file.tolist(), strict=True) if is_one and path])
    return same_states(states, facts.states[is_file])


def same_states(states: FileStates, before: np.ndarray) -> bool:
    """Whether files have the sizes and times in the first two columns of `before`."""
    return bool((states.sizes == before[:, 0]).all() and (states.times == before[:, 1]).all())


def paths_of(rows: datasets.Dataset) -> Sequence[str | None]:
    """The path of each recording, or the name of one that the rows contain."""
    paths: list[str | None] = []
    for table in rows.select_columns(["audio"]).with_format("arrow").iter(batch_size=2**14):
        for chunk in table["audio"].chunks:
            paths += chunk.field("path").to_pylist()
    return paths
