"""Evaluation of moments: in the recording of each query, the moments that a search would find."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..hits import Moment, merge_windows
from .metrics import MAX_PREDICTIONS, moment_metrics
from .queries import MomentQuery


@dataclass(frozen=True)
class RecordingWindows:
    """The windows of a recording.

    Args:
        vid: Name of the recording, as queries have it.
        spans: Start and end of each window, in seconds.
        vectors: Unit vectors of shape `(len(spans), projection_dim)`.
    """

    vid: str
    spans: Sequence[tuple[float, float]]
    vectors: NDArray[np.float32]


def evaluate_moments(
    queries: Sequence[MomentQuery], text_vectors: NDArray[np.float32], recordings: Iterable[RecordingWindows]
) -> dict[str, float]:
    """Find the moments of each query in its recording, and compare them with the relevant windows.

    The ten best moments of [`~search.hits.merge_windows`] are the predictions, as in a search `by="moment"`.

    Args:
        queries: Queries in any number of languages. Those whose recording is not given are left out.
        text_vectors: Unit vectors of shape `(len(queries), projection_dim)`.
        recordings: The windows of each recording, once each, in any order. They are not kept.

    Returns:
        `dict[str, float]`: `{language}_{figure}` for each language, in the order of their first queries, and
        `mean_{figure}` over the languages, with the figures of [`moment_metrics`].

    Raises:
        ValueError: A recording has no query, or there is no recording.
    """
    numbers: dict[str, list[int]] = {}
    for number, query in enumerate(queries):
        numbers.setdefault(query.vid, []).append(number)
    found: dict[int, list[Moment]] = {}
    for recording in recordings:
        if recording.vid not in numbers:
            raise ValueError(f"No query asks for something in the recording {recording.vid!r}.")
        members = numbers[recording.vid]
        for number, scores in zip(members, text_vectors[members] @ recording.vectors.T, strict=True):
            found[number] = merge_windows(recording.spans, scores.tolist(), MAX_PREDICTIONS)
    if not found:
        raise ValueError("There is no recording to evaluate on.")
    by_language: dict[str, list[int]] = {}
    for number in sorted(found):
        by_language.setdefault(queries[number].language, []).append(number)
    figures = {
        language: moment_metrics(
            [found[number] for number in members], [queries[number].windows for number in members]
        )
        for language, members in by_language.items()
    }
    names = next(iter(figures.values()))
    figures["mean"] = {name: float(np.mean([values[name] for values in figures.values()])) for name in names}
    return {f"{language}_{name}": value for language, values in figures.items() for name, value in values.items()}
