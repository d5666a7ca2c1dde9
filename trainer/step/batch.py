"""Forward and backward of one batch: language by language, or in chunks of all languages together."""

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from modeling_atri.loss_atri import info_nce_loss

from ..losses import akcl_loss, akcl_weights, cacl_loss, kcl_loss, mlclap_loss, ranking_divergence
from ..model.parameters import is_frozen
from .cached import CachedEmbeddings
from .distributed import batch_shard
from .exact import language_by_language_backward


if TYPE_CHECKING:
    from ..trainer import AtriTrainer


def objective_loss(trainer: "AtriTrainer", audio: Tensor, text: Tensor, inputs: dict[str, Any]) -> Tensor:
    """The objective of the arguments, of `audio` `(N, D)` and `text` `(K, N, D)`."""
    args, ids = trainer.args, inputs["group_ids"]
    scale, shard = trainer.atri_model.logit_scale.exp(), batch_shard(len(audio), audio.device)
    if args.objective == "cacl":
        return cacl_loss(audio, text[0], text[1], scale, ids, shard)
    if args.objective == "mlclap":
        return mlclap_loss(audio, text[0], scale, ids, args.embed_regularization, shard)
    if args.objective == "kcl":
        loss = kcl_loss(audio, text, scale, ids, shard)
    else:
        total = len(args.languages)
        loss = akcl_loss(audio, text, scale, ids, _anchor_row(trainer, inputs), args.akcl_weight, total, shard)
    if args.ranking_weight > 0:
        loss = loss + args.ranking_weight * ranking_divergence(audio, text, scale, shard)
    return loss


def joint_backward(trainer: "AtriTrainer", model: nn.Module, inputs: dict[str, Any]) -> Tensor:
    """Accumulate the gradient of any loss of the embeddings, a chunk of clips and one of captions in memory.

    Returns:
        the loss, detached.
    """
    num_languages, num_clips, _ = inputs["input_ids"].shape
    audio = _encode_clips(trainer, model, inputs)
    captions = (inputs[name].flatten(0, 1) for name in ("input_ids", "attention_mask"))
    text = _encode_captions(trainer, model, *captions, trainer._joint_chunk_size(num_clips))
    by_language = text.leaf.view(num_languages, num_clips, -1)
    loss = trainer.compute_loss_from_embeddings(audio.leaf, by_language, inputs)
    loss = loss / trainer.current_gradient_accumulation_steps
    trainer.accelerator.backward(loss)
    text.backward()
    audio.backward()
    return loss.detach()


def exact_backward(trainer: "AtriTrainer", model: nn.Module, inputs: dict[str, Any]) -> Tensor:
    """Accumulate the gradient of KCL or anchored KCL language by language, a chunk of each view in memory.

    Returns:
        the loss, detached.
    """
    num_languages, num_clips, _ = inputs["input_ids"].shape
    shard = batch_shard(num_clips, inputs["input_ids"].device)
    anchor, weights = None, [(1 / num_languages, 0.0)] * num_languages
    if trainer.args.objective == "akcl":
        anchor = _anchor_row(trainer, inputs)
        weights = akcl_weights(num_languages, anchor, trainer.args.akcl_weight, len(trainer.args.languages))

    def encode_captions(k: int) -> CachedEmbeddings:
        captions = (inputs[name][k] for name in ("input_ids", "attention_mask"))
        return _encode_captions(trainer, model, *captions, trainer.args.text_chunk_size)

    def pair_loss(x: Tensor, y: Tensor) -> Tensor:
        loss = info_nce_loss(x, y, trainer.atri_model.logit_scale.exp(), inputs["group_ids"], shard)
        return loss / trainer.current_gradient_accumulation_steps

    return language_by_language_backward(
        lambda: _encode_clips(trainer, model, inputs),
        encode_captions,
        pair_loss,
        weights,
        trainer.accelerator.backward,
        anchor,
    )


def _encode_clips(trainer: "AtriTrainer", model: nn.Module, inputs: dict[str, Any]) -> CachedEmbeddings:
    features, mask = inputs["input_features"], inputs["input_features_mask"]

    def encode(rows: slice) -> Tensor:
        longest = int(mask[rows].sum(dim=1).max())
        chunk = {"input_features": features[rows, :longest], "input_features_mask": mask[rows, :longest]}
        return model(**chunk).audio_embeds

    return CachedEmbeddings(
        encode,
        len(features),
        features.device,
        trainer.args.audio_chunk_size,
        encodes_twice=_encodes_twice(trainer, trainer.atri_model.audio_model),
    )


def _encode_captions(
    trainer: "AtriTrainer", model: nn.Module, input_ids: Tensor, attention_mask: Tensor, chunk_size: int | None
) -> CachedEmbeddings:
    return CachedEmbeddings(
        lambda rows: model(**trainer._caption_inputs(input_ids[rows], attention_mask[rows])).text_embeds,
        len(input_ids),
        input_ids.device,
        chunk_size,
        encodes_twice=_encodes_twice(trainer, trainer.atri_model.text_model),
    )


def _encodes_twice(trainer: "AtriTrainer", tower: nn.Module) -> bool:
    # Beside an adapter, checkpointing makes the frozen tower's inputs require gradients, and it builds a graph.
    return trainer.atri_model.is_activation_checkpointing or not is_frozen(tower)


def _anchor_row(trainer: "AtriTrainer", inputs: dict[str, Any]) -> int:
    """Row of the anchor language among the languages of the batch."""
    return [row[0] for row in inputs["languages"]].index(trainer.args.anchor_language)
