"""Rows of a dataset to a training batch."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch

from modeling_atri.corpora.rows.bad_rows import MISSING_LANGUAGE, BadRow, BadRowError, kind_of
from modeling_atri.languages_atri import resolve_language
from modeling_atri.processing_atri import AtriProcessor
from modeling_atri.threads_atri import map_in_threads

from .augmentation import Augmentation, mix
from .feature_cache import FeatureCache
from .sampling import (
    AUGMENTATION,
    EXCERPT,
    OBJECTIVES,
    Draw,
    Objective,
    choose_caption_index,
    draw_languages,
    group_of,
    random_stream,
)


_MIX_GAIN_DB = (-9.0, 3.0)  # level of the clip that is mixed in


@dataclass
class AtriDataCollator:
    """Clips with the captions that the objective asks for.

    A clip takes part with one caption index, the same in every language. `kcl` and `akcl` take it in all languages of
    the step, `cacl` in the anchor language and one other drawn for the clip, `mlclap` in one drawn for the clip.

    Args:
        processor (`AtriProcessor`): features and tokens.
        languages (`list[str]`): the K languages, any names `resolve_language` knows.
        objective (`str`, *optional*, defaults to `"akcl"`): `kcl`, `akcl`, `cacl` or `mlclap`.
        anchor_language (`str`, *optional*, defaults to `"eng_Latn"`): of `akcl` and `cacl`.
        languages_per_step (`int`, *optional*): of `kcl` and `akcl`, drawn once a batch; None takes all.
        caption_choice (`str`, *optional*, defaults to `"random"`): `"random"` draws a caption index for the clip and
            epoch, `"first"` takes the first.
        augmentation (`Augmentation`, *optional*): of the features.
        feature_cache (`FeatureCache`, *optional*): makes the features; default: without a folder.
        seed (`int`, *optional*, defaults to 0): of all draws.
        mask_level (`torch.Tensor` of shape `(mel bins,)`, *optional*): what masks of the augmentation are filled with,
            in decibels; the Trainer sets the model's mel mean.
        max_audio_seconds (`float`, *optional*, defaults to 30): of a longer clip a random part of this length is
            taken, drawn for the clip and epoch; None takes clips whole.

    Example:

    ```python
    >>> collator = AtriDataCollator(processor, languages=["en", "fr", "ja"], objective="kcl")
    >>> batch = collator([{"audio": "dog.wav", "audio_id": "dog", "captions": {"eng_Latn": [...], ...}}, ...])
    >>> batch["input_ids"].shape  # (languages, clips, tokens)
    ```
    """

    processor: AtriProcessor
    languages: Sequence[str]
    objective: Objective = "akcl"
    anchor_language: str = "eng_Latn"
    languages_per_step: int | None = None
    caption_choice: str = "random"
    augmentation: Augmentation | None = None
    feature_cache: FeatureCache | None = None
    seed: int = 0
    mask_level: torch.Tensor | None = None
    max_audio_seconds: float | None = 30.0

    def __post_init__(self):
        self.languages = [resolve_language(language) for language in self.languages]
        self.anchor_language = resolve_language(self.anchor_language)
        check_objective(self.objective, self.languages, self.anchor_language, self.languages_per_step)
        if self.feature_cache is None:
            self.feature_cache = FeatureCache(self.processor.feature_extractor)

    def __call__(self, rows: Sequence[dict]) -> dict[str, Any]:
        """
        Args:
            rows: dicts with `audio`, `captions` {language: [str, ...]}, `audio_id`, optional `group_id`, and what
                `DrawnRows` adds: `draw`, without which the rows count as items 0, 1, ... of step 0 of epoch 0;
                `mix_with`, a recording to mix in; and `stand_ins`, the rows that may take a row's place.

        Returns:
            in this order: `input_features` (N, frames, mel bins) float32, `input_features_mask` (N, frames),
            `input_ids` and `attention_mask` (K, N, tokens), `item_ids` and `group_ids` (N,), int64, and `languages`,
            K lists of N codes; where others stand in for rows, of which the batch then says nothing else, also
            `left_out`, a list of `BadRow`.

        Raises:
            BadRowError: a row without a caption in a language of the step (where others may stand in for it: in any
                language), or with audio that is silent or cannot be read, and nothing to stand in for it, or only
                copies of one clip; a `ValueError`, whose message names the row.
        """
        draws = [row.get("draw") or Draw(0, 0, index) for index, row in enumerate(rows)]
        candidates = [_Candidates(row, draw) for row, draw in zip(rows, draws, strict=True)]
        clips = map_in_threads(self._clip, candidates)
        if len(rows) > 1 and len({draw.item for _, draw, _ in clips}) == 1:
            clips = self._with_another_clip(clips, candidates)
        left_out = list(chain.from_iterable(row_candidates.left_out for row_candidates in candidates))
        rows, draws, features = zip(*clips, strict=True)
        input_features, input_features_mask = self.processor.feature_extractor.pad_features(features)
        languages = draw_languages(
            self.objective, self.languages, self.anchor_language, self.languages_per_step, self.seed, draws
        )
        of_clip = zip(*languages, strict=True)  # K languages of each clip
        captions = [self._captions(row, draw, codes) for row, draw, codes in zip(rows, draws, of_clip, strict=True)]
        batch = {
            "input_features": input_features,
            "input_features_mask": input_features_mask,
            **self._tokens(captions, languages),
            "item_ids": torch.tensor([draw.item for draw in draws]),
            "group_ids": torch.tensor([_number(group_of(row)) for row in rows]),
            "languages": languages,
        }
        return batch | {"left_out": left_out} if left_out else batch

    def _clip(self, candidates: "_Candidates") -> tuple[dict, Draw, torch.Tensor]:
        """The row with its draw and features; or, where it cannot be used, the first that can of its stand-ins."""
        for row, draw in candidates:
            try:
                if candidates.have_stand_ins:
                    _check_captions(row, draw, self.languages)
                return row, draw, self._features(row, draw)
            except BadRowError as error:
                if not candidates.have_stand_ins:
                    raise
                candidates.left_out.append(BadRow(None, str(row.get("audio_id", draw.item)), error.kind, str(error)))
        first = candidates.left_out[0]
        raise BadRowError(f"No recording of the training data can be used; the first: {first.reason}", first.kind)

    def _with_another_clip(
        self, clips: list[tuple[dict, Draw, torch.Tensor]], candidates: list["_Candidates"]
    ) -> list[tuple[dict, Draw, torch.Tensor]]:
        """Clips that are copies of one, the last stand-in of which gives way to the next: of copies nothing is learnt.

        Raises:
            BadRowError: no other clip can be used.
        """
        place = max((place for place, row in enumerate(candidates) if row.left_out), default=None)
        if place is None:  # not by stand-ins: whoever made the batch wants it so
            return clips
        first = candidates[place].left_out[0]
        try:
            other = self._clip(candidates[place])
        except BadRowError:
            row, draw, _ = clips[place]
            raise BadRowError(
                f"Only one recording of the training data can be used, {str(row.get('audio_id', draw.item))!r}, and "
                f"the losses compare recordings; the first that cannot: {first.reason}",
                first.kind,
            ) from None
        return [*clips[:place], other, *clips[place + 1 :]]

    def _features(self, row: dict, draw: Draw) -> torch.Tensor:
        name = f"{row.get('audio_id', draw.item)!r}"
        excerpt_rng = random_stream(self.seed, EXCERPT, draw.epoch, draw.item)
        features = self._read(row["audio"], f"Row {name}", excerpt_rng)
        rng = random_stream(self.seed, AUGMENTATION, draw.epoch, draw.item)
        other = self._mixed_in(row, f"The clip mixed into row {name}", excerpt_rng)
        if other is not None:
            features = mix(features, other, gain_db=rng.uniform(*_MIX_GAIN_DB))
        return features if self.augmentation is None else self.augmentation(features, rng, self.mask_level)

    def _mixed_in(self, row: dict, name: str, rng: np.random.Generator) -> torch.Tensor | None:
        """Features of the clip to mix in; None also where it cannot be read but rows have stand-ins: they are noted
        when it is their own turn."""
        if row.get("mix_with") is None:
            return None
        try:
            return self._read(row["mix_with"], name, rng)
        except BadRowError:
            if "stand_ins" not in row:
                raise
            return None

    def _read(self, audio: Any, name: str, rng: np.random.Generator) -> torch.Tensor:
        try:
            return self.feature_cache.excerpt(audio, self.max_audio_seconds, rng)
        except ValueError as error:
            raise BadRowError(f"{name}: {error}", kind_of(error)) from error

    def _captions(self, row: dict, draw: Draw, languages: Sequence[str]) -> list[str]:
        """The row's captions in `languages`, all of one index."""
        _check_captions(row, draw, languages)
        # Parallel lists have one length; were one shorter, an index that exists in all is still the same caption.
        shortest = min(len(row["captions"][code]) for code in languages)
        index = choose_caption_index(self.caption_choice, shortest, self.seed, draw)
        return [row["captions"][language][index] for language in languages]

    def _tokens(self, captions: list[list[str]], languages: list[list[str]]) -> dict[str, torch.Tensor]:
        """N lists of K captions to `input_ids` and `attention_mask`, `(K, N, tokens)`."""
        by_language = [caption for row in zip(*captions, strict=True) for caption in row]
        tokens = self.processor(text=by_language, language=[code for row in languages for code in row])
        shape = (len(languages), len(captions), -1)
        return {name: tokens[name].view(shape) for name in ("input_ids", "attention_mask")}


