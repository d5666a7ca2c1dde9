"""WavCaps (https://huggingface.co/datasets/cvssp/WavCaps): a JSON file of captions for each of its four sources.

`{"data": [{"id", "caption", "duration", ...}, ...]}`, one caption a clip; AudioSet's ids end in `.wav`, files are
called by the id, mostly `.flac`. A file of the same layout in another language is parallel by id. FreeSound here holds
recordings that Clotho's test set was cut from: compare them before you train (`overlap`).
"""

from collections.abc import Mapping
from pathlib import Path, PurePath

from .assembling import assemble
from .caption_files import Caption, read_items, seconds_of
from .clips import Corpus
from .sound_folder import SoundFolder
from .source_ids import ids_of_youtube_clip


SUBSETS = ("audioset", "bbc", "freesound", "soundbible")


def read_wavcaps(captions: Mapping[str, str | Path], audio: str | Path, subset: str) -> Corpus:
    """Reads captions and finds their recordings by `id`.

    Args:
        captions: the JSON file of each language, by FLORES-200 code.
        audio: the folder of recordings of this subset, with all below it.
        subset: one of `SUBSETS`, which says what the ids are: FreeSound's and SoundBible's look alike.

    Raises:
        ValueError: a file that cannot be read, or is of another subset than the first, or an unknown subset.
    """
    if subset not in SUBSETS:
        raise ValueError(f"`subset` must be one of {', '.join(SUBSETS)}, but is {subset!r}.")
    by_language, seconds = {}, {}
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
        made_from={"captions": {language: str(path) for language, path in captions.items()}, "audio": str(audio)},
    )


def source_ids(clip: str, subset: str) -> tuple[str, ...]:
    """What a clip is called at its source."""
    return ids_of_youtube_clip(clip) if subset == "audioset" else (f"{subset}:{clip}",)
