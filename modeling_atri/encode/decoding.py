"""Clips to log-mel features in threads, ahead of the model that takes them."""

import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Condition
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.utils import logging

from ..audio_io.load import load_audio
from ..feature_extraction_atri import AtriFeatureExtractor


logger = logging.get_logger(__name__)

FRAMES_PER_UNIT = 1012  # what CED sees at once, about 10 s: clips are weighed in these
_MAX_WORKERS = 16  # each of them holds a clip in memory


@dataclass(frozen=True)
class AudioFailure:
    """A clip that could not be read.

    Args:
        index: its place among the clips that were given.
        name: its path or the name it was given, else "Clip {index}".
        reason: what is wrong with it, in a sentence.
        error (*optional*): what was raised, without its traceback, which would hold the clip in memory.
    """

    index: int
    name: str
    reason: str
    error: Exception | None = field(default=None, compare=False, repr=False)


class ClipReader:
    """Reads one clip, named in every error.

    Args:
        feature_extractor: of the model.
        sampling_rate: of bare waveforms, in Hz.
        pad_short: zero-pad clips below 0.15 s instead of raising.
        read_features: makes the features in place of decoding; called from several threads.
        names: what errors call the clips.
        skip: return an `AudioFailure` where a clip is unfit, and log it, instead of raising.
    """

    def __init__(
        self,
        feature_extractor: AtriFeatureExtractor,
        sampling_rate: int | None = None,
        pad_short: bool = False,
        read_features: Callable[[Any], Tensor] | None = None,
        names: Sequence[str] | None = None,
        skip: bool = False,
    ):
        self._extractor = feature_extractor
        self._sampling_rate = sampling_rate
        self._pad_short = pad_short
        self._read_features = read_features
        self._names = names
        self._skip = skip

    def __call__(self, index: int, audio: Any) -> Tensor | AudioFailure:
        """Log-mel features of clip `index`, `(frames, mel bins)`, or what is wrong with it."""
        if isinstance(audio, Mapping) and "audio" in audio:  # a row of a data set
            audio = audio["audio"]
        path = _path_of(audio)
        name = self._names[index] if self._names is not None else path or f"Clip {index}"
        try:
            return self._read(audio, repr(path) if path else f"Clip {index}")
        except (ValueError, OSError) as error:
            is_named = self._names is None and name in str(error)
            message = str(error) if is_named else f"{name}: {error}"
            if self._skip:
                logger.warning(f"Skipped: {message}")
                error.__cause__ = error.__context__ = None
                return AudioFailure(index, name, str(error), error.with_traceback(None))
            if is_named:
                raise
            raise ValueError(message) from error

    def _read(self, audio: Any, name: str) -> Tensor:
        if self._read_features is not None:
            return self._read_features(audio)
        is_bare = isinstance(audio, (np.ndarray, Tensor))
        if is_bare and self._sampling_rate is None:
            raise ValueError(f"{name} is a bare waveform: pass its `sampling_rate` in Hz.")
        source_rate = self._sampling_rate if is_bare else None
        waveform = load_audio(audio, self._extractor.sampling_rate, source_rate)
        return self._extractor.extract_clip(waveform, self._pad_short, name=name)


def _path_of(audio: Any) -> str | None:
    if isinstance(audio, Mapping):
        audio = audio.get("path")
    return str(audio) if isinstance(audio, (str, os.PathLike)) else None


def weigh(features: Tensor | AudioFailure) -> int:
    """What a clip costs: 1 for up to 10 s, as many times that as it is longer."""
    return 1 if isinstance(features, AudioFailure) else max(1, -(-len(features) // FRAMES_PER_UNIT))


class ReadAhead:
    """Clips in the order given, read by threads while the caller does something else.

    The caller's iterable is only ever advanced in the caller's own thread, inside `__next__` and `is_ready`. At first
    few clips are read ahead, then more, as long as those that wait for the caller weigh less than `max_weight`. What
    a clip weighs is known when it was read, so each thread checks that before it begins one: those that wait can
    exceed the limit by one clip a thread.

    Args:
        read: takes the number of a clip and the clip.
        audios: the clips.
        num_workers: threads; 0 reads in the caller's thread when asked.
        num_ahead: clips under way at most.
        max_weight: none but the clip that comes next is begun while those that wait weigh as much.
    """

    def __init__(
        self,
        read: Callable[[int, Any], Tensor | AudioFailure],
        audios: Iterable[Any],
        num_workers: int,
        num_ahead: int,
        max_weight: int,
    ):
        self._read = read
        self._items = enumerate(audios)
        self._num_workers = num_workers
        self._num_ahead = num_ahead
        self._max_weight = max_weight
        self._num_taken = 0
        self._waiting_weight = 0
        self._is_over = False
        self._taken = Condition()  # guards these three
        self._pending: deque[Future] = deque()
        self._executor: ThreadPoolExecutor | None = None
        self._num_threads = torch.get_num_threads()

    def __enter__(self) -> "ReadAhead":
        if self._num_workers > 0:
            # One thread of torch in each of ours: else every worker brings a team as large as the machine. The setting
            # is the worker's own, and the default of threads to come, which is put back at the end.
            self._executor = ThreadPoolExecutor(self._num_workers, "atri-read", torch.set_num_threads, (1,))
        return self

    def __exit__(self, *exception: object) -> None:
        if self._executor is not None:
            with self._taken:
                self._is_over = True
                self._taken.notify_all()
            self._executor.shutdown(wait=True, cancel_futures=True)
            torch.set_num_threads(self._num_threads)

    def __iter__(self) -> "ReadAhead":
        return self

    def __next__(self) -> Tensor | AudioFailure:
        if self._executor is None:
            return self._read(*next(self._items))
        self._begin_more()
        if not self._pending:
            raise StopIteration
        features = self._pending.popleft().result()
        with self._taken:
            self._num_taken += 1
            self._waiting_weight -= weigh(features)
            self._taken.notify_all()
        return features

    def is_ready(self) -> bool:
        """Whether the next clip is there without waiting; begins more of them where there is room."""
        if self._executor is None:
            return False
        self._begin_more()
        return bool(self._pending) and self._pending[0].done()

    def _begin_more(self) -> None:
        limit = min(self._num_ahead, self._num_workers + self._num_taken)
        while len(self._pending) < limit:
            try:
                item = next(self._items)
            except StopIteration:
                return
            self._pending.append(self._executor.submit(self._read_when_there_is_room, *item))

    def _read_when_there_is_room(self, index: int, audio: Any) -> Tensor | AudioFailure | None:
        """In a thread: the clip, or None when nobody waits for it any more."""
        with self._taken:
            # The caller may be waiting for the next clip: that one needs no room.
            self._taken.wait_for(
                lambda: self._is_over or self._waiting_weight < self._max_weight or index == self._num_taken
            )
            if self._is_over:
                return None
        features = self._read(index, audio)
        with self._taken:
            self._waiting_weight += weigh(features)
        return features


def default_num_workers() -> int:
    """Threads that read clips: one for each core this process may use but the caller's, from 1 to 16."""
    num_cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return min(max(1, num_cores - 1), _MAX_WORKERS)
