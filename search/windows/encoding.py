"""Embeddings of the windows of any number of sounds, and of the whole sounds, in order and in bounded memory."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from modeling_atri import AtriModel, AtriProcessor
from modeling_atri.encode import AudioFailure
from modeling_atri.encode.batches import BATCHES_AHEAD, ClipGroups, frames_per_unit, similar_batches
from modeling_atri.encode.clip_reader import ClipReader, LongClip
from modeling_atri.encode.encoding import check_at_least, check_windows
from modeling_atri.eval_mode_atri import in_eval_mode
from modeling_atri.threads_atri import ReadAhead, default_num_workers

from .parts import Part
from .plan import WindowPlan
from .reading import ReadSound, SoundReader, covered, gives_window_outputs


@dataclass(frozen=True)
class EncodedSound:
    """A sound, its windows and their embeddings.

    Args:
        duration_s (`float`): length of the sound in seconds; 0 for a stored embedding.
        spans: start and end of each window in seconds.
        vectors (`np.ndarray` of shape `(num_windows, projection_dim)`, float32): L2-normalised embeddings of the
            windows.
        whole (`np.ndarray` of shape `(projection_dim,)`, float32): the embedding that `encode_audio` gives the sound.
            For a sound of one window it is the window's.
        content (`str`, *optional*): digest of the bytes of the sound, if it was given as a file on disk, see
            `modeling_atri.files.content_digest`.
    """

    duration_s: float
    spans: list[tuple[float, float]]
    vectors: np.ndarray
    whole: np.ndarray
    content: str | None = None


def encode_windows(
    model: AtriModel,
    processor: AtriProcessor,
    audios: Iterable[Any],
    plan: WindowPlan,
    sampling_rate: int | None = None,
    batch_size: int = 16,
    pad_short: bool = False,
    names: Sequence[str] | None = None,
    num_workers: int | None = None,
    on_error: Literal["raise", "skip"] = "skip",
) -> Iterator[EncodedSound | AudioFailure]:
    """Encode the windows of sounds, and the whole sounds, in the order given.

    A sound that is not longer than a window is one window, and is encoded once. Windows of several sounds share a
    batch, and sounds are decoded in threads while the model works. What the windows and the whole sound have in common
    is encoded once: where a window is a chunk that `encode_audio` would cut, its output is used for both.

    With CED, a window is a stretch of rows of the features of the whole sound, which are cut at multiples of 10 ms and
    share one noise floor. With other towers, it is a stretch of samples. Its embedding is that of the stretch alone.

    Args:
        model (`AtriModel`): on any device. Any object with `get_audio_features`, `config` and `device` works.
        processor (`AtriProcessor`): the processor of the model.
        audios: sounds of any length, as in [`~encode.encode_audio`].
        plan (`WindowPlan`): from `plan_windows(model, processor, ...)`.
        sampling_rate (`int`, *optional*): sampling rate of waveforms, in Hz. Files carry their own.
        batch_size (`int`, *optional*, defaults to 16): windows of the audio tower per forward pass.
        pad_short (`bool`, *optional*, defaults to `False`): zero-pad sounds below 0.15 s instead of refusing them.
        names (list of `str`, *optional*): what errors call the sounds. Default: their paths or numbers.
        num_workers (`int`, *optional*): threads that decode, see [`~encode.encode_audio`].
        on_error (`str`, *optional*, defaults to `"skip"`): `"skip"` yields an `AudioFailure` for a sound that cannot
            be read, or becomes unreadable while it is encoded, `"raise"` raises an error.

    Returns:
        An iterator of one `EncodedSound` or `AudioFailure` for each sound.

    Raises:
        ValueError: an argument is wrong, or with `on_error="raise"` a sound cannot be read.
    """
    if on_error not in ("raise", "skip"):
        raise ValueError(f"`on_error` must be 'raise' or 'skip', got {on_error!r}.")
    check_windows(model, processor)
    num_workers = default_num_workers() if num_workers is None else num_workers
    check_at_least(0, "num_workers", num_workers)
    check_at_least(1, "batch_size", batch_size)
    extractor = processor.feature_extractor
    read_parts: Any = SoundReader(model, extractor, plan, sampling_rate, pad_short)
    read: Any = ClipReader(extractor, sampling_rate, pad_short, read_parts, names, on_error == "skip")
    num_ahead, max_weight = batch_size + 2 * num_workers, batch_size * BATCHES_AHEAD
    reader = ReadAhead(read, enumerate(audios), num_workers, num_ahead, _weigh_sound, max_weight)
    return _encode(model, extractor, reader, batch_size, num_workers)


def _weigh_sound(clip: LongClip | AudioFailure) -> int:
    """How much a sound that waits counts for the memory; of a long recording, nothing is in memory yet."""
    if isinstance(clip, AudioFailure) or not isinstance(clip.sound.features, list):
        return 1
    return cast(ReadSound, clip.sound).layout.num_outputs


def _encode(
    model: AtriModel,
    extractor: Any,
    reader: ReadAhead[Any, LongClip | AudioFailure],
    batch_size: int,
    num_workers: int,
) -> Iterator[EncodedSound | AudioFailure]:
    unit = frames_per_unit(extractor)
    with reader, closing(_Parts(reader, num_workers, batch_size + 2 * num_workers)) as parts:
        groups = ClipGroups(parts, lambda item: len(item.part.outputs), batch_size)
        for group in groups:
            with in_eval_mode(model), torch.inference_mode():  # not while the caller has the result
                for rows in similar_batches([len(item.features) for item in group], batch_size, unit):
                    _run([group[row] for row in rows], model, extractor)
                    groups.fill(wait=False)
                del group
                done = _finish(parts.take_done(), model)
            yield from done
        yield from cast(list[AudioFailure], parts.take_done())


class _Sound:
    """A sound while it is encoded. It has a failure if it could not be read to its end."""

    def __init__(self, read: ReadSound, fail: Callable[[Exception], AudioFailure]):
        self.read = read
        self.fail = fail
        self.failure: AudioFailure | None = None
        self.outputs: Tensor | None = None
        self.weights = [1.0] * read.layout.num_outputs  # of the outputs in means
        self.num_waiting = len(read.layout.parts)

    def take(self, part: Part, outputs: Sequence[Tensor]) -> None:
        """Keep what the tower gave for a part, a vector for each of its windows."""
        if self.outputs is None:
            self.outputs = outputs[0].new_empty(self.read.layout.num_outputs, len(outputs[0]))
        for number, output in zip(part.outputs, outputs, strict=True):
            self.outputs[number] = output
        self.num_waiting -= 1


@dataclass
class _PartOfSound:
    sound: _Sound
    part: Part
    features: Tensor


class _Parts:
    """The parts of the sounds that a reader yields, one after the other, and the sounds that are not returned yet."""

    def __init__(self, reader: ReadAhead[Any, LongClip | AudioFailure], num_workers: int, num_ahead: int):
        self._reader = reader
        self._num_workers, self._num_ahead = num_workers, num_ahead
        self._sound: _Sound | None = None  # whose parts come next
        self._parts: deque[Part] = deque()
        self._features: deque[Tensor] | ReadAhead[Tensor | Exception, Tensor] = deque()
        self._sounds: deque[_Sound | AudioFailure] = deque()

    def __next__(self) -> _PartOfSound:
        while True:
            while not self._parts:
                self._open(next(self._reader))
            sound, part = cast(_Sound, self._sound), self._parts.popleft()
            try:
                features = self._features.popleft() if isinstance(self._features, deque) else next(self._features)
            except (ValueError, OSError) as error:  # the file has been changed since it was read for the first time
                sound.failure = sound.fail(error)
                self._parts.clear()
                continue
            if sound.read.are_weighted:
                sound.weights[part.outputs[0]] = covered(features)
            return _PartOfSound(sound, part, features)

    def is_ready(self) -> bool:
        """Whether the next part is there without waiting."""
        if not self._parts:
            return self._reader.is_ready()
        return isinstance(self._features, deque) or self._features.is_ready()

    def take_done(self) -> list[_Sound | AudioFailure]:
        """The sounds that come next in the order and are encoded, or could not be read."""
        done: list[_Sound | AudioFailure] = []
        while self._sounds:
            first = self._sounds[0]
            failure = first.failure if isinstance(first, _Sound) else first
            if failure is None and cast(_Sound, first).num_waiting:
                break
            done.append(failure or first)
            self._sounds.popleft()
        return done

    def close(self) -> None:
        """End the threads that extract the parts of a long sound."""
        if isinstance(self._features, ReadAhead):
            self._features.__exit__()
            self._features = deque()

    def _open(self, clip: LongClip | AudioFailure) -> None:
        self.close()
        if isinstance(clip, AudioFailure):
            self._sounds.append(clip)
            return
        read: ReadSound = clip.sound
        self._sound = _Sound(read, clip.fail)
        self._sounds.append(self._sound)
        self._parts.extend(read.layout.parts)
        features, read.features = read.features, []  # each is freed once it went through the model
        if read.extract is None:
            self._features = deque(features)
        else:
            extract = partial(_extracted, read.extract)
            reader = ReadAhead(extract, _errors_as_items(features), self._num_workers, self._num_ahead)
            self._features = reader.__enter__()


def _errors_as_items(parts: Iterable[Tensor]) -> Iterator[Tensor | Exception]:
    """Parts of a sound, and an error of reading them where it comes in their order."""
    try:
        yield from parts
    except (ValueError, OSError) as error:
        yield error


def _extracted(extract: Callable[[Tensor], Tensor], part: Tensor | Exception) -> Tensor:
    if isinstance(part, Exception):
        raise part
    return extract(part)


def _run(batch: Sequence[_PartOfSound], model: Any, extractor: Any) -> None:
    """Run parts through the model, and hand the outputs to their sounds."""
    features, mask = (values.to(model.device) for values in extractor.pad_features([item.features for item in batch]))
    forward = model.audio_model if gives_window_outputs(model) else model.get_audio_features
    result = forward(input_features=features, input_features_mask=mask)
    pooled = result.pooler_output
    for row, item in enumerate(batch):
        if len(item.part.outputs) == 1:
            item.sound.take(item.part, [pooled[row]])
        else:  # chunks of CED, all tokens of which count
            chunks = -(-features.shape[1] // model.config.audio_config.max_frames)
            tokens = result.last_hidden_state[row].unflatten(0, (chunks, -1))
            item.sound.take(item.part, list(tokens[: len(item.part.outputs)].float().mean(dim=1).to(pooled.dtype)))


def _finish(sounds: Sequence[_Sound | AudioFailure], model: Any) -> list[EncodedSound | AudioFailure]:
    """The embeddings of sounds all of whose parts went through the tower."""
    encoded = [sound for sound in sounds if isinstance(sound, _Sound)]
    if not encoded:
        return list(cast(Sequence[AudioFailure], sounds))
    means = [sound.read.layout.means(cast(Tensor, sound.outputs).float(), sound.weights) for sound in encoded]
    vectors = torch.cat(means)
    if gives_window_outputs(model):
        dtype = cast(Tensor, encoded[0].outputs).dtype
        vectors = F.normalize(model.audio_projection(vectors.to(dtype)), dim=-1)
    ends = np.cumsum([len(block) for block in means])[:-1]
    blocks = iter(np.split(vectors.float().cpu().numpy(), ends))
    return [_result(item.read, next(blocks)) if isinstance(item, _Sound) else item for item in sounds]


def _result(read: ReadSound, vectors: np.ndarray) -> EncodedSound:
    return EncodedSound(read.duration_s, read.spans, vectors[: len(read.spans)], vectors[-1], read.content)
