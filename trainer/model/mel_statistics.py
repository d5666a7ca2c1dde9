"""Mel statistics of a model from scratch, from the clips it is trained on."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor

from modeling_atri.corpora.rows.bad_rows import BadRowError, kind_of
from modeling_atri.modeling_atri import AtriMelNorm

from ..data.draws import MEL_STATISTICS, random_stream


logger = logging.getLogger(__name__)

_MEL_CLIPS = 1000  # clips that mel statistics are taken from


def set_mel_statistics(
    mel_norm: AtriMelNorm,
    rows: Sequence[dict],
    read_features: Callable[[Any], Tensor],
    seed: int,
    part: tuple[int, int] = (0, 1),
    skip_bad: bool = False,
) -> None:
    """Set mean and variance of each mel bin over the frames of a seeded choice of clips, the same on all processes.

    Args:
        mel_norm: of the model; one that has statistics keeps them.
        rows: with the clips as `audio`.
        read_features: takes a clip and returns its log-mel features, `(frames, mel bins)`.
        seed: of the choice.
        part: (rank, world_size) of this process.
        skip_bad: leave out clips that cannot be read instead of raising.

    Raises:
        ValueError: a clip that cannot be read; with `skip_bad`, if none can.
    """
    if mel_norm.is_set:
        return
    num_clips = min(_MEL_CLIPS, len(rows))
    chosen = random_stream(seed, MEL_STATISTICS).choice(len(rows), size=num_clips, replace=False)
    rank, world_size = part
    sums = torch.zeros(3, mel_norm.running_mean.numel(), dtype=torch.float64)
    for index in chosen[rank::world_size]:
        row = rows[int(index)]
        try:
            features = read_features(row["audio"]).double()
        except ValueError as error:
            if skip_bad:
                continue
            raise BadRowError(f"Row {row.get('audio_id', int(index))!r}: {error}", kind_of(error)) from error
        sums += torch.stack([features.sum(0), features.square().sum(0), torch.full_like(features[0], len(features))])
    if world_size > 1:
        sums = torch.stack(gather_object([sums])).sum(0)
    if sums[2].sum() == 0:
        raise ValueError(f"None of {num_clips} training clips that were chosen for the mel statistics can be used.")
    mean = sums[0] / sums[2]
    mel_norm.set_statistics(mean, (sums[1] / sums[2] - mean.square()).clamp(min=1e-6))
    logger.info("Set the mel statistics of a model from scratch from %d training clips.", num_clips)
