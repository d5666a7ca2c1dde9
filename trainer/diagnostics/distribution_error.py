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

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import datasets
import numpy as np

from modeling_atri.languages_atri import resolve_language

from ..arguments import AtriTrainingArguments
from ..data.collator import check_objective
from ..data.sampling import EpochBatchSampler, Objective, choose_caption_index, draw_languages
from ..losses import akcl_weights


class DistributionError(NamedTuple):
    """L1 distance between p and p', over `languages` (of each clip) and over `pairs` (of language and caption)."""

    languages: float
    pairs: float


@dataclass(frozen=True)
class Sampling:
    """All that the draws of a run depend on, beside its rows; the names are those of `AtriTrainingArguments`.

    Args:
        objective, languages, anchor_language, languages_per_step, caption_choice: see there.
        akcl_weight: see there; only 0 makes a difference, as it leaves no audio-text term.
        batch_size: clips of a step on one process.
        num_processes: that share a step.
        drop_last: `dataloader_drop_last`.
        seed: of the data.

    Raises:
        ValueError: arguments that do not fit together.
    """

    objective: Objective
    languages: Sequence[str]
    anchor_language: str = "eng_Latn"
    languages_per_step: int | None = None
    caption_choice: str = "random"
    akcl_weight: float = 0.5
    batch_size: int = 24
    num_processes: int = 1
    drop_last: bool = False
    seed: int = 0

    def __post_init__(self):
        object.__setattr__(self, "languages", [resolve_language(language) for language in self.languages])
        object.__setattr__(self, "anchor_language", resolve_language(self.anchor_language))
        check_objective(self.objective, self.languages, self.anchor_language, self.languages_per_step)
        if self.caption_choice not in ("random", "first"):
            raise ValueError(f"`caption_choice` must be 'random' or 'first'; got {self.caption_choice!r}.")
        if self.objective == "akcl" and not 0 < self.akcl_weight <= 1:
            raise ValueError(
                f"With `akcl_weight` {self.akcl_weight!r} the loss has no audio-text terms, and so no distribution "
                "over pairs of clip and caption. It must be above 0, and at most 1."
            )

    @classmethod
    def from_arguments(cls, args: AtriTrainingArguments) -> "Sampling":
        """Of a run with these arguments and the collator that the trainer makes of them."""
        same = ("objective", "languages", "anchor_language", "languages_per_step", "caption_choice", "akcl_weight")
        return cls(
            **{name: getattr(args, name) for name in same},
            batch_size=args.train_batch_size,
            num_processes=args.world_size,
            drop_last=args.dataloader_drop_last,
            seed=args.seed if args.data_seed is None else args.data_seed,
        )

    def num_steps(self, num_clips: int) -> int:
        """Batches of an epoch on each process."""
        return len(self._batches(num_clips, 0))

    def _batches(self, num_clips: int, rank: int) -> EpochBatchSampler:
        return EpochBatchSampler(num_clips, self.batch_size, self.seed, rank, self.num_processes, self.drop_last)


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
    num_clips, num_languages = counts.shape
    place_of = {code: place for place, code in enumerate(sampling.languages)}
    shares = np.zeros((num_clips, num_languages, counts.max(initial=1)))
    for rank in range(sampling.num_processes):
        batches = sampling._batches(num_clips, rank)
        batches.set_epoch(epoch)
        for draws in islice(batches, max_steps):
            codes = draw_languages(
                sampling.objective,
                sampling.languages,
                sampling.anchor_language,
                sampling.languages_per_step,
                sampling.seed,
                draws,
            )
            weights = _audio_text_weights(sampling, [row[0] for row in codes])
            for draw, own_codes in zip(draws, zip(*codes, strict=True), strict=True):
                places = [place_of[code] for code in own_codes]
                shortest = int(counts[draw.item, places].min())
                caption = choose_caption_index(sampling.caption_choice, shortest, sampling.seed, draw)
                shares[draw.item, places, caption] = weights
    return shares


def _audio_text_weights(sampling: Sampling, codes: list[str]) -> np.ndarray:
    """Weights of the terms A(audio, text_k) in the loss, for the languages of a step, made to sum up to 1."""
    weights = np.ones(len(codes))  # kcl, mlclap; cacl's A(audio, anchor) and A(audio, other) weigh the same
    if sampling.objective == "akcl":
        anchor = codes.index(sampling.anchor_language)
        pairs = akcl_weights(len(codes), anchor, sampling.akcl_weight, len(sampling.languages))
        weights = np.array([audio_weight for audio_weight, _ in pairs])
    return weights / weights.sum()


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
    objective: Objective, num_languages: int, languages_per_step: int | None = None, num_captions: int = 1
) -> DistributionError:
    """The data distribution error of any epoch that sees every clip, each with `num_captions` in a language.

    `2 (1 - k / K)` over languages and `2 (1 - k / (K C))` over pairs, with k the languages a clip takes part in:
    `languages_per_step` or all K for kcl and akcl, 2 for cacl, 1 for mlclap. With K = 8 languages KCL has 0, CACL
    1.5 and ML-CLAP 1.75, as the paper says. In anchored KCL with k < K the anchor has its share of p and the others
    (K - 1) / (k - 1) times theirs, none less than p, so it is the same.
    """
    drawn = {"cacl": 2, "mlclap": 1}.get(objective, languages_per_step or num_languages)
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
