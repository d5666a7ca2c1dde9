"""Models, tokenizers and processors small enough for tests, built in code."""

import copy
from functools import cache

import torch
from transformers import NllbTokenizer

from modeling_atri import AtriConfig, AtriFeatureExtractor, AtriModel, AtriProcessor
from modeling_atri.trainer.scratch.tokenizer import train_tokenizer


# One caption in the eight languages of the paper.
CAPTIONS = {
    "eng_Latn": "A dog barks while rain falls.",
    "fra_Latn": "Un chien aboie sous la pluie.",
    "deu_Latn": "Ein Hund bellt im Regen.",
    "spa_Latn": "Un perro ladra bajo la lluvia.",
    "nld_Latn": "Een hond blaft in de regen.",
    "cat_Latn": "Un gos borda sota la pluja.",
    "jpn_Jpan": "雨の中で犬が吠えている。",
    "zho_Hans": "狗在雨中吠叫。",
}


@cache
def _trained_tokenizer() -> NllbTokenizer:
    return train_tokenizer([*CAPTIONS.values()] * 3, vocab_size=600)


def tiny_tokenizer() -> NllbTokenizer:
    """A tokenizer of at most 600 tokens with the codes of the eight languages; every call returns one of its own."""
    return copy.deepcopy(_trained_tokenizer())


def tiny_processor(**kwargs) -> AtriProcessor:
    """The usual features and the tiny tokenizer; `kwargs` go to `AtriProcessor`."""
    return AtriProcessor(AtriFeatureExtractor(), tiny_tokenizer(), **kwargs)


def tiny_config(**audio_overrides) -> AtriConfig:
    """Two layers a tower, 24 and 16 wide, embeddings of 12, no dropout; `audio_overrides` go to the audio tower."""
    audio_config = {
        "hidden_size": 24,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "initializer_range": 0.2,
    }
    text_config = {
        "vocab_size": 600,
        "d_model": 16,
        "encoder_layers": 2,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 32,
        "max_position_embeddings": 514,
        "init_std": 0.2,
        "dropout": 0.0,
        "attention_dropout": 0.0,
        "activation_dropout": 0.0,
        # The decoder is never built; its sizes only keep the saved configuration small and consistent.
        "decoder_layers": 1,
        "decoder_attention_heads": 2,
        "decoder_ffn_dim": 32,
    }
    return AtriConfig(
        audio_config=audio_config | audio_overrides,
        text_config=text_config,
        projection_dim=12,
        initializer_range=0.2,
    )


def tiny_model(seed: int = 0, **audio_overrides) -> AtriModel:
    """An `AtriModel` of `tiny_config`, in eval mode, the same for the same seed.

    Every weight is random, also those that begin at zero or one (biases, norms, positions), so that none of them can
    go wrong unseen; the mel statistics are set, to about those of recordings.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AtriModel(tiny_config(**audio_overrides))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "logit_scale" not in name:
                    parameter.add_(0.1 * torch.randn_like(parameter))
    num_mel_bins = model.config.audio_config.num_mel_bins
    model.audio_model.mel_norm.set_statistics(
        torch.linspace(-10.0, -30.0, num_mel_bins), torch.full((num_mel_bins,), 300.0)
    )
    return model.eval()
