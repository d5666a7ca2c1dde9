"""Embeddings that are encoded in chunks: a batch of any size trains in the memory of one chunk.

After GradCache (Gao et al. 2021, https://arxiv.org/abs/2101.06983): encode every chunk without a graph, take the loss
of all embeddings, then encode every chunk again and run backward with the gradient that the loss has at its rows.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


# Of unit vectors: bfloat16 is twice as fine, and a dropped unit moves them by more.
_ROUNDING = 1e-2


class CachedEmbeddings:
    """Embeddings of a batch, cut off from the encoder that made them.

    A loss is taken of `leaf`, `(num_rows, D)`; `backward` passes the gradient that gathered there on through the
    encoder. All chunks but the last are encoded without a graph, and again by `backward`, each from the random state
    it had first, so that its dropout is the same. The last chunk keeps its graph: a batch of one chunk is encoded
    once. At no time do the activations of more than one chunk live. When all is done, torch's generators stand where
    encoding every chunk once leaves them.

    Args:
        encode: returns the embeddings of some of the rows, `(n, D)`; for the same rows and random state, the same.
        num_rows: rows of the batch, at least 1.
        device: where `encode` computes.
        chunk_size (*optional*): most rows of a chunk; chunks are as even as can be. Default: all rows.
        encodes_twice (*optional*, defaults to `True`): False lets every chunk keep its graph, for an encoder of which
            so little is trained (a head on a frozen tower) that its graph is hardly larger than the embeddings.

    Raises:
        ValueError: by `backward`, if a chunk was encoded to other embeddings the second time: the gradient would be
            wrong.
    """

    def __init__(
        self,
        encode: Callable[[slice], Tensor],
        num_rows: int,
        device: torch.device,
        chunk_size: int | None = None,
        encodes_twice: bool = True,
    ):
        self._encode = encode
        self._graphs: list[tuple[slice, Tensor]] = []
        self._states: list[tuple[slice, _RandomState]] = []  # of the chunks that keep no graph
        parts = []
        for rows in _even_chunks(num_rows, chunk_size):
            keeps_graph = rows.stop == num_rows or not encodes_twice
            state = None if keeps_graph else _RandomState(device)
            with torch.set_grad_enabled(keeps_graph):
                embeddings = encode(rows)
            if keeps_graph:
                self._graphs.append((rows, embeddings))
            else:
                self._states.append((rows, state))
            parts.append(embeddings.detach())
        self.leaf = torch.cat(parts).requires_grad_()

    def backward(self) -> None:
        """Add to the gradients of the encoder's parameters what `leaf.grad` makes of them, once.

        The gradient of the leaf has the scaling of the backward pass it came from (mixed precision, accumulation).
        """
        gradient = self.leaf.grad
        if gradient is None:
            return
        while self._graphs:  # a graph that has run backward is gone before another chunk is encoded
            rows, embeddings = self._graphs.pop()
            if embeddings.requires_grad:  # a chunk may have missed all that is trained: LayerDrop leaves layers out
                embeddings.backward(gradient=gradient[rows])
            del embeddings
        differences = []
        while self._states:
            rows, state = self._states.pop(0)
            with state.replayed():
                embeddings = self._encode(rows)
            differences.append((embeddings.detach() - self.leaf.detach()[rows]).abs().max())
            if embeddings.requires_grad:
                embeddings.backward(gradient=gradient[rows])
            del embeddings
        if differences:
            _check_same(max(differences).item())


def _check_same(difference: float) -> None:
    """Raise a ValueError if more than rounding lies between what a chunk was encoded to at first and again."""
    if not difference <= _ROUNDING:
        raise ValueError(
            f"A chunk of the batch was encoded to other embeddings the second time, by up to {difference:.2g}, so its "
            "gradient would be wrong: something in the model draws random numbers that are not torch's, or "
            "torch.compile gave up compiling one of the two passes. Leave out `audio_chunk_size` and "
            "`text_chunk_size` (with `ranking_weight`, set `exact_step=False`), or `torch_compile`, or raise "
            "`torch._dynamo.config.recompile_limit`."
        )


class _RandomState:
    """Where torch's generators stand: the device's, and the CPU's, which may draw too (which layers to leave out)."""

    def __init__(self, device: torch.device):
        self._device = device
        self._of_cpu = torch.get_rng_state()
        if device.type != "cpu":
            self._of_device = torch.get_device_module(device).get_rng_state()

    @contextmanager
    def replayed(self) -> Iterator[None]:
        """Draw from here on as was drawn then; afterwards the generators stand where they stood before."""
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
    """Slices of at most `chunk_size` rows, as few and as even as can be: a nearly empty last one would save little."""
    num_chunks = 1 if chunk_size is None else -(-num_rows // chunk_size)
    size = -(-num_rows // num_chunks)
    return [slice(start, min(start + size, num_rows)) for start in range(0, num_rows, size)]
