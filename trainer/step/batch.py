"""Forward and backward of one batch: language by language, or all languages together in chunks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor, nn

from modeling_atri.loss_atri import info_nce_loss
from modeling_atri.modeling_atri import AtriModel

from ..losses import squared_distance
from ..model.adapters import is_frozen
from .cached import CachedEmbeddings
from .distributed import SharedRows, rows_of_processes
from .exact import language_by_language_backward
from .sharded import held_parameter


@dataclass(frozen=True)
class BatchEncoder:
    """Encodes the clips and the captions of a batch, in chunks of at most so many; None encodes all at once."""

    model: Callable[..., Any]  # with the wrappers of PEFT, autocast and several processes
    atri_model: AtriModel  # the same model without wrappers
    caption_inputs: Callable[[Tensor, Tensor], dict[str, Tensor]]  # of the model, for ids and mask `(n, tokens)`
    audio_chunk_size: int | None = None
    text_chunk_size: int | None = None
    sharded: nn.Module | None = None  # the model, if FSDP2 shards its parameters
    num_clips_everywhere: Sequence[int] | None = None  # on each process, if the model is sharded over them

    def clips(self, inputs: Mapping[str, Any]) -> CachedEmbeddings | None:
        """Embeddings of the clips of a batch; None if it has no sounds.

        It has `input_features` `(N, frames, mel bins)` with their mask `(N, frames)`, or finished `audio_embeds`
        `(N, D)`.
        """
        if "audio_embeds" in inputs:
            finished = inputs["audio_embeds"]
            return CachedEmbeddings(lambda rows: finished[rows], len(finished), finished.device, encodes_twice=False)
        if "input_features" not in inputs:
            return None
        input_features, mask = inputs["input_features"], inputs["input_features_mask"]

        windows = getattr(self.atri_model.audio_model, "windows", None)
        unit = 1 if windows is None else windows.frames  # windows stay whole, since their filling belongs to them

        def encode(rows: slice) -> Tensor:
            last = int(mask[rows].any(dim=0).nonzero()[-1]) + 1
            longest = -(-last // unit) * unit
            chunk = {"input_features": input_features[rows, :longest], "input_features_mask": mask[rows, :longest]}
            return self.model(**chunk).audio_embeds

        twice = self._encodes_twice(self.atri_model.audio_model)
        return CachedEmbeddings(
            encode,
            len(input_features),
            input_features.device,
            self.audio_chunk_size,
            twice,
            self.num_clips_everywhere,
        )

    def captions(self, input_ids: Tensor, attention_mask: Tensor, num_languages: int = 1) -> CachedEmbeddings:
        """Embeddings of captions `(n, tokens)`, which are those of each clip in a number of languages."""
        everywhere = self.num_clips_everywhere

        def encode(rows: slice) -> Tensor:
            return self.model(**self.caption_inputs(input_ids[rows], attention_mask[rows])).text_embeds

        twice = self._encodes_twice(self.atri_model.text_model)
        return CachedEmbeddings(
            encode,
            len(input_ids),
            input_ids.device,
            self.text_chunk_size,
            twice,
            None if everywhere is None else [num_languages * number for number in everywhere],
        )

    def _encodes_twice(self, tower: nn.Module) -> bool:
        # With an adapter, checkpointing makes the frozen tower's inputs require gradients, so it builds a graph.
        return self.atri_model.is_activation_checkpointing or not is_frozen(tower)


def joint_backward(
    encoder: BatchEncoder,
    inputs: dict[str, Any],
    loss_of: Callable[[Tensor | None, Tensor, dict[str, Any]], Tensor],
    backward: Callable[[Tensor], None],
    num_batches: int = 1,
) -> Tensor:
    """Accumulate the gradient of any loss of the embeddings, with one chunk of clips and one of captions in memory.

    Args:
        encoder: Encodes the batch.
        inputs: The batch, as the collator makes it.
        loss_of: Takes the embeddings of the clips `(N, D)`, None without clips, and of their captions `(K, N, D)`, and
            `inputs`.
        backward: Runs backward from a scalar, which it may scale.
        num_batches: Batches whose gradients are accumulated. The loss is divided by it.

    Returns:
        The loss, detached.
    """
    num_languages, num_clips, _ = inputs["input_ids"].shape
    audio = encoder.clips(inputs)
    input_ids, attention_mask = inputs["input_ids"].flatten(0, 1), inputs["attention_mask"].flatten(0, 1)
    text = encoder.captions(input_ids, attention_mask, num_languages)
    clips = None if audio is None else audio.leaf
    loss = loss_of(clips, text.leaf.view(num_languages, num_clips, -1), inputs) / num_batches
    backward(loss)
    text.backward()
    if audio is not None:
        audio.backward()
    return loss.detach()


def exact_backward(
    encoder: BatchEncoder,
    inputs: dict[str, Any],
    weights: Sequence[tuple[float, float]],
    anchor: int | None,
    backward: Callable[[Tensor], None],
    num_batches: int = 1,
    distill_weight: float = 0.0,
) -> Tensor:
    """Accumulate the gradient of a weighted sum of InfoNCE terms, with a chunk of one language in memory.

    Arguments are as in [`joint_backward`] and [`language_by_language_backward`]. In a batch with `teacher_embeds`, the
    second weights are those of A(teacher, text_k), and `distill_weight` that of the mean over the languages of the
    squared distance to the teacher. Returns the loss, detached.
    """
    input_ids, attention_mask, ids = inputs["input_ids"], inputs["attention_mask"], inputs["group_ids"]
    shared = SharedRows(rows_of_processes(input_ids.shape[1], input_ids.device), holds_gradients=True)
    shard = shared.shard()

    def encode_clips() -> SharedEmbeddings | None:
        clips = encoder.clips(inputs)
        return None if clips is None else SharedEmbeddings(clips, shared)

    def pair_loss(x: Tensor, y: Tensor) -> Tensor:
        return info_nce_loss(x, y, logit_scale.exp(), ids, shard) / num_batches

    def language_loss(k: int, captions: Tensor) -> Tensor:
        target = cast(list[Tensor], targets)[k]
        distance = squared_distance(captions, target, shard)
        loss = distill_weight / len(weights) * distance / num_batches
        return loss + weights[k][1] * pair_loss(target, captions) if weights[k][1] > 0 else loss

    targets = language_targets(inputs)
    with held_parameter(encoder.sharded, lambda: encoder.atri_model.logit_scale) as logit_scale:
        return language_by_language_backward(
            encode_clips,
            lambda k: SharedEmbeddings(encoder.captions(input_ids[k], attention_mask[k]), shared),
            pair_loss,
            weights,
            backward,
            anchor,
            None if targets is None else language_loss,
        )


class SharedEmbeddings:
    """Embeddings that the losses of all processes compare; `backward` first adds up the gradients of all of them."""

    def __init__(self, embeddings: CachedEmbeddings, shared: SharedRows):
        self._embeddings, self._shared = embeddings, shared
        self.leaf = embeddings.leaf

    def backward(self) -> None:
        self._shared.return_gradient(self.leaf)
        self._embeddings.backward()


def language_targets(inputs: Mapping[str, Any]) -> list[Tensor] | None:
    """The embeddings that the captions of each language are trained towards, K times `(N, D)`; None without a teacher.

    They are the teacher's embeddings of the anchor's captions; for the languages in `held_embeds`, the embeddings of
    the model itself before the first step.
    """
    if "teacher_embeds" not in inputs:
        return None
    held = inputs.get("held_embeds", {})
    return [held.get(languages[0], inputs["teacher_embeds"]) for languages in inputs["languages"]]
