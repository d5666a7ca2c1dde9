"""Augmentation of log-mel features, drawn for each clip and epoch."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


_EQUALIZER_BANDS = 6  # number of cosines over the mel axis that make a random frequency response
_WARP_SEGMENTS = 4  # number of parts of a clip that change speed independently


@dataclass(frozen=True)
class Augmentation:
    """Random changes of a clip that do not change the meaning of its captions. All are off by default.

    They are applied in this order: speed, pitch, frequency response, level, masks.

    Args:
        time_warp: A quarter of the clip runs at up to `exp(time_warp)` times the speed of another. The clip keeps its
            length and its order of events.
        mel_shift_bins: The spectrum moves up or down by up to this many mel bins.
        equalizer_db: Standard deviation, in decibels, of a smooth random frequency response, which imitates another
            microphone or room.
        gain_db: The level changes by up to this many decibels, up or down.
        time_masks, time_mask_frames: Number of masks over time, and the most frames (of 10 ms) that a mask covers.
        frequency_masks, frequency_mask_bins: The same over mel bins (SpecAugment, Park et al., Interspeech 2019).
    """

    time_warp: float = 0.0
    mel_shift_bins: float = 0.0
    equalizer_db: float = 0.0
    gain_db: float = 0.0
    time_masks: int = 0
    time_mask_frames: int = 100
    frequency_masks: int = 0
    frequency_mask_bins: int = 8

    @property
    def is_off(self) -> bool:
        """Whether features pass through unchanged."""
        changes = (self.time_warp, self.mel_shift_bins, self.equalizer_db, self.gain_db)
        return not any((*changes, self.time_masks, self.frequency_masks))

    def __call__(self, features: Tensor, rng: np.random.Generator, mask_level: Tensor | None = None) -> Tensor:
        """Return an augmented copy of a clip.

        Args:
            features: `(frames, mel bins)` in decibels.
            rng: Random numbers of the draw.
            mask_level (*optional*): Decibels that masks are filled with, `(mel bins,)`. The mean of the training data
                is 0 after the model's normalisation. Default: the clip's mean of each bin.

        Returns:
            `torch.Tensor` of the shape of `features`.
        """
        if self.time_warp:
            features = _warp_time(features, rng.uniform(-self.time_warp, self.time_warp, _WARP_SEGMENTS) / 2)
        if self.mel_shift_bins:
            features = _shift_bins(features, rng.uniform(-self.mel_shift_bins, self.mel_shift_bins))
        if self.equalizer_db:
            features = features + _frequency_response(features.shape[1], self.equalizer_db, rng)
        if self.gain_db:
            features = features + rng.uniform(-self.gain_db, self.gain_db)
        return self._mask(features, rng, features.mean(dim=0) if mask_level is None else mask_level)

    def _mask(self, features: Tensor, rng: np.random.Generator, level: Tensor) -> Tensor:
        masked = torch.zeros(features.shape, dtype=torch.bool)
        for _ in range(self.time_masks):
            masked[_random_span(len(features), self.time_mask_frames, rng)] = True
        for _ in range(self.frequency_masks):
            masked[:, _random_span(features.shape[1], self.frequency_mask_bins, rng)] = True
        return torch.where(masked, level, features) if masked.any() else features


def _warp_time(features: Tensor, log_speeds: np.ndarray) -> Tensor:
    """Resample over time. The result has parts of equal length, each from a part of the clip as long as its speed."""
    spans = np.exp(log_speeds)
    knots = np.concatenate([[0.0], np.cumsum(spans) / spans.sum()])
    places = np.linspace(0.0, 1.0, len(features))
    source = np.interp(places, np.linspace(0.0, 1.0, len(knots)), knots) * (len(features) - 1)
    return features[torch.from_numpy(np.rint(source).astype(np.int64))]


def _shift_bins(features: Tensor, bins: float) -> Tensor:
    """Move the spectrum up by a number of bins, with linear interpolation. The edge bin fills the gap."""
    source = (torch.arange(features.shape[1]) - bins).clamp(0, features.shape[1] - 1)
    below = source.floor().long().clamp(max=features.shape[1] - 2)
    share = (source - below).to(features.dtype)
    return features[:, below] * (1 - share) + features[:, below + 1] * share


def _frequency_response(num_bins: int, deviation_db: float, rng: np.random.Generator) -> Tensor:
    """A random smooth curve over the mel bins, in decibels: a sum of cosines, weaker the higher their order."""
    orders = np.arange(1, _EQUALIZER_BANDS + 1)
    places = (np.arange(num_bins) + 0.5) / num_bins
    strengths = deviation_db * rng.standard_normal(_EQUALIZER_BANDS) / np.sqrt(orders)
    return torch.from_numpy((strengths @ np.cos(math.pi * orders[:, None] * places)).astype(np.float32))


def _random_span(length: int, longest: int, rng: np.random.Generator) -> slice:
    width = int(rng.integers(0, min(longest, length) + 1))
    start = int(rng.integers(0, length - width + 1))
    return slice(start, start + width)


def mix(features: Tensor, other: Tensor, gain_db: float) -> Tensor:
    """Mix two clips `(frames, mel bins)` in decibels by adding their powers, with a gain of the second.

    Both begin together, and the mix has the length of `features`.
    """
    length = min(len(features), len(other))
    to_log = math.log(10) / 10  # decibels of power to natural logarithms
    mixed = features.clone()
    mixed[:length] = torch.logaddexp(features[:length] * to_log, (other[:length] + gain_db) * to_log) / to_log
    return mixed
