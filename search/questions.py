"""A question: a text, a sound, or both, as one unit vector, and what is to be absent from the sounds."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modeling_atri.audio_inputs_atri import is_recording
from modeling_atri.bounds import is_number
from modeling_atri.embedded_audio_atri import AtriEmbeddingExtractor
from modeling_atri.encode import encode_audio, encode_text
from modeling_atri.files import existing_path
from modeling_atri.sources import path_advice

from .hits import Hit
from .question_language import language_of_question


if TYPE_CHECKING:
    from modeling_atri import AtriModel, AtriProcessor


# How much the similarity to what is to be absent counts. `benchmarks/without.py --tune` chose it.
ABSENCE_WEIGHT = 0.4


@dataclass(frozen=True)
class Question:
    """What is searched for.

    Args:
        vector (`np.ndarray` of shape `(projection_dim,)`): the unit vector of what is to be heard, float32.
        absent (`np.ndarray` of shape `(projection_dim,)`, *optional*): the unit vector of what is not to be heard.
        language (`str`, *optional*): the FLORES-200 code of the language that the text was encoded in; None without a
            text, and for a model that needs no language.
        language_was_found (`bool`): whether the language was found in the text instead of being given.
        text (`str`, *optional*): the text.
    """

    vector: np.ndarray
    absent: np.ndarray | None = None
    language: str | None = None
    language_was_found: bool = False
    text: str | None = None

    @property
    def direction(self) -> tuple[np.ndarray, float]:
        """The unit vector that sounds are compared with, and what its cosines are multiplied by to give scores."""
        if self.absent is None:
            return self.vector, 1.0
        difference = self.vector - ABSENCE_WEIGHT * self.absent
        length = float(np.linalg.norm(difference))
        return unit(difference), length

    def offset(self, mean: np.ndarray) -> float:
        """What is added to the scores, given the mean `(projection_dim,)` of the vectors of the index."""
        return 0.0 if self.absent is None else ABSENCE_WEIGHT * float(self.absent @ mean)


def make_question(
    model: "AtriModel",
    processor: "AtriProcessor",
    text: str | None = None,
    language: str | None = None,
    without: str | None = None,
    like: Any = None,
    like_weight: float = 0.5,
    stored_vector: Callable[[Any], np.ndarray | None] = lambda like: None,
    languages: Sequence[str] | None = None,
) -> Question:
    """Make a question of a text, a sound, or both.

    Args:
        model, processor: the model of the index.
        text (`str`, *optional*): what is to be heard.
        language (`str`, *optional*): the language of the texts. Default: it is found in them.
        without (`str`, *optional*): what is not to be heard, in the language of the text.
        like (*optional*): a sound in any form that `encode_audio` takes, or what `stored_vector` knows. A sound below
            0.15 s is padded with silence.
        like_weight (`float`, *optional*, defaults to 0.5): from 0 to 1, what the sound counts beside a text. The unit
            vectors of both are averaged with this weight, and the mean is normalised.
        stored_vector (*optional*): returns the vector of a sound of the index, and None for others.
        languages (sequence of `str`, *optional*): codes of the languages among which that of the text is found.

    Raises:
        ValueError: there is neither a text nor a sound, a text is empty, the language is unknown, the weight is not
            from 0 to 1, or the sound cannot be read.
    """
    if text is None and like is None:
        raise ValueError("There is no question. Pass a text, a sound (`like`), or both.")
    texts = {"question": text, "`without`": without}
    given = {name: _checked_text(name, value) for name, value in texts.items() if value is not None}
    if not is_number(like_weight) or not 0 <= like_weight <= 1:
        raise ValueError(f"`like_weight` must be a number from 0 to 1, got {like_weight!r}.")
    vectors: Mapping[str, np.ndarray] = {}
    code, was_found = None, False
    if given:
        code, was_found = language_of_question(" ".join(given.values()), processor, language, languages)
        encoded = encode_text(model, processor, list(given.values()), code or language)
        vectors = dict(zip(given, encoded, strict=True))
    sought = vectors.get("question")
    if like is not None:
        sound = _vector_of_sound(model, processor, like, stored_vector)
        sought = sound if sought is None else unit((1 - like_weight) * sought + like_weight * sound)
    if sought is None:  # cannot be: one of both is given
        raise RuntimeError("The question has no vector.")
    return Question(sought, vectors.get("`without`"), code, was_found, text)


def _checked_text(name: str, text: Any) -> str:
    if not isinstance(text, str):
        raise ValueError(f"The {name} must be a text, got {text!r} ({type(text).__name__}).")
    if not text.strip():
        raise ValueError(f"The {name} is empty. Write what is to be heard, such as 'a dog barks'.")
    try:
        text.encode()
    except UnicodeEncodeError:  # a command line that is not UTF-8
        raise ValueError(f"The {name} {text!r} is not Unicode text. Write it in UTF-8.") from None
    return text


def _vector_of_sound(
    model: "AtriModel", processor: "AtriProcessor", like: Any, stored_vector: Callable[[Any], np.ndarray | None]
) -> np.ndarray:
    """The vector of a sound of the index, or else of a sound that is encoded now."""
    stored = stored_vector(like) if isinstance(like, (str, os.PathLike, Hit)) else None
    if stored is not None:
        return stored
    if isinstance(like, Hit):
        raise ValueError(f"The index has no sound {like.file!r} any more.")
    if isinstance(like, str) and "://" not in like and not os.path.exists(existing_path(Path(like))):
        raise ValueError(f"There is no file {like!r}, and the index has no such sound. {path_advice(like)}".rstrip())
    extractor = processor.feature_extractor
    if isinstance(extractor, AtriEmbeddingExtractor) and is_recording(like):
        raise ValueError(f"{extractor.takes} Or name a sound of the index.")
    vector: np.ndarray = encode_audio(model, processor, [like], num_workers=0, pad_short=True)[0]
    return vector


def unit(vector: np.ndarray) -> np.ndarray:
    """A vector with the length 1, float32."""
    length = float(np.linalg.norm(vector))
    if length < 1e-6:
        raise ValueError(
            "The parts of the question cancel each other out. Change the weight, or leave one of them out."
        )
    normalised: np.ndarray = (vector / length).astype(np.float32)
    return normalised
