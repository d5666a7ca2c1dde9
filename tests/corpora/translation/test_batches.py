"""Texts in batches of similar length."""

from modeling_atri.corpora.translation.batches import plan_batches


def test_batches_are_filled_with_the_longest_first():
    texts, lengths = ["c", "a", "long", "b", "longest"], [1, 1, 4, 1, 9]
    everything = [True] * 5
    assert list(plan_batches(texts, lengths, everything, 2, 100)) == [[4, 2], [1, 3], [0]]
    assert list(plan_batches(texts, lengths, everything, 9, 8)) == [[4], [2, 1], [3, 0]]
    assert list(plan_batches(texts, [0] * 5, everything, 9, 8)) == [[1, 3, 0, 2, 4]]
    assert list(plan_batches([], [], [], 2, 8)) == []


def test_batches_do_not_depend_on_where_a_run_was_stopped():
    texts, lengths = [f"{number:02}" for number in range(10)], [3] * 10
    missing = [number >= 4 for number in range(10)]
    assert list(plan_batches(texts, lengths, missing, 4, 100)) == [[4, 5, 6, 7], [8, 9]]
    # Other sizes than before: what is left of batches is put together.
    assert list(plan_batches(texts, lengths, missing, 3, 100)) == [[6, 7, 8], [9], [4, 5]]
