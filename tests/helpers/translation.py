"""Translation models small enough for tests, and captions to translate."""

import json
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    M2M100Config,
    M2M100ForConditionalGeneration,
    T5Config,
    T5ForConditionalGeneration,
    T5Tokenizer,
)

from modeling_atri.corpora.translation.models import MadladModel, NllbModel, Translation
from tests.helpers.tiny import CAPTIONS, tiny_tokenizer


MADLAD_CODES = ("en", "fr", "ja", "zh", "no", "fil", "iw")


def tiny_nllb(seed: int = 0, vocab_size: int = 600) -> M2M100ForConditionalGeneration:
    """An NLLB of random weights that knows the eight languages, in eval mode."""
    config = M2M100Config(
        vocab_size=vocab_size,
        d_model=16,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_position_embeddings=64,
        init_std=0.5,
        dropout=0.0,
        attention_dropout=0.0,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        decoder_start_token_id=2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return M2M100ForConditionalGeneration(config).eval()


def learn(model: M2M100ForConditionalGeneration, texts: dict[str, list[str]], num_steps: int = 120) -> None:
    """Train an NLLB until it knows some texts by heart, from each language into each other."""
    tokenizer, pairs = tiny_tokenizer(), []
    for codes in permutations(texts, 2):
        for pair in zip(*(texts[code] for code in codes), strict=True):
            found = []
            for code, text in zip(codes, pair, strict=True):
                tokenizer.src_lang = code
                found.append(torch.tensor(tokenizer(text).input_ids))
            pairs.append(found)
    sources, targets = zip(*pairs, strict=True)
    input_ids = pad_sequence(sources, batch_first=True, padding_value=tokenizer.pad_token_id)
    labels = pad_sequence(targets, batch_first=True, padding_value=-100)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(num_steps):
        optimizer.zero_grad()
        mask = (input_ids != tokenizer.pad_token_id).long()
        model(input_ids=input_ids, attention_mask=mask, labels=labels).loss.backward()
        optimizer.step()


def tiny_t5_tokenizer() -> T5Tokenizer:
    """Single letters, and the target codes of MADLAD."""
    specials = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    codes = [(f"<2{code}>", -5.0) for code in MADLAD_CODES]
    letters = [(char, -3.0) for char in "▁abcdefghijklmnopqrstuvwxyzA.,<>2吠犬"]
    return T5Tokenizer(vocab=[*specials, *codes, *letters], extra_ids=0)


def tiny_t5(seed: int = 0) -> T5ForConditionalGeneration:
    """A MADLAD of random weights, in eval mode."""
    config = T5Config(
        vocab_size=64,
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=2,
        num_heads=2,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
        initializer_factor=2.0,
        tie_word_embeddings=False,
        decoder_start_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return T5ForConditionalGeneration(config).eval()


def nllb(seed: int = 0, **options) -> NllbModel:
    """The tiny NLLB with its tokenizer, greedy and of twelve tokens unless told otherwise."""
    return NllbModel(
        tiny_nllb(seed), tiny_tokenizer(), "tiny-nllb", **({"num_beams": 1, "max_new_tokens": 12} | options)
    )


def madlad(seed: int = 0, **options) -> MadladModel:
    """The tiny MADLAD with its tokenizer, greedy and of twelve tokens unless told otherwise."""
    return MadladModel(
        tiny_t5(seed), tiny_t5_tokenizer(), "tiny", **({"num_beams": 1, "max_new_tokens": 12} | options)
    )


class Dictionary:
    """Translates by a table, `{(text, language): translation}`; what is not in it becomes the text, reversed.

    Args:
        table: strings, or `Translation`s.
        settings: what tells it from others.
    """

    device = torch.device("cpu")

    def __init__(self, table: dict | None = None, **settings):
        self.settings = {"model": "dictionary", "revision": None, "fingerprint": "0", "decoding": {}} | settings
        self.batches: list[tuple[str, list[str]]] = []
        self._table = table or {}

    def check_languages(self, languages: Sequence[str]) -> None:
        """It takes all."""

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) for text in texts]

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[Translation]:
        self.batches.append((target, list(texts)))
        found = [self._table.get((text, target), text[::-1]) for text in texts]
        return [value if isinstance(value, Translation) else Translation(value) for value in found]


def write_data(folder: Path, captions: Sequence[dict[str, list[str]]]) -> Path:
    """A data set of one noise a row."""
    folder.mkdir(parents=True)
    lines = []
    for number, texts in enumerate(captions):
        samples = np.random.default_rng(number).normal(scale=0.1, size=4000)
        soundfile.write(folder / f"{number}.wav", samples, 16000)
        lines.append(json.dumps({"file_name": f"{number}.wav", "captions": texts}, ensure_ascii=False) + "\n")
    (folder / "metadata.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


def english_captions(num_rows: int, num_captions: int = 2) -> list[dict[str, list[str]]]:
    """Captions of many lengths, of which some occur several times."""
    words = CAPTIONS["eng_Latn"].lower().rstrip(".").split()
    rng = np.random.default_rng(0)
    return [
        {"eng_Latn": [" ".join(rng.choice(words, size=rng.integers(1, 7))) for _ in range(num_captions)]}
        for _ in range(num_rows)
    ]
