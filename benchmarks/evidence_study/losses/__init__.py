"""Losses that a cell may train with in place of its objective's own."""

from collections.abc import Callable

from .language_weights import WEIGHTED_LOSSES
from .own import OwnLoss
from .supclap import SUPCLAP_LOSSES


# Each makes a loss for a batch of so many clips.
LOSSES: dict[str, Callable[[int], OwnLoss]] = SUPCLAP_LOSSES | WEIGHTED_LOSSES
