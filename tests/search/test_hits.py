"""Hits and moments: their order, and how neighbouring windows become moments."""

import numpy as np
import pytest

from modeling_atri.search.hits import Hit, in_order, merge_windows, moments_of_files


SPANS = [(5.0 * number, 5.0 * number + 10.0) for number in range(6)]  # 0-10, 5-15, ... 25-35, with half overlap


def spans_of(moments):
    return [(moment.start_s, moment.end_s) for moment in moments]


def slow_merge(spans, scores, merge_share):
    """The first moment by its definition: the largest run of touching windows around the best one, all high enough."""
    peak = max(range(len(scores)), key=lambda place: (scores[place], -place))
    least = min(scores) + merge_share * (scores[peak] - min(scores))
    runs = []
    for first in range(peak + 1):
        for last in range(peak, len(scores)):
            high = all(score >= least for score in scores[first : last + 1])
            touch = all(spans[i + 1][0] <= spans[i][1] + 1e-6 for i in range(first, last))
            if high and touch:
                runs.append((first, last))
    first, last = max(runs, key=lambda run: run[1] - run[0])
    return spans[first][0], max(end for _, end in spans[first : last + 1])


@pytest.mark.parametrize(
    "scores, most, expected",
    [
        ([0.1, 0.9, 0.1, 0.1, 0.1, 0.1], 1, [(5.0, 15.0)]),  # one window
        ([0.1, 0.9, 0.85, 0.1, 0.1, 0.1], 1, [(5.0, 20.0)]),  # a neighbour that is nearly as good joins
        ([0.1, 0.9, 0.1, 0.1, 0.8, 0.1], 2, [(5.0, 15.0), (20.0, 30.0)]),  # two moments
        ([0.1, 0.9, 0.1, 0.1, 0.8, 0.1], 1, [(5.0, 15.0)]),
        ([0.1, 0.9, 0.5, 0.1, 0.1, 0.1], 2, [(5.0, 15.0), (15.0, 35.0)]),  # a window half inside is not left
        ([0.5] * 6, None, [(0.0, 35.0)]),  # all alike
    ],
)
def test_neighbouring_windows_become_moments(scores, most, expected):
    assert spans_of(merge_windows(SPANS, scores, most)) == expected


def test_a_moment_has_the_best_score_of_its_windows():
    assert merge_windows(SPANS, [0.1, 0.8, 0.9, 0.1, 0.1, 0.1], 1)[0].score == 0.9


def test_windows_with_a_gap_between_them_do_not_merge():
    assert spans_of(merge_windows([(0.0, 10.0), (20.0, 30.0), (30.0, 40.0)], [0.9, 0.9, 0.9])) == [
        (0.0, 10.0),
        (20.0, 40.0),
    ]


def test_a_last_window_that_was_moved_back_ends_with_the_file():
    assert spans_of(merge_windows([(0.0, 10.0), (5.0, 15.0), (7.0, 17.0)], [0.0, 0.9, 0.9])) == [(5.0, 17.0)]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("share", [0.0, 0.5, 0.8, 1.0])
def test_the_first_moment_is_that_of_its_definition(seed, share):
    scores = np.random.default_rng(seed).choice([-0.3, -0.1, 0.0, 0.2, 0.3], 6).tolist()
    moment = merge_windows(SPANS, scores, 1, share)[0]
    assert (moment.start_s, moment.end_s) == slow_merge(SPANS, scores, share)


def test_no_window_gives_no_moment():
    assert merge_windows([], []) == []


def test_moments_of_files_come_best_first_with_what_is_known_of_their_file():
    windows = [
        Hit(path, start_s, end_s, score, {"licence": path}, 35.0, "/sounds")
        for path, scores in {"b.wav": [0.1, 0.7, 0.1, 0.1, 0.6, 0.1], "a.wav": [0.2, 0.7, 0.2, 0.2, 0.2, 0.2]}.items()
        for (start_s, end_s), score in zip(SPANS, scores, strict=True)
    ]
    moments = moments_of_files(reversed(windows), moments_per_file=2)
    assert [(hit.path, hit.start_s, hit.score) for hit in moments[:3]] == [
        ("a.wav", 5.0, 0.7),
        ("b.wav", 5.0, 0.7),
        ("b.wav", 20.0, 0.6),
    ]
    assert moments[0].metadata == {"licence": "a.wav"} and moments[0].file == "/sounds/a.wav"
    assert [hit.path for hit in moments_of_files(windows)] == ["a.wav", "b.wav"]


def test_equal_scores_are_in_the_order_of_paths():
    hits = [Hit(path, 0.0, 1.0, score) for path, score in [("c", 0.5), ("a", 0.5), ("b", 0.9)]]
    assert [hit.path for hit in in_order(hits)] == ["b", "a", "c"]
