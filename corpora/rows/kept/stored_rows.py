"""Checked rows on disk, beside the data, and whether they still hold."""

import hashlib
import json
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa

from modeling_atri import __version__
from modeling_atri.files import file_state, written_whole

from ..bad_rows import MISSING_RECORDING, SHORT_RECORDING, UNREADABLE_RECORDING, BadRow, BadRowError
from ..checks.checked_row import CheckedRow
from ..progress import progress_bar
from ..recordings import is_url, joined_paths, usable_length
from .arrow_digest import ArrowDigest
from .facts import CheckedFacts, StoredPlace, note_checked, same_states
from .joined import Beside, Joined, record_batches
from .lengths import KNOWN_LENGTHS, file_states


_FORMAT = 1  # of the files; those of another one are made again
LENGTHS_NAME = "lengths.bin"  # of sound files, for all files of rows in the folder
_ROWS, _FILES, _FACTS = "rows.arrow", "files.arrow", "facts.json"
_BLOCK_BYTES = 2**22  # of a file that are read at once
_DIGESTED = ["audio_id", "captions", "group_id"]
_OF_RECORDINGS = (MISSING_RECORDING, UNREADABLE_RECORDING, SHORT_RECORDING)


@dataclass
class LoadedRows:
    """Checked rows.

    Args:
        rows: the rows.
        bad_rows: rows that were left out.
        other_languages: languages that were left out because the first row lacks them.
        beside: what still has to be taken from the source. Then there is a row for each row of the source, and those
            that were left out are null. None if the rows are whole.
    """

    rows: datasets.Dataset
    bad_rows: list[BadRow]
    other_languages: list[str]
    beside: Beside | None = None


def entry_folder(cache: Path, name: str, options: dict[str, Any]) -> Path:
    """The folder of the rows of a source, such as a file, that were checked with these options."""
    key = json.dumps([_FORMAT, name, options], sort_keys=True, default=str)
    return cache / f"{name}-{hashlib.blake2b(key.encode(), digest_size=8).hexdigest()}"


def source_state(source: Path) -> dict[str, Any]:
    """What shows that a file of rows, or the package, has not changed."""
    size, mtime, ctime = file_state(source)
    return {
        "format": _FORMAT,
        "version": __version__,
        "file": source.name,
        "folder": str(source.parent),
        "size": size,
        "mtime_ns": mtime,
        "ctime_ns": ctime,
    }


def state_of_files(name: str, files: Iterable[Path]) -> dict[str, Any]:
    """What shows that a source of several files, or the package, has not changed. Its rows name absolute paths."""
    states = [[str(file.absolute()), *file_state(file)] for file in files]
    return {"format": _FORMAT, "version": __version__, "file": name, "folder": "", "files": states}


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
    with (
        written_whole(folder / _ROWS) as file,
        pa.ipc.new_stream(file, joined.schema) as writer,
        progress_bar("rows kept", len(joined.states)) as bar,
    ):
        for table in joined.tables():
            digested = table.select(_DIGESTED)
            digest.update(digested if table["audio_id"].null_count == 0 else digested.drop_null())
            for batch in record_batches(table):
                writer.write_batch(batch)
            bar.update(len(table))
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
        "beside": None if joined.beside is None else [_pairs(value) for value in joined.beside],
        "bad_rows": [row._asdict() for row in joined.bad_rows],
        "wrong_files": files_of(joined.wrong),
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
    if facts is None or not is_same_source(facts["source"], source):
        return None
    own_folder = source["folder"]
    if facts["bad_rows"] and not (  # what is wrong with them names the folder
        skip and facts["needs_sound"] == needs_sound and facts["source"]["folder"] == own_folder
    ):
        return None
    if not (is_checked or all(_checksum(folder / name) == kept for name, kept in facts["sums"].items())):
        return None
    return _mapped(folder, facts, own_folder, None if is_checked else own_folder)


