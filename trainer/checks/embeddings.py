"""Check that rows with embeddings instead of recordings have the embeddings that the model needs."""

import logging
from typing import Any

from modeling_atri.configuration_atri import AtriEmbeddedAudioConfig
from modeling_atri.corpora.rows.lookup import EmbeddingFacts, embedding_facts
from modeling_atri.embedding_store.facts import StoreFacts
from modeling_atri.encode.fingerprints import audio_fingerprint
from modeling_atri.modeling_atri import AtriModel
from modeling_atri.processing_atri import AtriProcessor

from ..arguments import AtriTrainingArguments
from ..data.streams.training_stream import TrainingStream


logger = logging.getLogger(__name__)

# Arguments for sounds, and the values with which they have no effect.
_OF_SOUNDS = {"mix_probability": (0,), "patch_dropout": (None,), "feature_cache_dir": (None,)}


def check_sounds(rows: Any, model: AtriModel, processor: AtriProcessor, is_trained: bool = False) -> None:
    """Raise a ValueError unless the model can use the recordings, or the embeddings, of a set of checked rows.

    Args:
        rows: Checked rows, or None.
        model ([`AtriModel`]): The model. Without an audio tower, it needs the embeddings that it was made for. With
            one, embeddings are taken as they are, so they must be its own.
        processor ([`AtriProcessor`]): Processor of the model.
        is_trained (`bool`, *optional*, defaults to `False`): Whether the model is trained, so that its audio side must
            be frozen for its embeddings to stay as they are.
    """
    if rows is None:
        return
    facts = _facts_of(rows)
    config: Any = model.config.audio_config
    if config.model_type == AtriEmbeddedAudioConfig.model_type:
        if facts is not None:
            _check_stored(facts, config, model.config.has_audio_head)
        elif _has_recordings(rows):
            raise ValueError(
                f"The model has no audio tower, so it cannot use recordings. Embed them with {_made_for(config).name} "
                "(`atri encode`), and name the embeddings as `audio_embeddings`."
            )
    elif facts is not None:
        _check_finished(facts, model, processor, is_trained)


def refuse_options_of_sounds(rows: Any, args: AtriTrainingArguments) -> None:
    """Raise a ValueError for arguments that change sounds, if the training rows have embeddings instead of sounds."""
    if rows is None or _facts_of(rows) is None:
        return
    found = [name for name, values in _OF_SOUNDS.items() if getattr(args, name) not in values]
    if args.max_audio_seconds != AtriTrainingArguments.max_audio_seconds:
        found.append("max_audio_seconds")
    if found or args.augmentation is not None:
        names = " and ".join(f"`{name}`" for name in found) or "the augmentation"
        raise ValueError(
            f"The training rows have embeddings instead of recordings, so there are no sounds to change: leave out "
            f"{names}, or train on the recordings."
        )


def _facts_of(rows: Any) -> EmbeddingFacts | None:
    return rows.facts.embeddings if isinstance(rows, TrainingStream) else embedding_facts(rows)


def _has_recordings(rows: Any) -> bool:
    if isinstance(rows, TrainingStream):
        return rows.facts.has_audio
    return len(rows) > 0 and rows[0].get("audio") is not None


def _check_stored(facts: EmbeddingFacts, config: AtriEmbeddedAudioConfig, has_audio_head: bool) -> None:
    """Check embeddings for a model without an audio tower."""
    wanted = _made_for(config)
    if facts.width != config.hidden_size:
        raise ValueError(
            f"{_at_start(facts)} holds embeddings of {facts.width} numbers{_by(facts.made_by)}, but the model takes "
            f"those of {config.hidden_size} numbers of {wanted.name}. Use the embeddings that the model was made for."
        )
    _check_origin(facts, wanted, "takes the embeddings of")
    # Without a head the model normalises them, so their lengths do not matter.
    if has_audio_head and config.normalized is not None and config.normalized != facts.normalized:
        lengths = "length 1" if config.normalized else "other lengths than 1"
        raise ValueError(
            f"{_at_start(facts)} holds vectors of {_lengths(facts)}, but the model was made for vectors of {lengths} "
            f"({wanted.name}). {'Normalise them.' if config.normalized else 'Use vectors before normalisation.'}"
        )


def _check_finished(facts: EmbeddingFacts, model: AtriModel, processor: AtriProcessor, is_trained: bool) -> None:
    """Check embeddings that take the place of the output of a model's own audio side."""
    parts = {"audio tower": model.audio_model, "audio projection": model.audio_projection}
    trained = [name for name, part in parts.items() if any(weight.requires_grad for weight in part.parameters())]
    if is_trained and trained:
        raise ValueError(
            "Rows with embeddings instead of recordings need a frozen audio side, but the "
            f"{' and the '.join(trained)} of the model would be trained. Freeze both (`freeze_audio` and "
            "`freeze_audio_head`), use the objective `teach`, or train on the recordings."
        )
    config: Any = model.config
    # A student of `teach` has the name of the teacher whose audio side it has.
    name, width = config.name_or_path or config.audio_config.name_or_path or None, config.projection_dim
    own = StoreFacts(name, audio_fingerprint(model, processor))
    if facts.width != width:
        raise ValueError(
            f"{_at_start(facts)} holds embeddings of {facts.width} numbers{_by(facts.made_by)}, but those of "
            f"{own.name} have {width}. Embed the recordings with this model (`atri encode`)."
        )
    _check_origin(facts, own, "is")
    if facts.made_by.fingerprint is None:
        logger.warning(
            "It is not known which model made the embeddings of %s. They are assumed to be those of %s. Only "
            "embeddings that `atri encode` wrote can be checked.",
            *(facts.name, own.name),
        )
    if not facts.normalized:
        raise ValueError(
            f"{_at_start(facts)} holds vectors of {_lengths(facts)}, but the embeddings of {own.name} are "
            "L2-normalised, of length 1. Normalise them, or embed the recordings with this model (`atri encode`)."
        )


def _check_origin(facts: EmbeddingFacts, wanted: StoreFacts, verb: str) -> None:
    if None not in (facts.made_by.fingerprint, wanted.fingerprint):
        if facts.made_by.fingerprint != wanted.fingerprint:
            raise ValueError(
                f"{_at_start(facts)} holds embeddings of another model, {facts.made_by.name}, but the model {verb} "
                f"{wanted.name}. Embeddings of two models cannot be compared: embed the recordings with the right one."
            )


def _at_start(facts: EmbeddingFacts) -> str:
    """The origin of embeddings at the start of a sentence."""
    return facts.name[0].upper() + facts.name[1:]


def _made_for(config: AtriEmbeddedAudioConfig) -> StoreFacts:
    return StoreFacts(config.source, config.fingerprint)


def _by(made_by: StoreFacts) -> str:
    return f" of {made_by.name}" if any(made_by) else ""


def _lengths(facts: EmbeddingFacts) -> str:
    return f"the lengths {facts.shortest:.4g} to {facts.longest:.4g}"
