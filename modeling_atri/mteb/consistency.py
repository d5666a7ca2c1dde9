"""The figures of our evaluation, computed from the embeddings that mteb makes for its own."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from modeling_atri.hub_cards.figures import CONSISTENCY_TITLES, DIRECTIONS, RETRIEVAL_FIGURES
from modeling_atri.trainer.evaluation.retrieval import RetrievalEmbeddings, retrieval_table

from .installed import RetrievalSplitData


_CLIPS = "clips"
TEXT_TO_AUDIO, AUDIO_TO_TEXT = DIRECTIONS


class RememberingEncoder:
    """An encoder of mteb that encodes the clips once for all languages, and remembers all embeddings by their ids.

    Clips must have the same ids in every subset.
    """

    def __init__(self, model: Any):
        self.model, self.mteb_model_meta = model, model.mteb_model_meta
        self._known: dict[tuple[str, tuple[str, ...]], Any] = {}

    def encode(self, inputs: Any, *, hf_subset: str, **kwargs: Any) -> Any:
        """Embeddings of clips or captions, as the model makes them."""
        dataset = inputs.dataset
        key = (_CLIPS if "audio" in dataset.column_names else hf_subset), tuple(dataset["id"])
        if key not in self._known:
            self._known[key] = self.model.encode(inputs, hf_subset=hf_subset, **kwargs)
        return self._known[key]

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """The model's."""
        return self.model.similarity(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """The model's."""
        return self.model.similarity_pairwise(embeddings1, embeddings2)

    def clips(self, ids: Sequence[str]) -> np.ndarray:
        """The embeddings `(n, D)` of clips that were encoded."""
        return self._remembered(_CLIPS, ids)

    def captions(self, subset: str, ids: Sequence[str]) -> np.ndarray:
        """The embeddings `(n, D)` of captions of a subset that were encoded."""
        return self._remembered(subset, ids)

    def _remembered(self, kind: str, ids: Sequence[str]) -> np.ndarray:
        parts = {names: values for (of_kind, names), values in self._known.items() if of_kind == kind}
        place_of = {name: place for place, name in enumerate(name for names in parts for name in names)}
        values = np.concatenate([torch.as_tensor(part).detach().float().cpu().numpy() for part in parts.values()])
        return values[[place_of[name] for name in ids]]


def figures_by_subset(
    encoder: RememberingEncoder, data: Mapping[str, RetrievalSplitData], direction: str, anchor: str | None
) -> dict[str, dict[str, float]]:
    """The figures of `retrieval_table` in one direction for each subset, and with them the consistency figures.

    Args:
        encoder: Encoder that has encoded all clips and captions.
        data: Queries and documents by subset. The subsets differ in the language of their captions alone: ids of
            captions say which of them mean the same.
        direction: `"text_to_audio"` or `"audio_to_text"`.
        anchor: Subset that gap and distance are measured from; None for the first.

    Returns:
        For each subset the figures of its language, such as `text_to_audio_R@1`, and those of `CONSISTENCY_TITLES`,
        which compare all subsets and are the same in each.

    Raises:
        ValueError: The subsets do not have the same clips and captions, or a caption fits other clips in one of them.
    """
    to_audio = direction == TEXT_TO_AUDIO
    sides = {
        subset: (part["corpus"]["id"], part["queries"]["id"])
        if to_audio
        else (part["queries"]["id"], part["corpus"]["id"])
        for subset, part in data.items()
    }
    first = next(iter(data))
    clip_ids, caption_ids = (list(ids) for ids in sides[first])
    for subset, ids in sides.items():
        if any(sorted(found) != sorted(wanted) for found, wanted in zip(ids, sides[first], strict=True)):
            raise ValueError(
                f"The subsets {first!r} and {subset!r} do not have the same ids of clips and captions, so their ranks "
                "cannot be compared. Give a caption the same id in every language, or use `AbsTaskRetrieval` of mteb."
            )
    embeddings = RetrievalEmbeddings(
        encoder.clips(clip_ids), {subset: encoder.captions(subset, caption_ids) for subset in data}
    )
    positives = _positives(data[first]["relevant_docs"], clip_ids, caption_ids, to_audio)
    for subset, part in data.items():
        own_positives = _positives(part["relevant_docs"], clip_ids, caption_ids, to_audio)
        if any(sorted(found) != sorted(wanted) for found, wanted in zip(own_positives, positives, strict=True)):
            raise ValueError(
                f"In the subsets {first!r} and {subset!r}, captions with the same id fit different clips, so their "
                "ranks cannot be compared. Give both the same `relevant_docs`, or use `AbsTaskRetrieval` of mteb."
            )
    table = retrieval_table(embeddings, positives, anchor)
    shared = {name: table[name] for name in CONSISTENCY_TITLES if name in table}
    own = [f"{direction}_{figure}" for figure in RETRIEVAL_FIGURES]
    return {subset: {name: table[f"{subset}_{name}"] for name in own} | shared for subset in data}


def _positives(
    relevant: Mapping[str, Mapping[str, int]], clip_ids: Sequence[str], caption_ids: Sequence[str], to_audio: bool
) -> list[list[int]]:
    """For each caption the rows of the clips that it fits."""
    place_of = {clip: place for place, clip in enumerate(clip_ids)}
    clips_of: dict[str, list[int]] = {caption: [] for caption in caption_ids}
    for query, documents in relevant.items():
        for document, score in documents.items():
            clip, caption = (document, query) if to_audio else (query, document)
            if score > 0:
                clips_of[caption].append(place_of[clip])
    return [clips_of[caption] for caption in caption_ids]
