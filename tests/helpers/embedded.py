"""Stored embeddings of the tests' clips, and models that take them in the place of sounds."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from modeling_atri import AtriConfig, AtriModel, AtriProcessor
from modeling_atri.configuration_atri import AtriEmbeddedAudioConfig
from modeling_atri.embedded_audio_atri import AtriEmbeddingExtractor
from tests.helpers.tiny import tiny_processor, tiny_tokenizer


def without_tower(model: AtriModel, has_audio_head: bool = True, **facts: Any) -> AtriModel:
    """The same model without its audio tower, for the tower's output or, without a head, for finished embeddings."""
    values = model.config.to_dict()
    width = values["audio_config"]["hidden_size"] if has_audio_head else values["projection_dim"]
    audio = AtriEmbeddedAudioConfig(hidden_size=width, **facts)
    other = AtriModel(AtriConfig(**values | {"audio_config": audio, "has_audio_head": has_audio_head})).eval()
    kept = ("text_", "learned_") + (("audio_projection",) if has_audio_head else ())
    other.load_state_dict({name: weight for name, weight in model.state_dict().items() if name.startswith(kept)})
    return other


def embedding_processor(model: AtriModel) -> AtriProcessor:
    config = model.config.audio_config
    return AtriProcessor(AtriEmbeddingExtractor(config.hidden_size, config.source), tiny_tokenizer())


@torch.no_grad()
def clip_vectors(model: AtriModel, rows: Sequence[dict], finished: bool) -> np.ndarray:
    """The embeddings of the recordings of rows, or the output of the audio tower before its head, each clip alone."""
    vectors = []
    for row in rows:
        inputs = tiny_processor()(audio=row["audio"]["array"], sampling_rate=16000)
        outputs = model.get_audio_features(**inputs) if finished else model.audio_model(**inputs)
        vectors.append(outputs.pooler_output[0].numpy())
    return np.stack(vectors)


def write_store(path: Path, ids: Sequence[str], vectors: np.ndarray, **facts: str) -> Path:
    np.save(path, vectors)
    path.with_name(f"{path.stem}.ids.json").write_text(json.dumps({"ids": list(ids), **facts}))
    return path


def soundless(rows: Sequence[dict], vectors: np.ndarray | None = None) -> list[dict]:
    """Rows without their recordings, with vectors in their place if they are given."""
    found = [{name: value for name, value in row.items() if name != "audio"} for row in rows]
    if vectors is None:
        return found
    return [row | {"audio_embedding": vector} for row, vector in zip(found, vectors, strict=True)]
