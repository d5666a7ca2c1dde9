"""Make a training batch of rows of a dataset."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from modeling_atri.audio_inputs_atri import path_of
from modeling_atri.corpora.rows.bad_rows import (
    MISSING_LANGUAGE,
    MISSING_RECORDING,
    WRONG_EMBEDDING,
    BadRow,
    BadRowError,
    kind_of,
)
from modeling_atri.corpora.rows.captions import captions_of
from modeling_atri.corpora.rows.plain_rows import sound_of
from modeling_atri.embedded_audio_atri import AtriEmbeddingExtractor
from modeling_atri.processing_atri import AtriProcessor
from modeling_atri.threads_atri import map_in_threads

from ..objectives import find_objective
from ..teach.taught_rows import teacher_vectors
from ..teach.teachers import TEACHER_COLUMN
from .augmentation import Augmentation, mix
from .batches import group_of
from .caption_tokens import CaptionTokens
from .draws import AUGMENTATION, EXCERPT, Draw, LanguageDraws, number_of, random_stream
from .feature_cache import FeatureCache


_MIX_GAIN_DB = (-9.0, 3.0)  # range of the level of the clip that is mixed in


@dataclass
class AtriDataCollator:
    """Makes batches of clips, with the captions that the objective draws for them.

    Args:
        processor (`AtriProcessor`): Makes features and tokens.
        draws (`LanguageDraws`): Objective, languages and seed; it draws the languages and the caption of each clip.
        augmentation (`Augmentation`, *optional*): Augmentation of the features. Default: none.
        feature_cache (`FeatureCache`, *optional*): Reads recordings and makes their features. Default: one that keeps
            nothing on disk.
        mask_level (`torch.Tensor` of shape `(mel bins,)`, *optional*): Decibels that the augmentation's masks are
            filled with. The Trainer sets it to the model's mel mean.
        max_audio_seconds (`float`, *optional*, defaults to 30): Of a longer clip, a random part of this length is
            taken, drawn for the clip and epoch. None takes clips whole.

    Example:

    ```python
    >>> collator = AtriDataCollator(processor, LanguageDraws("kcl", ["en", "fr", "ja"]))
    >>> batch = collator([{"audio": "dog.wav", "audio_id": "dog", "captions": {"eng_Latn": [...], ...}}, ...])
    >>> batch["input_ids"].shape  # (languages, clips, tokens)
    ```
    """

    processor: AtriProcessor
    draws: LanguageDraws
    augmentation: Augmentation | None = None
    feature_cache: FeatureCache | None = None
    mask_level: Tensor | None = None
    max_audio_seconds: float | None = 30.0

    def __post_init__(self):
        if self.feature_cache is None:
            self.feature_cache = FeatureCache(self.processor.feature_extractor)
        self._caption_tokens = CaptionTokens(self.processor)

    @property
    def seed(self) -> int:
        """Seed of all draws."""
        return self.draws.seed

    def __call__(self, rows: Sequence[dict]) -> dict[str, Any]:
        """
        Args:
            rows: Dicts with `audio`, captions in any form that `load_rows` takes, optional `audio_id` and `group_id`.
                `DrawnRows` adds `draw` (without it, the rows count as items 0, 1, ... of step 0 of epoch 0),
                `mix_with`, a recording to mix in, and `stand_ins`, rows that may take this row's place if it cannot
                be used.

        Returns:
            A dict with, in this order, `input_features` (N, frames, mel bins) float32 and `input_features_mask`
            (N, frames), or `audio_embeds` (N, D) float32 if rows have final audio embeddings instead of sounds;
            `input_ids` and `attention_mask` (K, N, tokens), `item_ids` and `group_ids` (N,), int64, and `languages`, K
            lists of N codes. For the objective `teach`, whose rows need no sounds, it also has `teacher_embeds` (N, D)
            float32, the teacher's embedding of each row's caption in the anchor language, and `held_embeds`, the same
            of the model itself by held language. If other rows took the place of some, the batch describes those that
            took it, and has `left_out`, a list of `BadRow`.

        Raises:
            BadRowError: A row has no caption in a language of the step (with `stand_ins`: in any language), or its
                recording is silent or cannot be read, and no other row can take its place, or only copies of one clip
                can. It is a `ValueError`, and its message names the row.
        """
        needs_sound = not find_objective(self.draws.objective).has_teacher
        slots = [_Slot(_named(row, index, needs_sound)) for index, row in enumerate(rows)]
        clips = map_in_threads(self._fill, slots)
        if len(rows) > 1 and len({row["draw"].item for row, _ in clips}) == 1:
            clips = self._with_another_clip(clips, slots)
        rows, features = zip(*clips, strict=True)
        languages = self.draws.languages_of([row["draw"] for row in rows])
        batch = {
            **self._sounds(rows, features),
            **self._targets(rows),
            **self._tokens(rows, languages),
            "item_ids": torch.tensor([row["draw"].item for row in rows]),
            "group_ids": torch.tensor([number_of(group_of(row)) for row in rows]),
            "languages": languages,
        }
        left_out = [bad_row for slot in slots for bad_row in slot.left_out]
        return batch | {"left_out": left_out} if left_out else batch

    def _fill(self, slot: "_Slot") -> tuple[dict, Tensor | None]:
        """The first row of a slot that can be used, and its features."""
        for row in slot.rows:
            try:
                _refuse_problem(row)
                if slot.has_stand_ins:
                    _captions_of(row, self.draws.languages)
                return row, self._features(row)
            except BadRowError as error:
                if not slot.has_stand_ins:
                    raise
                slot.left_out.append(BadRow(None, str(_name(row)), error.kind, str(error)))
        first = slot.left_out[0]
        raise BadRowError(f"No recording of the training data can be used; the first: {first.reason}", first.kind)

    def _with_another_clip(
        self, clips: list[tuple[dict, Tensor | None]], slots: list["_Slot"]
    ) -> list[tuple[dict, Tensor | None]]:
        """Replace the last stand-in of a batch that holds copies of one clip, from which nothing can be learnt."""
        place = max((place for place, slot in enumerate(slots) if slot.left_out), default=None)
        if place is None:  # no row was replaced, so the caller asked for copies
            return clips
        first = slots[place].left_out[0]
        try:
            other = self._fill(slots[place])
        except BadRowError:
            row, _ = clips[place]
            raise BadRowError(
                f"Only one recording of the training data can be used, {_name(row)!r}, and the losses compare "
                f"recordings; the first that cannot: {first.reason}",
                first.kind,
            ) from None
        return [*clips[:place], other, *clips[place + 1 :]]

    def _sounds(self, rows: Sequence[dict], features: Sequence[Tensor | None]) -> dict[str, Tensor]:
        """The features of the rows' sounds, their final embeddings, or nothing."""
        found = [one for one in features if one is not None]
        if not found:
            return {}
        if len(found) < len(rows):
            name = _name(next(row for row, one in zip(rows, features, strict=True) if one is None))
            raise BadRowError(
                f"Row {name!r} has no sound, but other rows of the batch have. Give sounds to all rows or to none.",
                MISSING_RECORDING,
            )
        if found[0].ndim == 1:
            return {"audio_embeds": torch.stack(found)}
        input_features, input_features_mask = self.processor.feature_extractor.pad_features(found)
        return {"input_features": input_features, "input_features_mask": input_features_mask}

    def _targets(self, rows: Sequence[dict]) -> dict[str, Any]:
        """The embeddings that the captions of a batch are trained towards, for an objective with a teacher."""
        if not find_objective(self.draws.objective).has_teacher:
            return {}
        batch: dict[str, Any] = {"teacher_embeds": self._drawn(rows)}
        if held := rows[0].get("held_embeddings"):
            batch["held_embeds"] = {
                code: self._drawn([row | {TEACHER_COLUMN: row["held_embeddings"][code]} for row in rows])
                for code in held
            }
        return batch

    def _drawn(self, rows: Sequence[dict]) -> Tensor:
        """Of each row's teacher vectors, the one of its drawn caption, `(N, D)`."""
        drawn = []
        for row in rows:
            vectors = teacher_vectors(row)
            drawn.append(vectors[self.draws.caption_index(len(vectors), row["draw"]) if len(vectors) > 1 else 0])
        return torch.from_numpy(np.stack(drawn))

    def _features(self, row: dict) -> Tensor | None:
        if row.get("audio_embedding") is not None:
            return self._embedded(row)
        if row.get("audio") is None:
            return None
        draw = row["draw"]
        excerpt_rng = random_stream(self.seed, EXCERPT, draw.epoch, draw.item)
        features = self._read(row["audio"], f"Row {_name(row)!r}", excerpt_rng)
        rng = random_stream(self.seed, AUGMENTATION, draw.epoch, draw.item)
        other = self._mixed_in(row, excerpt_rng)
        if other is not None:
            features = mix(features, other, gain_db=rng.uniform(*_MIX_GAIN_DB))
        return features if self.augmentation is None else self.augmentation(features, rng, self.mask_level)

    def _embedded(self, row: dict) -> Tensor:
        """The embedding of a row: `(1, D)` for a model without an audio tower, otherwise the final one, `(D,)`."""
        extractor, vector = self.processor.feature_extractor, row["audio_embedding"]
        is_finished = not isinstance(extractor, AtriEmbeddingExtractor)
        try:
            extractor = AtriEmbeddingExtractor(np.size(vector)) if is_finished else extractor
            features = extractor.extract_clip(vector, name=f"the `audio_embedding` of row {_name(row)!r}")
        except ValueError as error:
            raise BadRowError(str(error), WRONG_EMBEDDING) from error
        if extractor.is_silent(features):
            raise BadRowError(f"The `audio_embedding` of row {_name(row)!r} is zero.", WRONG_EMBEDDING)
        return features[0] if is_finished else features

    def _mixed_in(self, row: dict, rng: np.random.Generator) -> Tensor | None:
        """Features of the clip to mix in. None without one, or if a run that skips bad rows cannot read it."""
        if row.get("mix_with") is None:
            return None
        try:
            return self._read(row["mix_with"], f"The clip mixed into row {_name(row)!r}", rng)
        except BadRowError:
            if "stand_ins" not in row:
                raise
            return None

    def _read(self, audio: Any, name: str, rng: np.random.Generator) -> Tensor:
        try:
            return self.feature_cache.excerpt(audio, self.max_audio_seconds, rng)
        except ValueError as error:
            raise BadRowError(f"{name}: {error}", kind_of(error)) from error

    def _tokens(self, rows: Sequence[dict], languages: list[list[str]]) -> dict[str, Tensor]:
        """`input_ids` and `attention_mask`, `(K, N, tokens)`, of each row's caption in its languages `(K, N)`."""
        of_rows = [self._captions(row, codes) for row, codes in zip(rows, zip(*languages, strict=True), strict=True)]
        by_language = [caption for captions in zip(*of_rows, strict=True) for caption in captions]
        tokens = self._caption_tokens(by_language, list(chain.from_iterable(languages)))
        shape = (len(languages), len(rows), -1)
        return {name: tokens[name].view(shape) for name in ("input_ids", "attention_mask")}

    def _captions(self, row: dict, languages: Sequence[str]) -> list[str]:
        """The row's captions in `languages`, all of one index."""
        captions = _captions_of(row, languages)
        index = self.draws.caption_index(len(captions[languages[0]]), row["draw"])
        return [captions[code][index] for code in languages]


