"""The clips, captions and model of `bench_end_to_end.py`, and how they are read."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
import torch.nn.functional as F
from torch import Tensor

from modeling_atri import AtriConfig, AtriFeatureExtractor, AtriModel, AtriProcessor
from modeling_atri.corpora.soundscapes.scenes import make_soundscapes
from modeling_atri.trainer.scratch.tokenizer import train_tokenizer


LANGUAGES = ("eng_Latn", "fra_Latn", "deu_Latn", "jpn_Jpan")
STEP_LANGUAGES = LANGUAGES[:2]
CED_TINY = {"hidden_size": 192, "num_attention_heads": 3, "intermediate_size": 768}
NO_DROPOUT = {"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0, "encoder_layerdrop": 0.0}
CAPTIONS_A_CLIP, AUDIO_BATCH, TEXT_BATCH = 5, 16, 64
SAMPLING_RATE, CLIP_S = 16_000, 10

Captions = Sequence[tuple[str, str]]  # caption and language
Ways = dict[str, Callable[[], Any]]


def write_clips(folder: Path, options) -> tuple[list[Path], Captions, list[dict[str, Any]]]:
    """Write generated scenes: their files, five captions of each in one language, and rows with all captions."""
    files, captions, rows = [], [], []
    scenes = make_soundscapes(max(options.clips, options.step_clips), options.seed, duration_s=CLIP_S)
    for number, (scene, language) in enumerate(zip(scenes, itertools.cycle(LANGUAGES))):
        of_language = {code: written_five_times(scene["captions"][code]) for code in LANGUAGES}
        rows.append({"audio_id": scene["audio_id"], "captions": of_language})
        if number < options.clips:
            files.append(folder / f"{number:03}.flac")
            soundfile.write(files[-1], scene["audio"]["array"], SAMPLING_RATE)
            captions += [(caption, language) for caption in of_language[language]]
    return files, captions, rows


def written_five_times(captions: Sequence[str]) -> list[str]:
    """Five captions of a clip, the first ones again if it has fewer."""
    return list(itertools.islice(itertools.cycle(captions), CAPTIONS_A_CLIP))


def save_model(folder: Path, rows: Sequence[dict[str, Any]], num_layers: int) -> None:
    """Save a model with random weights, and its processor."""
    texts = (caption for row in rows for code in LANGUAGES for caption in row["captions"][code])
    tokenizer = train_tokenizer(texts, LANGUAGES)
    text = {"vocab_size": len(tokenizer), "encoder_layers": num_layers, **NO_DROPOUT}
    model = AtriModel(AtriConfig(audio_config=CED_TINY, text_config=text))
    with torch.no_grad():
        for parameter in model.audio_model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    num_mel_bins = model.config.audio_config.num_mel_bins
    model.audio_model.mel_norm.set_statistics(torch.full((num_mel_bins,), -20.0), torch.full((num_mel_bins,), 225.0))
    model.save_pretrained(folder)
    AtriProcessor(AtriFeatureExtractor(), tokenizer).save_pretrained(folder)


def with_embeddings(rows: Sequence[dict[str, Any]], width: int) -> list[dict[str, Any]]:
    """Rows with random audio embeddings of length 1."""
    vectors = F.normalize(torch.randn(len(rows), width), dim=-1).numpy()
    return [row | {"audio_embedding": vector} for row, vector in zip(rows, vectors, strict=True)]


def batches(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Split items into batches."""
    return (items[start : start + size] for start in range(0, len(items), size))


def read(file: Path) -> np.ndarray:
    """The samples of a file."""
    return soundfile.read(file, dtype="float32")[0]


def tokens_of(processor: AtriProcessor, captions: Captions) -> dict[str, Tensor]:
    """Token ids and mask of captions."""
    texts, languages = zip(*captions, strict=True)
    return processor(text=list(texts), language=list(languages))


def first_captions(rows: list[dict]) -> dict[str, list[str]]:
    """The first caption of each row in the languages of a step."""
    return {code: [row["captions"][code][0] for row in rows] for code in STEP_LANGUAGES}
