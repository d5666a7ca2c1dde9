"""Random draws of a training run: streams of random numbers, and the languages and caption of each clip.

Every draw is a function of the seed and of its place: (epoch, item) for a draw per clip, (epoch, step) for a draw per
batch. All processes, any number of data loader workers, and a resumed run therefore draw the same.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from modeling_atri.bounds import check_options, is_number
from modeling_atri.languages_atri import resolve_language, resolve_languages

from ..objectives import find_objective, names_where


# One stream of random numbers for each kind of draw, so that a new kind never changes the draws of another.
ORDER, _CAPTION, _LANGUAGE, _BATCH_LANGUAGES = range(4)
AUGMENTATION, MEL_STATISTICS, MIX, EXCERPT, STAND_IN, PROBE = range(4, 10)
SHARD_ORDER, BLOCK_ORDER, SOURCE = range(10, 13)

CAPTION_CHOICES = ["random", "first"]


class Draw(NamedTuple):
    """Place of a training clip: `epoch`, `step` within the epoch (the same on all processes), and row `item`.

    In a stream, rows have no numbers, so `item` is `number_of` the clip's `audio_id`.
    """

    epoch: int
    step: int
    item: int


def random_stream(seed: int, kind: int, *place: int) -> np.random.Generator:
    """The random numbers of one kind of draw at one place."""
    return np.random.default_rng((seed, kind, *place))


def number_of(name: str) -> int:
    """A name as an int64 of at least 0 that is the same on every process and run."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big") >> 1


@dataclass(frozen=True)
class LanguageDraws:
    """The languages and captions that a training step takes of each clip.

    Args:
        objective (`str`): Name of an objective in `modeling_atri.trainer.objectives`. It decides what is drawn.
        languages (`list[str]`): All K languages of the run, as in `resolve_languages`.
        anchor (`str`, *optional*, defaults to `"eng_Latn"`): Anchor language of `akcl` and `cacl`.
        per_step (`int`, *optional*): Languages of a step, for objectives that draw them once a batch (`kcl`, `akcl`).
            Drawn without replacement; the anchor of `akcl` is one of them. Default: all.
        caption_choice (`str`, *optional*, defaults to `"random"`): `"random"` draws a caption index for each clip and
            epoch, `"first"` takes the first caption.
        seed (`int`, *optional*, defaults to 0): Seed of all draws.

    Raises:
        ValueError: The values do not fit together.
    """

    objective: str
    languages: Sequence[str]
    anchor: str = "eng_Latn"
    per_step: int | None = None
    caption_choice: str = field(default="random", metadata={"choices": CAPTION_CHOICES})
    seed: int = 0

    def __post_init__(self) -> None:
        codes = resolve_languages(self.languages) if isinstance(self.languages, (str, list, tuple)) else []
        if not isinstance(self.languages, (list, tuple)) and len(codes) < 2:
            raise ValueError(f"`languages` must be a list of languages; got {self.languages!r}.")
        object.__setattr__(self, "languages", tuple(codes))
        object.__setattr__(self, "anchor", resolve_language(self.anchor))
        check_options(self)
        self._check_languages()
        if self.per_step is not None:
            self._check_per_step(self.per_step)

    def _check_languages(self) -> None:
        languages = list(self.languages)
        if not languages or len(set(languages)) < len(languages):
            raise ValueError(f"`languages` must name each language once and at least one; got {languages}.")
        if not find_objective(self.objective).has_anchor:
            return
        if self.anchor not in languages:
            raise ValueError(
                f"The anchor language {self.anchor} is not among the languages {languages}. Add it, or choose another "
                "`anchor_language`."
            )
        if len(languages) < 2:
            raise ValueError(f"{self.objective} compares languages and needs at least two; got {languages}.")

    def _check_per_step(self, per_step: Any) -> None:
        objective, num_languages = find_objective(self.objective), len(self.languages)
        if objective.draws_per_clip:
            count = "two languages" if objective.has_anchor else "one language"
            raise ValueError(
                f"`languages_per_step` is for {names_where(lambda one: not one.draws_per_clip)}; {objective.name} "
                f"draws {count} a clip by definition."
            )
        if not (is_number(per_step, int) and objective.fewest_languages <= per_step <= num_languages):
            raise ValueError(
                f"`languages_per_step` must be a whole number between {objective.fewest_languages} and the number of "
                f"languages ({num_languages}) for {objective.name}, or None; got {per_step!r}."
            )

    def languages_of(self, draws: Sequence[Draw]) -> list[list[str]]:
        """The language of every caption that the N clips of a batch take part with.

        Args:
            draws: Places of the clips. They share epoch and step.

        Returns:
            K rows of N language codes: a row for each language of the step (`kcl`, `akcl`), the anchor and one other
            language (`cacl`), or one row (`mlclap`).
        """
        objective = find_objective(self.objective)
        fixed = [self.anchor] if objective.has_anchor else []
        if objective.draws_per_clip:
            free = [language for language in self.languages if language not in fixed]
            drawn = [free[int(self._rng(_LANGUAGE, draw).integers(len(free)))] for draw in draws]
            return [*([language] * len(draws) for language in fixed), drawn]
        return [[language] * len(draws) for language in self._languages_of_step(draws[0], fixed)]

    def _languages_of_step(self, draw: Draw, fixed: list[str]) -> Sequence[str]:
        if self.per_step is None or self.per_step >= len(self.languages):
            return self.languages
        free = [language for language in self.languages if language not in fixed]
        rng = random_stream(self.seed, _BATCH_LANGUAGES, draw.epoch, draw.step)
        drawn = {*fixed, *rng.choice(free, size=self.per_step - len(fixed), replace=False).tolist()}
        return [language for language in self.languages if language in drawn]

    def caption_index(self, num_captions: int, draw: Draw) -> int:
        """Index of the caption of this clip in this epoch. It is the same in every language: captions are parallel."""
        if self.caption_choice == "first" or num_captions == 1:
            return 0
        return _drawn_caption(self.seed, draw.epoch, draw.item, num_captions)

    def anchor_row(self, languages: Sequence[Sequence[str]]) -> int | None:
        """Row of the anchor among the languages `(K, N)` of a batch. None for an objective without an anchor."""
        if not find_objective(self.objective).has_anchor:
            return None
        return [row[0] for row in languages].index(self.anchor)

    def _rng(self, kind: int, draw: Draw) -> np.random.Generator:
        return random_stream(self.seed, kind, draw.epoch, draw.item)


@lru_cache(maxsize=4096)  # a batch asks for the captions of a row, and for the teacher's embedding of one
def _drawn_caption(seed: int, epoch: int, item: int, num_captions: int) -> int:
    return int(random_stream(seed, _CAPTION, epoch, item).integers(num_captions))
