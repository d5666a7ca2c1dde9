"""Checks of random draws."""

from collections import Counter

import numpy as np


def assert_even(counts: Counter, categories: int) -> None:
    """A chi-square statistic below its 99.9 % point, roughly mean + 4 standard deviations."""
    expected = sum(counts.values()) / categories
    statistic = sum((counts[key] - expected) ** 2 / expected for key in counts) + (categories - len(counts)) * expected
    assert statistic < categories - 1 + 4 * np.sqrt(2 * (categories - 1)), counts
