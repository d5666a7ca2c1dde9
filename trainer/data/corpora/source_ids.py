"""What recordings are called where they come from, so that corpora that share a source can be compared."""

import re


# Freesound names a download `80399__benboncan__radio-garble.wav`.
_FREESOUND_DOWNLOAD = re.compile(r"(\d+)__[^_]\S*?__")
_YOUTUBE_CLIP = re.compile(r"Y([\w-]{11})(?:\.\w+)?")


def ids_of_clotho_file(file_name: str, sound_id: str | None = None) -> tuple[str, ...]:
    """Of a file of Clotho: its name there, and its number on Freesound where name or metadata tell it."""
    match = _FREESOUND_DOWNLOAD.match(file_name)
    number = sound_id or (match[1] if match else None)
    return (f"clotho:{file_name}", *([f"freesound:{number}"] if number else []))


def ids_of_youtube_clip(name: str) -> tuple[str, ...]:
    """Of a clip called `Y7fmOlUlwoNg.wav`, as AudioSet's and AudioCaps' often are: the video. Else nothing."""
    match = _YOUTUBE_CLIP.fullmatch(name)
    return (f"youtube:{match[1]}",) if match else ()
