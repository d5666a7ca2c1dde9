"""The language-by-language step: the exact gradient of a sum of pair losses, in the memory of one language."""

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

    The step encodes the audio and the anchor first. For each language it computes the terms with detached copies of
    these (leaves) and runs backward at once, which frees the language's activations and adds to the gradients of the
    leaves. In the end the leaves' gradients run backward through the captions of the anchor and the audio.

    Args:
        encode_audio: Returns the audio embeddings, `(N, D)`.
        encode_captions: Returns the caption embeddings of the k-th language, `(N, D)`.
        pair_loss: The loss between two views of the items.
        weights: `(a_k, b_k)` of each language. b_k of the anchor is not used.
        backward: Runs backward from a scalar, which it may scale (mixed precision, gradient accumulation).
        anchor: Index of the anchor language. None leaves out the second sum, as in KCL.

    Returns:
        The value of the sum, detached.
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
        del captions, loss  # frees the graph of this language before the next is built
    if anchor_captions is not None:
        anchor_captions.backward()
    audio.backward()
    return total
