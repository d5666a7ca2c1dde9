"""The data distribution error: how far what an epoch trained on is from all captions in all languages.

The source is ATRI (Yin et al., ACL 2025): sum over (a, t) of |p(a, t) - p'_e(a, t)|, p the distribution over all pairs
of clip and caption, p'_e the one that the sampling of epoch e really used. Here, as there, a *pair* is a clip and a
caption of its own: the text-text terms of CACL and anchored KCL have no audio in them and do not count, and the
audio-text terms weigh as much as they do in the loss, relative to one another.

p is uniform over the clips, in a clip over its K languages, in a language over its C captions. p'_e is uniform over
the clips that the epoch saw (that a clip weighs more in a last batch that is small is not counted), and in a clip each
pair has its share of the audio-text terms. The error lies in [0, 2]. Two figures come of it: over clips and languages,
captions summed up, and over all pairs.

What is drawn has at least its share of p. So p' has too much there by what it lacks elsewhere, and the error is twice
the share of p that was not drawn: 2 (1 - k / K) over languages, 2 (1 - k / (K C)) over pairs, for k languages a clip.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

import datasets
import numpy as np

from ..arguments import AtriTrainingArguments
from ..data.batches import EpochBatchSampler
from ..data.draws import Draw, LanguageDraws
from ..objectives import find_objective


class DistributionError(NamedTuple):
    """L1 distance between p and p', over `languages` (of each clip) and over `pairs` (of language and caption)."""

    languages: float
    pairs: float


@dataclass(frozen=True)
class Sampling:
    """Everything that decides what a run trains on, apart from its rows.

    Args:
        draws (`LanguageDraws`): Objective, languages, caption choice and seed.
        loss_options (`dict`, *optional*): Options of the objective's loss, which weigh its terms. Default: those of
            `AtriTrainingArguments`.
        batch_size (`int`, *optional*, defaults to 24): Clips of a step on one process.
        num_processes (`int`, *optional*, defaults to 1): Number of processes that share a step.
        drop_last (`bool`, *optional*, defaults to `False`): Whether a last step that is not full is left out.

    Raises:
        ValueError: The loss has no audio-text terms.
    """

    draws: LanguageDraws
    loss_options: Mapping[str, Any] = field(default_factory=dict)
    batch_size: int = 24
    num_processes: int = 1
    drop_last: bool = False

    def __post_init__(self) -> None:
        self.audio_text_weights(self.draws.languages_of([Draw(0, 0, 0)]))

    @classmethod
    def from_arguments(cls, args: AtriTrainingArguments, draws: LanguageDraws | None = None) -> "Sampling":
        """The sampling of a run with these arguments.

        Args:
            args: Arguments of the run.
            draws (*optional*): Draws of the run's collator. Default: those of the arguments.
        """
        draws = draws or args.language_draws
        options = {name: getattr(args, name) for name in find_objective(draws.objective).options}
        return cls(draws, options, args.train_batch_size, args.world_size, args.dataloader_drop_last)

    def audio_text_weights(self, languages: Sequence[Sequence[str]]) -> np.ndarray:
        """Weights of the terms A(audio, text_k) in the loss, divided by their sum.

        Args:
            languages: Languages of the step, rows `(K, N)`.
        """
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

    def num_steps(self, num_clips: int) -> int:
        """Batches of an epoch on each process."""
        return len(self.batches(num_clips, rank=0))

    def batches(self, num_clips: int, rank: int) -> EpochBatchSampler:
        """The batches of one process."""
        seed = self.draws.seed
        return EpochBatchSampler(num_clips, self.batch_size, seed, rank, self.num_processes, self.drop_last)


def caption_counts(rows: Sequence[dict], languages: Sequence[str]) -> np.ndarray:
    """How many captions each clip has in each language, `(N, K)`; no recording is read.

    Raises:
        ValueError: a row without a caption in one of the languages.
    """
    if isinstance(rows, datasets.Dataset):
        rows = rows.select_columns([name for name in rows.column_names if name != "audio"])
    counts = np.array(
        [[len(row["captions"].get(code) or ()) for code in languages] for row in rows], dtype=np.int64
    ).reshape(-1, len(languages))
    missing = np.argwhere(counts == 0)
    if len(missing):
        item, place = missing[0]
        raise ValueError(
            f"Row {rows[int(item)].get('audio_id', int(item))!r} has no caption in {languages[place]}. Add it, leave "
            "the row out, or leave out the language."
        )
    return counts


