"""Checks that an exported graph computes what the model does, before anybody can use it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..configuration_atri import AtriAudioConfig
from ..modeling_atri import AtriModel
from ..processing_atri import AtriProcessor
from .model import load_graph, run_graph


# Largest difference of an entry of an embedding of length 1. The graphs of all kinds of text towers that were tried
# differ by less than 1e-5; graphs with a fault, by more than 1e-2.
FLOAT_TOLERANCE = 1e-4
# Smallest cosine between the embeddings of an int8 graph and of the model, which are above 0.99 for all towers tried.
INT8_COSINE = 0.95
# An int8 graph scales every row of activations by itself, so that an embedding does not depend on the batch.
_INT8_BATCH_TOLERANCE = 1e-3

_CAPTION_LENGTHS = ((1,), (9,), (2, 7), (40, 3, 17), (200,))


class WrongGraphError(ValueError):
    """An exported graph does not compute what the model does, or does not run."""


def example_clips(model: AtriModel, processor: AtriProcessor) -> Iterator[dict[str, Tensor]]:
    """Batches of clips of noise, with padding: shorter and longer than what the audio tower sees at once.

    For CED: one patch, just below and above a chunk, and several chunks.
    """
    audio: Any = model.config.audio_config
    noise = torch.Generator().manual_seed(0)
    if audio.model_type == AtriAudioConfig.model_type:
        shortest, chunk = audio.patch_size[1], audio.max_frames
        batches: Any = ((shortest,), (chunk - 1, chunk + shortest), (shortest, 2 * chunk + 5, 3 * shortest + 1))
        unit, level, scale = 1, -20, 17  # decibels, about as loud as recordings
    else:
        unit, level, scale = cast(Any, model.audio_model).windows.frames, 0, 1
        batches = ((1,), (unit, unit + 1), (unit // 3, 3 * unit - 5, 2 * unit))
    for lengths in batches:
        mask = _mask(lengths)
        mask = torch.nn.functional.pad(mask, (0, -mask.shape[1] % unit))
        width = processor.feature_extractor.feature_size
        features = scale * torch.randn(*mask.shape, width, generator=noise) + level
        yield {"input_features": features, "input_features_mask": mask}


def example_captions(model: AtriModel) -> Iterator[dict[str, Tensor]]:
    """Batches of captions of random tokens, with padding, up to 200 tokens or the position limit of the tower."""
    text: Any = model.config.text_config
    padding = getattr(text, "pad_token_id", None) or 0
    limit = model.max_text_tokens or max(map(max, _CAPTION_LENGTHS))
    words = torch.Generator().manual_seed(0)
    for lengths in _CAPTION_LENGTHS:
        mask = _mask([min(length, limit) for length in lengths])
        ids = torch.randint(0, text.vocab_size - 1, mask.shape, generator=words)
        ids += ids >= padding  # no word is padding
        yield {"input_ids": ids.where(mask.bool(), padding), "attention_mask": mask}


def _mask(lengths: tuple[int, ...] | list[int]) -> Tensor:
    return (torch.arange(max(lengths))[None, :] < torch.tensor(lengths)[:, None]).long()


@torch.no_grad()
def check_graph(path: Path, tower: nn.Module, batches: Iterator[dict[str, Tensor]], int8: bool = False) -> None:
    """Run a graph on batches of several sizes and lengths, and compare its embeddings with those of the model.

    Args:
        path (`Path`): file of the graph.
        tower (`nn.Module`): takes the inputs of the graph and returns embeddings of length 1, `(batch, dim)`.
        batches (iterator of `dict`): inputs of the graph, as tensors on the CPU.
        int8 (`bool`, *optional*, defaults to `False`): whether the graph is quantised. Then the cosine with the
            model's embeddings must be at least 0.95, and an embedding the same alone as in a batch to 1e-3. Otherwise
            no entry may differ from the model's by more than 1e-4.

    Raises:
        WrongGraphError: the graph fails, or its embeddings differ.
    """
    device = next(tower.parameters()).device
    with _failures_explained(f"{path.name} cannot be loaded"):
        graph = load_graph(path)
    for inputs in batches:
        size, length = next(iter(inputs.values())).shape[:2]
        where = f"{path.name} for a batch of {size} with length {length}"
        last = {name: value[-1:] for name, value in inputs.items()}
        with _failures_explained(f"{where} does not run"):
            ours, alone = run_graph(graph, inputs), run_graph(graph, last)
        expected = tower(**{name: value.to(device) for name, value in inputs.items()}).float().cpu()
        if not int8:
            _compare(ours, expected, FLOAT_TOLERANCE, f"{where} differ from the model's")
            continue
        cosine = (ours * expected).sum(1).min().item()
        if not cosine >= INT8_COSINE:  # NaN is too small as well
            raise WrongGraphError(
                f"the embeddings of {where} have a cosine of {cosine:.3f} with the model's, and at least "
                f"{INT8_COSINE} is needed"
            )
        _compare(ours[-1:], alone, _INT8_BATCH_TOLERANCE, f"{where} depend on the batch, and differ")


@contextmanager
def _failures_explained(what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # onnxruntime has a class of its own for each of its errors
        raise WrongGraphError(f"{what} ({str(error).strip().splitlines()[0]})") from error


def _compare(ours: Tensor, expected: Tensor, allowed: float, what: str) -> None:
    difference = (ours - expected).abs().max().item()
    if not difference <= allowed:  # NaN differs too
        raise WrongGraphError(
            f"the embeddings of {what} by up to {difference:.1e}, and at most {allowed:.0e} is allowed"
        )
