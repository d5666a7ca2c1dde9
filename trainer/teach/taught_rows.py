"""Training rows of the objective `teach`: embeddings replace sounds, and the teacher's embeddings are added."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import datasets
import numpy as np

from modeling_atri.corpora.rows.bad_rows import Problem
from modeling_atri.corpora.rows.captions import captions_of
from modeling_atri.corpora.rows.plain_rows import CheckedRows

from ..data.batches import without_audio
from .tables import KeyedTable, check_embeddings
from .teachers import TEACHER_COLUMN


_ROWS_AT_ONCE = 1000
_MAX_REMEMBERED = 10_000  # rows: about 100 MB with five captions in eight languages


class TaughtRows(Sequence[dict[str, Any]]):
    """Checked rows with the embeddings that a step needs.

    A row has `teacher_embedding`, the teacher's embeddings of its captions in the anchor language, `(captions, D)`;
    `held_embeddings`, for each held language the embeddings of its captions by the model itself; and, if the rows have
    sounds, `audio_embedding` instead of `audio`. If a sound could not be read, it has the `problem` instead. The first
    10,000 rows that are read stay in memory, because reading and checking them takes longer than a step on cached
    states.

    Args:
        rows: Checked rows.
        anchor: Code of the anchor language.
        teacher: Table of the teacher's embeddings. None if the rows contain them.
        held: Table of each held language, by code.
        clips: Table of the embeddings of the rows' sounds. None if the rows have no sounds, or contain embeddings.
        uses_audio: Whether the loss uses audio embeddings. Otherwise, they are dropped.
    """

    def __init__(
        self,
        rows: Sequence[dict],
        anchor: str,
        teacher: KeyedTable | None,
        held: Mapping[str, KeyedTable],
        clips: KeyedTable | None = None,
        uses_audio: bool = True,
    ):
        reads_vectors = uses_audio and clips is None  # `without_audio` would drop `audio_embedding` too
        self._rows = rows if reads_vectors or isinstance(rows, CheckedRows) else without_audio(rows)
        self._anchor, self._teacher, self._held, self._clips = anchor, teacher, dict(held), clips
        self._uses_audio = uses_audio
        problems = {} if clips is None else clips.facts["problems"]
        self._problems = {name: Problem(*problem) for name, problem in problems.items()}
        self._remembered: dict[int, dict[str, Any]] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        row = self._remembered.get(index)
        if row is None:
            row = self._read(index)
            if len(self._remembered) < _MAX_REMEMBERED:
                self._remembered[index] = row
        return row.copy()

    def _read(self, index: int) -> dict[str, Any]:
        row = {name: value for name, value in self._rows[index].items() if name != "audio"}
        captions = row["captions"]
        if self._teacher is not None:
            row[TEACHER_COLUMN] = self._teacher[captions[self._anchor]]
        row["held_embeddings"] = {code: table[captions[code]] for code, table in self._held.items()}
        if not self._uses_audio:
            row.pop("audio_embedding", None)
        elif row["audio_id"] in self._problems:
            row["problem"] = self._problems[row["audio_id"]]
        elif self._clips is not None:
            (row["audio_embedding"],) = self._clips[[row["audio_id"]]]
        row["captions"] = captions_of(row, [code for code, texts in captions.items() if texts], row["audio_id"])
        return row


def captions_in(rows: Sequence[dict], language: str) -> Iterator[str]:
    """All captions of checked rows in a language."""
    if isinstance(rows, datasets.Dataset):
        rows = rows.with_format(None).select_columns(["captions"])
    for row in without_audio(rows):
        yield from row["captions"][language]


def teacher_vectors(row: Mapping[str, Any]) -> np.ndarray:
    """The teacher's vectors that a row contains, `(1 or captions, D)`, float32.

    Raises:
        ValueError: The value is neither a vector nor a list of vectors of one width.
    """
    try:
        vectors = np.asarray(row[TEACHER_COLUMN], dtype=np.float32)
    except (TypeError, ValueError):
        vectors = np.empty(0, dtype=np.float32)
    if vectors.ndim not in (1, 2) or vectors.size == 0:
        raise ValueError(
            f"`{TEACHER_COLUMN}` of row {row.get('audio_id')!r} must be a list of numbers, or one such list for each "
            f"caption of the anchor language; got {row[TEACHER_COLUMN]!r:.100}."
        )
    return np.atleast_2d(vectors)


def check_teacher_column(rows: Sequence[dict], width: int, language: str) -> tuple[str, int]:
    """Check the teacher's vectors that rows contain, in the column `teacher_embedding`.

    Returns:
        A digest of all vectors, 32 hexadecimal digits, and their number.

    Raises:
        ValueError: A row has no vectors, or vectors that are not normalised, not finite or of another width than
            `width`, or neither one vector nor as many as it has captions in `language`.
    """
    digest, count = hashlib.blake2b(digest_size=16), 0
    iterator = iter(rows if isinstance(rows, CheckedRows) else without_audio(rows))
    while block := list(islice(iterator, _ROWS_AT_ONCE)):
        vectors, names = [], []
        for row in block:
            if row.get(TEACHER_COLUMN) is None:
                raise ValueError(
                    f"Row {row['audio_id']!r} has no `{TEACHER_COLUMN}`, but other rows have. Add it to all rows, or "
                    "remove the column and name a `teacher`."
                )
            of_row = teacher_vectors(row)
            if of_row.shape[1] != width:
                raise ValueError(
                    f"`{TEACHER_COLUMN}` of row {row['audio_id']!r} has {of_row.shape[1]} numbers, but the model's "
                    f"embeddings have {width} (`projection_dim`). Both must have the same width."
                )
            num_captions = len(row["captions"].get(language) or next(iter(row["captions"].values())))
            if len(of_row) not in (1, num_captions):
                raise ValueError(
                    f"`{TEACHER_COLUMN}` of row {row['audio_id']!r} has {len(of_row)} vectors for {num_captions} "
                    "captions. Give one vector for all captions, or one for each."
                )
            vectors.append(of_row)
            names += [row["audio_id"]] * len(of_row)
        checked = check_embeddings(np.concatenate(vectors), names, width, f"The column `{TEACHER_COLUMN}`")
        digest.update(checked.tobytes())
        count += len(checked)
    return digest.hexdigest(), count
