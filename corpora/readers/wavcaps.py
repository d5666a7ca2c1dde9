"""WavCaps (https://huggingface.co/datasets/cvssp/WavCaps): a JSON file of captions for each of its four sources.

`{"data": [{"id", "caption", "duration", ...}, ...]}` holds one caption for each clip. AudioSet's ids end in `.wav`;
files are named by the id, mostly with the suffix `.flac`. A file of the same layout in another language is parallel by
id. WavCaps' FreeSound has recordings that Clotho's test set was cut from: compare them before training (`overlap`).
"""

from collections.abc import Mapping
from pathlib import Path, PurePath

from ..clips.assembling import assemble
from ..clips.caption_files import Caption, made_from, read_items, seconds_of
from ..clips.clip import Corpus
from ..clips.sound_folder import SoundFolder
from ..clips.source_ids import ids_of_youtube_clip


SUBSETS = ("audioset", "bbc", "freesound", "soundbible")


def read_wavcaps(captions: Mapping[str, str | Path], audio: str | Path, subset: str) -> Corpus:
    """Read captions and find their recordings by `id`.

    Args:
        captions: The JSON file of each language, by FLORES-200 code.
        audio: The folder of recordings of this subset, searched recursively.
        subset: One of `SUBSETS`. It cannot be told from the ids, because those of FreeSound and SoundBible look alike.

    Raises:
        ValueError: if a file cannot be read or has no caption in common with the first, or the subset is unknown.
    """
    if subset not in SUBSETS:
        raise ValueError(f"`subset` must be one of {', '.join(SUBSETS)}, but is {subset!r}.")
    by_language: dict[str, dict[str, Caption[str]]] = {}
    seconds: dict[str, float | None] = {}
    for language, path in captions.items():
        by_language[language] = {}
        for index, item in enumerate(read_items(path)):
            clip, caption = item.get("id"), item.get("caption")
            if not isinstance(clip, (str, int)) or not isinstance(caption, str):
                raise ValueError(f"{path}, item {index}: `id` and `caption` must be there, but it is {item!r:.200}.")
            clip = PurePath(str(clip)).name.removesuffix(".wav")
            if clip in by_language[language]:
                raise ValueError(f"{path}, item {index}: the `id` {clip!r} is there twice.")
            by_language[language][clip] = Caption(clip, caption)
            seconds.setdefault(clip, seconds_of(item))
    sounds = SoundFolder(audio)
    return assemble(
        f"WavCaps {subset}",
        by_language,
        find=lambda clip: sounds.find(f"{clip}.flac"),
        describe=lambda clip: {"source_ids": source_ids(clip, subset), "seconds": seconds[clip]},
        made_from=made_from(captions, audio),
    )


def source_ids(clip: str, subset: str) -> tuple[str, ...]:
    """Ids of a clip at its source."""
    return ids_of_youtube_clip(clip) if subset == "audioset" else (f"{subset}:{clip}",)
