"""What `atri teach` starts from, small enough for tests: a CLAP, a text encoder and parallel captions."""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import ClapModel, ClapProcessor, M2M100Config, PreTrainedTokenizerFast
from transformers.models.m2m_100.modeling_m2m_100 import M2M100Encoder

from tests.helpers.tiny import tiny_config, tiny_tokenizer
from tests.helpers.towers import clap_config, clap_extractor, randomise, whole_clap


NOUNS = {
    "eng_Latn": ["dog", "cat", "bird", "bell", "train", "car", "clock", "door"],
    "fra_Latn": ["chien", "chat", "oiseau", "cloche", "train", "voiture", "horloge", "porte"],
    "deu_Latn": ["Hund", "Katze", "Vogel", "Glocke", "Zug", "Auto", "Uhr", "Tür"],
    "spa_Latn": ["perro", "gato", "pájaro", "campana", "tren", "coche", "reloj", "puerta"],
}
VERBS = {
    "eng_Latn": ["barks", "sings", "rings"],
    "fra_Latn": ["aboie", "chante", "sonne"],
    "deu_Latn": ["bellt", "singt", "läutet"],
    "spa_Latn": ["ladra", "canta", "suena"],
}


def parallel_captions() -> list[dict[str, list[str]]]:
    """24 sentences of a noun and a verb, in four languages."""
    return [
        {code: [f"{NOUNS[code][noun]} {VERBS[code][verb]}"] for code in NOUNS}
        for noun in range(len(NOUNS["eng_Latn"]))
        for verb in range(len(VERBS["eng_Latn"]))
    ]


def write_captions(path: Path) -> Path:
    lines = [json.dumps({"captions": captions}, ensure_ascii=False) for captions in parallel_captions()]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def write_clap(folder: Path) -> ClapModel:
    """Save a CLAP with 12 numbers an embedding and a tokenizer of 30 English words; return it."""
    words = ["<s>", "<pad>", "</s>", "<unk>", *NOUNS["eng_Latn"], *VERBS["eng_Latn"]]
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("</s>", 2), ("<s>", 0))
    special = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **special)
    clap = randomise(whole_clap(clap_config()))
    clap.save_pretrained(folder)
    ClapProcessor(clap_extractor("rand_trunc"), fast).save_pretrained(folder)
    return clap


def write_text_encoder(folder: Path) -> None:
    """Save an encoder in the layout of `cointegrated/SONAR_200_text_encoder`, with its tokenizer."""
    torch.manual_seed(0)
    config = M2M100Config(**tiny_config().text_config.to_diff_dict())
    M2M100Encoder(config).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
