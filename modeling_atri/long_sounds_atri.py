"""Long recordings in bounded memory: they are decoded, resampled, turned into features and encoded piece by piece.

A long recording is decoded twice. The first time shows its length, whether it can be read up to its end, and how loud
it is, because CED's features have a floor that depends on the loudest moment. The second time gives the pieces.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .audio_inputs_atri import READING, AudioInput, UnpackedSound, join_blocks, opened, unpack_sound
from .sound_files_atri import fetched
from .threads_atri import ReadAhead


LONG_SECONDS = 120  # of a recording that is read in pieces; a shorter one is read at once

_MODEST = 1e6  # samples up to here have finite features
_PIECES_AHEAD = 2

Stretch = tuple[int, int]  # first and last (exclusive) row or sample


@dataclass(frozen=True, eq=False)
class LongSound:
    """A recording that was read once to its end, and is read again whenever its features are asked for.

    `len()` of it is the number of rows of its features.

    Args:
        extractor: the feature extractor of the model.
        sound: where the recording is; a URL has been fetched.
        num_samples: samples of its waveform at the extractor's rate.
        num_rows: rows of its features.
        loudest: of CED's features, in decibels.
    """

    extractor: Any
    sound: UnpackedSound
    num_samples: int
    num_rows: int
    loudest: float

    def __len__(self) -> int:
        return self.num_rows

    @property
    def length(self) -> int:
        """The number of steps in which stretches are counted: samples, or with CED rows of features."""
        return self.num_samples if is_cut_by_samples(self.extractor) else self.num_rows

    def stretches(self, stretches: Iterable[Stretch]) -> Generator[Tensor, None, None]:
        """Parts of the recording in the order given, from which `extract` makes features; only those are in memory.

        Args:
            stretches: first and last (exclusive) step of each part, see `length`. They may overlap, but each must not
                begin before the one before it.

        Returns:
            An iterator of samples `(num_samples,)`, or with CED of features `(rows, mel bins)`.

        Raises:
            ValueError: the recording has become shorter, or cannot be read any more.
        """
        with opened(self.sound, self.extractor.sampling_rate) as (_, blocks):
            parts: Iterator[Tensor] = map(torch.from_numpy, blocks)
            if not is_cut_by_samples(self.extractor):
                floor = self.loudest - self.extractor.top_db
                parts = (rows.clamp_(min=floor) for rows in self.extractor.decibel_blocks(parts, self.num_samples))
            yield from _cut(parts, stretches, self.sound.name)

    def extract(self, part: Tensor) -> Tensor:
        """Features of a part that `stretches` gave, `(rows, columns)`."""
        return self.extractor.extract_waveform(part) if is_cut_by_samples(self.extractor) else part

    def features(self) -> Tensor:
        """The features of the whole recording, `(rows, columns)`, as `extract_clip` returns them."""
        return torch.cat([self.extract(part) for part in self.stretches([(0, self.length)])])


def is_cut_by_samples(extractor: Any) -> bool:
    """Whether each window of the tower has features of its own; with CED, windows are rows of the whole sound."""
    return hasattr(extractor, "windows")


def is_long(extractor: Any, sound: AudioInput) -> bool:
    """Whether a sound that carries its own rate says that it is so long that it is read in pieces.

    Raises:
        ValueError: the sound cannot be opened.
    """
    with opened(unpack_sound(sound), extractor.sampling_rate) as (num_samples, _):
        return num_samples is not None and num_samples > LONG_SECONDS * extractor.sampling_rate


def read_or_scan(
    extractor: Any, sound: AudioInput, source_rate: int | None = None, name: str | None = None
) -> Tensor | LongSound:
    """Read a sound as [`~audio_io.load_audio`] does, or if it is long, only read through it.

    Args:
        extractor: the feature extractor of the model.
        sound: a sound in any form.
        source_rate, name: see `read_sound`.

    Returns:
        The waveform, of shape `(num_samples,)`, float32; for a recording of more than `LONG_SECONDS` a [`LongSound`].

    Raises:
        ValueError: the sound cannot be read, is empty, or holds NaN, infinity, or, if it is long, samples as large as
            1e17.
    """
    rate = extractor.sampling_rate
    limit = LONG_SECONDS * rate
    found = unpack_sound(sound, source_rate, name)
    if found.rate is None:
        found = found._replace(content=fetched(found.content))
    with opened(found, rate) as (num_samples, blocks):
        if num_samples is not None and num_samples > limit:
            return _scan(extractor, found, blocks)
        with READING.taken(limit if num_samples is None else num_samples):
            if num_samples is not None:
                return torch.from_numpy(join_blocks(blocks, num_samples))
            begun, total = list[np.ndarray](), 0
            for block in blocks:
                begun.append(block)
                total += len(block)
                if total > limit:
                    break
            else:
                if total == 0:
                    raise ValueError(f"Cannot use {found.name}: it holds no samples.")
                return torch.from_numpy(join_blocks(begun, None))
        return _scan(extractor, found, chain(_emptied(begun), blocks))


def embed_in_pieces(
    model: Any,
    extractor: Any,
    clip: Tensor | LongSound,
    max_frames: int,
    after_piece: Callable[[float], None] = lambda share: None,
) -> Tensor:
    """Embedding of one long clip, computed piece by piece: a mean over pieces of whole windows of the audio tower.

    The last piece has at least two windows. CED fills up the last window of a clip with zeros that count, but masks
    those of a clip that is a single window.

    Args:
        model (`AtriModel`): in evaluation mode.
        extractor: its feature extractor.
        clip: features `(rows, columns)`, or a recording that is read in pieces.
        max_frames: rows that go through the model at once; at least two windows do.
        after_piece (*optional*): is called after each piece with the share of the clip that is done, up to 1.

    Returns:
        `torch.Tensor` of shape `(1, projection_dim)`.
    """
    is_by_samples = is_cut_by_samples(extractor)
    size = extractor.windows.frames if is_by_samples else model.config.audio_config.max_frames
    if isinstance(clip, LongSound) and is_by_samples:
        windows = extractor.spans(clip.num_samples)
    else:
        windows = [(start, min(start + size, len(clip))) for start in range(0, len(clip), size)]
    num_pieces = -(-len(windows) // max(2, max_frames // size))
    bounds = pairwise(piece * len(windows) // num_pieces for piece in range(num_pieces + 1))
    stretches = [(windows[first][0], windows[last - 1][1]) for first, last in bounds]
    total, total_weight = torch.zeros(()), 0
    for number, features in enumerate(_pieces(clip, stretches), start=1):
        rows, mask = extractor.pad_features([features])
        pooled = model.audio_model(rows.to(model.device), mask.to(model.device)).pooler_output
        # CED averages its windows with equal weights, other towers by the rows that the sound covers.
        weight = int(mask.sum()) if is_by_samples else -(-len(features) // size)
        total, total_weight = total + pooled.float() * weight, total_weight + weight
        after_piece(number / num_pieces)
    return F.normalize(model.audio_projection((total / total_weight).to(pooled.dtype)), dim=-1)


def _pieces(clip: Tensor | LongSound, stretches: Sequence[Stretch]) -> Iterator[Tensor]:
    """Features of the stretches of a clip; those of a recording are made in a thread while the model works."""
    if isinstance(clip, Tensor):
        yield from (clip[start:stop] for start, stop in stretches)
        return
    with closing(clip.stretches(stretches)) as parts:
        with ReadAhead(lambda _: clip.extract(next(parts)), stretches, 1, _PIECES_AHEAD) as pieces:
            yield from pieces


def _scan(extractor: Any, sound: UnpackedSound, blocks: Iterable[np.ndarray]) -> LongSound:
    """Read through a recording."""
    num_samples, peak, loudest = 0, 0.0, -float("inf")

    def counted() -> Iterator[Tensor]:
        nonlocal num_samples, peak
        for block in map(torch.from_numpy, blocks):
            num_samples += len(block)
            if len(block):
                low, high = torch.aminmax(block)
                peak = max(peak, -float(low), float(high))
            yield block

    if is_cut_by_samples(extractor):
        for _ in counted():
            pass
    else:
        for decibels in extractor.decibel_blocks(counted(), only_loud=True):
            loudest = float(decibels.max().maximum(torch.tensor(loudest)))  # NaN stays NaN
    long = LongSound(extractor, sound, num_samples, extractor.num_frames(num_samples), loudest)
    if peak > _MODEST and not _are_finite(long):
        raise ValueError(too_loud(sound.name, peak))
    return long


def _are_finite(long: LongSound) -> bool:
    if not is_cut_by_samples(long.extractor):
        return bool(np.isfinite(long.loudest))
    windows = long.stretches(long.extractor.spans(long.num_samples))
    return all(bool(torch.isfinite(long.extract(window)).all()) for window in windows)


def too_loud(name: str, peak: float) -> str:
    """Say that samples up to `peak` have no finite features."""
    return (
        f"Cannot use {name}: it has samples up to {peak:.3g}, whose power is infinite in float32. Full scale is 1.0. "
        "Scale it down."
    )


def _emptied(blocks: list[np.ndarray]) -> Iterator[np.ndarray]:
    """The blocks of a list, which forgets each of them."""
    blocks.reverse()
    while blocks:
        yield blocks.pop()


def _cut(blocks: Iterator[Tensor], stretches: Iterable[Stretch], name: str) -> Iterator[Tensor]:
    """Stretches of what blocks are a part of."""
    held: list[Tensor] = []
    begin = end = 0  # of what is held
    for start, stop in stretches:
        while held and begin + len(held[0]) <= start:
            begin += len(held.pop(0))
        while end < stop:
            block = next(blocks, None)
            if block is None:
                raise ValueError(f"Cannot use {name}: it became shorter while it was read. Encode it again.")
            end += len(block)
            if end <= start:
                begin = end
            else:
                held.append(block)
        yield torch.cat(held)[start - begin : stop - begin]
