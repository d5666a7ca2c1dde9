"""The sounds or moments of an index that answer a question."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Literal

import numpy as np

from modeling_atri.files import normalized_name
from modeling_atri.top_k_atri import check_top_k

from .hits import Hit, in_order, moments_of_files
from .index import nearest
from .index.tables import (
    OF_FILES,
    OF_MOMENTS,
    VECTOR,
    IndexTables,
    SoundKey,
    all_of,
    folder_of_row,
    folders_and_paths,
    of_sounds,
    quoted,
    vector_values,
)
from .questions import Question, unit


_WINDOWS_PER_FILE = 4  # that are asked for at first, to find as many files as wanted
_SAMPLE = 1000  # rows whose mean stands for that of the index
_SAME_S = 1e-6


def answer(
    tables: IndexTables,
    questions: Sequence[Question],
    top_k: int = 10,
    by: Literal["file", "moment"] = "file",
    where: str | None = None,
    moments_per_file: int = 1,
    exact: bool | None = None,
) -> list[list[Hit]]:
    """The sounds or moments that fit each question best, best first.

    Args:
        tables (`IndexTables`): the tables of the index.
        questions (sequence of `Question`): what is searched for.
        top_k (`int`, *optional*, defaults to 10): the most hits for each question.
        by (`str`, *optional*, defaults to `"file"`): `"file"` compares whole sounds; `"moment"` compares windows, and
            merges neighbours to moments.
        where (`str`, *optional*): condition of SQL on the columns.
        moments_per_file (`int`, *optional*, defaults to 1): the most moments of one file.
        exact (`bool`, *optional*): whether every row is compared. Default: as the size of the index demands.

    Raises:
        ValueError: an argument is not as it is described here, or the filter cannot be used.
    """
    check_top_k(top_k)
    if by not in ("file", "moment"):
        raise ValueError(f"`by` must be 'file' or 'moment', got {by!r}.")
    if not isinstance(moments_per_file, int) or moments_per_file < 1:
        raise ValueError(f"`moments_per_file` must be a whole number of at least 1, got {moments_per_file!r}.")
    mean = mean_vector(tables) if any(question.absent is not None for question in questions) else None
    names = list(tables.columns)
    if by == "moment":
        return [
            _moments(tables, question, mean, top_k, where, exact, moments_per_file, names) for question in questions
        ]
    directions = np.stack([question.direction[0] for question in questions])
    columns = ["path", "end_s", "duration_s", *names]
    found = nearest.search(tables, directions, top_k, by, where, exact, columns)
    # The row of a whole sound begins at 0, and its `id` holds its folder. Columns of one value are slow to read.
    whole = [
        [{**row, "start_s": 0.0, "folder": folder_of_row(row["id"], row["path"])} for row in rows] for rows in found
    ]
    return [
        in_order(_hits(rows, names, *_scale(question, mean))) for question, rows in zip(questions, whole, strict=True)
    ]


def _moments(
    tables: IndexTables,
    question: Question,
    mean: np.ndarray | None,
    top_k: int,
    where: str | None,
    exact: bool | None,
    moments_per_file: int,
    columns: Sequence[str],
) -> list[Hit]:
    """The best moments. All windows of the files that may have them are compared exactly.

    No moment scores higher than the best window of its file. So files are taken in the order of their best windows,
    until those that are left cannot have one of the best moments.
    """
    factor, offset = _scale(question, mean)
    num_files = top_k
    windows: dict[SoundKey, list[Hit]] = {}  # of the files that were read
    while True:
        best_windows = _best_windows_of_files(tables, question, num_files, where, exact)
        if not best_windows:
            return []
        if new := best_windows.keys() - windows.keys():
            rows = tables.rows(all_of(OF_MOMENTS, of_sounds(sorted(new)), where))
            cosines = (vector_values(rows[VECTOR]).astype(np.float64) * question.direction[0]).sum(axis=1)
            plain = rows.drop_columns([VECTOR]).to_pylist()
            scored = (row | {"score": float(cosine)} for row, cosine in zip(plain, cosines, strict=True))
            for hit in _hits(scored, columns, factor, offset):
                windows.setdefault(SoundKey(hit.folder, hit.path), []).append(hit)
        hits = moments_of_files(chain.from_iterable(windows.values()), moments_per_file)
        most_elsewhere = factor * min(best_windows.values()) + offset
        if len(best_windows) < num_files or (len(hits) >= top_k and hits[top_k - 1].score >= most_elsewhere):
            return hits[:top_k]
        num_files *= 2


def _best_windows_of_files(
    tables: IndexTables, question: Question, num_files: int, where: str | None, exact: bool | None
) -> dict[SoundKey, float]:
    """The cosine of the best window of each of the files that are best by it, the best first.

    More windows are asked for until they are in enough files.
    """
    k = _WINDOWS_PER_FILE * num_files
    while True:
        best: dict[SoundKey, float] = {}
        rows = nearest.search(tables, question.direction[0][None], k, "moment", where, exact, ["path"])[0]
        for row in rows:
            best.setdefault(SoundKey(folder_of_row(row["id"], row["path"]), row["path"]), row["score"])
        if len(best) >= num_files or len(rows) < k:
            return dict(list(best.items())[:num_files])
        k *= 4


def _scale(question: Question, mean: np.ndarray | None) -> tuple[float, float]:
    """The factor and the offset that turn cosines into scores."""
    return question.direction[1], 0.0 if mean is None else question.offset(mean)


def _hits(rows: Iterable[Mapping[str, Any]], columns: Iterable[str], factor: float, offset: float) -> Iterator[Hit]:
    for row in rows:
        metadata = {name: row[name] for name in columns}
        span = row["start_s"], row["end_s"]
        yield Hit(row["path"], *span, factor * row["score"] + offset, metadata, row["duration_s"], row["folder"])


def mean_vector(tables: IndexTables) -> np.ndarray:
    """The mean of the vectors of an index `(projection_dim,)`, of 1000 rows at even distances if it has more."""
    num_rows = tables.windows.count_rows()
    places = np.unique(np.linspace(0, num_rows - 1, min(num_rows, _SAMPLE)).astype(int)).tolist()
    if not places:
        return np.zeros(tables.facts.projection_dim, dtype=np.float32)
    sample = tables.windows.take_offsets(places).select([VECTOR]).to_arrow()
    mean: np.ndarray = vector_values(sample[VECTOR]).mean(axis=0)
    return mean


def stored_vector(tables: IndexTables, like: str | os.PathLike[str] | Hit) -> np.ndarray | None:
    """The vector of a sound of an index, or None if the index does not have it.

    Args:
        tables (`IndexTables`): the tables of the index.
        like (`str`, `Path` or [`Hit`]): the path of a sound, as hits have it or absolute; or a hit. The vector of a
            moment is the mean of those of its windows, normalised.

    Raises:
        ValueError: several folders of the index have a sound of this path.
    """
    if isinstance(like, Hit):
        return _vector_of_hit(tables, like)
    name = normalized_name(os.fspath(like))
    keys = {SoundKey(name[:place], name[place + 1 :]) for place, char in enumerate(name) if char == "/" and place}
    paths = ", ".join(map(quoted, [name, *(key.path for key in keys)]))
    rows = tables.rows(all_of(OF_FILES, f"path IN ({paths})"), ["folder", "path", VECTOR])
    places = [place for place, key in enumerate(folders_and_paths(rows)) if key[1] == name or SoundKey(*key) in keys]
    if len(places) > 1:
        folders = ", ".join(repr(rows["folder"][place].as_py()) for place in places)
        raise ValueError(
            f"Several folders of the index have a sound {name!r}: {folders}. Put its folder before the path."
        )
    return vector_values(rows[VECTOR])[places[0]] if places else None


def _vector_of_hit(tables: IndexTables, hit: Hit) -> np.ndarray | None:
    """The vector of a whole sound; or the normalised mean of those of the windows inside of a moment.

    In a moment that is shorter than a window, it is the mean of the windows that cover its middle.
    """
    of_sound = of_sounds([SoundKey(hit.folder, hit.path)])
    if hit.start_s <= _SAME_S and hit.end_s >= hit.duration_s - _SAME_S:
        conditions = [all_of(OF_FILES, of_sound)]
    else:
        middle_s = (hit.start_s + hit.end_s) / 2
        inside = f"start_s >= {hit.start_s - _SAME_S!r} AND end_s <= {hit.end_s + _SAME_S!r}"
        around = f"start_s <= {middle_s!r} AND end_s >= {middle_s!r}"
        conditions = [all_of(OF_MOMENTS, of_sound, condition) for condition in (inside, around)]
    for condition in conditions:
        vectors = vector_values(tables.rows(condition, [VECTOR])[VECTOR])
        if len(vectors):
            return unit(vectors.mean(axis=0)) if len(vectors) > 1 else vectors[0]
    return None
