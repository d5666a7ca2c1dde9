"""Evaluation on several processes."""

from typing import Any

import numpy as np
from accelerate.utils import gather_object

from modeling_atri.modeling_atri import AtriModel
from modeling_atri.processing_atri import AtriProcessor

from .retrieval import RetrievalEmbeddings, RetrievalSet, embed_retrieval_set


def embed_on_all_processes(
    model: AtriModel,
    processor: AtriProcessor,
    retrieval_set: RetrievalSet,
    rank: int,
    world_size: int,
    **options: Any,
) -> RetrievalEmbeddings:
    """Embed a set as [`embed_retrieval_set`] does, with the work shared by all processes.

    Args:
        model, processor, retrieval_set: As in `embed_retrieval_set`.
        rank (`int`): Number of this process.
        world_size (`int`): Number of processes.
        options: Further arguments of `embed_retrieval_set`.

    Returns:
        [`RetrievalEmbeddings`] of the whole set, on every process.
    """
    own = embed_retrieval_set(model, processor, retrieval_set, part=(rank, world_size), **options)
    if world_size == 1:
        return own
    parts = gather_object([own])
    return RetrievalEmbeddings(
        audio=_interleave([part.audio for part in parts]),
        text={language: _interleave([part.text[language] for part in parts]) for language in own.text},
        unreadable={index: problem for part in parts for index, problem in part.unreadable.items()},
    )


def _interleave(parts: list[np.ndarray]) -> np.ndarray:
    """Undo `rows[rank::world_size]`."""
    whole = np.empty((sum(map(len, parts)), parts[0].shape[1]), dtype=parts[0].dtype)
    for rank, part in enumerate(parts):
        whole[rank :: len(parts)] = part
    return whole
