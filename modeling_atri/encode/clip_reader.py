"""Features of one clip, whose name is in every error."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor
from transformers.utils import logging

from ..audio_inputs_atri import path_of
from ..files import printable
from ..long_sounds_atri import LongSound


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


@dataclass(frozen=True)
class LongClip:
    """A clip that is so long that it is read while it is encoded.

    Args:
        sound: the recording. `len()` of the clip is its number of rows.
        fail: takes an error of reading it, and returns its `AudioFailure` or raises the error with the clip's name.
    """

    sound: Any
    fail: Callable[[Exception], AudioFailure]

    def __len__(self) -> int:
        return len(self.sound)


@dataclass
class ClipReader:
    """Reads one clip, as the arguments of `encode_audio` say."""

    feature_extractor: Any
    sampling_rate: int | None
    pad_short: bool
    read_features: Callable[[Any], Tensor | LongSound] | None
    names: Sequence[str] | None
    skip: bool  # log a clip that cannot be read and return an `AudioFailure`, instead of raising

    def __call__(self, numbered: tuple[int, Any]) -> Tensor | LongClip | AudioFailure:
        """A clip with its number: its features, `(frames, columns)`, a long recording, or why it cannot be read."""
        index, audio = numbered
        if isinstance(audio, Mapping) and "audio" in audio:  # a row of a data set
            audio = audio["audio"]
        name = self.names[index] if self.names is not None else path_of(audio) or f"Clip {index}"
        try:
            read = self._read(audio, "the clip" if self.names is not None else f"Clip {index}")
        except (ValueError, OSError) as error:
            return self._fail(index, name, error)
        return read if isinstance(read, Tensor) else LongClip(read, partial(self._fail, index, name))

    def _fail(self, index: int, name: str, error: Exception) -> AudioFailure:
        is_named = self.names is None and name in str(error)
        message = str(error) if is_named else f"{printable(name)}: {error}"
        if self.skip:
            logger.warning(f"Skipped: {message}")
            error.__cause__ = error.__context__ = None
            return AudioFailure(index, name, str(error), error.with_traceback(None))
        if is_named:
            raise error
        raise ValueError(message) from error

    def _read(self, audio: Any, name: str) -> Tensor | LongSound:
        if self.read_features is not None:
            return self.read_features(audio)
        extractor = self.feature_extractor
        if extractor.sampling_rate is None:  # it takes embeddings
            return extractor.extract_clip(audio, name=name, source_rate=self.sampling_rate)
        return extractor.read_clip(audio, self.pad_short, name, self.sampling_rate)
