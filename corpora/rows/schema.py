"""The schema of a row: one recording with its parallel captions."""

from typing import NotRequired, TypedDict

import numpy as np


class UndecodedAudio(TypedDict):
    """A recording as `datasets.Audio(decode=False)` gives it. At least one of the two is set.

    Args:
        path (`str` or `None`): Path of the sound file. Where there are bytes too, it only names the recording in
            messages.
        bytes (`bytes` or `None`): Content of the sound file. It goes before `path`.
    """

    path: str | None
    bytes: bytes | None


class Row(TypedDict):
    """A row of training or evaluation data, as [`load_rows`] returns it.

    On disk, a data set is a folder of sound files with a `metadata.jsonl`. Its lines are rows as well, but they name
    the recording in `file_name` (a path relative to the folder) and have no `audio`.

    Args:
        audio (`UndecodedAudio`): The recording, undecoded. A row with an embedding, or with captions alone for the
            objective `teach`, has none.
        audio_embedding (`np.ndarray` of shape `(width,)` or list of `float`): The embedding of the recording, instead
            of it. In the data, it may also be the id of the embedding in a store.
        audio_id (`str`): Name of the recording, unique in the data set.
        captions (`dict[str, list[str]]`): Captions by FLORES-200 code of their language. They are parallel:
            `captions[l][c]` says the same in every language `l`.
        group_id (`str`, *optional*): Name of the sound that the recording shows. Rows with the same group are
            positives of one another. [`load_rows`] fills in `audio_id` where a row has no group.
    """

    audio: NotRequired[UndecodedAudio]
    audio_embedding: NotRequired[np.ndarray | list[float]]
    audio_id: str
    captions: dict[str, list[str]]
    group_id: NotRequired[str]
