"""Ids of recordings at their source, by which corpora that share a source can be compared."""

import re
from pathlib import PurePath

from modeling_atri.audio_io import SOUND_SUFFIXES


# Name of a file that was downloaded from Freesound: `80399__benboncan__radio-garble.wav`.
_FREESOUND_DOWNLOAD = re.compile(r"(\d+)__[^_]\S*?__")
_YOUTUBE_CLIP = re.compile(r"Y([\w-]{11})(?:\.\w+)?")
# In a name that is known to be of a YouTube video, the `Y` is optional, and times and a suffix may follow.
_YOUTUBE_NAME = re.compile(r"Y?([\w-]{11})(?:_\d+(?:\.\d+)?){0,2}(?:\.[A-Za-z]\w*)?")


def ids_of_clotho_file(file_name: str, sound_id: str | None = None) -> tuple[str, ...]:
    """Ids of a file of Clotho: its name, and its number on Freesound if the name or the metadata has it."""
    match = _FREESOUND_DOWNLOAD.match(file_name)
    number = sound_id or (match[1] if match else None)
    return (f"clotho:{file_name}", *([f"freesound:{number}"] if number else []))


def ids_of_youtube_clip(name: str) -> tuple[str, ...]:
    """The id of the video, if a clip is named like AudioSet's (`Y7fmOlUlwoNg.wav`); else no id."""
    match = _YOUTUBE_CLIP.fullmatch(name)
    return (f"youtube:{match[1]}",) if match else ()


def source_id(source: str, name: str) -> str:
    """The id of a recording whose source is known: `youtube:7fmOlUlwoNg` for `Y7fmOlUlwoNg.wav`.

    Some corpora call a recording `80399` and others `80399.wav`. So that they agree, folders, suffixes and times are
    removed from the name. Names of Clotho are file names and are kept, and so are names that do not look like an id
    of their source.
    """
    source, plain = source.strip().lower(), name.strip()
    if source == "clotho":
        return f"{source}:{name}"
    plain = PurePath(plain).name
    if source == "youtube":
        match = _YOUTUBE_NAME.fullmatch(plain)
        return f"{source}:{match[1] if match else plain}"
    if source == "freesound" and (match := _FREESOUND_DOWNLOAD.match(plain)):
        return f"{source}:{match[1]}"
    path = PurePath(plain)
    return f"{source}:{path.stem if path.suffix.lower() in SOUND_SUFFIXES else plain}"
