"""What a search finds: files, or moments in them, which are made of neighbouring windows."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import numpy as np


# A window joins the moment of its neighbour if its score is at least this share of the way from the file's lowest
# score to the moment's best one.
MERGE_SHARE = 0.8
# A window of which at least this share is in a moment belongs to no other one.
_MOST_SHARED = 0.5
_GAP_S = 1e-6  # windows that are this near to one another touch


@dataclass(frozen=True)
class Hit:
    """A sound, or a moment in it, that was found.

    Args:
        path (`str`): path of the sound below `folder`, with `/` and in Unicode form NFC, as in the index.
        start_s, end_s (`float`): where the moment begins and ends, in seconds; 0 and the duration for a whole file.
        score (`float`): how well it fits. For a question of one part, this is the cosine similarity, from -1 to 1; for
            a moment of several windows, that of the best one.
        metadata: the values of the columns that came from the side file, by column.
        duration_s (`float`): length of the whole sound in seconds.
        folder (`str`): absolute path or address of the folder that was indexed; empty for stored embeddings whose
            sounds are not known.
    """

    path: str
    start_s: float
    end_s: float
    score: float
    metadata: Mapping[str, Any] = field(default_factory=dict)
    duration_s: float = 0.0
    folder: str = ""

    @property
    def file(self) -> str:
        """Where the sound is: its path below the folder, joined to the folder."""
        return str(PurePosixPath(self.folder) / self.path) if self.folder else self.path


def hit_as_dict(hit: Hit, rank: int) -> dict[str, Any]:
    """A hit with its rank, from 1, for JSON."""
    return {
        "rank": rank,
        "path": hit.path,
        "file": hit.file,
        "start_s": hit.start_s,
        "end_s": hit.end_s,
        "duration_s": hit.duration_s,
        "score": hit.score,
        "metadata": dict(hit.metadata),
    }


class Moment(NamedTuple):
    """A part of a sound, in seconds, and how well it fits."""

    start_s: float
    end_s: float
    score: float


def in_order(hits: Iterable[Hit]) -> list[Hit]:
    """Hits with the best first. Equal scores are in the order of folders, paths and times."""
    return sorted(hits, key=lambda hit: (-hit.score, hit.folder, hit.path, hit.start_s))


def moments_of_files(windows: Iterable[Hit], moments_per_file: int = 1, merge_share: float = MERGE_SHARE) -> list[Hit]:
    """The best moments of files, best first, from all windows of these files, each with its score.

    Args:
        windows: a hit for each window, in any order.
        moments_per_file (`int`, *optional*, defaults to 1): the most moments of one file.
        merge_share (`float`, *optional*): see `merge_windows`.
    """
    of_file: dict[tuple[str, str], list[Hit]] = {}
    for window in windows:
        of_file.setdefault((window.folder, window.path), []).append(window)
    found: list[Hit] = []
    for parts in of_file.values():
        parts.sort(key=lambda window: (window.start_s, window.end_s))
        spans = [(window.start_s, window.end_s) for window in parts]
        moments = merge_windows(spans, [window.score for window in parts], moments_per_file, merge_share)
        found.extend(replace(parts[0], **moment._asdict()) for moment in moments)
    return in_order(found)


def merge_windows(
    spans: Sequence[tuple[float, float]],
    scores: Sequence[float],
    most: int | None = None,
    merge_share: float = MERGE_SHARE,
) -> list[Moment]:
    """Merge windows of one file to moments.

    The best window begins a moment. Its neighbours on both sides join it, one after another, as long as they touch or
    overlap and their scores are high enough. The best of the windows that are left begins the next moment. Windows of
    which half or more is in a moment are not left.

    Args:
        spans: start and end of each window in seconds, in order of time.
        scores: the score of each window.
        most (`int`, *optional*): the most moments that are returned. Default: all.
        merge_share (`float`, *optional*): a neighbour's score is high enough if it is at least `low + merge_share *
            (best - low)`, with the best score of the moment and the lowest one of the file. With 1, only equal scores
            merge; with 0, all windows that touch.

    Returns:
        Moments with the best score of their windows; the best moment first, of equal ones the earlier.
    """
    values = np.asarray(scores, dtype=np.float64)
    free = np.ones(len(values), dtype=bool)
    moments: list[Moment] = []
    for peak in np.argsort(-values, kind="stable").tolist():
        if most is not None and len(moments) >= most:
            break
        if not free[peak]:
            continue
        least = values.min() + merge_share * (values[peak] - values.min())
        joins = free & (values >= least)
        first, last = peak, peak
        while first > 0 and joins[first - 1] and spans[first - 1][1] >= spans[first][0] - _GAP_S:
            first -= 1
        while last + 1 < len(values) and joins[last + 1] and spans[last + 1][0] <= spans[last][1] + _GAP_S:
            last += 1
        end_s = max(end for _, end in spans[first : last + 1])
        moments.append(Moment(spans[first][0], end_s, float(values[peak])))
        free &= [_share_inside(span, moments[-1]) < _MOST_SHARED for span in spans]
    return moments


def _share_inside(span: tuple[float, float], moment: Moment) -> float:
    """The share of a span that is in a moment."""
    inside = min(span[1], moment.end_s) - max(span[0], moment.start_s)
    return max(0.0, inside) / max(span[1] - span[0], _GAP_S)
