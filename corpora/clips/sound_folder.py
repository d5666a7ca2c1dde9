"""The sound files below a folder, found by the names that caption files give them."""

import html
import os
from collections.abc import Sequence
from pathlib import Path, PurePath

from modeling_atri.audio_io import find_sounds
from modeling_atri.files import existing_path, normalized_name

from ..rows.bad_rows import MISSING_RECORDING
from .clip import AMBIGUOUS_RECORDING


class RecordingError(ValueError):
    """A clip has no file, or several. `kind` is the kind of fault that it is counted as."""

    def __init__(self, kind: str, reason: str):
        super().__init__(reason)
        self.kind = kind


class SoundFolder:
    """Index of the sound files below a folder.

    Args:
        folder: The folder. It is searched as by [`~audio_io.find_sounds`].

    Attributes:
        by_stem: Files by their name without suffix.

    Raises:
        ValueError: if there is no such folder, or no sound file below it.
        OSError: if the folder cannot be searched.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(os.path.abspath(folder))
        self.by_stem: dict[str, list[Path]] = {}
        self._by_name: dict[str, list[Path]] = {}
        for _, (path, *_) in sorted(find_sounds(self.folder).items()):
            self.by_stem.setdefault(plain_name(path.stem), []).append(path)
            self._by_name.setdefault(plain_name(path.name), []).append(path)

    def find(self, name: str) -> Path:
        """Find the file of a name, or else of that name with another suffix.

        A path is looked for below the folder first, then its last part anywhere below. Different spellings of a name
        match: `&#39;` is an apostrophe, and several spaces are one.

        Raises:
            RecordingError: if there is no such file, or there are several.
        """
        if os.path.isfile(exact := existing_path(self.folder / name)):
            return exact
        last = PurePath(name).name
        found = self._by_name.get(plain_name(last)) or self.by_stem.get(plain_name(os.path.splitext(last)[0]), [])
        return self.only(found, name)

    def only(self, found: Sequence[Path], name: str) -> Path:
        """Return the only file of those found for a name.

        Raises:
            RecordingError: if there is none, or there are several.
        """
        if not found:
            raise RecordingError(MISSING_RECORDING, f"there is no file of it ({name}) below {self.folder}")
        if len(found) > 1:
            names = ", ".join(str(path.relative_to(self.folder)) for path in found)
            reason = f"several files fit: {names}; name a folder that holds one of each clip"
            raise RecordingError(AMBIGUOUS_RECORDING, reason)
        return found[0]


def plain_name(name: str) -> str:
    """Normalise a name: archives and JSON files differ in Unicode forms, HTML entities and spaces."""
    return " ".join(normalized_name(html.unescape(name)).split())
