"""The language-by-language step: the exact gradient of a sum of pair losses, in the memory of one language."""

from collections.abc import Callable, Sequence
from typing import Protocol, cast

from torch import Tensor


class Embeddings(Protocol):
    """Embeddings `leaf`, `(N, D)`, that a loss is computed from, and `backward`, which passes their gradient on."""

    @property
    def leaf(self) -> Tensor: ...

    def backward(self) -> None: ...


def language_by_language_backward(
    encode_audio: Callable[[], Embeddings | None],
    encode_captions: Callable[[int], Embeddings],
    pair_loss: Callable[[Tensor, Tensor], Tensor],
    weights: Sequence[tuple[float, float]],
    backward: Callable[[Tensor], None],
    anchor: int | None = None,
    language_loss: Callable[[int, Tensor], Tensor] | None = None,
) -> Tensor:
    """Accumulate the gradient of `sum_k a_k L(audio, text_k) + sum_{k != anchor} b_k L(text_anchor, text_k)`.

    A third sum may follow, `sum_k F(k, text_k)`, of terms that depend on one language alone, such as its distance to a
    frozen teacher.

    The step encodes the audio and the anchor first. For each language it computes the terms with detached copies of
    these (leaves) and runs backward at once, which frees the language's activations and adds to the gradients of the
    leaves. In the end the leaves' gradients run backward through the captions of the anchor and the audio.

    Args:
        encode_audio: Returns the audio embeddings, `(N, D)`; None if there are no sounds, for which every a_k is 0.
        encode_captions: Returns the caption embeddings of the k-th language, `(N, D)`.
        pair_loss: The loss between two views of the items.
        weights: `(a_k, b_k)` of each language. b_k of the anchor is not used.
        backward: Runs backward from a scalar, which it may scale (mixed precision, gradient accumulation).
        anchor: Index of the anchor language. None leaves out the second sum, as in KCL.
        language_loss: F, the term of the k-th language, from k and its caption embeddings. None leaves out the third.

    Returns:
        The value of the sum, detached.

    Raises:
        ValueError: There are no sounds, but some a_k is not 0.
    """
    audio = encode_audio()
    if audio is None and any(audio_weight for audio_weight, _ in weights):
        raise ValueError("The loss compares captions with sounds, but the batch has none.")
    anchor_captions = None if anchor is None else encode_captions(anchor)
    total = cast(Tensor, 0.0)
    for k, (audio_weight, anchor_weight) in enumerate(weights):
        captions = cast(Embeddings, anchor_captions) if k == anchor else encode_captions(k)
        terms = []
        if audio is not None:
            terms.append(audio_weight * pair_loss(audio.leaf, captions.leaf))
        if anchor is not None and k != anchor:
            terms.append(anchor_weight * pair_loss(cast(Embeddings, anchor_captions).leaf, captions.leaf))
        if language_loss is not None:
            terms.append(language_loss(k, captions.leaf))
        loss = sum(terms[1:], start=terms[0])
        backward(loss)
        total = total + loss.detach()
        if k != anchor:
            captions.backward()
        del captions, loss, terms  # frees the graph of this language before the next is built
    if anchor_captions is not None:
        anchor_captions.backward()
    if audio is not None:
        audio.backward()
    return total
