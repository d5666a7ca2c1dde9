"""Encode a batch in chunks, so that a batch of any size trains in the memory of one chunk.

This follows GradCache (Gao et al. 2021, https://arxiv.org/abs/2101.06983): encode every chunk without a graph, compute
the loss of all embeddings, then encode every chunk again and run backward with the gradient of the loss at its rows.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor


# Largest difference between unit vectors that counts as rounding. bfloat16 rounds to half of it, and a unit dropped by
# dropout moves the vectors by more.
_ROUNDING = 1e-2


class CachedEmbeddings:
    """Embeddings of a batch, detached from the encoder that made them.

    The loss is computed from `leaf`, `(num_rows, D)`. `backward` then passes the gradient of `leaf` on through the
    encoder, with the same dropout. The last chunk keeps its graph, so a batch of one chunk is encoded once. In the
    end, torch's random generators are in the state in which encoding every chunk once leaves them.

    Args:
        encode: Returns the embeddings of some of the rows, `(n, D)`. For the same rows and random state it must return
            the same embeddings.
        num_rows: Number of rows of the batch, at least 1.
        device: Device on which `encode` computes.
        chunk_size (*optional*): Most rows of a chunk. The chunks are of nearly equal size. Default: all rows.
        encodes_twice (*optional*, defaults to `True`): False lets every chunk keep its graph. This suits an encoder
            with few trained layers, such as a projection on a frozen tower, whose graph is hardly larger than the
            embeddings.
        num_rows_everywhere (*optional*): Number of rows on each process, for an encoder that is sharded over them and
            must be called equally often. A process with fewer chunks encodes its first row again, without effect.

    Raises:
        ValueError: By `backward`, if the second encoding of a chunk differs, because the gradient would be wrong.
    """

    def __init__(
        self,
        encode: Callable[[slice], Tensor],
        num_rows: int,
        device: torch.device,
        chunk_size: int | None = None,
        encodes_twice: bool = True,
        num_rows_everywhere: Sequence[int] | None = None,
    ):
        self._encode = encode
        self._graphs: list[tuple[slice, Tensor]] = []
        self._states: list[tuple[slice, _RandomState]] = []  # for the chunks that keep no graph
        parts: list[Tensor] = []
        chunks = _even_chunks(num_rows, chunk_size)
        most = max(len(_even_chunks(number, chunk_size)) for number in num_rows_everywhere or [num_rows])
        self._num_repeated = most - len(chunks)
        for place, rows in enumerate([slice(0, 1)] * self._num_repeated + chunks):
            keeps_graph = place == most - 1 or not encodes_twice
            if not keeps_graph:
                self._states.append((rows, _RandomState(device)))
            with torch.set_grad_enabled(keeps_graph):
                embeddings = encode(rows)
            if keeps_graph:
                self._graphs.append((rows, embeddings))
            if place >= self._num_repeated:
                parts.append(embeddings.detach())
        self.leaf = torch.cat(parts).requires_grad_()

    def backward(self) -> None:
        """Add the gradient that follows from `leaf.grad` to the encoder's parameters. It can be called once.

        The gradient has the scaling of the backward pass that set `leaf.grad` (mixed precision, accumulation).
        """
        gradient = self.leaf.grad
        if gradient is None:
            return
        while self._graphs:  # a graph is freed before another chunk is encoded
            rows, embeddings = self._graphs.pop()
            is_repeated = len(self._states) + len(self._graphs) < self._num_repeated
            if embeddings.requires_grad:  # false if LayerDrop left out all trained layers
                embeddings.backward(gradient=gradient[rows] * 0.0 if is_repeated else gradient[rows])
            del embeddings
        differences = []
        for place, (rows, state) in enumerate(self._states):
            with state.replayed():
                embeddings = self._encode(rows)
            differences.append((embeddings.detach() - self.leaf.detach()[rows]).abs().max())
            if embeddings.requires_grad:
                is_repeated = place < self._num_repeated
                embeddings.backward(gradient=gradient[rows] * 0.0 if is_repeated else gradient[rows])
            del embeddings
        self._states.clear()
        if differences:
            _check_same(max(differences).item())


def _check_same(difference: float) -> None:
    """Raise a ValueError if the two encodings of a chunk differ by more than rounding."""
    if not difference <= _ROUNDING:
        raise ValueError(
            f"The second encoding of a chunk differs from the first by up to {difference:.2g}, so its gradient would "
            "be wrong. Either the model uses random numbers that are not torch's, or torch.compile gave up compiling "
            "one of the two passes. Leave out `audio_chunk_size` and `text_chunk_size` (with `ranking_weight`, set "
            "`exact_step=False`), leave out `torch_compile`, or raise `torch._dynamo.config.recompile_limit`."
        )


class _RandomState:
    """State of torch's random generators: the device's, and the CPU's, which LayerDrop uses."""

    def __init__(self, device: torch.device):
        self._device = device
        self._of_cpu = torch.get_rng_state()
        if device.type != "cpu":
            self._of_device = torch.get_device_module(device).get_rng_state()

    @contextmanager
    def replayed(self) -> Iterator[None]:
        """Replay the random numbers from this state; afterwards restore the current state."""
        before = _RandomState(self._device)
        self._restore()
        try:
            yield
        finally:
            before._restore()

    def _restore(self) -> None:
        torch.set_rng_state(self._of_cpu)
        if self._device.type != "cpu":
            torch.get_device_module(self._device).set_rng_state(self._of_device)


def _even_chunks(num_rows: int, chunk_size: int | None) -> list[slice]:
    """Slices of at most `chunk_size` rows, as few as possible and of nearly equal size."""
    num_chunks = 1 if chunk_size is None else -(-num_rows // chunk_size)
    size = -(-num_rows // num_chunks)
    return [slice(start, min(start + size, num_rows)) for start in range(0, num_rows, size)]
