"""Features of one clip, whose name is in every error."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from transformers.utils import logging

from ..audio_inputs_atri import name_of_sound, path_of, read_sound


logger = logging.get_logger(__name__)


@dataclass(frozen=True)
class AudioFailure:
    """A clip that could not be read.

    Args:
        index: its place among the clips that were given.
        name: its path or the name that it was given, otherwise "Clip {index}".
        reason: a sentence that says what is wrong with it.
        error (*optional*): the error that was raised, without its traceback, which would keep the clip in memory.
    """

    index: int
    name: str
    reason: str
    error: Exception | None = field(default=None, compare=False, repr=False)


@dataclass
class ClipReader:
    """Reads one clip, as the arguments of `encode_audio` say."""

    feature_extractor: Any
    sampling_rate: int | None
    pad_short: bool
    read_features: Callable[[Any], Tensor] | None
    names: Sequence[str] | None
    skip: bool  # log a clip that cannot be read and return an `AudioFailure`, instead of raising

    def __call__(self, numbered: tuple[int, Any]) -> Tensor | AudioFailure:
        """Features of a clip with its number, of shape `(frames, columns)`, or the reason why it has none."""
        index, audio = numbered
        if isinstance(audio, Mapping) and "audio" in audio:  # a row of a data set
            audio = audio["audio"]
        name = self.names[index] if self.names is not None else path_of(audio) or f"Clip {index}"
        try:
            return self._read(audio, "the clip" if self.names is not None else f"Clip {index}")
        except (ValueError, OSError) as error:
            is_named = self.names is None and name in str(error)
            message = str(error) if is_named else f"{name}: {error}"
            if self.skip:
                logger.warning(f"Skipped: {message}")
                error.__cause__ = error.__context__ = None
                return AudioFailure(index, name, str(error), error.with_traceback(None))
            if is_named:
                raise
            raise ValueError(message) from error

    def _read(self, audio: Any, name: str) -> Tensor:
        if self.read_features is not None:
            return self.read_features(audio)
        extractor = self.feature_extractor
        if extractor.sampling_rate is None:  # it takes embeddings
            return extractor.extract_clip(audio, name=name, source_rate=self.sampling_rate)
        waveform = read_sound(audio, extractor.sampling_rate, self.sampling_rate, name)
        return extractor.extract_clip(waveform, self.pad_short, name_of_sound(audio, name))
