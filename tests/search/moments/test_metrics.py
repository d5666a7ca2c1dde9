"""Metrics of moments: equal to a plain loop over queries, thresholds, predictions and windows."""

import numpy as np
import pytest

from modeling_atri.search.moments.metrics import IOU_THRESHOLDS, interval_ious, moment_metrics


def iou(first, second) -> float:
    shared = max(0.0, min(first[1], second[1]) - max(first[0], second[0]))
    union = max(first[1], second[1]) - min(first[0], second[0]) if shared else 1.0
    return shared / union


def average_precision(predicted, relevant, threshold, max_predictions) -> float:
    """AP as the public evaluation of Moment-DETR computes it, step by step."""
    order = sorted(range(len(predicted)), key=lambda index: -predicted[index][2])[:max_predictions]
    taken, outcomes = set(), []
    for index in order:
        found = False
        for window in sorted(range(len(relevant)), key=lambda w: (-iou(predicted[index], relevant[w]), -w)):
            if iou(predicted[index], relevant[window]) >= threshold and window not in taken and not found:
                taken.add(window)
                found = True
        outcomes.append(found)
    recalls, precisions = [0.0], [0.0]
    for count in range(1, len(outcomes) + 1):
        recalls.append(sum(outcomes[:count]) / len(relevant))
        precisions.append(sum(outcomes[:count]) / count)
    area = 0.0
    for place in range(1, len(recalls)):
        area += (recalls[place] - recalls[place - 1]) * max(precisions[place:])
    return area


def plain_metrics(predictions, relevant_windows, max_predictions=10) -> dict[str, float]:
    first = []
    for predicted, relevant in zip(predictions, relevant_windows, strict=True):
        top = None
        for prediction in predicted:
            if top is None or prediction[2] > top[2]:
                top = prediction
        first.append(0.0 if top is None else max(iou(top, window) for window in relevant))
    at = {
        threshold: np.mean(
            [
                average_precision(predicted, relevant, threshold, max_predictions)
                for predicted, relevant in zip(predictions, relevant_windows, strict=True)
            ]
        )
        for threshold in IOU_THRESHOLDS
    }
    return {
        "R1@0.5": np.mean([value >= 0.5 for value in first]),
        "R1@0.7": np.mean([value >= 0.7 for value in first]),
        "mAP": np.mean(list(at.values())),
        "mAP@0.5": at[0.5],
        "mAP@0.75": at[0.75],
    }


def random_queries(rng: np.random.Generator, num_queries: int):
    """Queries on a coarse grid of times and scores, so that ties and duplicates are common."""
    predictions, relevant_windows = [], []
    for _ in range(num_queries):
        starts = rng.integers(0, 12, size=rng.integers(1, 5))
        relevant = [(float(start), float(start + rng.integers(1, 6))) for start in starts]
        predicted = []
        for _ in range(rng.integers(0, 15)):
            if rng.random() < 0.4:
                start, end = relevant[rng.integers(len(relevant))]
                start, end = start + rng.choice([0.0, 0.25, -0.5]), end + rng.choice([0.0, 0.5])
            else:
                start = float(rng.integers(0, 14))
                end = start + float(rng.integers(0, 6))
            predicted.append((start, end, float(rng.integers(0, 5)) / 4))
        if predicted and rng.random() < 0.3:
            predicted.append(predicted[0])
        predictions.append(predicted)
        relevant_windows.append(relevant)
    return predictions, relevant_windows


@pytest.mark.parametrize("max_predictions", [10, 3, None])
@pytest.mark.parametrize("seed", range(4))
def test_equals_the_plain_loop(seed, max_predictions):
    queries = random_queries(np.random.default_rng(seed), 60)
    got = moment_metrics(*queries, max_predictions=max_predictions)
    want = plain_metrics(*queries, max_predictions=max_predictions)
    assert got.keys() == want.keys()
    assert 0 < want["mAP@0.75"] < want["mAP@0.5"] < 1
    for name, value in want.items():
        assert got[name] == pytest.approx(value, abs=1e-12), name


