"""Every translation that was made, in one file that is only added to, batch by batch, and survives `kill -9`."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modeling_atri.files import sync_folder


JOURNAL_NAME = "translations.jsonl"
_KEYS = ("language", "source_hash", "text", "score", "flags", "made")


@dataclass(frozen=True)
class Entry:
    """One translation and how it was made.

    Args:
        language: FLORES-200 code.
        source_hash: of the source text, see `hash_text`.
        text: the translation; empty where there is none.
        score: how much of the meaning came through; None where nobody asked, or there is no text.
        flags: what looks wrong, but for the score.
        made: source_language, model, revision, fingerprint, decoding, quality: entries that differ here are not
            mixed; and with, versions and device, which may differ.
    """

    language: str
    source_hash: str
    text: str
    score: float | None
    flags: tuple[str, ...]
    made: dict[str, Any]

    @property
    def key(self) -> tuple[str, str]:
        return self.language, self.source_hash


def hash_text(text: str) -> str:
    """32 hexadecimal digits of a text."""
    return hashlib.blake2b(text.encode("utf-8", errors="surrogatepass"), digest_size=16).hexdigest()


class TranslationJournal:
    """The file `translations.jsonl`.

    A line is an `Entry` with `made` spread out, and `place`, its number in its batch and the batch's size. By it a
    batch that was not written to its end is known: it is cut off when the file is read, to be made again as a whole.
    Of entries with the same key the last counts.

    Args:
        folder (`Path`): that holds the file, or will. Only one process may write to it: lock it.
    """

    def __init__(self, folder: Path):
        self.path = folder / JOURNAL_NAME

    def read(self) -> dict[tuple[str, str], Entry]:
        """The entries by key; what a stopped process left of a batch is removed.

        Raises:
            ValueError: a line that is none of ours, but for an unfinished one at the end.
        """
        entries: dict[tuple[str, str], Entry] = {}
        if not self.path.exists():
            return entries
        batch: list[Entry] = []
        whole = position = 0  # in bytes: the end of the last whole batch, and of the line
        made: dict[str, dict[str, Any]] = {}  # by its JSON: most entries were made alike
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    break
                position += len(line)
                entry, place, size = self._parse(line, number, made)
                batch.append(entry)
                if place == size:
                    entries |= {entry.key: entry for entry in batch}
                    batch, whole = [], position
        if self.path.stat().st_size > whole:
            os.truncate(self.path, whole)
        return entries

    def append(self, batch: Sequence[Entry]) -> None:
        """Add a batch, and wait until it would outlive a power cut."""
        lines = [
            json.dumps(_as_dict(entry) | {"place": [place, len(batch)]}, ensure_ascii=False) + "\n"
            for place, entry in enumerate(batch, start=1)
        ]
        is_new = not self.path.exists()
        with self.path.open("ab") as file:
            file.write("".join(lines).encode("utf-8"))
            file.flush()
            os.fsync(file.fileno())
        if is_new:
            sync_folder(self.path.parent, recursive=False)

    def _parse(self, line: bytes, number: int, made: dict[str, dict[str, Any]]) -> tuple[Entry, int, int]:
        try:
            fields = json.loads(line)
            place, size = fields.pop("place")
            own = {name: fields.pop(name) for name in _KEYS if name != "made"}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"Line {number} of {self.path} is not a translation ({error!r}). Mend it, or name another folder to "
                "begin anew."
            ) from error
        fields = made.setdefault(json.dumps(fields, sort_keys=True), fields)
        return Entry(**own | {"flags": tuple(own["flags"]), "made": fields}), place, size


def _as_dict(entry: Entry) -> dict[str, Any]:
    own = {name: getattr(entry, name) for name in _KEYS if name != "made"}
    return own | {"flags": list(entry.flags)} | entry.made


__all__ = ["JOURNAL_NAME", "Entry", "TranslationJournal", "hash_text"]
