"""AudioCaps (https://audiocaps.github.io): a CSV file of captions for each language, and clips of YouTube videos.

A caption is a line `audiocap_id,youtube_id,start_time,caption`. A clip is a video and a start time in seconds; it is
10 s long or ends with the video. ml-audiocaps (Japanese) has the same columns and is parallel by `audiocap_id`.
"""

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from ..clips.assembling import assemble
from ..clips.caption_files import Caption, made_from, read_csv
from ..clips.clip import AMBIGUOUS_RECORDING, DUPLICATE_LINE, Corpus
from ..clips.sound_folder import RecordingError, SoundFolder
from ..rows.bad_rows import MISSING_RECORDING, BadRow


COLUMNS = ("audiocap_id", "youtube_id", "start_time", "caption")
ID_LENGTH = 11  # of a YouTube id, which has letters, digits, - and _
SEGMENT_SECONDS = 10

# What may follow the id in the name of a clip: its start and, often, its end.
_TIMES = re.compile(r"_(\d+(?:\.\d+)?)(?:_(\d+(?:\.\d+)?))?")


class Segment(NamedTuple):
    """A clip of AudioCaps: the id of its video, and its start in the video in seconds."""

    youtube_id: str
    start: float

    def __str__(self) -> str:
        return f"{self.youtube_id}_{self.start:g}"


def read_audiocaps(captions: Mapping[str, str | Path], audio: str | Path) -> Corpus:
    """Read captions and find their clips.

    Args:
        captions: The CSV file of each language, by FLORES-200 code.
        audio: The folder of clips, searched recursively. A clip is named by its video, with or without a `Y` before
            it. Where a video has several clips, its start, or start and end, follow in s or ms. A clip may also be
            named by the `audiocap_id` of one of its captions. A file that may belong to several clips is not used.

    Raises:
        ValueError: if a file cannot be read, or has no caption in common with the first.
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
        made_from=made_from(captions, audio),
    )
    return corpus._replace(lost_captions=repeated + corpus.lost_captions)


def _read_captions(path: str | Path, repeated: list[BadRow]) -> dict[str, Caption[Segment]]:
    """Read captions by `audiocap_id`, and add lines that repeat an earlier one to `repeated`."""
    captions: dict[str, Caption[Segment]] = {}
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
    if not 0 <= seconds < math.inf:  # NaN fails too
        raise ValueError(f"{place}: `start_time` must be seconds, 0 or more, but is {text!r}.")
    return seconds


def _ids_of_captions(by_language: Mapping[str, Mapping[str, Caption[Segment]]]) -> dict[Segment, list[str]]:
    ids: dict[Segment, list[str]] = {}
    for captions in by_language.values():
        for audiocap_id, caption in captions.items():
            ids.setdefault(caption.clip, []).append(audiocap_id)
    return ids


class ClipFiles:
    """Finds the file of each clip. `segments` are all clips that a file may belong to."""

    def __init__(self, folder: SoundFolder, segments: Iterable[Segment]):
        self._folder = folder
        self._starts: dict[str, set[float]] = {}
        for segment in segments:
            self._starts.setdefault(segment.youtube_id, set()).add(segment.start)
        self._files: dict[str, list[tuple[str, Path]]] = {}  # by video: the rest of the name, and the file
        for stem, paths in folder.by_stem.items():
            for begin in (0, 1) if stem.startswith("Y") else (0,):
                youtube_id, rest = stem[begin : begin + ID_LENGTH], stem[begin + ID_LENGTH :]
                if youtube_id in self._starts:
                    self._files.setdefault(youtube_id, []).extend((rest, path) for path in paths)

    def find(self, segment: Segment, audiocap_ids: Iterable[str]) -> Path:
        """Find the file of a clip. A file whose name says the start goes before one without it.

        Raises:
            RecordingError: if there is none or several, or the only one may belong to another clip as well.
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
    """The starts of a video's clips that `_30`, `_30000`, `_30_40` or `_30000_40000` in a file name may mean."""
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