def test_values_worked_out_by_hand():
    # IoU 0.8 with the first window; then a miss; then the second window exactly.
    predicted = [(0, 10, 0.9), (20, 25, 0.8), (40, 50, 0.2)]
    figures = moment_metrics([predicted], [[(0, 8), (40, 50)]])
    assert figures["R1@0.5"] == figures["R1@0.7"] == 1
    # Precision is 1 at recall 1/2, and 2/3 at recall 1, up to a threshold of 0.8; above, 1/3 at recall 1/2.
    assert figures["mAP@0.5"] == pytest.approx((1 + 2 / 3) / 2)
    assert figures["mAP@0.75"] == pytest.approx((1 + 2 / 3) / 2)
    assert figures["mAP"] == pytest.approx((7 * (1 + 2 / 3) / 2 + 3 * (1 / 3) / 2) / 10)


def test_a_threshold_that_is_met_exactly_counts():
    figures = moment_metrics([[(0, 5, 1)], [(0, 7, 1)]], [[(0, 10)], [(0, 10)]])
    assert figures["R1@0.5"] == 1 and figures["R1@0.7"] == 0.5


def test_a_window_is_found_once():
    twice = moment_metrics([[(0, 10, 0.9), (0, 10, 0.8)]], [[(0, 10), (50, 60)]])
    assert twice["mAP@0.5"] == 0.5 and twice["R1@0.7"] == 1


def test_a_prediction_takes_a_free_window_that_it_overlaps_less():
    # Both predictions fit the first window best; the second takes the other one at 0.5 and nothing at 0.75.
    figures = moment_metrics([[(0, 10, 0.9), (0, 10, 0.8)]], [[(0, 10), (0, 6)]])
    assert figures["mAP@0.5"] == 1 and figures["mAP@0.75"] == 0.5


def test_the_first_of_equal_scores_counts():
    right_first = moment_metrics([[(0, 10, 0.5), (50, 60, 0.5)]], [[(0, 10)]])
    wrong_first = moment_metrics([[(50, 60, 0.5), (0, 10, 0.5)]], [[(0, 10)]])
    assert (right_first["R1@0.5"], wrong_first["R1@0.5"]) == (1, 0)
    assert (right_first["mAP"], wrong_first["mAP"]) == (1, 0.5)


def test_queries_without_predictions_count_as_missed():
    figures = moment_metrics([[], [(0, 10, 1)]], [[(0, 10)], [(0, 10)]])
    assert set(figures.values()) == {0.5}


def test_only_the_ten_best_predictions_count_in_map():
    misses = [(100 + i, 101 + i, 1 - i / 100) for i in range(10)]
    assert moment_metrics([[*misses, (0, 10, 0.1)]], [[(0, 10)]])["mAP"] == 0
    assert moment_metrics([[*misses[:9], (0, 10, 0.1)]], [[(0, 10)]])["mAP"] == pytest.approx(0.1)


def test_spans_of_no_length_overlap_nothing():
    assert interval_ious([(3, 3), (0, 10)], [(0, 10), (3, 3), (10, 20)]).tolist() == [[0, 0, 0], [1, 0, 0]]


@pytest.mark.parametrize(
    "predictions, windows, message",
    [
        ([], [], "at least one query"),
        ([[]], [], "1 queries and relevant windows for 0"),
        ([[(0, 1, 1)]], [[]], "Query 0 has no relevant window"),
        ([[(0, 1)]], [[(0, 1)]], "rows of start, end, score"),
        ([[(0, 1, float("nan"))]], [[(0, 1)]], "all finite"),
        ([[(2, 1, 1)]], [[(0, 1)]], "start <= end"),
        ([[]], [[(0, 1, 1)]], "rows of start, end, all finite"),
    ],
)
def test_wrong_input_is_refused(predictions, windows, message):
    with pytest.raises(ValueError, match=message):
        moment_metrics(predictions, windows)
