"""The language-by-language step: the exact gradient of KCL and anchored KCL in the memory of one language."""

from collections.abc import Callable, Sequence

from torch import Tensor

from .cached import CachedEmbeddings


def language_by_language_backward(
    encode_audio: Callable[[], CachedEmbeddings],
    encode_captions: Callable[[int], CachedEmbeddings],
    pair_loss: Callable[[Tensor, Tensor], Tensor],
    weights: Sequence[tuple[float, float]],
    backward: Callable[[Tensor], None],
    anchor: int | None = None,
) -> Tensor:
    """Accumulate the gradient of `sum_k a_k L(audio, text_k) + sum_{k != anchor} b_k L(text_anchor, text_k)`.

    Each language's terms depend on its own captions, the audio and the anchor's captions alone. So the audio (and the
    anchor) are encoded first; every language then meets detached leaf copies of them and runs backward at once, which
    frees its activations and adds to the gradients of the leaves; at last the leaves' gradients run backward through
    the anchor's captions and the audio. At no time do the activations of more than the audio, the anchor and one other
    language live: one chunk of each, where they are encoded in chunks. Without chunks nothing is encoded twice.

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
    anchor_captions = None if anchor is None else encode_captions(anchor)
    total = audio.leaf.new_zeros(())
    for k, (audio_weight, anchor_weight) in enumerate(weights):
        captions = anchor_captions if k == anchor else encode_captions(k)
        loss = audio_weight * pair_loss(audio.leaf, captions.leaf)
        if anchor is not None and k != anchor:
            loss = loss + anchor_weight * pair_loss(anchor_captions.leaf, captions.leaf)
        backward(loss)
        total = total + loss.detach()
        if k != anchor:
            captions.backward()
        del captions, loss  # the graph of this language must be gone before the next is built
    if anchor_captions is not None:
        anchor_captions.backward()
    audio.backward()
    return total
