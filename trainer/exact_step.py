"""The language-by-language step: the exact gradient of KCL and anchored KCL in the memory of one language."""

from collections.abc import Callable, Sequence

from torch import Tensor


def language_by_language_backward(
    encode_audio: Callable[[], Tensor],
    encode_captions: Callable[[int], Tensor],
    pair_loss: Callable[[Tensor, Tensor], Tensor],
    weights: Sequence[tuple[float, float]],
    backward: Callable[[Tensor], None],
    anchor: int | None = None,
) -> Tensor:
    """Accumulate the gradient of `sum_k a_k L(audio, text_k) + sum_{k != anchor} b_k L(text_anchor, text_k)`.

    Each language's terms depend on its own captions, the audio and the anchor's captions alone. So the audio (and the
    anchor) are encoded once; every language then meets detached leaf copies of them and runs backward at once, which
    frees its activations and adds to the gradients of the leaves; at last the leaves' gradients run backward through
    the anchor's captions and the audio. Nothing is encoded twice, and at no time do the activations of more than the
    audio, the anchor and one other language live.

    Args:
        encode_audio: returns the audio embeddings, `(N, D)`.
        encode_captions: returns the caption embeddings of the k-th language, `(N, D)`.
        pair_loss: the loss between two views of the items.
        weights: `(a_k, b_k)` of each language; b_k of the anchor is not used.
        backward: runs backward from a scalar; may scale it (mixed precision, gradient accumulation).
        anchor: index of the anchor language; None (KCL) leaves out the second sum.

    Returns:
        the value of the sum, detached.
    """
    audio = encode_audio()
    audio_leaf = _leaf(audio)
    anchor_captions = anchor_leaf = None
    if anchor is not None:
        anchor_captions = encode_captions(anchor)
        anchor_leaf = _leaf(anchor_captions)

    total = audio.new_zeros(())
    for k, (audio_weight, anchor_weight) in enumerate(weights):
        captions = anchor_leaf if k == anchor else encode_captions(k)
        loss = audio_weight * pair_loss(audio_leaf, captions)
        if anchor is not None and k != anchor:
            loss = loss + anchor_weight * pair_loss(anchor_leaf, captions)
        backward(loss)
        total = total + loss.detach()
        del captions, loss  # the graph of this language must be gone before the next is built

    if anchor_captions is not None:
        _pass_on(anchor_captions, anchor_leaf)
    _pass_on(audio, audio_leaf)
    return total


def _leaf(embeddings: Tensor) -> Tensor:
    return embeddings.detach().requires_grad_()


def _pass_on(embeddings: Tensor, leaf: Tensor) -> None:
    """The gradient that gathered at the leaf, through the encoder; it carries the scaling of `backward` already."""
    if embeddings.requires_grad and leaf.grad is not None:
        embeddings.backward(gradient=leaf.grad)
