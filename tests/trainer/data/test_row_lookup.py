"""Groups and orders of many rows, whose cost does not grow with the number of rows."""

from collections import Counter
from itertools import islice

import datasets
import numpy as np
import pytest

from modeling_atri.trainer.data import batches
from modeling_atri.trainer.data.batches import Groups, group_of, random_order


ROWS = [
    {"audio_id": f"clip {number}", "group_id": group, "captions": {"eng_Latn": ["x"]}}
    for number, group in enumerate(["a", "b", "a", None, "clip 3", "b", "a", "c"])
]


@pytest.mark.parametrize("as_rows", [list, datasets.Dataset.from_list])
def test_groups_have_the_rows_that_share_a_name(as_rows):
    groups = Groups(as_rows(ROWS))
    names = [group_of(row) for row in ROWS]
    assert groups.count == len(set(names))
    for item, name in enumerate(names):
        members, place = groups.members(item)
        assert members.tolist() == [other for other, its_name in enumerate(names) if its_name == name]
        assert members[place] == item


def test_a_random_order_has_every_number_once(monkeypatch):
    expected = np.random.default_rng(3).permutation(50).tolist()
    assert list(random_order(np.random.default_rng(3), 50)) == expected
    monkeypatch.setattr(batches, "_DRAWN_AT_ONCE", 0)
    for count in (1, 2, 7, 50):
        assert sorted(random_order(np.random.default_rng(count), count)) == list(range(count))


def test_a_random_order_of_many_numbers_is_even(monkeypatch):
    monkeypatch.setattr(batches, "_DRAWN_AT_ONCE", 0)
    firsts = [tuple(islice(random_order(np.random.default_rng(seed), 4), 2)) for seed in range(6000)]
    counts = Counter(firsts)
    assert len(counts) == 12
    assert max(abs(count - 500) for count in counts.values()) < 5 * 500**0.5


def test_a_few_of_a_huge_order_are_drawn_at_once():
    taken = list(islice(random_order(np.random.default_rng(0), 10**15), 5))
    assert len(set(taken)) == 5
    assert all(0 <= number < 10**15 for number in taken)