def _pairs(value: Any) -> Any:
    """Dicts as lists of pairs, because the keys of JSON objects are strings."""
    return list(value.items()) if isinstance(value, dict) else value


def _beside(value: Any) -> Beside | None:
    return None if value is None else Beside(value[0], *(dict(pairs) for pairs in value[1:]))


def map_stored(place: StoredPlace) -> LoadedRows | None:
    """Map the rows that another process has just checked or taken over; None if they are not on this machine."""
    folder = Path(place.folder)
    facts = _read_facts(folder)
    return None if facts is None else _mapped(folder, facts, place.data_folder, None)


def _mapped(folder: Path, facts: dict[str, Any], own_folder: str, checked_in: str | None) -> LoadedRows | None:
    """The rows of a data set in `own_folder`, whose files are looked at in `checked_in` first if that is given."""
    try:
        files = pa.ipc.open_stream(pa.memory_map(str(folder / _FILES))).read_all()
        rows = datasets.Dataset.from_file(str(folder / _ROWS))
    except FileNotFoundError:  # another process that cannot lock the folder has removed or replaced them
        return None
    states = np.column_stack([files[column].to_numpy() for column in ("size", "time", "samples")])
    if checked_in is not None and not hold(files["file"], states, facts["wrong_files"], checked_in):
        return None
    if facts["source"]["folder"] != own_folder:
        rows = _in_folder(rows, files["file"], own_folder)
    KNOWN_LENGTHS.look_in(folder.parent / LENGTHS_NAME)
    own = CheckedFacts(tuple(facts["languages"]), True, states, facts["digest"], StoredPlace(str(folder), own_folder))
    note_checked(rows, own)
    bad_rows = [BadRow(**row) for row in facts["bad_rows"]]
    return LoadedRows(rows, bad_rows, facts["other_languages"], _beside(facts.get("beside")))


def is_same_source(before: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether a source is as it was. The folder of a file of rows may have been moved."""
    return all(before.get(key) == value for key, value in now.items() if key != "folder")


def is_unchanged(before: dict[str, Any]) -> bool:
    """Whether the file or files that `source_state` or `state_of_files` described are as they were."""
    try:
        if "files" in before:
            return state_of_files(before["file"], (Path(file) for file, *_ in before["files"])) == before
        return source_state(Path(before["folder"]) / before["file"]) == before
    except OSError:
        return False


def source_of(folder: Path) -> dict[str, Any] | None:
    """The state of the source whose checked rows are in a folder; None if there are none."""
    facts = _read_facts(folder)
    return None if facts is None else facts["source"]


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


def files_of(rows: Iterable[tuple[CheckedRow, tuple[int, int]]]) -> list[list[Any]]:
    """Of rows that were checked one by one: the path of the file, its size and time, and its fault, or None."""
    return [
        [row.path, *state, next((problem.text for problem in row.problems if problem.kind in _OF_RECORDINGS), None)]
        for row, state in rows
        if row.path is not None and not is_url(row.path)
    ]


def hold(files: pa.ChunkedArray, states: np.ndarray, wrong_files: Sequence[Any], folder: str) -> bool:
    """Whether all files are as they were, and wrong ones still are wrong."""
    is_file = states[:, 0] >= 0
    names = files if is_file.all() else files.filter(pa.array(is_file))
    if not same_states(file_states(joined_paths(folder, names).to_pylist()), states[is_file]):
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
    paths = joined_paths(folder, files).cast(pa.string()).combine_chunks()
    audio = pa.StructArray.from_arrays([pa.nulls(len(paths), pa.binary()), paths], ["bytes", "path"])
    schema = datasets.Features({"audio": datasets.Audio(decode=False)}).arrow_schema
    renamed = datasets.Dataset(pa.table({"audio": audio}, schema=schema))
    others = rows.remove_columns(["audio"])
    joined = datasets.concatenate_datasets([renamed, others], axis=1)
    return joined.select_columns(rows.column_names)
