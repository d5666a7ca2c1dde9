"""Ids of rows: names of files and digests as defaults, and ids that occur twice."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modeling_atri.files import normalized_name

from ..bad_rows import DUPLICATE_ID, Problem
from .checked_row import CheckedRow


# Names whose ids are found for each of them in Python: what `PurePath` would change, and suffixes of odd forms.
_ODD_NAME = r"\\|\n|//|/$|(^|/)\.|^$"


@dataclass(frozen=True)
class RightNames:
    """Ids and names of rows that are right in themselves, as columns.

    Args:
        positions: place of each row in the order of the source, `(rows,)`, ascending.
        names: names of their recordings; null if they have none.
        audio_ids: ids as the rows give them; null if they do not. A row has a name or an id.
        row_at: makes the row at a place, to report that it is wrong.
    """

    positions: np.ndarray
    names: pa.ChunkedArray
    audio_ids: pa.ChunkedArray
    row_at: Callable[[int], CheckedRow]


NO_NAMES = pa.chunked_array([pa.nulls(0, pa.large_string())])


def fill_in_ids(rows: Sequence[CheckedRow], right: RightNames | None = None) -> tuple[pa.ChunkedArray, dict[int, Any]]:
    """Fill in ids and groups that default to file names or contents, and report ids that occur twice.

    Args:
        rows: Rows that were checked one by one. They are changed.
        right (*optional*): The other rows of the source.

    Returns:
        The ids of the right rows, and those of them that have the id of an earlier row, by their places, with the
        problem noted.
    """
    unnamed = [row for row in rows if row.audio_id is None and row.name]
    names = [row.name or "" for row in unnamed]
    if right is None:
        ids, given = NO_NAMES, ids_of_files(names)
    else:
        ids, given = _ids_of_right(right, names)
    for row, audio_id in zip(unnamed, given, strict=True):
        row.audio_id = audio_id
    counts: dict[str, int] = {}
    for row in rows:
        if row.audio_id is None and row.content_id is not None:
            count = counts[row.content_id] = counts.get(row.content_id, 0) + 1
            row.audio_id = row.content_id if count == 1 else f"{row.content_id}-{count}"
    for row in rows:
        if row.group_id is None:
            row.group_id = row.audio_id
    if right is None:
        _report_duplicates(rows)
        return ids, {}
    return ids, _report_all_duplicates(rows, right, ids)


def ids_of_files(names: list[str]) -> list[str]:
    """File names without suffix, or with it where two names differ only there.

    Absolute paths begin below the folder that all of them share. The separator is `/`, also in names from Windows.
    """
    names = _plain_names(names, _common_folder([os.path.dirname(name) for name in names if os.path.isabs(name)]))
    stems = [name.removesuffix(PurePath(name).suffix) for name in names]
    names_of_stem: dict[str, set[str]] = {}
    for stem, name in zip(stems, names, strict=True):
        names_of_stem.setdefault(stem, set()).add(name)
    return [stem if len(names_of_stem[stem]) == 1 else name for stem, name in zip(stems, names, strict=True)]


def ids_of_file_column(names: pa.ChunkedArray) -> pa.ChunkedArray:
    """The ids that `ids_of_files` gives to a column of names without nulls, mostly without making Python objects."""
    if os.name == "nt" or len(names) == 0:
        return _strings(ids_of_files(names.to_pylist()))
    is_odd = pc.match_substring_regex(names, _ODD_NAME)
    odd = names.filter(is_odd).to_pylist()
    is_absolute = pc.and_(pc.starts_with(names, "/"), pc.invert(is_odd))
    folders = pc.replace_substring_regex(names.filter(is_absolute), r"/[^/]*$", "").unique().to_pylist()
    common = _common_folder([folder or "/" for folder in folders] + [os.path.dirname(n) for n in odd if n[:1] == "/"])
    below = len(common.rstrip("/")) + 1
    plain = pc.if_else(is_absolute, pc.utf8_slice_codeunits(names, start=below), names)
    plain = pc.utf8_normalize(plain, "NFC")
    stems = pc.replace_substring_regex(plain, r"^(.*[^/])\.[^./]+$", r"\1")
    if odd:
        of_odd = _plain_names(odd, common)
        plain = _replaced(plain, is_odd, of_odd)
        stems = _replaced(stems, is_odd, [name.removesuffix(PurePath(name).suffix) for name in of_odd])
    if pc.count_distinct(stems) == pc.count_distinct(plain):
        return stems
    pairs = pa.table({"stem": stems, "name": plain}).group_by(["stem", "name"]).aggregate([])
    counts = pairs.group_by("stem").aggregate([("name", "count")])
    shared = counts["stem"].filter(pc.greater(counts["name_count"], 1))
    return pc.if_else(pc.is_in(stems, value_set=shared), plain, stems)


def occurring_again(ids: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """The ids that occur more than once; None if none does."""
    if pc.count_distinct(ids, mode="only_valid").as_py() == len(ids) - ids.null_count:
        return None
    counts = pc.value_counts(ids.drop_null())
    return counts.field("values").filter(pc.greater(counts.field("counts"), 1))


def _common_folder(folders: list[str]) -> str:
    return os.path.commonpath(folders) if folders else ""


def _plain_names(names: list[str], common: str) -> list[str]:
    names = [os.path.relpath(name, common) if os.path.isabs(name) else name for name in names]
    return [PurePath(normalized_name(name).replace("\\", "/")).as_posix() for name in names]


def _ids_of_right(right: RightNames, others: list[str]) -> tuple[pa.ChunkedArray, list[str]]:
    """The ids of right rows, and those that default to the names of other rows."""
    is_unnamed = right.audio_ids.is_null()
    num_unnamed = right.audio_ids.null_count
    # Names that are no valid Unicode do not fit into a column. Their rows are wrong, so an escaped name will do.
    texts = [name.encode(errors="backslashreplace").decode() for name in others]
    own = right.names.filter(is_unnamed)
    found = ids_of_file_column(pa.chunked_array([*own.chunks, pa.array(texts, pa.large_string())], pa.large_string()))
    if num_unnamed == len(right.audio_ids):
        ids = found.slice(0, num_unnamed)
    else:
        ids = _replaced(right.audio_ids, is_unnamed, found.slice(0, num_unnamed)) if num_unnamed else right.audio_ids
    return ids, found.slice(num_unnamed).to_pylist()


def _report_all_duplicates(rows: Sequence[CheckedRow], right: RightNames, ids: pa.ChunkedArray) -> dict[int, Any]:
    given = [row.audio_id for row in rows if row.audio_id is not None]
    texts = [text.encode(errors="backslashreplace").decode() for text in given]
    again = occurring_again(pa.chunked_array([*ids.chunks, pa.array(texts, pa.large_string())], pa.large_string()))
    if again is None:
        return {}
    places = np.flatnonzero(np.asarray(pc.is_in(ids, value_set=again))).tolist()
    of_right: dict[int, CheckedRow] = {}
    for place in places:
        of_right[place] = row = right.row_at(place)
        row.audio_id = ids[place].as_py()
    _report_duplicates(sorted([*rows, *of_right.values()], key=lambda row: row.position))
    return {place: row for place, row in of_right.items() if row.problems}


def _report_duplicates(rows: Sequence[CheckedRow]) -> None:
    first: dict[str, CheckedRow] = {}
    for row in rows:
        if row.audio_id is not None and first.setdefault(row.audio_id, row) is not row:
            other = first[row.audio_id]
            text = (
                f"the `audio_id` {row.audio_id!r} is that of {other.place} already: please give every row its own, or "
                "make them one row if they are one recording"
            )
            if not (row.captions or {}).keys() & (other.captions or {}).keys():
                text += ", with the captions of all languages"
            row.problems.append(Problem(DUPLICATE_ID, text))


def _strings(texts: list[str]) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(texts, pa.large_string())])


def _replaced(values: pa.ChunkedArray, mask: pa.ChunkedArray, new: Any) -> pa.ChunkedArray:
    """A column of strings with new values, in order, where the mask is true."""
    if isinstance(new, pa.ChunkedArray):
        new = new.combine_chunks()
    elif isinstance(new, list):
        new = pa.array(new, pa.large_string())
    whole = values.combine_chunks()
    return pa.chunked_array([pc.replace_with_mask(whole, mask.combine_chunks(), new)])
