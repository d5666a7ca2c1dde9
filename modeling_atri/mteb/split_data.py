"""Rows in the form of mteb's retrieval tasks: queries, documents, and which of them belong together."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from datasets import Audio, Dataset

from modeling_atri.files import content_digest
from modeling_atri.trainer.data.batches import without_audio
from modeling_atri.trainer.evaluation.retrieval import RetrievalSet

from .installed import RetrievalSplitData


_HEADER_BYTES = 256  # in which a chunk PEAK would be


def split_data(rows: Dataset, languages: Sequence[str], text_to_audio: bool) -> dict[str, RetrievalSplitData]:
    """Make the data of a task, by language.

    All languages share the clips. A caption's id is the id of its clip and its number, the same in every language. A
    caption and a clip belong together if the caption was written for a clip with the same `group_id`.

    Args:
        rows: Rows with recordings, as `load_rows` returns them.
        languages: FLORES-200 codes of languages that every row has.
        text_to_audio: Whether captions are the queries, and clips the documents. Otherwise it is the other way round.
    """
    found = RetrievalSet.from_rows(rows, languages)
    clip_ids = [str(audio_id) for audio_id in found.audio_ids or ()]
    caption_ids = _caption_ids(clip_ids, () if found.owners is None else found.owners)  # it can be an array
    clips = rows.select_columns("audio").cast_column("audio", Audio()).add_column("id", clip_ids)
    relevant: dict[str, dict[str, int]] = {}
    for caption_id, places in zip(caption_ids, found.positives, strict=True):
        for place in places:
            query, document = (caption_id, clip_ids[place]) if text_to_audio else (clip_ids[place], caption_id)
            relevant.setdefault(query, {})[document] = 1
    data = {}
    for language in languages:
        captions = Dataset.from_dict({"id": caption_ids, "text": list(found.captions[language])})
        queries, documents = (captions, clips) if text_to_audio else (clips, captions)
        data[language] = RetrievalSplitData(corpus=documents, queries=queries, relevant_docs=relevant, top_ranked=None)
    return data


def _caption_ids(clip_ids: Sequence[str], owners: Sequence[int]) -> list[str]:
    """For each caption the id of its clip and its number among the captions of the clip; `owners` is ordered."""
    ids, number, last = [], 0, -1
    for owner in owners:
        number = number + 1 if owner == last else 0
        last = owner
        ids.append(f"{clip_ids[owner]}-{number}")
    return ids


def digest_of_rows(rows: Dataset, languages: Sequence[str]) -> str:
    """32 hexadecimal digits of the ids, groups and captions of rows, and of the content of their recordings."""
    digest = hashlib.blake2b(digest_size=16)
    for row, sound in zip(without_audio(rows), rows.select_columns("audio"), strict=True):
        captions = {language: row["captions"][language] for language in languages}
        facts = [row["audio_id"], row["group_id"], captions, _digest_of_sound(sound["audio"])]
        digest.update(json.dumps(facts, sort_keys=True).encode())
    return digest.hexdigest()


def _digest_of_sound(sound: dict[str, Any]) -> str:
    content = sound["bytes"]
    if content is None:
        return content_digest(sound["path"])
    # Samples in memory became a WAV file of floats, in whose chunk PEAK libsndfile notes the time after four bytes.
    place = content.find(b"PEAK", 0, _HEADER_BYTES) if content[:4] == b"RIFF" else -1
    return content_digest(content if place < 0 else content[: place + 12] + content[place + 16 :])
