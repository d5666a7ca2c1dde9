"""Open sources of rows as streams: files and archives here or on the Hub, and data sets of `datasets`."""

import json
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from modeling_atri.embedding_store.facts import StoreFacts
from modeling_atri.embedding_store.vectors import StoredVectors, lengths_of, open_vectors
from modeling_atri.hub_cards.tables import counted
from modeling_atri.languages_atri import resolve_languages
from modeling_atri.sources import HubDataset

from ..rows.bad_rows import BadRow, Problem
from ..rows.captions import is_missing, resolve_captions
from ..rows.checks.row_checker import warn_of_languages_left_out, wrong_rows_error
from ..rows.lookup import EMBEDDING_COLUMN, EmbeddingFacts
from ..rows.soundless.soundless_columns import NO_STORE
from ..sources.layout import ALL_SOUND_SUFFIXES, ARCHIVE_SUFFIXES, ROW_SUFFIXES, suffix_of
from ..sources.locating import find_here_or_hub, find_on_hub
from ..sources.opening import pick_split
from ..sources.splits import parse_split
from .checked import CheckedShards, readable_blocks
from .raw.archives import ArchiveShards, FolderShards
from .raw.blocks import RawRow, RawShards
from .raw.iterables import IterableShards
from .raw.row_files import RowFileShards
from .raw.shard_files import ShardFiles
from .raw.tables import DatasetShards, TableShards
from .row_shards import RowShards, RowStream, StreamFacts
from .rules import RowRules


_ROWS_LOOKED_AT = 64  # to know the kind of the rows


def open_stream(
    source: Any,
    split: str | None = None,
    *,
    languages: Sequence[str] | None = None,
    group_column: str | None = None,
    audio_embeddings: str | PathLike[str] | StoredVectors | None = None,
    needs_sound: bool = True,
) -> RowShards:
    """Open rows that are read one after the other, without looking at all of them first.

    Each row is checked when it is read, by the rules of [`load_rows`]. What needs all rows is not checked: ids that
    occur twice are not found, and rows with the same `audio_id` are taken for one recording. The first rows decide
    whether rows have recordings, embeddings or captions alone.

    `audio_id` defaults to the path of the recording, without suffix, relative to the data set. In a WebDataset of
    several shards, it is the key after the name of the shard. Where nothing else is known, it is the place of the row.

    Args:
        source: One of

            - a name, as `load_rows` takes it: a folder, a file or pattern of `.parquet`, `.arrow`, `.jsonl`, `.json`,
              `.csv`, `.tsv` (also `.jsonl.gz` and so on), `.tar` (also compressed) or `.zip` files, a folder of
              `save_to_disk`, or a data set on the Hub. Of the Hub, each file is fetched when it is read, to a
              temporary folder.
            - a `datasets.IterableDataset`, for example of `load_dataset(..., streaming=True)` or of a generator;
            - a `datasets.Dataset`, or a dict of splits of either.
        split (`str`, *optional*): Which split to read. Needed where there are several. Parts such as `train[:10%]`
            need the number of rows and are refused.
        languages (*optional*): Languages that every row must have. By default, those of the first row with captions.
        group_column (`str`, *optional*): Column whose values say which rows describe the same sound. By default
            `group_id` where a row has it, else every row is its own group.
        audio_embeddings (`str`, `Path` or `StoredVectors`, *optional*): Store of the embeddings of the rows.
        needs_sound (`bool`, *optional*, defaults to `True`): Whether rows without recordings or embeddings are wrong.

    Returns:
        [`RowShards`].

    Raises:
        ValueError: The source is not found or not understood, it holds no rows, a language is missing in the first
            rows, or none of the first rows can be used.
    """
    codes = None if languages is None else resolve_languages(languages)
    if codes is not None and (not codes or len(set(codes)) < len(codes)):
        raise ValueError(f"`languages` must name at least one language and none twice, but is {languages}.")
    store = audio_embeddings
    if store is not None and not isinstance(store, StoredVectors):
        store = open_vectors(store)
    raw = _raw_shards(source, split, group_column, reads_sounds=store is None)
    if raw.num_shards == 0:
        raise ValueError(f"{raw.name} holds no rows.")
    return CheckedShards(raw, _find_rules(raw, codes, group_column, store, needs_sound))


