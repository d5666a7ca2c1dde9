"""The ways of sentence-transformers, of GLAP's evaluation loop and of transformers' CLAP."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss
from torch import Tensor
from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, ClapProcessor

from modeling_atri import AtriModel, AtriProcessor

from .clips import (
    AUDIO_BATCH,
    CAPTIONS_A_CLIP,
    LANGUAGES,
    SAMPLING_RATE,
    TEXT_BATCH,
    Captions,
    Ways,
    batches,
    first_captions,
    read,
    tokens_of,
)


HTSAT = {"patch_embeds_hidden_size": 48, "hidden_size": 384, "num_mel_bins": 64, "drop_path_rate": 0.0}


def sentence_transformers_ways(sentences: SentenceTransformer, files: list[Path], captions: Captions) -> Ways:
    """`SentenceTransformer.encode` of files and of captions, one call for each language."""
    places = {code: [place for place, (_, other) in enumerate(captions) if other == code] for code in LANGUAGES}

    def encode_captions() -> np.ndarray:
        found = np.empty((len(captions), sentences.get_embedding_dimension()), np.float32)
        for code, own in places.items():
            texts = [captions[place][0] for place in own]
            found[own] = sentences.encode(texts, batch_size=TEXT_BATCH, **in_language(code)) if own else 0
        return found

    return {
        "sentence_transformers_files": lambda: sentences.encode(list(map(str, files)), batch_size=AUDIO_BATCH),
        "sentence_transformers_captions": encode_captions,
    }


def in_language(code: str) -> dict[str, Any]:
    """Options with which sentence-transformers tokenizes captions of a language."""
    return {"processing_kwargs": {"text": {"language": code}}}


def cached_loss(sentences: SentenceTransformer, rows: list[dict], num_clips: int) -> Callable[[], None]:
    """A step of sentence-transformers' cached loss, which pairs the captions of a clip."""
    loss = CachedMultipleNegativesRankingLoss(sentences, mini_batch_size=max(1, num_clips // 2))
    captions = first_captions(rows)

    def run() -> None:
        sentences.train()
        sentences.zero_grad()
        features = [sentences.preprocess(texts, **in_language(code)) for code, texts in captions.items()]
        loss(features, None).backward()

    return run


@torch.inference_mode()
def glap_embeddings(model: AtriModel, processor: AtriProcessor, files: list[Path], captions: Captions) -> np.ndarray:
    """Embeddings of clips, repeated for each caption, and of captions, as GLAP's evaluation loop makes them."""
    found = []
    for file, own in zip(files, batches(captions, CAPTIONS_A_CLIP), strict=True):
        inputs = processor(audio=[read(file)] * len(own), sampling_rate=SAMPLING_RATE)
        sounds = model.get_audio_features(**inputs).pooler_output
        found.append(torch.stack([sounds, model.get_text_features(**tokens_of(processor, own)).pooler_output]))
    return torch.cat(found, dim=1).numpy()


class Clap:
    """CLAP of transformers with random weights, towers of our sizes, and its processor.

    Args:
        tokenizer: our tokenizer.
        text: configuration of our text tower.
    """

    def __init__(self, tokenizer: Any, text: Any):
        of_text = {
            "vocab_size": text.vocab_size,
            "hidden_size": text.d_model,
            "num_hidden_layers": text.encoder_layers,
            "num_attention_heads": text.encoder_attention_heads,
            "intermediate_size": text.encoder_ffn_dim,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
        }
        self.model = ClapModel(ClapConfig(audio_config=HTSAT, text_config=of_text, projection_dim=text.d_model)).eval()
        extractor = ClapFeatureExtractor(
            sampling_rate=SAMPLING_RATE, hop_length=160, frequency_max=8000, truncation="rand_trunc"
        )
        self.processor = ClapProcessor(extractor, tokenizer)

    def encoding_ways(self, files: list[Path], captions: Captions) -> Ways:
        """Files and captions to embeddings, and its towers with ready tensors."""
        sounds = [self.sounds(part) for part in batches(files, AUDIO_BATCH)]
        texts = [text for text, _ in captions]
        tokens = [self.tokens(part) for part in batches(texts, TEXT_BATCH)]

        @torch.inference_mode()
        def run(encode: Callable, made: Iterator[dict[str, Tensor]]) -> Tensor:
            return torch.cat([encode(**batch).pooler_output for batch in made])

        audio, text = self.model.get_audio_features, self.model.get_text_features
        return {
            "clap_files": lambda: run(audio, map(self.sounds, batches(files, AUDIO_BATCH))),
            "clap_captions": lambda: run(text, map(self.tokens, batches(texts, TEXT_BATCH))),
            "towers_clap_files": lambda: run(audio, sounds),
            "towers_clap_captions": lambda: run(text, tokens),
        }

    def sounds(self, files: Sequence[Path]) -> dict[str, Tensor]:
        """Features of files."""
        audio = [read(file) for file in files]
        return self.processor(audio=audio, sampling_rate=SAMPLING_RATE, return_tensors="pt")

    def tokens(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Token ids and mask of captions."""
        return self.processor(text=list(texts), padding=True, return_tensors="pt")

    def step(self, rows: list[dict]) -> Callable[[], None]:
        """Tokens, text tower, contrastive loss and backward of a step."""
        captions = first_captions(rows)
        sounds = torch.from_numpy(np.stack([row["audio_embedding"] for row in rows]))
        labels = torch.arange(len(rows))

        def run() -> None:
            self.model.train().zero_grad()
            for texts in captions.values():
                embeddings = F.normalize(self.model.get_text_features(**self.tokens(texts)).pooler_output, dim=-1)
                scores = sounds @ embeddings.T * self.model.logit_scale_t.exp()
                loss = F.cross_entropy(scores, labels) + F.cross_entropy(scores.T, labels)
                (loss / 2 / len(captions)).backward()

        return run

    def sizes(self, ours: AtriModel) -> dict[str, int]:
        """Parameters of the towers of both models."""
        towers = {
            "audio": ours.audio_model,
            "text": ours.text_model,
            "clap_audio": self.model.audio_model,
            "clap_text": self.model.text_model,
        }
        return {name: sum(parameter.numel() for parameter in tower.parameters()) for name, tower in towers.items()}
