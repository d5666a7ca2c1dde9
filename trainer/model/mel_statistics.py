"""Mel statistics of a model from scratch, computed from its training clips."""

import logging
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor

from modeling_atri.ced_layers_atri import AtriMelNorm
from modeling_atri.corpora.rows.bad_rows import BadRowError, kind_of

from ..data.draws import MEL_STATISTICS, random_stream
from ..data.streams.training_stream import TrainingStream


logger = logging.getLogger(__name__)

_MEL_CLIPS = 1000  # the most clips that are used


def set_mel_statistics(
    mel_norm: AtriMelNorm,
    rows: Sequence[dict] | TrainingStream,
    read_features: Callable[[Any], Tensor],
    seed: int,
    part: tuple[int, int] = (0, 1),
    skip_bad: bool = False,
) -> None:
    """Set the mean and variance of each mel bin over the frames of randomly chosen clips, or of a stream's first ones.

    All processes get the same statistics. If the model has statistics already, nothing is done.

    Args:
        mel_norm (`AtriMelNorm`): Layer of the model that keeps the statistics.
        rows (sequence of `dict`, or `TrainingStream`): Rows whose `audio` is a clip.
        read_features (callable): Returns the log-mel features of a clip, a tensor of shape `(frames, mel_bins)`.
        seed (`int`): Seed of the choice.
        part (`tuple[int, int]`, *optional*, defaults to `(0, 1)`): Rank and number of processes.
        skip_bad (`bool`, *optional*, defaults to `False`): Skip clips that cannot be read instead of raising.

    Raises:
        ValueError: A clip cannot be read; with `skip_bad`, no clip can be read.
    """
    if mel_norm.is_set:
        return
    rank, world_size = part
    num_clips = 0
    sums = torch.zeros(3, mel_norm.running_mean.numel(), dtype=torch.float64)
    for row in islice(_chosen(rows, seed), rank, None, world_size):
        num_clips += 1
        try:
            if row.get("problem") is not None:
                raise BadRowError(row["problem"].text, row["problem"].kind)
            features = read_features(row["audio"]).double()
        except ValueError as error:
            if skip_bad:
                continue
            raise BadRowError(f"Row {row.get('audio_id')!r}: {error}", kind_of(error)) from error
        sums += torch.stack([features.sum(0), features.square().sum(0), torch.full_like(features[0], len(features))])
    if world_size > 1:
        sums = torch.stack(gather_object([sums])).sum(0)
        num_clips = sum(gather_object([num_clips]))
    if sums[2].sum() == 0:
        raise ValueError(
            f"None of the {num_clips} training clips that were chosen for the mel statistics can be read."
        )
    mean = sums[0] / sums[2]
    mel_norm.set_statistics(mean, (sums[1] / sums[2] - mean.square()).clamp(min=1e-6))
    logger.info("Set the mel statistics of a model from scratch from %d training clips.", num_clips)


def _chosen(rows: Sequence[dict] | TrainingStream, seed: int) -> Iterator[dict]:
    """The rows that are used, each read only when it is asked for."""
    if isinstance(rows, TrainingStream):
        return rows.first(_MEL_CLIPS)
    num_clips = min(_MEL_CLIPS, len(rows))
    chosen = random_stream(seed, MEL_STATISTICS).choice(len(rows), size=num_clips, replace=False)
    return (rows[index] for index in chosen.tolist())
