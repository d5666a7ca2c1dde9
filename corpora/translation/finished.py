"""What the last finished run of a translation was made of, so that the same run over the same files does no work."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from modeling_atri import __version__
from modeling_atri.files import content_digest, written_whole

from ..folders.prepared import OVERLAP_FILE
from ..sources.metadata import METADATA_FILE
from .journal import JOURNAL_NAME
from .translated_rows import FLAGGED_NAME


FINISHED_NAME = ".finished.json"
_WRITTEN = (JOURNAL_NAME, METADATA_FILE, FLAGGED_NAME, "README.md")  # files of the output


class FinishedRun:
    """The record of a run in its output folder.

    It has the facts of the run, a digest of the content of the file of rows and of every file of the output, size and
    time of change of each recording, and the summary. It is only valid if all of them are as they were.

    Args:
        output (`Path`): Folder of the translations.
        rows (`Path`): File of rows that is translated.
        facts: All else that decides about the output, as JSON values.
    """

    def __init__(self, output: Path, rows: Path, facts: Mapping[str, Any]):
        self._path = output / FINISHED_NAME
        self._written = [output / name for name in _WRITTEN]
        # Those that may change during the run have the digest from before it.
        given = {str(path.resolve()): _digest(path) for path in (rows, output / OVERLAP_FILE)}
        self._facts: dict[str, Any] = json.loads(json.dumps({"version": __version__, "given": given, **facts}))

    def read(self) -> dict[str, Any] | None:
        """The summary of the run; None if there was no such run or anything has changed since."""
        try:
            found = json.loads(self._path.read_bytes())
            if found["facts"] != self._facts or found["recordings"]["digest"] != _states(found["recordings"]["paths"]):
                return None
            summary: dict[str, Any] = found["summary"]
            return summary if found["written"] == [_digest(path) for path in self._written] else None
        except (OSError, ValueError, KeyError, TypeError):  # there is none, or it is not whole: the run does its work
            return None

    def write(self, recordings: Iterable[str], summary: Mapping[str, Any]) -> None:
        """Record a run that has just ended, with the paths of its recordings."""
        paths = [os.path.abspath(path) for path in recordings]
        found = {
            "facts": self._facts,
            "written": [_digest(path) for path in self._written],
            "recordings": {"paths": paths, "digest": _states(paths)},
            "summary": dict(summary),
        }
        with written_whole(self._path) as file:
            file.write(json.dumps(found).encode())


def _digest(path: Path) -> str | None:
    return content_digest(path) if path.is_file() else None


def _states(paths: Iterable[str]) -> str:
    """A digest of size and time of change of each file."""
    digest = hashlib.blake2b(digest_size=16)
    for path in paths:
        status = os.stat(path)
        digest.update(f"{path} {status.st_size} {status.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()
