"""Hits as JSON, as a playlist for media players, and as sound files that are cut out of the recordings."""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from modeling_atri.files import existing_path, written_whole
from modeling_atri.hub_cards.tables import counted
from modeling_atri.sound_files_atri import open_sound

from .hits import Hit, hit_as_dict


CUT_FORMATS = ("wav", "flac")
_MAX_NAME = 60  # characters of a recording's name in that of a cut sound; file systems allow 255 bytes
_SAME_S = 1e-6


def hits_as_json(hits: Sequence[Hit], **facts: Any) -> str:
    """Hits as an object of JSON, with `facts` such as the question before them.

    Each hit has `rank`, `path`, `file`, `start_s`, `end_s`, `duration_s`, `score` and `metadata`. Values of columns
    that JSON does not know, such as times, are written as text.
    """
    items = [hit_as_dict(hit, rank) for rank, hit in enumerate(hits, 1)]
    return json.dumps({**facts, "hits": items}, indent=2, ensure_ascii=False, default=str)


def clock_time(seconds: float) -> str:
    """A time in a recording as players show it: `1:05`, or `1:01:05` from an hour on. Fractions are cut off."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def write_playlist(hits: Sequence[Hit], path: str | os.PathLike[str], relative: bool = False) -> None:
    """Write an extended M3U playlist in UTF-8. VLC plays each moment from its start to its end.

    Args:
        hits (sequence of `Hit`): in the order in which they are played.
        path (`str` or `Path`): the file to write. A playlist that is there is replaced; another file is not.
        relative (`bool`, *optional*, defaults to `False`): write paths relative to the folder of the playlist, so that
            both can be moved together. Default: absolute ones.

    Raises:
        ValueError: `path` is a file that is no playlist.
    """
    check_playlist(path)
    path = Path(path)
    lines = ["#EXTM3U", "#EXTENC:UTF-8"]
    for hit in hits:
        title = f"{hit.path} {clock_time(hit.start_s)}-{clock_time(hit.end_s)} ({hit.score:.2f})"
        lines.append(f"#EXTINF:{max(1, round(hit.end_s - hit.start_s))},{_in_one_line(title)}")
        if _is_part(hit):
            lines += [f"#EXTVLCOPT:start-time={hit.start_s:.3f}", f"#EXTVLCOPT:stop-time={hit.end_s:.3f}"]
        lines.append(_entry(hit, path.resolve().parent if relative else None))
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as file:
        file.write("\n".join([*lines, ""]).encode(errors="surrogateescape"))


def check_playlist(path: str | os.PathLike[str]) -> None:
    """Raise a ValueError if there is a file of this name that is no playlist."""
    path = Path(path)
    if not path.exists():
        return
    is_playlist = False
    if path.is_file():
        with path.open("rb") as file:
            is_playlist = file.read(8).removeprefix(b"\xef\xbb\xbf").startswith(b"#EXT")
    if not is_playlist:
        raise ValueError(f"{str(path)!r} exists and is no playlist. Name another file.")


def _entry(hit: Hit, folder: Path | None) -> str:
    """The path of a sound in a playlist; one that would be read as something else is written as a URL."""
    place = hit.file
    if "://" not in place:
        place = str(existing_path(Path(place)))
        if folder is not None:
            place = Path(os.path.relpath(place, folder)).as_posix()
        if place.startswith("#") or place != place.strip() or _in_one_line(place) != place:
            place = f"{'' if folder else 'file://'}{quote(place)}"
    return place


def _in_one_line(text: str) -> str:
    return " ".join(text.splitlines())


def _is_part(hit: Hit) -> bool:
    """Whether a hit is a part of its sound and not the whole."""
    return hit.start_s > _SAME_S or hit.end_s < hit.duration_s - _SAME_S


@dataclass
class Cuts:
    """The files that `cut_sounds` wrote, and the sounds that could not be cut, each with the reason."""

    written: list[Path] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)


def cut_sounds(hits: Sequence[Hit], folder: str | os.PathLike[str], audio_format: str = "wav") -> Cuts:
    """Write the part of each recording that was found, at the recording's own rate, to a file of its own.

    Args:
        hits (sequence of `Hit`): the best first.
        folder (`str` or `Path`): where the files go; it is made if it does not exist. A name has the rank, the name of
            the recording, and the start of a moment: `01_rain_1m05s.wav`.
        audio_format (`str`, *optional*, defaults to `"wav"`): `"wav"` or `"flac"`. Recordings of up to 16 bits are
            written with 16 bits, others with 24.

    Returns:
        `Cuts`. A recording that cannot be read is reported, and the others are still cut. Channels are kept, except in
        formats that only PyAV reads, which become mono.

    Raises:
        ValueError: the format is another one, or the folder has a file of a name that is to be written.
    """
    targets = cut_targets(hits, folder, audio_format)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    cuts = Cuts()
    for hit, target in zip(hits, targets, strict=True):
        try:
            _cut(hit, target, audio_format)
        except (ValueError, OSError) as error:
            cuts.failures[hit.file] = str(error)
        else:
            cuts.written.append(target)
    return cuts


def cut_targets(hits: Sequence[Hit], folder: str | os.PathLike[str], audio_format: str = "wav") -> list[Path]:
    """The files that `cut_sounds` writes for hits.

    Raises:
        ValueError: one of them exists, or the format is another one.
    """
    if audio_format not in CUT_FORMATS:
        raise ValueError(f"`audio_format` must be {' or '.join(map(repr, CUT_FORMATS))}, got {audio_format!r}.")
    folder = Path(folder)
    targets = [folder / f"{name}.{audio_format}" for name in _names(hits)]
    if taken := [target.name for target in targets if os.path.lexists(target)]:
        raise ValueError(
            f"The folder {str(folder)!r} has {counted(len(taken), 'file')} already that would be overwritten, such as "
            f"{taken[0]!r}. Name a new folder, or remove them."
        )
    return targets


def _names(hits: Sequence[Hit]) -> list[str]:
    """A name for each hit, which differs from the others by the rank."""
    width = max(2, len(str(len(hits))))
    names = []
    for rank, hit in enumerate(hits, 1):
        stem = re.sub(r'[<>:"/\\|?*\x00-\x1f\x7f\ud800-\udfff]+', "_", Path(hit.path).stem)[:_MAX_NAME].strip(" .")
        minutes, seconds = divmod(int(hit.start_s), 60)
        start = f"_{minutes}m{seconds:02}s" if _is_part(hit) else ""
        names.append(f"{rank:0{width}}_{stem}{start}")
    return names


def _cut(hit: Hit, target: Path, audio_format: str) -> None:
    import soundfile

    if "://" in hit.file or not os.path.isabs(hit.file):
        raise ValueError(f"The sound {hit.file!r} is not on this machine.")
    samples, rate, subtype = _read_part(existing_path(Path(hit.file)), hit.start_s, hit.end_s)
    with written_whole(target) as file:
        try:
            soundfile.write(file, samples, rate, subtype=subtype, format=audio_format.upper())
        except soundfile.LibsndfileError as error:
            raise ValueError(f"{hit.file} cannot be written as {audio_format}: {error}") from error


def _read_part(path: Path, start_s: float, end_s: float) -> tuple[np.ndarray, int, str]:
    """The samples of a part `(num_samples, channels)`, their rate in Hz, and the encoding to write them in."""
    import soundfile

    with open_sound(path, str(path)) as sound:
        first, last = round(start_s * sound.samplerate), round(end_s * sound.samplerate)
        sound.seek(first)
        mono = np.concatenate([np.zeros(0, dtype=np.float32), *sound.mono_blocks(max(0, last - first))])
        rate, num_frames = sound.samplerate, sound.num_frames
    if not len(mono):
        raise ValueError(f"{path} ends before {start_s:.1f} s. It may have changed since it was indexed.")
    try:
        with soundfile.SoundFile(path) as file:
            subtype = "PCM_16" if file.subtype in _UP_TO_16_BITS else "PCM_24"
            if (file.samplerate, file.frames) == (rate, num_frames) and file.channels > 1:
                file.seek(first)
                return file.read(len(mono), dtype="float32", always_2d=True), rate, subtype
    except soundfile.LibsndfileError:  # read by PyAV
        subtype = "PCM_16"
    return mono[:, None], rate, subtype


_UP_TO_16_BITS = frozenset(
    [
        "PCM_S8",
        "PCM_U8",
        "PCM_16",
        "ULAW",
        "ALAW",
        "IMA_ADPCM",
        "MS_ADPCM",
        "GSM610",
        "VORBIS",
        "OPUS",
        "MPEG_LAYER_III",
    ]
)
