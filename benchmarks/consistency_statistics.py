"""Means over seeds and queries with bootstrap intervals, paired differences, and the correction for many comparisons.

A figure of a cell is kept as an array `(seeds, clips)`: what each dev clip's captions contribute in each seed's run,
so that the cell's figure is the mean of the array. Seeds and clips are drawn anew, independently, with replacement;
the five captions and eight languages of a clip stay together, since they are no independent queries. All cells share
the draws of clips, and, as far as they have the same seeds, of seeds: so differences are paired.
"""

from dataclasses import dataclass

import numpy as np


NUM_DRAWS = 50_000  # Holm multiplies the smallest p, 2 in this many, by the number of comparisons
LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean, its percentile interval, and, of a difference, how often chance alone gives one as large (two-sided)."""

    mean: float
    low: float
    high: float
    p_value: float


class Bootstrap:
    """Draws of seeds and clips that all estimates share.

    Args:
        num_clips: of the evaluation set.
        seed: of the draws.
        num_draws: how many.
    """

    def __init__(self, num_clips: int, seed: int = 0, num_draws: int = NUM_DRAWS):
        rng = np.random.default_rng(seed)
        drawn = rng.integers(num_clips, size=(num_draws, num_clips))
        counts = np.zeros((num_draws, num_clips), dtype=np.float32)
        for draw, clips in enumerate(drawn):
            counts[draw] = np.bincount(clips, minlength=num_clips)
        self._clip_weights = counts / num_clips
        self._seed_draws = rng.random((num_draws, 64))  # of more seeds than anyone runs

    def estimate(self, values: np.ndarray) -> Estimate:
        """Of a figure, or, given the difference of two arrays of the same seeds, of how much they differ.

        Args:
            values: (seeds, clips).
        """
        num_seeds = len(values)
        by_seed = self._clip_weights @ values.T  # (draws, seeds)
        seeds = (self._seed_draws[:, :num_seeds] * num_seeds).astype(int)
        means = np.take_along_axis(by_seed, seeds, axis=1).mean(axis=1)
        low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        tail = min((means <= 0).sum(), (means >= 0).sum())
        p_value = min(1.0, 2 * (tail + 1) / (len(means) + 1))
        return Estimate(float(values.mean()), float(low), float(high), float(p_value))


def holm(p_values: list[float]) -> list[float]:
    """Holm's step-down correction: adjusted p-values that bound the chance of any false finding among all.

    Source: S. Holm, A Simple Sequentially Rejective Multiple Test Procedure, Scandinavian Journal of Statistics, 1979.
    """
    order = np.argsort(p_values, kind="stable")
    adjusted, largest = [0.0] * len(p_values), 0.0
    for place, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = largest
    return adjusted
