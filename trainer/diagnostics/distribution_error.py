"""The data distribution error: the distance of an epoch's draws from all captions in all languages.

ATRI (Yin et al., ACL 2025) defines it as the sum over (a, t) of |p(a, t) - p'_e(a, t)|. p is the distribution over all
pairs of clip and caption, and p'_e is the distribution that epoch e used. A *pair* is a clip and one of its own
captions. The text-text terms of CACL and anchored KCL contain no audio and do not count. The audio-text terms have the
relative weights that they have in the loss.

p is uniform over the clips, over the K languages of a clip, and over the C captions of a language. p'_e is uniform
over the clips that the epoch used, ignoring that a clip weighs more in a small last batch. The share of a pair in its
clip is its share of the audio-text terms. The error lies in [0, 2]. It is computed over clips and languages, where
captions are summed up, and over all pairs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from modeling_atri.corpora.rows.bad_rows import MISSING_LANGUAGE, BadRowError
from modeling_atri.corpora.rows.captions import captions_of

from ..arguments import AtriTrainingArguments
from ..data.batches import EpochBatchSampler, without_audio
from ..data.draws import Draw, LanguageDraws
from ..objectives import find_objective


class DistributionError(NamedTuple):
    """L1 distance between p and p', over `languages` (of each clip) and over `pairs` (of language and caption)."""

    languages: float
    pairs: float


@dataclass(frozen=True)
class Sampling:
    """Everything that decides what a run trains on, apart from its rows.

    Raises:
        ValueError: The loss has no audio-text terms.
    """

    draws: LanguageDraws  # objective, languages, caption choice and seed
    loss_options: Mapping[str, Any] = field(default_factory=dict)  # by default those of `AtriTrainingArguments`
    batch_size: int = 24  # clips of a step on one process
    num_processes: int = 1
    drop_last: bool = False  # whether a last step that is not full is left out

    def __post_init__(self) -> None:
        self.audio_text_weights(self.draws.languages_of([Draw(0, 0, 0)]))

    @classmethod
    def from_arguments(cls, args: AtriTrainingArguments, draws: LanguageDraws | None = None) -> "Sampling":
        """The sampling of a run with these arguments, and with the draws of its collator if they differ."""
        draws = draws or args.language_draws
        options = {name: getattr(args, name) for name in find_objective(draws.objective).options}
        return cls(draws, options, args.train_batch_size, args.world_size, args.dataloader_drop_last)

    def audio_text_weights(self, languages: Sequence[Sequence[str]]) -> np.ndarray:
        """Weights `(K,)` of the terms A(audio, text_k) in the loss of a step with the languages `(K, N)`; sum 1."""
        objective = find_objective(self.draws.objective)
        options = {name: getattr(AtriTrainingArguments, name) for name in objective.options} | dict(self.loss_options)
        anchor = self.draws.anchor_row(languages)
        pairs = objective.weigh(len(languages), anchor, len(self.draws.languages), options)
        weights = np.array([audio_weight for audio_weight, _ in pairs])
        if not weights.sum() > 0:
            values = " and ".join(f"`{name}` {value!r}" for name, value in options.items())
            raise ValueError(
                f"With {values} the loss has no audio-text terms, so there is no distribution over pairs of clip and "
                "caption. Give the audio-text terms a weight above 0."
            )
        return weights / weights.sum()

    def batches(self, num_clips: int, rank: int = 0) -> EpochBatchSampler:
        """The batches of one process."""
        seed = self.draws.seed
        return EpochBatchSampler(num_clips, self.batch_size, seed, rank, self.num_processes, self.drop_last)


def caption_counts(rows: Sequence[dict], languages: Sequence[str]) -> np.ndarray:
    """Count the captions of each clip in each language, `(N, K)`, without reading recordings.

    Raises:
        ValueError: A row has no caption in one of the languages.
    """
    of_rows = []
    for item, row in enumerate(without_audio(rows)):
        try:
            captions = captions_of(row, languages, row.get("audio_id", item))
        except BadRowError as error:
            advice = "Add it" if error.kind == MISSING_LANGUAGE else "Mend it"
            raise ValueError(f"{error}. {advice}, leave the row out, or leave out the language.") from error
        of_rows.append([len(captions[code]) for code in languages])
    return np.array(of_rows, dtype=np.int64).reshape(-1, len(languages))


