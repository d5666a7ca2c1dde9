"""Evaluation sets, their embeddings, and the table of their figures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import datasets
import numpy as np
import torch
from torch import Tensor

from modeling_atri.corpora.rows.bad_rows import (
    MISSING_RECORDING,
    BadRow,
    BadRowError,
    Problem,
    kind_of,
)
from modeling_atri.corpora.rows.lookup import EMBEDDING_COLUMN
from modeling_atri.corpora.rows.plain_rows import as_sequence, sound_of
from modeling_atri.corpora.sources.audio_column import AUDIO_COLUMNS
from modeling_atri.embedded_audio_atri import AtriEmbeddingExtractor
from modeling_atri.encode.encoding import encode_audio, encode_text
from modeling_atri.eval_mode_atri import in_eval_mode
from modeling_atri.languages_atri import resolve_language
from modeling_atri.long_sounds_atri import LongSound
from modeling_atri.modeling_atri import AtriModel
from modeling_atri.processing_atri import AtriProcessor

from ..data.batches import group_of, without_audio
from ..data.unknown_captions import warn_of_unknown_captions
from ..metrics import multilingual_metrics
from .mapped_captions import MappedTexts, map_captions, parallel_captions


_EMBEDDINGS_AT_ONCE = 1024


@dataclass(frozen=True)
class RetrievalSet:
    """Clips and captions of an evaluation.

    Args:
        audios (sequence): A clips.
        captions (mapping): M captions for each language, a sequence of `str`. Caption m means the same in all of them.
        positives (list): For each caption the rows of the clips that it fits.
        audio_ids (sequence of `str`, *optional*): Ids of the clips, for errors.
        owners (sequence of `int`, *optional*): For each caption the row of the clip that it was written for.
        are_embedded (`bool`, *optional*, defaults to `False`): Whether the clips are embeddings, of shape `(width,)`,
            instead of recordings.
    """

    audios: Sequence[Any]
    captions: Mapping[str, Sequence[str]]
    positives: list[list[int]]
    audio_ids: Sequence[str] | None = None
    owners: Sequence[int] | None = None
    are_embedded: bool = False

    @classmethod
    def from_rows(cls, rows: Sequence[dict], languages: Sequence[str]) -> "RetrievalSet":
        """Make a set from rows. A caption fits all clips with the `group_id` of its clip.

        Captions of a `datasets.Dataset` stay in the file that it is mapped from, and do not become Python strings. If
        `load_rows` returned it, its rows are not checked again.

        Args:
            rows (sequence of `dict`): Rows as `load_rows` returns them, or with captions in other forms that it takes.
            languages (sequence of `str`): Languages to evaluate, by any name that `resolve_language` knows.

        Raises:
            ValueError: Rows are faulty: one lacks a language, or has different numbers of captions in the languages.
        """
        languages, rows = [resolve_language(language) for language in languages], as_sequence(rows)
        read = map_captions if isinstance(rows, datasets.Dataset) else _listed_captions
        captions, positives, audio_ids, owners = read(rows, languages)
        columns = _columns(rows)
        are_embedded = EMBEDDING_COLUMN in columns
        if columns and not are_embedded and not columns & set(AUDIO_COLUMNS):
            raise BadRowError(
                "The rows have neither recordings nor embeddings. Evaluation compares clips and captions, so it needs "
                "one of them for every row.",
                MISSING_RECORDING,
            )
        return cls(_Clips(rows, range(len(rows))), captions, positives, audio_ids, owners, are_embedded)


def _listed_captions(rows: Sequence[dict], languages: Sequence[str]) -> tuple:
    """Captions, positives, ids and owners of rows that are looked at one by one."""
    members: dict[str, list[int]] = {}
    captions: dict[str, list[str]] = {language: [] for language in languages}
    positives, owners = [], []
    audio_ids: list[Any] = []
    for index, row in enumerate(without_audio(rows)):
        audio_ids.append(index if row.get("audio_id") is None else row["audio_id"])
        # a list that all captions of the group share
        group = members.setdefault(group_of({**row, "audio_id": audio_ids[index]}), [])
        group.append(index)
        of_row = parallel_captions(row, languages, audio_ids[index])
        for language in languages:
            captions[language] += of_row[language]
        num_captions = len(of_row[languages[0]])
        positives += [group] * num_captions
        owners += [index] * num_captions
    return captions, positives, audio_ids, owners


def _columns(rows: Sequence[dict]) -> set[str]:
    """The columns of rows, as far as they are known without reading a recording."""
    if isinstance(rows, datasets.Dataset):
        return set(rows.column_names)
    return (
        {name for name, value in rows[0].items() if value is not None}
        if type(rows) in (list, tuple) and rows
        else set()
    )


class _Clips(Sequence):
    """Recordings or embeddings of chosen rows. Each is read only when it is used, so that the others stay on disk."""

    def __init__(self, rows: Sequence[dict], indices: Sequence[int]):
        self._rows, self._indices = rows, indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return _Clips(self._rows, self._indices[index])
        row = self._rows[self._indices[index]]
        embedding = row.get(EMBEDDING_COLUMN)
        return sound_of(row) if embedding is None else embedding

    def select(self, places: Sequence[int]) -> "_Clips":
        return _Clips(self._rows, [self._indices[place] for place in places])


@dataclass(frozen=True)
class RetrievalEmbeddings:
    """Embeddings of a [`RetrievalSet`].

    Args:
        audio (`np.ndarray` of shape `(A, D)`): Embeddings of the clips; zeros for clips that could not be read.
        text (`dict`): For each language an array of shape `(M, D)`.
        unreadable (`dict[int, Problem]`, *optional*): Problems of the clips that could not be read, by row.
    """

    audio: np.ndarray
    text: dict[str, np.ndarray]
    unreadable: dict[int, Problem] = field(default_factory=dict)


def embed_retrieval_set(
    model: AtriModel,
    processor: AtriProcessor,
    retrieval_set: RetrievalSet,
    batch_size: int = 16,
    read_features: Callable[[Any], Tensor | LongSound] | None = None,
    progress: bool = False,
    part: tuple[int, int] = (0, 1),
    skip_unreadable: bool = False,
    warns: bool = True,
) -> RetrievalEmbeddings:
    """Encode every clip and every caption once.

    Args:
        model ([`AtriModel`]): Model to encode with.
        processor ([`AtriProcessor`]): Processor of the model.
        retrieval_set ([`RetrievalSet`]): Clips and captions.
        batch_size, read_features, progress: As in `encode_audio`.
        part (`tuple[int, int]`, *optional*, defaults to `(0, 1)`): Rank and world size; encode every world_size-th
            clip and caption, starting at rank.
        skip_unreadable (`bool`, *optional*, defaults to `False`): Note clips that cannot be read in `unreadable`
            instead of raising.
        warns (`bool`, *optional*, defaults to `True`): Warn of captions of which the tokenizer knows nothing.

    Raises:
        ValueError: The tokenizer lacks a language, or a clip cannot be read.
    """
    for language in retrieval_set.captions:
        processor.language_id(language)
    rank, world_size = part
    if warns and rank == 0:
        warn_of_unknown_captions(processor, retrieval_set.captions)
    options = {"batch_size": batch_size, "progress": progress}
    names = None
    if retrieval_set.audio_ids is not None:
        names = [f"Row {audio_id!r}" for audio_id in retrieval_set.audio_ids[rank::world_size]]
    own_clips = retrieval_set.audios[rank::world_size]
    encode_clips = partial(encode_audio, model, processor, own_clips, read_features=read_features, names=names)
    unreadable = {}
    audio: Any
    if retrieval_set.are_embedded:
        audio = _embed_stored(model, processor, own_clips, names)
    elif skip_unreadable:
        readable, failures = encode_clips(on_error="skip", **options)
        unreadable = {
            rank + failure.index * world_size: Problem(kind_of(failure.error), failure.reason) for failure in failures
        }
        audio = np.zeros((len(own_clips), readable.shape[1]), dtype=readable.dtype)
        audio[np.delete(np.arange(len(own_clips)), [failure.index for failure in failures])] = readable
    else:
        audio = encode_clips(**options)
    text = {
        language: encode_text(model, processor, captions[rank::world_size], language, **options)
        for language, captions in retrieval_set.captions.items()
    }
    return RetrievalEmbeddings(audio, text, unreadable)


def _embed_stored(
    model: AtriModel, processor: AtriProcessor, clips: Sequence[Any], names: Sequence[str] | None
) -> np.ndarray:
    """Embeddings of clips that are embeddings: as a model without an audio tower makes them, else as they are."""
    extractor, width = processor.feature_extractor, model.config.projection_dim
    is_finished = not isinstance(extractor, AtriEmbeddingExtractor)
    extractor = AtriEmbeddingExtractor(width) if is_finished else extractor
    parts = [np.empty((0, width), dtype=np.float32)]
    with in_eval_mode(model), torch.inference_mode():
        for start in range(0, len(clips), _EMBEDDINGS_AT_ONCE):
            places = range(start, min(start + _EMBEDDINGS_AT_ONCE, len(clips)))
            names_of = [f"the embedding of {names[place]}" if names else f"Clip {place}" for place in places]
            found = [
                extractor.extract_clip(clips[place], name=name) for place, name in zip(places, names_of, strict=True)
            ]
            features, _ = extractor.pad_features(found)
            if is_finished:
                parts.append(features[:, 0].numpy())
            else:
                parts.append(model.get_audio_features(features.to(model.device)).pooler_output.float().cpu().numpy())
    return np.concatenate(parts)


def join_embeddings(parts: Sequence[RetrievalEmbeddings]) -> RetrievalEmbeddings:
    """Join the parts `(0, n), ..., (n - 1, n)` of a set, as [`embed_retrieval_set`] returns them."""
    return RetrievalEmbeddings(
        audio=_interleave([part.audio for part in parts]),
        text={language: _interleave([part.text[language] for part in parts]) for language in parts[0].text},
        unreadable={index: problem for part in parts for index, problem in part.unreadable.items()},
    )


def _interleave(parts: list[np.ndarray]) -> np.ndarray:
    """Undo `rows[rank::world_size]`."""
    whole = np.empty((sum(map(len, parts)), parts[0].shape[1]), dtype=parts[0].dtype)
    for rank, part in enumerate(parts):
        whole[rank :: len(parts)] = part
    return whole


def leave_out_unreadable(
    retrieval_set: RetrievalSet, embeddings: RetrievalEmbeddings
) -> tuple[RetrievalSet, RetrievalEmbeddings, list[BadRow]]:
    """Leave out the clips of a set from `RetrievalSet.from_rows` that could not be read, and their captions.

    Returns:
        The smaller set, its embeddings, and the rows that were left out.

    Raises:
        ValueError: No clip could be read.
    """
    if not embeddings.unreadable:
        return retrieval_set, embeddings, []
    kept = [index for index in range(len(retrieval_set.audios)) if index not in embeddings.unreadable]
    if not kept:
        first = next(iter(embeddings.unreadable.values()))
        raise ValueError(f"No clip of the set can be read; the first: {first.text}")
    place_of = {index: place for place, index in enumerate(kept)}
    owners: Any = retrieval_set.owners
    captions = [number for number, owner in enumerate(owners) if owner in place_of]
    smaller_set = RetrievalSet(
        retrieval_set.audios.select(kept),
        {code: _chosen(texts, captions) for code, texts in retrieval_set.captions.items()},
        [[place_of[clip] for clip in retrieval_set.positives[number] if clip in place_of] for number in captions],
        [retrieval_set.audio_ids[index] for index in kept],
        [place_of[owners[number]] for number in captions],
        retrieval_set.are_embedded,
    )
    smaller = RetrievalEmbeddings(
        embeddings.audio[kept], {code: text[captions] for code, text in embeddings.text.items()}
    )
    bad_rows = [
        BadRow(None, str(retrieval_set.audio_ids[index]), problem.kind, problem.text)
        for index, problem in sorted(embeddings.unreadable.items())
    ]
    return smaller_set, smaller, bad_rows


def _chosen(texts: Sequence[str], places: Sequence[int]) -> Sequence[str]:
    return texts.select(places) if isinstance(texts, MappedTexts) else [texts[place] for place in places]


def retrieval_table(
    embeddings: RetrievalEmbeddings,
    positives: list[list[int]],
    anchor: str | None = None,
    device: str | torch.device = "cpu",
) -> dict[str, float]:
    """Compute the figures of every language, their means, and the consistency between languages.

    Args:
        embeddings ([`RetrievalEmbeddings`]): Embeddings of all clips and captions.
        positives (list): For each caption the rows of the clips that it fits.
        anchor (`str`, *optional*): Language that embedding gap and distance are measured from. By default, and if the
            set lacks it, the first language.
        device (`str` or `torch.device`, *optional*, defaults to `"cpu"`): Where scores are computed. Devices other
            than a CPU and CUDA may lack float64, so the CPU is used in their place. The figures do not depend on it.

    Returns:
        `dict[str, float]`: The figures of [`~trainer.metrics.multilingual_metrics`].
    """
    anchor = anchor if anchor in embeddings.text else None
    device = device if torch.device(device).type == "cuda" else "cpu"
    return multilingual_metrics(embeddings.audio, embeddings.text, positives, anchor, device)
