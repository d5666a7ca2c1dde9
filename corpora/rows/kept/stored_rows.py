"""Checked rows on disk, beside the data, and whether they still hold."""

import hashlib
import json
import shutil
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa

from modeling_atri import __version__
from modeling_atri.files import written_whole

from ..arrow_digest import ArrowDigest
from ..bad_rows import MISSING_RECORDING, SHORT_RECORDING, UNREADABLE_RECORDING, BadRow, BadRowError
from ..checked_row import CheckedRow
from ..recordings import is_url, usable_length
from .block_checks import joined_paths
from .facts import CheckedFacts, StoredPlace, note_checked, same_states
from .joining import Joined, record_batches
from .lengths import KNOWN_LENGTHS, file_states
from .part import Part


_FORMAT = 1  # of the files; those of another one are made again
LENGTHS_NAME = "lengths.bin"  # of sound files, for all files of rows in the folder
_ROWS, _FILES, _FACTS = "rows.arrow", "files.arrow", "facts.json"
_BLOCK_BYTES = 2**22  # of a file that are read at once
_DIGESTED = ["audio_id", "captions", "group_id"]
_OF_RECORDINGS = (MISSING_RECORDING, UNREADABLE_RECORDING, SHORT_RECORDING)


@dataclass
class LoadedRows:
    """Checked rows, the rows that were left out, and languages that were left out because the first row lacks them."""

    rows: datasets.Dataset
    bad_rows: list[BadRow]
    other_languages: list[str]


def entry_folder(cache: Path, source: Path, options: dict[str, Any]) -> Path:
    """The folder of the rows of a file that were checked with these options."""
    key = json.dumps([_FORMAT, source.name, options], sort_keys=True, default=str)
    return cache / f"{source.name}-{hashlib.blake2b(key.encode(), digest_size=8).hexdigest()}"


def source_state(source: Path) -> dict[str, Any]:
    """What shows that a file of rows, or the package, has not changed."""
    status = source.stat()
    return {
        "format": _FORMAT,
        "version": __version__,
        "file": source.name,
        "folder": str(source.parent),
        "size": status.st_size,
        "mtime_ns": status.st_mtime_ns,
        "ctime_ns": status.st_ctime_ns,  # an edited file may have been given its old time, as rsync does
    }


def store_rows(
    folder: Path, source: dict[str, Any], joined: Joined, languages: Sequence[str], others: Sequence[str], sound: bool
) -> None:
    """Write checked rows. The facts come last, so that a process that is killed leaves nothing half done.

    Args:
        folder: as `entry_folder` names it.
        source: what `source_state` returned before the rows were read.
        joined: the rows.
        languages: of their captions.
        others: languages that are left out.
        sound: whether every row needs a sound.
    """
    (folder / _FACTS).unlink(missing_ok=True)
    digest = ArrowDigest()
    with written_whole(folder / _ROWS) as file, pa.ipc.new_stream(file, joined.schema) as writer:
        for batch in record_batches(joined):
            digest.update(pa.Table.from_batches([batch]).select(_DIGESTED))
            writer.write_batch(batch)
    sizes, times, samples = np.ascontiguousarray(joined.states.T)
    files = pa.table({"file": joined.files, "size": sizes, "time": times, "samples": samples})
    with written_whole(folder / _FILES) as file, pa.ipc.new_stream(file, files.schema) as writer:
        writer.write_table(files)
    facts = {
        "source": source,
        "sums": {name: _checksum(folder / name) for name in (_ROWS, _FILES)},
        "languages": list(languages),
        "other_languages": list(others),
        "needs_sound": sound,
        "digest": digest.hexdigest(),
        "bad_rows": [row._asdict() for row in joined.bad_rows],
        "wrong_files": _files_of(joined.wrong),
    }
    with written_whole(folder / _FACTS) as file:
        file.write(json.dumps(facts).encode())  # in ASCII, because names may have half a character


def load_stored(
    folder: Path, source: dict[str, Any], needs_sound: bool, skip: bool, is_checked: bool = False
) -> LoadedRows | None:
    """Map checked rows into memory; None if there are none, or they no longer hold.

    They hold if the file of rows and all sound files have the same sizes and times as before, and the files on disk
    are not damaged. Rows that were left out have to have the same faults.

    Args:
        folder, source: as for `store_rows`.
        needs_sound: whether every row needs a sound.
        skip: whether wrong rows may be left out.
        is_checked: whether another process has just made sure that the rows hold.
    """
    facts = _read_facts(folder)
    if facts is None or any(facts["source"].get(key) != value for key, value in source.items() if key != "folder"):
        return None
    own_folder = source["folder"]
    if facts["bad_rows"] and not (  # what is wrong with them names the folder
        skip and facts["needs_sound"] == needs_sound and facts["source"]["folder"] == own_folder
    ):
        return None
    if not (is_checked or all(_checksum(folder / name) == kept for name, kept in facts["sums"].items())):
        return None
    return _mapped(folder, facts, own_folder, None if is_checked else own_folder)


