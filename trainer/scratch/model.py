"""A small model from scratch, with a tokenizer trained from captions, for small machines."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import datasets
import numpy as np
import torch

from modeling_atri.bounds import Bounds, Dropout, Positive, PositiveCount, check_options, option
from modeling_atri.configuration_atri import AtriConfig, AtriEmbeddedAudioConfig
from modeling_atri.corpora.rows.captions import clean_captions, resolve_captions
from modeling_atri.corpora.rows.kept.facts import facts_of
from modeling_atri.corpora.rows.lookup import EmbeddingFacts
from modeling_atri.embedded_audio_atri import AtriEmbeddingExtractor
from modeling_atri.feature_extraction_atri import AtriFeatureExtractor
from modeling_atri.modeling_atri import AtriModel
from modeling_atri.processing_atri import AtriProcessor

from ..data.batches import without_audio
from .tokenizer import train_tokenizer


_MOST_TEXTS = 500_000  # that a tokenizer is learned from, in half a minute; more would change few of its tokens
_ROWS_LOOKED_AT = 1000  # for the number of captions of a row


@dataclass
class ScratchTextArguments:
    """Sizes of a text tower that is trained from scratch. With the defaults, it learns fast on two CPU cores."""

    text_hidden_size: PositiveCount = option(128, "From scratch: width of the text tower.")
    text_layers: PositiveCount = option(2, "From scratch: blocks of the text tower.")
    text_heads: PositiveCount = option(4, "From scratch: attention heads, text tower.")
    text_dropout: Dropout = option(0.1, "From scratch: dropout in the text tower.")
    vocab_size: Annotated[int, Bounds("[1, 1000000]")] = option(
        4000, "From scratch: tokens, learned from the training captions."
    )

    def __post_init__(self):
        check_options(self)

    def text_config(self, vocab_size: int) -> dict[str, Any]:
        """The configuration of a text tower of these sizes with `vocab_size` tokens."""
        return {
            "model_type": "m2m_100",
            "vocab_size": vocab_size,
            "d_model": self.text_hidden_size,
            "encoder_layers": self.text_layers,
            "encoder_attention_heads": self.text_heads,
            "encoder_ffn_dim": 4 * self.text_hidden_size,
            "dropout": self.text_dropout,
            "attention_dropout": self.text_dropout,
            "activation_dropout": 0.0,
            "init_std": self.text_hidden_size**-0.5,  # with 0.02, positions would dominate embeddings
        }


@dataclass
class ScratchArguments(ScratchTextArguments):
    """Sizes of a model that is trained from scratch. With the defaults, it learns fast on two CPU cores."""

    audio_hidden_size: PositiveCount = option(128, "From scratch: width of the audio tower.")
    audio_layers: PositiveCount = option(4, "From scratch: blocks of the audio tower.")
    audio_heads: PositiveCount = option(4, "From scratch: attention heads, audio tower.")
    audio_dropout: Dropout = option(0.1, "From scratch: dropout in the audio tower.")
    audio_drop_path: Dropout = option(0.0, "From scratch: stochastic depth, audio tower.")
    patch_size: list[int] = field(
        default_factory=lambda: [64, 8],
        metadata={
            "help": "From scratch: mel bins and frames of a patch. CED has 16 16; full-height patches learn faster."
        },
    )
    projection_dim: PositiveCount = option(128, "From scratch: width of the embeddings.")
    temperature: Positive = option(0.07, "From scratch: initial softmax temperature.")

    def __post_init__(self):
        super().__post_init__()
        if len(self.patch_size) != 2 or min(self.patch_size) < 1:
            raise ValueError(f"`patch_size` must be two positive numbers (mel bins, frames); got {self.patch_size}.")

    def config(self, vocab_size: int, audio_config: AtriEmbeddedAudioConfig | None = None) -> AtriConfig:
        """The configuration of a model of these sizes with `vocab_size` tokens, and with this audio tower if given."""
        sizes_of_audio = {
            "hidden_size": self.audio_hidden_size,
            "intermediate_size": 4 * self.audio_hidden_size,
            "num_hidden_layers": self.audio_layers,
            "num_attention_heads": self.audio_heads,
            "hidden_dropout": self.audio_dropout,
            "drop_path_rate": self.audio_drop_path,
            "patch_size": list(self.patch_size),
        }
        return AtriConfig(
            audio_config=audio_config or sizes_of_audio,
            text_config=self.text_config(vocab_size),
            projection_dim=self.projection_dim,
            logit_scale_init_value=-math.log(self.temperature),
        )


def caption_texts(rows: Sequence[dict], languages: Sequence[str]) -> Iterable[str]:
    """All captions of rows from `load_rows`, row by row and language by language.

    Of a data set with more than 500,000 captions, as many of evenly spaced rows are read.
    """
    if isinstance(rows, datasets.Dataset) and len(rows) and _are_lists(rows, languages):
        taken: datasets.Dataset = rows
        per_row = sum(_lengths(_spread(rows, _ROWS_LOOKED_AT), languages)) / min(len(rows), _ROWS_LOOKED_AT)
        if len(rows) * per_row > _MOST_TEXTS:
            taken = _spread(rows, max(1, round(_MOST_TEXTS / per_row)))
        for table in taken.with_format("arrow").select_columns(["captions"]).iter(batch_size=2**12):
            for captions in table["captions"].to_pylist():
                yield from (text for code in languages for text in captions[code])
        return
    for row in without_audio(rows):
        found = resolve_captions(row, languages, problems=[]) or {}
        for language in [code for code in languages if code in found]:
            yield from clean_captions({language: found[language]}, problems=[])[language]


def _spread(rows: datasets.Dataset, count: int) -> datasets.Dataset:
    """At most `count` rows, evenly spaced."""
    if len(rows) <= count:
        return rows
    return rows.select(np.linspace(0, len(rows) - 1, count).astype(int))


def _lengths(rows: datasets.Dataset, languages: Sequence[str]) -> Iterable[int]:
    """The numbers of captions of rows."""
    for captions in rows.select_columns(["captions"]).with_format("arrow")[:]["captions"].to_pylist():
        yield sum(len(captions[code]) for code in languages)


def _are_lists(rows: datasets.Dataset, languages: Sequence[str]) -> bool:
    """Whether all captions are lists by code, as `load_rows` returns them. Then millions of rows are read fast."""
    captions = rows.features.get("captions")
    if facts_of(rows) is None and "audio" in rows.column_names:
        return False
    return isinstance(captions, dict) and all(isinstance(captions.get(code), datasets.List) for code in languages)


def model_from_scratch(
    captions: Iterable[str],
    languages: Sequence[str],
    sizes: ScratchArguments,
    seed: int,
    embeddings: EmbeddingFacts | None = None,
) -> tuple[AtriModel, AtriProcessor]:
    """Make a model with random weights, and a processor whose tokenizer is trained from captions.

    Args:
        captions: texts in all languages.
        languages: languages that get a code in the tokenizer.
        sizes (`ScratchArguments`): sizes of the model.
        seed: seed of the weights.
        embeddings (`EmbeddingFacts`, *optional*): facts of the embeddings that rows have instead of recordings. The
            model then has no audio tower, but a head that takes the embeddings.
    """
    tokenizer = train_tokenizer(captions, languages, vocab_size=sizes.vocab_size)
    torch.manual_seed(seed)
    if embeddings is None:
        return AtriModel(sizes.config(len(tokenizer))), AtriProcessor(AtriFeatureExtractor(), tokenizer)
    made_by = embeddings.made_by
    audio = AtriEmbeddedAudioConfig(
        hidden_size=embeddings.width,
        source=made_by.model,
        fingerprint=made_by.fingerprint,
        normalized=embeddings.normalized,
    )
    model = AtriModel(sizes.config(len(tokenizer), audio))
    return model, AtriProcessor(AtriEmbeddingExtractor(embeddings.width, made_by.model), tokenizer)