def epoch_shares(sampling: Sampling, counts: np.ndarray, epoch: int, max_steps: int | None = None) -> np.ndarray:
    """p'_e of every clip: what an epoch draws, replayed; it is a function of seed, epoch, item and step.

    With `on_bad_row="skip"` other clips take the place of those whose recordings cannot be read: that is not known
    here.

    Args:
        sampling: of the run.
        counts: captions of each clip in each language, `(N, K)`.
        epoch: from 0.
        max_steps: of an epoch that was not finished, its batches on each process. Default: all.

    Returns:
        `(N, K, C)`, C the largest count: each pair's share of its clip. A clip that is left out has zeros.
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
    """The data distribution error of an epoch's shares, or of a sum of those of several epochs.

    Args:
        shares: `(N, K, C)`, as `epoch_shares` returns them; p' is this divided by its sum.
        counts: captions of each clip in each language, `(N, K)`, each 1 to C.

    Raises:
        ValueError: shapes that do not fit together; shares that are negative, all 0, or of captions that do not exist.
    """
    if shares.ndim != 3 or counts.shape != shares.shape[:2] or 0 in shares.shape or counts.min() < 1:
        raise ValueError(
            "`shares` must have shape (N, K, C) and `counts` shape (N, K), none of them 0, with a caption at least "
            f"for each clip and language; got {shares.shape} and {counts.shape}."
        )
    exists = np.arange(shares.shape[2]) < counts[:, :, None]
    if not (shares.min() >= 0 and shares.sum() > 0) or shares[~exists].any():
        raise ValueError(
            "Shares must be >= 0, 0 where `counts` says that there is no caption, and not all 0; got shares from "
            f"{shares.min()} to {shares.max()}, {np.count_nonzero(shares[~exists])} of them where there is none."
        )
    num_clips, num_languages, _ = shares.shape
    drawn = shares * (num_clips / shares.sum())  # and p, likewise, sums up to the number of clips
    full = np.where(exists, 1 / (num_languages * counts[:, :, None]), 0.0)
    of_languages = np.abs(1 / num_languages - drawn.sum(axis=2)).sum()
    return DistributionError(float(of_languages / num_clips), float(np.abs(full - drawn).sum() / num_clips))


def closed_form_error(
    objective: str, num_languages: int, languages_per_step: int | None = None, num_captions: int = 1
) -> DistributionError:
    """The data distribution error of any epoch that sees every clip, each with `num_captions` in a language.

    `2 (1 - k / K)` over languages and `2 (1 - k / (K C))` over pairs, with k the languages a clip takes part in:
    `languages_per_step` or all K for kcl and akcl, 2 for cacl, 1 for mlclap. With K = 8 languages KCL has 0, CACL
    1.5 and ML-CLAP 1.75, as the paper says. In anchored KCL with k < K the anchor has its share of p and the others
    (K - 1) / (k - 1) times theirs, none less than p, so it is the same.
    """
    drawn = find_objective(objective).num_drawn(num_languages, languages_per_step)
    return DistributionError(2 * (1 - drawn / num_languages), 2 * (1 - drawn / (num_languages * num_captions)))


class DistributionErrors:
    """The errors of a run's epochs, one after another: of each alone, and of p' averaged over all until then.

    What an epoch of ML-CLAP lacks, later ones bring: over languages the average comes nearer to p, in the end as the
    root of the number of epochs. That of CACL stays 2 (1/2 - 1/K) or more away, since the anchor always has half. KCL
    has nothing to average out over languages; captions average out unless it is always the first.

    Args:
        sampling: of the run.
        counts: captions of each clip in each language, `(N, K)`.
    """

    def __init__(self, sampling: Sampling, counts: np.ndarray):
        self.sampling, self.counts = sampling, counts
        self._sum, self._num_summed = 0.0, 0

    def of_epoch(self, epoch: int, max_steps: int | None = None) -> dict[str, float]:
        """Of an epoch, from 0; those before it that were not asked for are replayed too.

        Args:
            epoch: not before one that was asked for already.
            max_steps: of an epoch that was not finished, its batches.

        Returns:
            `languages` and `pairs` of the epoch, `languages_so_far` and `pairs_so_far` of the average, and
            `left_out`, the number of clips that the epoch did not see.
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
