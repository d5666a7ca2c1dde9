"""The journal: all translations in one file that batches are appended to and that survives `kill -9`."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modeling_atri.files import sync_folder


JOURNAL_NAME = "translations.jsonl"
_OWN_KEYS = ("language", "source_hash", "text", "score", "flags")  # of a line, beside those of `made`


@dataclass(frozen=True)
class Entry:
    """One translation and how it was made.

    Args:
        language: FLORES-200 code.
        source_hash: Hash of the source text, see `hash_text`.
        text: The translation; empty if there is none.
        score: Score of the translation; None without a scorer or a text.
        flags: What looks wrong, apart from the score.
        made: How it was made: source_language, model, revision, fingerprint, decoding, quality, and `with` (versions
            and device). Entries that differ in anything but `with` are not mixed in a data set.
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

    def as_line(self) -> dict[str, Any]:
        """The fields of the entry, and those of `made` in place of `made`."""
        return {name: getattr(self, name) for name in _OWN_KEYS} | self.made


def hash_text(text: str) -> str:
    """Return the hash of a text, 32 hexadecimal digits."""
    return hashlib.blake2b(text.encode("utf-8", errors="surrogatepass"), digest_size=16).hexdigest()


def identity(made: Mapping[str, Any]) -> dict[str, Any]:
    """The part of an entry's `made` that must be the same in all translations of a data set."""
    return {name: value for name, value in made.items() if name != "with"}


def made_alike(entries: Iterable[Entry], made: Mapping[str, Any]) -> Iterator[Entry]:
    """The entries that were made like `made`."""
    wanted, known = identity(made), dict[int, bool]()  # entries share their `made`, so it is compared once
    for entry in entries:
        alike = known.get(id(entry.made))
        if alike is None:
            alike = known[id(entry.made)] = identity(entry.made) == wanted
        if alike:
            yield entry


class TranslationJournal:
    """The file `translations.jsonl`.

    A line has the fields of an `Entry`, those of `made`, and `place`: its number in its batch and the size of the
    batch. It tells whether a batch was written completely. If not, the batch is removed when the file is read, and
    translated again as a whole. Of entries with the same key, the last counts.

    Args:
        folder (`Path`): The folder of the file. Only one process may write to it at a time.
    """

    def __init__(self, folder: Path):
        self.path = folder / JOURNAL_NAME

    def read(self) -> dict[tuple[str, str], Entry]:
        """Read the entries by key, and remove an incomplete batch that a stopped process has left.

        Raises:
            ValueError: if a line is not an entry, except for an unfinished line at the end.
        """
        entries: dict[tuple[str, str], Entry] = {}
        if not self.path.exists():
            return entries
        batch: list[Entry] = []
        whole = position = 0  # ends of the last complete batch and of the line, in bytes
        made: dict[str, dict[str, Any]] = {}  # by its text, shared by the entries: most were made alike
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
        """Append a batch, and wait until it is safe from a power cut."""
        lines = [
            json.dumps(entry.as_line() | {"place": [place, len(batch)]}, ensure_ascii=False) + "\n"
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
            fields = json.loads(line.decode())
            place, size = fields.pop("place")
            language, source_hash, text, score, flags = (fields.pop(name) for name in _OWN_KEYS)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"Line {number} of {self.path} is not a translation ({error!r}). Repair it, or name another folder to "
                "start anew."
            ) from error
        fields = made.setdefault(repr(fields), fields)
        return Entry(language, source_hash, text, score, tuple(flags), fields), place, size
