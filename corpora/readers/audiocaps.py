"""AudioCaps (https://audiocaps.github.io): CSV files of captions, in one language or several, and clips of YouTube.

A caption is a line `audiocap_id,youtube_id,start_time,caption`; a clip is a video and a start time in seconds, and
lasts 10 s or to the end of the video. ml-audiocaps (Japanese) has the same columns and is parallel by `audiocap_id`.
"""

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from ..rows.bad_rows import MISSING_RECORDING, BadRow
from .assembling import assemble
from .caption_files import Caption, read_csv
from .clips import AMBIGUOUS_RECORDING, DUPLICATE_LINE, Corpus
from .sound_folder import RecordingError, SoundFolder


COLUMNS = ("audiocap_id", "youtube_id", "start_time", "caption")
ID_LENGTH = 11  # of a YouTube id, whose characters are letters, digits, - and _
SEGMENT_SECONDS = 10

# What stands behind the id in the name of a clip: where it starts and, often, where it ends.
_TIMES = re.compile(r"_(\d+(?:\.\d+)?)(?:_(\d+(?:\.\d+)?))?")


class Segment(NamedTuple):
    """A clip of AudioCaps.

    Args:
        youtube_id: of the video.
        start: in seconds.
    """

    youtube_id: str
    start: float

    def __str__(self) -> str:
        return f"{self.youtube_id}_{self.start:g}"


def read_audiocaps(captions: Mapping[str, str | Path], audio: str | Path) -> Corpus:
    """Reads captions and finds their clips.

    Args:
        captions: the CSV file of each language, by FLORES-200 code.
        audio: the folder of clips, with all below it. A clip is named by its video with or without a `Y` before it,
            and its start, or start and end, in s or ms after it where there is more than one clip of a video; or by
            the `audiocap_id` of one of its captions. A file that may be of several clips is nobody's.

    Raises:
        ValueError: a file that cannot be read, or is of another split than the first.
    """
    repeated: list[BadRow] = []
    by_language = {language: _read_captions(path, repeated) for language, path in captions.items()}
    ids = _ids_of_captions(by_language)
    sounds = ClipFiles(SoundFolder(audio), ids)
    corpus = assemble(
        "AudioCaps",
        by_language,
        find=lambda segment: sounds.find(segment, ids[segment]),
        describe=lambda segment: {"source_ids": (f"youtube:{segment.youtube_id}",)},
        made_from={"captions": {language: str(path) for language, path in captions.items()}, "audio": str(audio)},
    )
    return corpus._replace(lost_captions=repeated + corpus.lost_captions)


def _read_captions(path: str | Path, repeated: list[BadRow]) -> dict[str, Caption]:
    """Captions by `audiocap_id`; notes the lines that say again what one before them says."""
    captions: dict[str, Caption] = {}
    for place, row in read_csv(path, COLUMNS):
        audiocap_id, youtube_id, start, text = (row[column].strip() for column in COLUMNS)
        caption = Caption(Segment(youtube_id, _seconds(start, f"{path}, {place}")), text)
        if captions.setdefault(audiocap_id, caption) != caption:
            raise ValueError(
                f"{path}, {place}: the `audiocap_id` {audiocap_id!r} is there twice, with another caption or clip. "
                "Every caption needs its own."
            )
        if captions[audiocap_id] is not caption:
            reason = f"the `audiocap_id` {audiocap_id!r} is there before, with the same caption"
            repeated.append(BadRow(f"{path}, {place}", str(caption.clip), DUPLICATE_LINE, reason))
    return captions


def _seconds(text: str, place: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:  # nor NaN
        raise ValueError(f"{place}: `start_time` must be seconds, 0 or more, but is {text!r}.")
    return seconds


def _ids_of_captions(by_language: Mapping[str, Mapping[str, Caption]]) -> dict[Segment, list[str]]:
    ids: dict[Segment, list[str]] = {}
    for captions in by_language.values():
        for audiocap_id, caption in captions.items():
            ids.setdefault(caption.clip, []).append(audiocap_id)
    return ids


class ClipFiles:
    """Which file is which clip's.

    Args:
        folder: where clips are.
        segments: all clips that a file may be of.
    """

    def __init__(self, folder: SoundFolder, segments: Iterable[Segment]):
        self._folder = folder
        self._starts: dict[str, set[float]] = {}
        for segment in segments:
            self._starts.setdefault(segment.youtube_id, set()).add(segment.start)
        self._files: dict[str, list[tuple[str, Path]]] = {}  # by video: what stands behind its id, and the file
        for stem, paths in folder.by_stem.items():
            for begin in (0, 1) if stem.startswith("Y") else (0,):
                youtube_id, rest = stem[begin : begin + ID_LENGTH], stem[begin + ID_LENGTH :]
                if youtube_id in self._starts:
                    self._files.setdefault(youtube_id, []).extend((rest, path) for path in paths)

    def find(self, segment: Segment, audiocap_ids: Iterable[str]) -> Path:
        """The file of a clip: one that says when it starts goes before one that does not.

        Raises:
            RecordingError: there is none, several, or one that may be another clip's as well.
        """
        starts = self._starts[segment.youtube_id]
        files = self._files.get(segment.youtube_id, [])
        named = {path: _starts_meant(rest, starts) for rest, path in files if rest}
        fitting = {path: meant for path, meant in named.items() if segment.start in meant}
        if not fitting:
            fitting = {path: starts for rest, path in files if not rest}
        if not fitting:
            found = (self._folder.by_stem.get(audiocap_id, []) for audiocap_id in dict.fromkeys(audiocap_ids))
            fitting = {path: {segment.start} for paths in found for path in paths}
        if not fitting and named:
            others = ", ".join(path.name for path in named)
            reason = f"there is no file of it below {self._folder.folder}; others of its video are {others}"
            raise RecordingError(MISSING_RECORDING, reason)
        path = self._folder.only(list(fitting), f"{segment.youtube_id}, {segment.start:g} s")
        if len(fitting[path]) > 1:
            seconds = ", ".join(f"{start:g}" for start in sorted(fitting[path]))
            reason = f"{path.name} may be any of the clips of its video, which start at {seconds} s: name it by one"
            raise RecordingError(AMBIGUOUS_RECORDING, reason)
        return path


def _starts_meant(rest: str, starts: Iterable[float]) -> set[float]:
    """Which of a video's starts a file name may mean by `_30`, `_30000`, `_30_40` or `_30000_40000`."""
    times = _TIMES.fullmatch(rest)
    if times is None:
        return set()
    begin, end = float(times[1]), None if times[2] is None else float(times[2])
    return {
        start
        for start in starts
        for unit in (1, 1000)
        if begin == unit * start and (end is None or begin < end <= begin + unit * SEGMENT_SECONDS)
    }
