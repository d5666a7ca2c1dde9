"""The parts of a sound that the audio tower encodes, each once, and the embeddings that are means of their outputs."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor


Stretch = tuple[int, int]  # first and last (exclusive) row or sample


class _Output(NamedTuple):
    """One output of the tower: of a stretch, which CED fills up with zeros if it is the end of a longer clip."""

    start: int
    stop: int
    is_filled: bool = False


@dataclass(frozen=True)
class Part:
    """A stretch of a sound that goes through the tower at once, and the numbers of the outputs that it gives."""

    start: int
    stop: int
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """The parts of a sound, and for each of its embeddings the numbers of the outputs of which it is the mean."""

    parts: list[Part]
    outputs_of: list[list[int]]
    num_outputs: int

    def means(self, outputs: Tensor, weights: Sequence[float]) -> Tensor:
        """The weighted means of outputs `(num_outputs, width)` that the embeddings are made of, one row for each."""
        if all(len(numbers) == 1 for numbers in self.outputs_of):
            return outputs[[number for numbers in self.outputs_of for number in numbers]]
        rows = torch.tensor([row for row, numbers in enumerate(self.outputs_of) for _ in numbers])
        columns = torch.tensor([number for numbers in self.outputs_of for number in numbers])
        shares = torch.tensor(weights, dtype=torch.float64)[columns]
        shares /= torch.zeros(len(self.outputs_of), dtype=shares.dtype).index_add_(0, rows, shares)[rows]
        rows, columns, shares = (values.to(outputs.device) for values in (rows, columns, shares.float()))
        means = outputs.new_zeros(len(self.outputs_of), outputs.shape[1])
        return means.index_add_(0, rows, outputs[columns] * shares[:, None])


def whole_parts(stretches: Iterable[Stretch]) -> Layout:
    """One part for each embedding, for models that only give embeddings of whole clips."""
    return _layout([[_Output(*stretch)] for stretch in stretches])


def parts_of_rows(stretches: Iterable[Stretch], size: int) -> Layout:
    """Parts for CED, whose embedding of a clip of more than `size` rows is the mean over chunks of that length.

    CED fills up the last chunk of a longer clip with zeros that count, but masks those of a clip of one chunk.
    Therefore, a last chunk that is not full goes through the tower together with the chunk before.
    """
    return _layout([list(_chunks(start, stop, size)) for start, stop in stretches])


def parts_of_samples(stretches: Iterable[Stretch], spans: Callable[[int], list[Stretch]]) -> Layout:
    """Parts for a tower that encodes each window of a clip by itself.

    Args:
        stretches: first and last sample of each embedding.
        spans: takes a number of samples and returns the windows of the tower in a clip of that length.
    """
    return _layout(
        [[_Output(start + first, start + last) for first, last in spans(stop - start)] for start, stop in stretches]
    )


def _chunks(start: int, stop: int, size: int) -> Iterator[_Output]:
    for first in range(start, stop, size):
        last = min(first + size, stop)
        yield _Output(first, last, is_filled=last - first < size < stop - start)


def _layout(embeddings: list[list[_Output]]) -> Layout:
    numbers = {output: number for number, output in enumerate(dict.fromkeys(chain.from_iterable(embeddings)))}
    parts, missing = [], dict(numbers)
    for outputs in embeddings:
        if outputs[-1].is_filled and outputs[-1] in missing:
            pair = outputs[-2:]
            parts.append(Part(pair[0].start, pair[1].stop, tuple(numbers[output] for output in pair)))
            for output in pair:
                missing.pop(output, None)
    parts += [Part(output.start, output.stop, (number,)) for output, number in missing.items()]
    parts.sort(key=lambda part: (part.start, part.stop))
    return Layout(parts, [[numbers[output] for output in outputs] for outputs in embeddings], len(numbers))
