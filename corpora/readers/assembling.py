"""Captions and sound files to clips."""

from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any

from ..rows.bad_rows import MISSING_LANGUAGE, BadRow
from .caption_files import Caption, join_languages
from .clips import Clip, Corpus
from .sound_folder import RecordingError


def assemble(
    name: str,
    captions: dict[str, dict[Hashable, Caption]],
    find: Callable[[Any], Path],
    describe: Callable[[Any], dict[str, Any]],
    made_from: Mapping[str, Any],
) -> Corpus:
    """A corpus of the captions that every language has and the recordings that there are.

    Args:
        name: of the corpus.
        captions: by language, then by a key that is the same for what says the same.
        find: takes what a `Caption` calls its clip and returns the file; raises `RecordingError`.
        describe: takes the same and returns `source_ids` and `seconds` of its `Clip`, what there is of them.
        made_from: for the report.

    Raises:
        ValueError: a language has nothing in common with the first.
    """
    joined, lost = join_languages(captions)
    clips, left_out = [], []
    for key, texts in joined.items():
        try:
            sound = find(key)
        except RecordingError as error:
            left_out.append(BadRow(None, str(key), error.kind, str(error)))
            continue
        if any(texts.values()):
            clips.append(Clip(str(key), sound, texts, **describe(key)))
        else:
            left_out.append(BadRow(None, str(key), MISSING_LANGUAGE, "no caption is there in every language"))
    lost_captions = [row._replace(audio_id=str(key)) for key, rows in lost.items() for row in rows]
    return Corpus(name, clips, left_out, lost_captions, dict(made_from))