def map_stored(place: StoredPlace) -> LoadedRows | None:
    """Map the rows that another process has just checked or taken over; None if they are not on this machine."""
    folder = Path(place.folder)
    facts = _read_facts(folder)
    return None if facts is None else _mapped(folder, facts, place.data_folder, None)


def _mapped(folder: Path, facts: dict[str, Any], own_folder: str, checked_in: str | None) -> LoadedRows | None:
    """The rows of a data set in `own_folder`, whose files are looked at in `checked_in` first if that is given."""
    files = pa.ipc.open_stream(pa.memory_map(str(folder / _FILES))).read_all()
    states = np.column_stack([files[column].to_numpy() for column in ("size", "time", "samples")])
    if checked_in is not None and not _hold(files["file"], states, facts["wrong_files"], checked_in):
        return None
    rows = datasets.Dataset.from_file(str(folder / _ROWS))
    if facts["source"]["folder"] != own_folder:
        rows = _in_folder(rows, files["file"], own_folder)
    KNOWN_LENGTHS.look_in(folder.parent / LENGTHS_NAME)
    own = CheckedFacts(tuple(facts["languages"]), True, states, facts["digest"], StoredPlace(str(folder), own_folder))
    note_checked(rows, own)
    return LoadedRows(rows, [BadRow(**row) for row in facts["bad_rows"]], facts["other_languages"])


def part_holds(part: Part, folder: str) -> bool:
    """Whether all files of a part of a pass are as they were, and wrong ones still are wrong."""
    states = np.column_stack([part.right[column].to_numpy() for column in ("size", "time", "samples")])
    return _hold(part.right["file"], states, _files_of(zip(part.others, part.states, strict=True)), folder)


def forget_parts(folder: Path) -> None:
    """Remove the parts of a pass that is over."""
    shutil.rmtree(folder / "parts", ignore_errors=True)


def part_path(folder: Path, number: int) -> Path:
    """The file of a part of a pass that may be killed."""
    return folder / "parts" / f"{number:06d}.arrow"


def _read_facts(folder: Path) -> dict[str, Any] | None:
    try:
        facts: dict[str, Any] = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
        is_whole = all((folder / name).stat().st_size == size for name, (size, _) in facts["sums"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return facts if is_whole else None


def _checksum(file: Path) -> list[int]:
    """The size of a file, and the CRC-32 of what it holds."""
    size, checksum = 0, 0
    with open(file, "rb") as opened:
        while block := opened.read(_BLOCK_BYTES):
            size, checksum = size + len(block), zlib.crc32(block, checksum)
    return [size, checksum]


def _files_of(rows: Iterable[tuple[CheckedRow, tuple[int, int]]]) -> list[list[Any]]:
    """Of rows that were checked one by one: the path of the file, its size and time, and its fault, or None."""
    return [
        [row.path, *state, next((problem.text for problem in row.problems if problem.kind in _OF_RECORDINGS), None)]
        for row, state in rows
        if row.path is not None and not is_url(row.path)
    ]


def _hold(files: pa.ChunkedArray, states: np.ndarray, wrong_files: Sequence[Any], folder: str) -> bool:
    """Whether all files are as they were, and wrong ones still are wrong."""
    is_file = states[:, 0] >= 0
    names = files.filter(pa.array(is_file)).to_pylist()
    if not same_states(file_states(joined_paths(folder, names)), states[is_file]):
        return False
    before = np.array([state[1:3] for state in wrong_files], dtype=np.int64).reshape(-1, 2)
    paths = [path for path, *_ in wrong_files]
    if not same_states(file_states(paths), before):
        return False
    # What is missing to read a file, such as a decoder, may have been installed.
    return all(_fault_of(path) == fault for path, (*_, fault) in zip(paths, wrong_files, strict=True) if fault)


def _fault_of(path: str) -> str | None:
    try:
        usable_length(path)
    except BadRowError as error:
        return str(error)
    return None


def _in_folder(rows: datasets.Dataset, files: pa.ChunkedArray, folder: str) -> datasets.Dataset:
    """Rows whose data set is reached by another path than before."""
    paths = pa.array(joined_paths(folder, files.to_pylist()), pa.string())
    audio = pa.StructArray.from_arrays([pa.nulls(len(paths), pa.binary()), paths], ["bytes", "path"])
    schema = datasets.Features({"audio": datasets.Audio(decode=False)}).arrow_schema
    renamed = datasets.Dataset(pa.table({"audio": audio}, schema=schema))
    others = rows.remove_columns(["audio"])
    joined = datasets.concatenate_datasets([renamed, others], axis=1)
    return joined.select_columns(rows.column_names)
