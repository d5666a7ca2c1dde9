"""What recordings are called where they come from, so that corpora that share a source can be compared."""

import re
from pathlib import PurePath

from modeling_atri.encode.folder import SOUND_SUFFIXES


# Freesound names a download `80399__benboncan__radio-garble.wav`.
_FREESOUND_DOWNLOAD = re.compile(r"(\d+)__[^_]\S*?__")
_YOUTUBE_CLIP = re.compile(r"Y([\w-]{11})(?:\.\w+)?")
# Of a name that is known to be a video's, the `Y` may be absent, and the clip's times and the suffix may be there.
_YOUTUBE_NAME = re.compile(r"Y?([\w-]{11})(?:_\d+(?:\.\d+)?){0,2}(?:\.[A-Za-z]\w*)?")


def ids_of_clotho_file(file_name: str, sound_id: str | None = None) -> tuple[str, ...]:
    """Of a file of Clotho: its name there, and its number on Freesound where name or metadata tell it."""
    match = _FREESOUND_DOWNLOAD.match(file_name)
    number = sound_id or (match[1] if match else None)
    return (f"clotho:{file_name}", *([f"freesound:{number}"] if number else []))


def ids_of_youtube_clip(name: str) -> tuple[str, ...]:
    """Of a clip called `Y7fmOlUlwoNg.wav`, as AudioSet's and AudioCaps' often are: the video. Else nothing."""
    match = _YOUTUBE_CLIP.fullmatch(name)
    return (f"youtube:{match[1]}",) if match else ()


def source_id(source: str, name: str) -> str:
    """Of a name that is known to be of a source: `youtube:7fmOlUlwoNg` of `Y7fmOlUlwoNg.wav`.

    What one corpus calls `80399` others call `80399.wav`; so that they agree, what a file's name adds is taken off.
    Names of Clotho are those of its files and stay, as those do that look like none of their source.
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
