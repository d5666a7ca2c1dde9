"""Embeddings and ground truth of the metrics, checked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


Array: TypeAlias = NDArray[Any]
Embeddings: TypeAlias = Array | Tensor
Positives: TypeAlias = Array | Tensor | Sequence[int] | Sequence[Sequence[int]]
Device: TypeAlias = str | torch.device

_ROWS_AT_ONCE = 64
# A row whose length differs from 1 by less is taken for normalised where scores are only needed to about 1e-5.
_ALMOST_UNIT = 1e-6


class Rows:
    """Checked embeddings `(n, D)` on the device that computes, which are L2-normalised a few at a time.

    Args:
        embeds: The embeddings, in any real type. They are not copied if they are on the device already.
        name: What errors call them.
        device: Where they are needed.

    Raises:
        ValueError: They are no matrix of real numbers, or a row is zero or not finite.
    """

    def __init__(self, embeds: Embeddings, name: str, device: Device = "cpu"):
        self.name = name
        self.values = _as_tensor(embeds, name).to(device)
        # Into memory that is there already: a list of small results would keep the freed memory between them apart.
        self.norms = torch.empty(len(self.values), dtype=torch.float64, device=device)
        for part in _parts(len(self.values)):
            torch.linalg.vector_norm(self.values[part], dim=1, dtype=torch.float64, out=self.norms[part])
        bad = ~(torch.isfinite(self.norms) & (self.norms > 0))
        if bad.any():
            raise ValueError(
                f"`{name}` cannot be L2-normalised in {some(bad.cpu().numpy(), 'row')}: length "
                f"{self.norms[bad][0].item()}. Embeddings must be finite and not zero: look for NaN, Inf or an empty "
                "input."
            )
        self._are_unit = self.values.dtype == torch.float32 and bool(((self.norms - 1).abs() < _ALMOST_UNIT).all())

    def __len__(self) -> int:
        return len(self.values)

    @property
    def width(self) -> int:
        return self.values.shape[1]

    def unit(self, places: slice | Tensor = slice(None)) -> Tensor:
        """Rows, L2-normalised in float64. Rows of one direction but different length differ by rounding alone."""
        if isinstance(places, slice):
            return self.values[places].double() / self.norms[places, None]
        return self.values.index_select(0, places).double().div_(self.norms[places, None])

    def cosines(self, places: Tensor, others: "Rows", other_places: Tensor) -> Tensor:
        """Cosines of rows with other rows, pair by pair, `(p,)` float64."""
        own, other = self.values.index_select(0, places), others.values.index_select(0, other_places)
        return (own.double() * other.double()).sum(dim=1) / self.norms[places] / others.norms[other_places]

    def roughly_unit(self, places: slice) -> Tensor:
        """Rows in float32 whose length is 1 to about 1e-6: a view of the values if they are normalised already."""
        if self._are_unit:
            return self.values[places]
        values, norms = self.values[places], self.norms[places, None]
        units = torch.empty(values.shape, dtype=torch.float32, device=values.device)
        for part in _parts(len(units)):
            torch.div(values[part].double(), norms[part], out=units[part])
        return units


def _parts(number: int) -> list[slice]:
    """A few rows at once, so that they take little memory in float64."""
    return [slice(start, min(start + _ROWS_AT_ONCE, number)) for start in range(0, number, _ROWS_AT_ONCE)]


def _as_tensor(embeds: Embeddings, name: str) -> Tensor:
    if isinstance(embeds, Tensor):
        tensor = embeds.detach()
        is_real = not tensor.is_complex() and tensor.dtype != torch.bool
        shape, dtype = tuple(tensor.shape), str(tensor.dtype)
    else:
        array = np.asarray(embeds)
        is_real, shape, dtype = array.dtype.kind in "fiu", array.shape, str(array.dtype)
    if len(shape) != 2 or 0 in shape or not is_real:
        raise ValueError(
            f"`{name}` must be a non-empty matrix of real numbers with one embedding in each row; "
            f"got shape {shape}, dtype {dtype}."
        )
    if isinstance(embeds, Tensor):
        return tensor if tensor.is_floating_point() else tensor.double()
    if array.dtype not in (np.float16, np.float32, np.float64):
        array = array.astype(np.float64)
    if any(stride < 0 for stride in array.strides):
        array = np.ascontiguousarray(array)  # torch has no tensors that run backwards
    return torch.from_dlpack(array)  # which takes read-only arrays too, without a warning


@dataclass(frozen=True)
class Pairs:
    """Caption and clip of each positive pair, `(P,)` int64 each, ordered by caption."""

    captions: Array
    clips: Array

    @classmethod
    def of(cls, positives: Positives, num_texts: int, num_audios: int) -> "Pairs":
        """Check a ground truth: for each caption its clip, or its clips."""
        if isinstance(positives, Tensor):
            positives = positives.cpu().numpy()
        if len(positives) != num_texts:
            raise ValueError(
                f"`positives` needs one entry for each caption; got {len(positives)} for {num_texts} captions."
            )
        if isinstance(positives, np.ndarray) and positives.ndim == 1 and positives.dtype.kind in "iu":
            sizes, clips = np.ones(num_texts, np.int64), positives
        else:
            entries = [np.atleast_1d(np.asarray(entry)) for entry in positives]
            sizes = np.array([entry.size for entry in entries])
            if not sizes.all():
                raise ValueError(
                    f"`positives` names no clip for {some(sizes == 0, 'caption')}; every caption needs one."
                )
            clips = np.concatenate(entries)
        captions = np.repeat(np.arange(num_texts), sizes)
        if clips.ndim != 1 or clips.dtype.kind not in "iu":
            raise ValueError(f"`positives` must be row numbers of `audio_embeds` (integers); got {clips.dtype}.")
        outside = (clips < 0) | (clips >= num_audios)
        if outside.any():
            raise ValueError(
                f"`positives` names clip {clips[outside][0]} for caption {captions[outside][0]}, "
                f"but `audio_embeds` has the rows 0 to {num_audios - 1}."
            )
        clips = clips.astype(np.int64)
        pairs = np.sort(captions * num_audios + clips)
        twice = pairs[1:][pairs[1:] == pairs[:-1]]
        if len(twice):
            caption, clip = divmod(int(twice[0]), num_audios)
            raise ValueError(f"`positives` names clip {clip} twice for caption {caption}; name it once.")
        return cls(captions, clips)

    def check_clips(self, num_audios: int) -> None:
        """Raise a ValueError if a clip has no caption."""
        missing = np.bincount(self.clips, minlength=num_audios) == 0
        if missing.any():
            raise ValueError(
                f"`positives` has no caption for {some(missing, 'clip')}: audio-to-text retrieval is undefined for "
                "it. Leave such clips out, or use `text_to_audio_ranks`, which allows them."
            )


def checked_texts(text_embeds: Mapping[str, Embeddings], device: Device) -> dict[str, Rows]:
    """Check the captions of several languages."""
    texts = {language: Rows(embeds, f"text_embeds[{language!r}]", device) for language, embeds in text_embeds.items()}
    sizes = {language: len(text) for language, text in texts.items()}
    if len(set(sizes.values())) != 1:
        raise ValueError(
            f"All languages must have the same captions in the same order, but their numbers are {sizes}."
        )
    return texts


def some(at_fault: Array, noun: str) -> str:
    """The first few numbers where the (n,) mask is set, for an error message: "rows 3, 7 and 9"."""
    numbers = np.flatnonzero(at_fault).tolist()
    shown = [*map(str, numbers[:5]), *([f"{len(numbers) - 5} more"] if len(numbers) > 5 else [])]
    return f"{noun} {shown[0]}" if len(shown) == 1 else f"{noun}s {', '.join(shown[:-1])} and {shown[-1]}"