def open_streams(
    sources: Sequence[Any],
    split: str | None = None,
    *,
    weights: Sequence[float] | None = None,
    num_rows: int | None = None,
    languages: Sequence[str] | None = None,
    **options: Any,
) -> RowStream:
    """Open several sources as one stream.

    Without `weights`, an epoch reads each row of all sources once. With weights, [`RowStream`] says what it reads.

    Args:
        sources: What `open_stream` takes, each.
        split: As for `open_stream`, of each source.
        weights (*optional*): A positive number for each source. Their sum counts as 1.
        num_rows (`int`, *optional*): Number of rows of an epoch, where it is not known.
        languages: As for `open_stream`. By default, those of the first source.
        options: Further arguments of `open_stream`.

    Raises:
        ValueError: as `open_stream` does, the sources are not of one kind, or the weights do not fit.
    """
    shares = _shares(weights, len(sources))
    if num_rows is not None and num_rows < 1:
        raise ValueError(f"`num_rows` must be at least 1; got {num_rows}.")
    opened: list[RowShards] = []
    for source in sources:
        found = open_stream(source, split, languages=languages, **options)
        languages = found.facts.languages
        opened.append(found)
        _check_kinds(opened[0], found)
    if len(opened) > 1 and weights is None:
        opened = [JoinedShards(opened)]
    return RowStream(tuple(opened), shares if len(opened) > 1 else (1.0,), num_rows)


class JoinedShards:
    """The shards of several sources as those of one, as [`RowShards`]."""

    def __init__(self, sources: Sequence[RowShards]) -> None:
        self._places = [(source, shard) for source in sources for shard in range(source.num_shards)]
        self.name = " and ".join(source.name for source in sources)
        counts = [source.num_rows for source in sources]
        self.num_rows = None if None in counts else sum(count or 0 for count in counts)
        self.num_shards, self.facts = len(self._places), sources[0].facts
        self.version = json.dumps([source.version for source in sources])
        self.times = " ".join(source.times for source in sources).strip()

    def open(self, shard: int, state: dict[str, Any] | None = None, part: int = 0, num_parts: int = 1) -> Any:
        """Read a shard, as `RowShards.open` does."""
        source, number = self._places[shard]
        return source.open(number, state, part, num_parts)


def _raw_shards(source: Any, split: str | None, group_column: str | None, reads_sounds: bool) -> RawShards:
    if isinstance(source, (str, Path)):
        return _named(str(source), split, group_column, reads_sounds)
    if isinstance(source, datasets.IterableDatasetDict):
        ((known, _),) = _whole_splits(split, list(map(str, source)), "The data set")
        source, split = source[known], None
    if isinstance(source, datasets.IterableDataset):
        if split is not None:
            raise ValueError(f"The data set has no splits, but `split` is {split!r}: please leave it out.")
        return IterableShards(source, "the data set")
    return DatasetShards(pick_split(source, split), "the data set", reads_sounds)


def _named(name: str, split: str | None, group_column: str | None, reads_sounds: bool) -> RawShards:
    found = find_here_or_hub(name, split)
    if isinstance(found, HubDataset):
        hub, splits = find_on_hub(found)
        parts = _whole_splits(split, list(splits), repr(found.repo))
        in_archive, names = False, [file for known, _ in parts for file in splits[known]]
        files = ShardFiles(found.repo, names, hub=hub)
    elif found.splits is None:
        saved = datasets.load_from_disk(str(found.folder))
        return DatasetShards(pick_split(saved, split, repr(name)), name, reads_sounds)
    else:
        parts = _whole_splits(split, list(found.splits), repr(name), found.hint, must_name=bool(found.hint))
        in_archive = found.in_archive
        names = [file for known, _ in parts for file in found.splits[known]]
        files = ShardFiles(found.name, names, found.folder)
    suffix = suffix_of(files.names[0])
    if suffix in ARCHIVE_SUFFIXES:
        return ArchiveShards(files, [known for known, _ in parts] if in_archive else None)
    if suffix in ROW_SUFFIXES:
        return RowFileShards(files)
    if suffix in ALL_SOUND_SUFFIXES:
        if files.folder is None:
            raise ValueError(
                f"{name!r} holds sounds one by one, which are not streamed from the Hub. Leave out `streaming`, or "
                "stream shards that hold them (.parquet or .tar)."
            )
        return FolderShards(files)
    return TableShards(files, group_column, reads_sounds)


def _whole_splits(split: str | None, *arguments: Any, **options: Any) -> list[tuple[str, str]]:
    """Splits as `parse_split` returns them, without parts of splits."""
    parts = parse_split(split, *arguments, **options)
    if any(rows for _, rows in parts):
        raise ValueError(
            f"The split {split!r} names a part of a split, which needs the number of rows, and a stream may not know "
            "it. Name whole splits (train, train+validation), or leave out `streaming`."
        )
    return parts


# What the first rows say


