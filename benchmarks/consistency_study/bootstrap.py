"""Bootstrap intervals of means over seeds and queries, paired differences, and Holm's correction.

A figure of a cell is an array `(seeds, clips)`: the mean contribution of each dev clip's captions in the run of each
seed. The figure itself is the mean of the array. Seeds and clips are resampled independently, with replacement; the
five captions of a clip and its eight languages stay together, because they are not independent queries. All cells
share the draws of clips, and cells with the same seeds share the draws of seeds, so differences are paired.
"""

from dataclasses import dataclass

import numpy as np


NUM_DRAWS = 50_000  # Holm multiplies the smallest p-value, 2 in this many, by the number of comparisons
LEVEL = 0.95
MAX_SEEDS = 64


@dataclass(frozen=True)
class Estimate:
    """A mean with its percentile interval, and the two-sided p-value of its being 0."""

    mean: float
    low: float
    high: float
    p_value: float

    def text(self, scale: float = 1) -> str:
        """The mean and the interval, times `scale`, with one decimal."""
        return f"{scale * self.mean:.1f} [{scale * self.low:.1f}, {scale * self.high:.1f}]"


class Bootstrap:
    """Draws of seeds and clips that all estimates share."""

    def __init__(self, num_clips: int, num_draws: int = NUM_DRAWS):
        rng = np.random.default_rng(0)
        drawn = rng.integers(num_clips, size=(num_draws, num_clips))
        counts = np.zeros((num_draws, num_clips), dtype=np.float32)
        for draw, clips in enumerate(drawn):
            counts[draw] = np.bincount(clips, minlength=num_clips)
        self._clip_weights = counts / num_clips
        self._seed_draws = rng.random((num_draws, MAX_SEEDS))

    def estimate(self, values: np.ndarray) -> Estimate:
        """Estimate the mean of a figure, or of the difference of two figures with the same seeds, `(seeds, clips)`."""
        num_seeds = len(values)
        by_seed = self._clip_weights @ values.T  # (draws, seeds)
        seeds = (self._seed_draws[:, :num_seeds] * num_seeds).astype(int)
        means = np.take_along_axis(by_seed, seeds, axis=1).mean(axis=1)
        low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        tail = min((means <= 0).sum(), (means >= 0).sum())
        p_value = min(1.0, 2 * (tail + 1) / (len(means) + 1))
        return Estimate(float(values.mean()), float(low), float(high), float(p_value))


def holm(p_values: list[float]) -> list[float]:
    """Adjust p-values by Holm's step-down method, which bounds the chance of any false finding among all of them.

    Source: S. Holm, A Simple Sequentially Rejective Multiple Test Procedure, Scandinavian Journal of Statistics, 1979.
    """
    order = np.argsort(p_values, kind="stable")
    adjusted, largest = [0.0] * len(p_values), 0.0
    for place, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = largest
    return adjusted
