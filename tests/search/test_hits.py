"""Hits and moments: their order, and how neighbouring windows become moments."""

import itertools
import statistics

import numpy as np
import pytest

from modeling_atri.search.hits import Hit, in_order, merge_windows, moments_of_files


SPANS = [(5.0 * number, 5.0 * number + 10.0) for number in range(6)]  # 0-10, 5-15, ... 25-35, with half overlap


def spans_of(moments):
    return [(moment.start_s, moment.end_s) for moment in moments]


def slow_merge(spans, scores, merge_share):
    """The moments by their definition: parts, the means of their windows, and runs of parts around peaks."""
    edges = sorted({round(edge, 3) for span in spans for edge in span})
    values = []
    for start, end in itertools.pairwise(edges):
        middle = (start + end) / 2
        covering = [score for span, score in zip(spans, scores, strict=True) if span[0] <= middle <= span[1]]
        values.append(sum(covering) / len(covering) if covering else None)
    low = statistics.median(scores)
    left = {place for place, value in enumerate(values) if value is not None}
    moments = []
    while True:
        peaks = [
            place
            for place in sorted(left)
            if all(
                values[near] is None or values[near] <= values[place] + 1e-9
                for near in (place - 1, place + 1)
                if 0 <= near < len(values)
            )
        ]
        if not peaks:
            return moments
        peak = max(peaks, key=lambda place: (round(values[place], 9), -place))
        least = low + merge_share * (values[peak] - low) - 1e-9
        run = {peak}
        for step in (-1, 1):
            place = peak + step
            while place in left and values[place] >= least:
                run.add(place)
                place += step
        left -= run
        moments.append((edges[min(run)], edges[max(run) + 1], values[peak]))


@pytest.mark.parametrize(
    "scores, most, expected",
    [
        ([0.1, 0.9, 0.1, 0.1, 0.1, 0.1], 1, [(5.0, 15.0)]),  # one window: both of its halves have the mean of 0.5
        ([0.1, 0.9, 0.9, 0.1, 0.1, 0.1], 1, [(10.0, 15.0)]),  # two windows: the part that is in both
        ([0.1, 0.7, 0.9, 0.7, 0.1, 0.1], 1, [(10.0, 20.0)]),
        ([0.9, 0.1, 0.1, 0.1, 0.1, 0.1], 1, [(0.0, 5.0)]),  # the only part that the second window does not cover
        ([0.1, 0.9, 0.1, 0.1, 0.8, 0.1], 2, [(5.0, 15.0), (20.0, 30.0)]),  # two moments
        ([0.1, 0.9, 0.1, 0.1, 0.8, 0.1], 1, [(5.0, 15.0)]),
        ([0.1, 0.9, 0.9, 0.6, 0.1, 0.1], 2, [(10.0, 20.0), (30.0, 35.0)]),  # what is next to a moment is no other one
        ([0.5] * 6, None, [(0.0, 35.0)]),  # all alike
    ],
)
def test_windows_become_moments(scores, most, expected):
    assert spans_of(merge_windows(SPANS, scores, most)) == expected


def test_a_moment_has_the_mean_score_of_the_windows_on_its_best_part():
    assert merge_windows(SPANS, [0.1, 0.8, 0.9, 0.1, 0.1, 0.1], 1)[0].score == pytest.approx(0.85)


def test_windows_with_a_gap_between_them_do_not_merge():
    assert spans_of(merge_windows([(0.0, 10.0), (20.0, 30.0), (30.0, 40.0)], [0.9, 0.9, 0.9])) == [
        (0.0, 10.0),
        (20.0, 40.0),
    ]


def test_a_last_window_that_was_moved_back_ends_with_the_file():
    spans = [(0.0, 10.0), (5.0, 15.0), (7.0, 17.0)]
    assert spans_of(merge_windows(spans, [0.0, 0.2, 0.9], 1)) == [(15.0, 17.0)]


def test_the_order_of_windows_does_not_matter():
    scores = [0.1, 0.8, 0.9, 0.1, 0.6, 0.1]
    assert merge_windows(SPANS[::-1], scores[::-1]) == merge_windows(SPANS, scores)


@pytest.mark.parametrize("hop", [10.0, 5.0, 2.5, 3.3])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.8, 1.0])
def test_moments_are_those_of_their_definition(share, hop):
    rng = np.random.default_rng(int(10 * hop))
    for _ in range(20):
        size = int(rng.integers(2, 9))
        spans = [(hop * place, hop * place + 10.0) for place in range(size)]
        spans.append((spans[-1][0] + 0.7, spans[-1][1] + 0.7))
        scores = rng.choice([-0.3, -0.1, 0.0, 0.2, 0.3], size + 1).tolist()
        moments = merge_windows(spans, scores, None, share)
        expected = slow_merge(spans, scores, share)
        assert spans_of(moments) == [pytest.approx(moment[:2]) for moment in expected]
        assert [moment.score for moment in moments] == pytest.approx([moment[2] for moment in expected])


def test_adding_to_scores_and_scaling_them_changes_no_moment():
    scores = np.array([0.1, 0.8, 0.9, 0.1, 0.6, 0.1])
    assert spans_of(merge_windows(SPANS, (3 * scores - 1).tolist())) == spans_of(merge_windows(SPANS, scores.tolist()))


def test_a_window_alone_is_a_moment_even_without_a_length():
    assert merge_windows([(0.0, 0.0)], [0.3]) == [(0.0, 0.0, 0.3)]


def test_no_window_gives_no_moment():
    assert merge_windows([], []) == []


def test_moments_of_files_come_best_first_with_what_is_known_of_their_file():
    windows = [
        Hit(path, start_s, end_s, score, {"licence": path}, 35.0, "/sounds")
        for path, scores in {"b.wav": [0.1, 0.7, 0.1, 0.1, 0.6, 0.1], "a.wav": [0.2, 0.7, 0.2, 0.2, 0.2, 0.2]}.items()
        for (start_s, end_s), score in zip(SPANS, scores, strict=True)
    ]
    moments = moments_of_files(reversed(windows), moments_per_file=2)
    assert [(hit.path, hit.start_s, round(hit.score, 6)) for hit in moments[:3]] == [
        ("a.wav", 5.0, 0.45),
        ("b.wav", 5.0, 0.4),
        ("b.wav", 20.0, 0.35),
    ]
    assert moments[0].metadata == {"licence": "a.wav"} and moments[0].file == "/sounds/a.wav"
    assert [hit.path for hit in moments_of_files(windows)] == ["a.wav", "b.wav"]


def test_equal_scores_are_in_the_order_of_paths():
    hits = [Hit(path, 0.0, 1.0, score) for path, score in [("c", 0.5), ("a", 0.5), ("b", 0.9)]]
    assert [hit.path for hit in in_order(hits)] == ["b", "a", "c"]