def _find_rules(
    raw: RawShards,
    languages: list[str] | None,
    group_column: str | None,
    store: StoredVectors | None,
    needs_sound: bool,
) -> RowRules:
    """The rules that follow from the first rows, of which at least one is right."""
    rules: RowRules | None = None
    wrong: list[BadRow] = []
    unread: list[RawRow] = []
    for shard in range(raw.num_shards):
        for block in readable_blocks(raw, shard):
            numbers = range(min(block.size, _ROWS_LOOKED_AT))
            rows = list(map(block.row_at, numbers))
            if rules is None and all(row.problem is not None for row in rows):
                unread += rows
                continue
            if rules is None:
                facts = _facts(raw.name, rows, languages, store, needs_sound)._replace(group_column=group_column)
                rules = RowRules(facts, store)
            for row in rules.check(block, numbers):
                if not isinstance(row, BadRow):
                    return rules
                wrong.append(row)
            if len(wrong) >= _ROWS_LOOKED_AT:
                break
        if len(wrong) >= _ROWS_LOOKED_AT:
            break
    lines = [f"{row.place}: {row.problem}" for row in unread] + [f"{row.place}: {row.reason}" for row in wrong]
    if not lines:
        raise ValueError(f"{raw.name} holds no rows.")
    raise wrong_rows_error(f"{raw.name} has no row that can be used among the first", len(unread) + len(wrong), lines)


def _facts(
    name: str, rows: Sequence[RawRow], languages: list[str] | None, store: StoredVectors | None, needs_sound: bool
) -> StreamFacts:
    """What the first rows say about all of them."""
    readable = [raw for raw in rows if raw.problem is None]
    languages = languages or _languages_of_first(name, readable)
    has_teacher = any(not is_missing(raw.row.get("teacher_embedding")) for raw in readable)
    given = [raw.row[EMBEDDING_COLUMN] for raw in readable if not is_missing(raw.row.get(EMBEDDING_COLUMN))]
    has_sound = any(raw.sound is not None for raw in readable)
    if store is not None:
        return StreamFacts(languages, False, _facts_of_store(store), has_teacher)
    if given and all(isinstance(value, (str, int)) for value in given):
        raise ValueError(f"{name}: {NO_STORE}.")
    if given:
        vectors = [np.asarray(value, dtype=np.float32) for value in given if not isinstance(value, (str, int))]
        return StreamFacts(languages, False, _facts_of_vectors(vectors), has_teacher)
    return StreamFacts(languages, has_sound or needs_sound, None, has_teacher)


def _facts_of_store(store: StoredVectors) -> EmbeddingFacts:
    lengths = store.lengths(np.arange(min(len(store), _ROWS_LOOKED_AT)))
    right = lengths[lengths > 0]
    shortest, longest = (float(right.min()), float(right.max())) if len(right) else (0.0, 0.0)
    return EmbeddingFacts(repr(store.name), store.width, shortest, longest, store.facts)


def _facts_of_vectors(vectors: Sequence[np.ndarray]) -> EmbeddingFacts:
    width = vectors[0].size
    found = np.stack([vector for vector in vectors if vector.shape == (width,)])
    lengths = lengths_of(found)
    right = lengths[lengths > 0]
    shortest, longest = (float(right.min()), float(right.max())) if len(right) else (0.0, 0.0)
    return EmbeddingFacts(f"the column `{EMBEDDING_COLUMN}`", width, shortest, longest, StoreFacts())


def _languages_of_first(name: str, rows: Sequence[RawRow]) -> list[str]:
    """The languages of the first row with captions. A warning names others."""
    problems: list[Problem] = []
    found = [captions for raw in rows if (captions := resolve_captions(raw.row, None, problems))]
    if not found:
        text = problems[0].text if problems else "they have no caption in any language"
        raise ValueError(f"{name}: the first {counted(len(rows), 'row')} cannot be used: {text}.")
    languages = list(found[0])
    seen = dict.fromkeys(code for captions in found for code in captions)
    warn_of_languages_left_out(name, [code for code in seen if code not in languages])
    return languages


def _check_kinds(first: RowShards, other: RowShards) -> None:
    """Raise a ValueError unless the rows of two sources are of the same kind."""
    kinds = [_kind(source.facts) for source in (first, other)]
    if kinds[0] != kinds[1]:
        raise ValueError(
            f"The rows of a stream are of one kind, but {first.name} has {kinds[0]}, and {other.name} has {kinds[1]}."
        )


def _kind(facts: StreamFacts) -> str:
    teacher = " and `teacher_embedding`" if facts.has_teacher else ""
    if facts.embeddings is not None:
        return f"embeddings of {facts.embeddings.width} numbers{teacher}"
    return ("recordings" if facts.has_audio else "captions alone") + teacher


def _shares(weights: Sequence[float] | None, count: int) -> tuple[float, ...]:
    if count == 0:
        raise ValueError("A stream needs at least one source.")
    if weights is None:
        return (1.0,) * count
    if len(weights) != count or not all(0 < weight < float("inf") for weight in weights):
        raise ValueError(f"`weights` must be a positive number for each of the {count} sources; got {list(weights)}.")
    return tuple(weight / sum(weights) for weight in weights)