def epoch_shares(sampling: Sampling, counts: np.ndarray, epoch: int, max_steps: int | None = None) -> np.ndarray:
    """Replay the draws of an epoch, and return p'_e for every clip.

    With `on_bad_row="skip"`, other clips take the place of those whose recordings cannot be read. This is not
    considered here.

    Args:
        sampling: Sampling of the run.
        counts: Number of captions of each clip in each language, `(N, K)`.
        epoch: Number of the epoch, from 0.
        max_steps: Number of batches on each process, for an unfinished epoch. Default: all.

    Returns:
        The share of each pair in its clip, `(N, K, C)`, with C the largest count. A clip that is left out has zeros.
    """
    draws = sampling.draws
    place_of = {code: place for place, code in enumerate(draws.languages)}
    shares = np.zeros((*counts.shape, counts.max(initial=1)))
    for rank in range(sampling.num_processes):
        batches = sampling.batches(len(counts), rank)
        batches.set_epoch(epoch)
        for batch in islice(batches, max_steps):
            languages = draws.languages_of(batch)
            weights = sampling.audio_text_weights(languages)
            for draw, codes in zip(batch, zip(*languages, strict=True), strict=True):
                places = [place_of[code] for code in codes]
                caption = draws.caption_index(int(counts[draw.item, places].min()), draw)
                shares[draw.item, places, caption] = weights
    return shares


def distribution_error(shares: np.ndarray, counts: np.ndarray) -> DistributionError:
    """Compute the data distribution error of an epoch's shares, or of a sum of the shares of several epochs.

    Args:
        shares: Shares as `epoch_shares` returns them, `(N, K, C)`. Divided by their sum they are p'.
        counts: Number of captions of each clip in each language, `(N, K)`, each from 1 to C.

    Raises:
        ValueError: The shapes do not fit together, or shares are negative, all 0, or of captions that do not exist.
    """
    if shares.ndim != 3 or counts.shape != shares.shape[:2] or 0 in shares.shape or counts.min() < 1:
        raise ValueError(
            "`shares` must have shape (N, K, C) and `counts` shape (N, K), with no size 0 and at least one caption "
            f"for each clip and language; got {shares.shape} and {counts.shape}."
        )
    exists = np.arange(shares.shape[2]) < counts[:, :, None]
    if not (shares.min() >= 0 and shares.sum() > 0) or shares[~exists].any():
        raise ValueError(
            "Shares must be >= 0, not all 0, and 0 for captions that do not exist according to `counts`; got shares "
            f"from {shares.min()} to {shares.max()}, {np.count_nonzero(shares[~exists])} of them without a caption."
        )
    num_clips, num_languages, _ = shares.shape
    drawn = shares * (num_clips / shares.sum())  # p', scaled to the sum of `full`, the number of clips
    full = np.where(exists, 1 / (num_languages * counts[:, :, None]), 0.0)
    of_languages = np.abs(1 / num_languages - drawn.sum(axis=2)).sum()
    return DistributionError(float(of_languages / num_clips), float(np.abs(full - drawn).sum() / num_clips))


def closed_form_error(
    objective: str, num_languages: int, languages_per_step: int | None = None, num_captions: int = 1
) -> DistributionError:
    """The data distribution error of an epoch that uses every clip, with `num_captions` per clip and language.

    It is `2 (1 - k / K)` over languages and `2 (1 - k / (K C))` over pairs, where k is the number of languages that
    are drawn for a clip: `languages_per_step` or all K for kcl and akcl, 2 for cacl, 1 for mlclap. No drawn pair has
    less than its share of p, so p' exceeds p there by as much as it falls short elsewhere, and the error is twice the
    share of p that was not drawn.
    """
    drawn = find_objective(objective).num_drawn(num_languages, languages_per_step)
    return DistributionError(2 * (1 - drawn / num_languages), 2 * (1 - drawn / (num_languages * num_captions)))


class DistributionErrors:
    """The errors of a run's epochs, one after another: of each epoch, and of p' averaged over all epochs so far."""

    def __init__(self, sampling: Sampling, counts: np.ndarray):
        self.sampling, self.counts = sampling, counts
        self._sum, self._num_summed = np.zeros(()), 0

    def of_epoch(self, epoch: int, max_steps: int | None = None) -> dict[str, float]:
        """Return the errors of an epoch. Earlier epochs that were not asked for are replayed too.

        Arguments are as in [`epoch_shares`]. The epoch must not be earlier than one that was asked for before.

        Returns:
            `languages` and `pairs` of the epoch, `languages_so_far` and `pairs_so_far` of the average, and
            `left_out`, the number of clips that the epoch did not use.
        """
        while self._num_summed < epoch:
            self._add(epoch_shares(self.sampling, self.counts, self._num_summed))
        shares = epoch_shares(self.sampling, self.counts, epoch, max_steps)
        self._add(shares)
        alone = distribution_error(shares, self.counts)
        so_far = distribution_error(self._sum, self.counts)
        return {
            **alone._asdict(),
            **{f"{name}_so_far": value for name, value in so_far._asdict().items()},
            "left_out": int((shares.sum(axis=(1, 2)) == 0).sum()),
        }

    def _add(self, shares: np.ndarray) -> None:
        self._sum, self._num_summed = self._sum + shares / shares.sum(), self._num_summed + 1