class _Slot:
    """One place in a batch."""

    def __init__(self, row: dict):
        self.rows: Iterator[dict] = chain([row], row.get("stand_ins", ()))  # rows that may fill the place, in order
        self.has_stand_ins = "stand_ins" in row
        self.left_out: list[BadRow] = []


def _name(row: dict) -> Any:
    return row.get("audio_id", row["draw"].item)


def _named(row: dict, index: int, needs_sound: bool = True) -> dict:
    """A row with a draw, its recording and an id, also if it was not checked before."""
    has_other = row.get("audio_embedding") is not None or row.get("problem") is not None
    sound = sound_of(row) if needs_sound and not has_other else row.get("audio")
    if sound is None and needs_sound and not has_other:
        raise BadRowError(f"Row {row.get('audio_id', index)!r} has no `audio`.", MISSING_RECORDING)
    audio_id = row.get("audio_id")
    audio_id = (path_of(sound) or f"row {index}") if audio_id is None else audio_id
    return {"draw": Draw(0, 0, index), **row, "audio": sound, "audio_id": audio_id}


def _refuse_problem(row: dict) -> None:
    """Raise the problem that was found when a row was read from a stream, or its sound was embedded."""
    if row.get("problem") is not None:
        raise BadRowError(row["problem"].text, row["problem"].kind)


def _captions_of(row: dict, languages: Sequence[str]) -> dict[str, list[str]]:
    try:
        return captions_of(row, languages, _name(row))
    except BadRowError as error:
        advice = ": add it, or train without the language." if error.kind == MISSING_LANGUAGE else "."
        raise BadRowError(f"{error}{advice}", error.kind) from error
