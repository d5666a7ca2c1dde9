"""Rows whose audio embeddings are in a store. An embedding is looked up when its row is used."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import datasets
import numpy as np
import pyarrow as pa

from modeling_atri.embedding_store.facts import StoreFacts
from modeling_atri.embedding_store.vector_tables import vectors_of
from modeling_atri.embedding_store.vectors import StoredVectors, are_unit, lengths_of


EMBEDDING_COLUMN = "audio_embedding"


class EmbeddingFacts(NamedTuple):
    """Facts of the embeddings of a set of rows.

    Args:
        name: their origin in messages: the name of a store in quotes, or the column of the rows.
        width: number of entries of a vector.
        shortest, longest: smallest and largest Euclidean length of a vector.
        made_by: the model that made them, as far as it is known.
    """

    name: str
    width: int
    shortest: float
    longest: float
    made_by: StoreFacts

    @property
    def normalized(self) -> bool:
        """Whether all vectors have length 1."""
        return bool(are_unit(self.shortest) and are_unit(self.longest))


@dataclass(frozen=True)
class EmbeddingLookup:
    """Transform of a `datasets.Dataset` that replaces row numbers of a store by the vectors of these rows."""

    store: StoredVectors
    facts: EmbeddingFacts

    def __call__(self, batch: dict[str, list[Any]]) -> dict[str, Any]:
        if EMBEDDING_COLUMN not in batch:
            return batch
        return batch | {EMBEDDING_COLUMN: list(self.store[np.asarray(batch[EMBEDDING_COLUMN], dtype=np.int64)])}


def lookup_of(rows: Any) -> EmbeddingLookup | None:
    """The look-up of rows that `load_rows` returned for a store; None for other rows."""
    if not isinstance(rows, datasets.Dataset):
        return None
    transform = rows.format["format_kwargs"].get("transform")
    return transform if isinstance(transform, EmbeddingLookup) else None


def embedding_facts(rows: Any) -> EmbeddingFacts | None:
    """Facts of the embeddings of checked rows; None if the rows have recordings or captions alone."""
    if lookup := lookup_of(rows):
        return lookup.facts
    if not isinstance(rows, datasets.Dataset) or EMBEDDING_COLUMN not in rows.column_names:
        return None
    width = len(rows[0][EMBEDDING_COLUMN])
    lengths = np.concatenate([lengths_of(vectors_of(column, width)) for column in vector_columns(rows)])
    return EmbeddingFacts(
        f"the column `{EMBEDDING_COLUMN}`", width, float(lengths.min()), float(lengths.max()), StoreFacts()
    )


def vector_columns(rows: datasets.Dataset) -> Iterator[pa.Array]:
    """The embeddings that rows contain, in blocks, as Arrow lists."""
    light = rows.select_columns([EMBEDDING_COLUMN]).with_format("arrow")
    for table in light.iter(batch_size=4096):
        for chunk in table[EMBEDDING_COLUMN].chunks:
            yield chunk if pa.types.is_floating(chunk.type.value_type) else chunk.cast(pa.list_(pa.float32()))
