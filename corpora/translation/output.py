"""The output folder of a translation: one process at a time, and nothing of an earlier run is lost or mixed."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import datasets
from filelock import FileLock, Timeout

from modeling_atri.files import remove_unfinished
from modeling_atri.languages_atri import language_name

from ..folders.prepared import OVERLAP_FILE, read_dropped_clips
from ..sources.metadata import METADATA_FILE
from .journal import JOURNAL_NAME, Entry, identity, made_alike
from .translated_rows import file_name_in


Entries = Mapping[tuple[str, str], Entry]  # by language and hash of the source text


def check_output(data: str | PathLike[str], split: str | None, output: Path) -> None:
    """Raise a ValueError unless `data` exists and `output` is a folder that may be written to."""
    path = Path(data)
    if not path.exists():
        raise ValueError(f"There is no folder or file {str(path)!r}. Captions are translated from files on disk.")
    folder = path.parent if path.is_file() else path / (split or "")
    if output.resolve() == folder.resolve():
        raise ValueError(f"Translations of {str(folder)!r} cannot be written to the same folder: name another one.")
    if output.exists() and not output.is_dir():
        raise ValueError(f"{str(output)!r} is a file. Name a folder for the translations.")
    if (output / METADATA_FILE).exists() and not (output / JOURNAL_NAME).exists():
        raise ValueError(f"{str(output)!r} holds another data set, which would be overwritten. Name another folder.")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from translating into a folder. It is created if it does not exist.

    Raises:
        ValueError: if another process is translating into it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise ValueError(f"Another process is translating into {str(folder)!r}.") from error
    try:
        remove_unfinished(folder)  # files that a killed process may have left
        yield
    finally:
        lock.release()


def without_overlaps(
    rows: datasets.Dataset, others: list[dict[str, Any]], output: Path
) -> tuple[datasets.Dataset, list[dict[str, Any]]]:
    """Leave out the rows (and their other columns) that `drop_overlaps` took out of the output before.

    Raises:
        ValueError: if no row is left.
    """
    dropped = {clip.file_name for clip in read_dropped_clips(output)}
    if not dropped:
        return rows, others
    names = [file_name_in(output, row["audio"]["path"]) for row in rows.select_columns("audio")]
    kept = [place for place, name in enumerate(names) if name not in dropped]
    if not kept:
        raise ValueError(
            f"{output / OVERLAP_FILE} lists every clip of the data as one of the test data too, so none is left to "
            "translate. Remove the file to translate them all the same, or name another folder."
        )
    return rows.select(kept), [others[place] for place in kept]


def find_stale(
    path: Path, entries: Entries, wanted: set[tuple[str, str]], made: Mapping[str, Any], retranslate: bool
) -> set[tuple[str, str]]:
    """Find the wanted translations that the journal at `path` has, but that were made in another way than `made`.

    Raises:
        ValueError: if there are any, unless `retranslate` says that they are translated again.
    """
    there = wanted & entries.keys()
    stale = there - {entry.key for entry in made_alike((entries[key] for key in there), made)}
    if not stale or retranslate:
        return stale
    theirs = entries[min(stale)].made
    differing = [
        f"{name} was {theirs.get(name)!r}, is {value!r}"
        for name, value in identity(made).items()
        if theirs.get(name) != value
    ]
    raise ValueError(
        f"{path} holds {len(stale)} of these translations, made in another way ({'; '.join(differing)}), and the two "
        "are not mixed. Translate as before, name another folder, or pass `retranslate` to translate them again."
    )


def earlier_languages(entries: Entries, known: set[str], hashes: set[str], made: Mapping[str, Any]) -> dict[str, int]:
    """Count the texts (of all `hashes`) that each language of the journal lacks, apart from the `known` languages.

    Translations that were made in another way than `made` do not count.
    """
    lacking = {code: len(hashes) for code, _ in entries if code not in known}
    if lacking:
        for entry in made_alike(entries.values(), made):
            if entry.language in lacking and entry.source_hash in hashes:
                lacking[entry.language] -= 1
    return lacking


def refuse_loss(output: Path, earlier: Mapping[str, int], codes: Sequence[str]) -> None:
    """Raise a ValueError if the data set in `output` has languages that this run could not keep."""
    path = output / METADATA_FILE
    if not path.exists():
        return
    with path.open("rb") as file:
        try:
            there = json.loads(file.readline())["captions"]
        except (ValueError, KeyError, TypeError):  # changed by hand; the file is written anew
            return
    if lost := {code: lacking for code, lacking in earlier.items() if lacking and code in there}:
        names = ", ".join(f"{code} ({language_name(code)}; {lacking} captions)" for code, lacking in lost.items())
        raise ValueError(
            f"{str(output)!r} has languages that are not asked for now, and some of their captions are missing or "
            f"were translated in another way: {names}. They would be lost: name them too "
            f"({' '.join([*lost, *codes])}), or name another folder."
        )
