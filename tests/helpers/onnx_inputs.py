"""Inputs for exported graphs, and the embeddings that a model or its graphs compute from them."""

import numpy as np
import torch

from .tiny import CAPTIONS


def clips(lengths: list[int]) -> dict[str, torch.Tensor]:
    """Features in decibels of clips with these numbers of frames, and their mask."""
    mask = torch.arange(max(lengths))[None, :] < torch.tensor(lengths)[:, None]
    return {
        "input_features": 17 * torch.randn(len(lengths), max(lengths), 64) - 20,
        "input_features_mask": mask.long(),
    }


def captions(processor, texts: list[str] | None = None) -> dict[str, torch.Tensor]:
    if texts is None:
        return dict(processor(text=list(CAPTIONS.values()), language=list(CAPTIONS)))
    return dict(processor(text=texts, language="en"))


@torch.no_grad()
def embeddings(model, inputs: dict[str, torch.Tensor]) -> np.ndarray:
    get = model.get_audio_features if "input_features" in inputs else model.get_text_features
    return get(**inputs).pooler_output.numpy()
