"""Augmentation of log-mel features, drawn per clip and epoch."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Augmentation:
    """Random changes of a clip that leave its caption true. All off by default.

    Args:
        gain_db: the level changes by up to this much, up or down, in decibels.
        time_masks, time_mask_frames: number of masks over time, and frames (10 ms) that each covers at most.
        frequency_masks, frequency_mask_bins: the same over mel bins. Masks take the clip's mean level
            (SpecAugment, Park et al., Interspeech 2019).
    """

    gain_db: float = 0.0
    time_masks: int = 0
    time_mask_frames: int = 100
    frequency_masks: int = 0
    frequency_mask_bins: int = 8

    def __call__(self, features: Tensor, rng: np.random.Generator) -> Tensor:
        """Augmented copy of `features`, `(frames, mel bins)` in decibels."""
        if self.gain_db:
            features = features + rng.uniform(-self.gain_db, self.gain_db)
        masked = torch.zeros(features.shape, dtype=torch.bool)
        for _ in range(self.time_masks):
            masked[_random_span(len(features), self.time_mask_frames, rng)] = True
        for _ in range(self.frequency_masks):
            masked[:, _random_span(features.shape[1], self.frequency_mask_bins, rng)] = True
        return torch.where(masked, features.mean(), features) if masked.any() else features


def _random_span(length: int, longest: int, rng: np.random.Generator) -> slice:
    width = int(rng.integers(0, min(longest, length) + 1))
    start = int(rng.integers(0, length - width + 1))
    return slice(start, start + width)
