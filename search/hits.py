"""What a search finds: files, or moments in them, which are made of neighbouring windows."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np


# A part joins the moment of its neighbour if its score is at least this share of the way from the median of the file's
# windows to the moment's best part. `benchmarks/moments.py --tune` chose it.
MERGE_SHARE = 0.65
_TIME_DECIMALS = 6  # of seconds, to which times are compared
_SAME_SCORE = 1e-9  # scores that differ by less are equal, because sums of the same numbers may differ by rounding


@dataclass(frozen=True)
class Hit:
    """A sound, or a moment in it, that was found.

    Args:
        path (`str`): path of the sound below `folder`, with `/` and in Unicode form NFC, as in the index.
        start_s, end_s (`float`): where the moment begins and ends, in seconds; 0 and the duration for a whole file.
        score (`float`): how well it fits. For a question of one part, this is the cosine similarity, from -1 to 1; for
            a moment, the mean of those of all windows that cover its best part.
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
        return f"{self.folder.rstrip('/')}/{self.path}" if self.folder else self.path


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
    """Find the moments of one file from its windows, which may overlap.

    The starts and ends of the windows divide the file into parts, and the score of a part is the mean of those of the
    windows that cover it. The best part begins a moment. Its neighbours on both sides join it, one after another, as
    long as their scores are high enough. The next moment begins at the best part that is left and not worse than its
    neighbours. So a moment can be shorter than a window, and moments do not overlap.

    Args:
        spans: start and end of each window in seconds, in any order.
        scores: the score of each window.
        most (`int`, *optional*): the most moments that are returned. Default: all.
        merge_share (`float`, *optional*): a neighbour's score is high enough if it is at least `median + merge_share *
            (best - median)`, with the score of the moment's best part and the median of the scores of all windows.
            With 1, only equal scores merge; with 0, all parts above the median that touch.

    Returns:
        Moments with the scores of their best parts; the best moment first, of equal ones the earlier.
    """
    if len(spans) <= 1:  # it may have no known length
        return [Moment(*span, score) for span, score in zip(spans, scores, strict=True)]
    edges, values = _parts(spans, scores)
    median = float(np.median(scores))
    around = np.concatenate([[-np.inf], values, [-np.inf]])
    is_peak = (values >= around[:-2] - _SAME_SCORE) & (values >= around[2:] - _SAME_SCORE)
    free = np.isfinite(values)
    moments: list[Moment] = []
    for peak in np.argsort(-values.round(9), kind="stable").tolist():
        if most is not None and len(moments) >= most:
            break
        if not free[peak] or not is_peak[peak]:
            continue
        joins = free & (values >= median + merge_share * (values[peak] - median) - _SAME_SCORE)
        first, last = peak, peak
        while first > 0 and joins[first - 1]:
            first -= 1
        while last + 1 < len(values) and joins[last + 1]:
            last += 1
        free[first : last + 1] = False
        moments.append(Moment(float(edges[first]), float(edges[last + 1]), float(values[peak])))
    return moments


def _parts(spans: Sequence[tuple[float, float]], scores: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """The parts that windows divide a file into.

    Returns:
        The edges of the parts in seconds `(n + 1,)`, and for each part the mean score of the windows that cover it
        `(n,)`; minus infinity where no window does.
    """
    edges, places = np.unique(np.round(spans, _TIME_DECIMALS), return_inverse=True)
    starts, ends = places.reshape(-1, 2).T
    values = np.asarray(scores, dtype=np.float64)
    num_covering, sums = np.zeros(len(edges)), np.zeros(len(edges))
    for at, sign in ((starts, 1.0), (ends, -1.0)):
        np.add.at(num_covering, at, sign)
        np.add.at(sums, at, sign * values)
    count, total = num_covering.cumsum()[:-1].round(), sums.cumsum()[:-1]
    return edges, np.divide(total, count, out=np.full(len(count), -np.inf), where=count > 0)