class _Candidates:
    """A row with its draw, then the rows that may take its place, each once; and what was wrong with those before."""

    def __init__(self, row: dict, draw: Draw):
        self.have_stand_ins = "stand_ins" in row
        self.left_out: list[BadRow] = []
        self._draw = draw
        self._rows = chain([row], row.get("stand_ins", ()))

    def __iter__(self) -> "_Candidates":
        return self

    def __next__(self) -> tuple[dict, Draw]:
        row = next(self._rows)
        return row, row.get("draw", self._draw)


def _check_captions(row: dict, draw: Draw, languages: Sequence[str]) -> None:
    missing = [language for language in languages if not row["captions"].get(language)]
    if missing:
        raise BadRowError(
            f"Row {row.get('audio_id', draw.item)!r} has no caption in {', '.join(missing)}: add it, or train without "
            "the language.",
            MISSING_LANGUAGE,
        )


def check_objective(
    objective: str, languages: Sequence[str], anchor_language: str, languages_per_step: int | None
) -> None:
    """Raise a ValueError unless objective, languages, anchor and draw fit together."""
    if objective not in OBJECTIVES:
        raise ValueError(f"Unknown objective {objective!r}; choose one of {', '.join(OBJECTIVES)}.")
    if not languages or len(set(languages)) < len(languages):
        raise ValueError(f"`languages` must name each language once and at least one; got {list(languages)}.")
    if objective in ("akcl", "cacl"):
        if anchor_language not in languages:
            raise ValueError(
                f"The anchor language {anchor_language} is not among the languages {list(languages)}. Add it, or "
                "choose another `anchor_language`."
            )
        if len(languages) < 2:
            raise ValueError(f"{objective} compares languages and needs at least two; got {list(languages)}.")
    if languages_per_step is None:
        return
    if objective in ("cacl", "mlclap"):
        raise ValueError(
            f"`languages_per_step` is for kcl and akcl; {objective} draws "
            f"{'two languages' if objective == 'cacl' else 'one language'} a clip by definition."
        )
    least = 2 if objective == "akcl" else 1
    if not least <= languages_per_step <= len(languages):
        raise ValueError(
            f"`languages_per_step` must be between {least} and the number of languages ({len(languages)}) for "
            f"{objective}; got {languages_per_step}."
        )


def _number(name: str) -> int:
    """A name as an int64 that is the same on every process and run."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big") >> 1
