"""Put captions in several languages and sound files together to clips."""

from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from ..rows.bad_rows import EMPTY_CAPTION, MISSING_LANGUAGE, BadRow
from ..rows.captions import clean_caption
from .caption_files import Caption
from .clip import OTHER_CLIP, Clip, Corpus
from .sound_folder import RecordingError


Key = TypeVar("Key", bound=Hashable)  # of a caption
Name = TypeVar("Name", bound=Hashable)  # of a clip


def assemble(
    name: str,
    captions: Mapping[str, Mapping[Key, Caption[Name]]],
    find: Callable[[Name], Path],
    describe: Callable[[Name], dict[str, Any]],
    made_from: Mapping[str, Any],
) -> Corpus:
    """Make a corpus of the captions that every language has and the recordings that exist.

    Args:
        name: Name of the corpus.
        captions: Captions by language, then by a key. Captions with the same key are parallel.
        find: Takes the `clip` of a `Caption` and returns the file. Raises `RecordingError` if there is none.
        describe: Takes the same and returns `source_ids` and `seconds` of the `Clip`, as far as they are known.
        made_from: Files and settings, for the report.

    Raises:
        ValueError: if a language has no caption in common with the first.
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
            left_out.append(without_captions(str(key)))
    lost_captions = [row._replace(audio_id=str(key)) for key, rows in lost.items() for row in rows]
    return Corpus(name, clips, left_out, lost_captions, dict(made_from))


def without_captions(audio_id: str) -> BadRow:
    """The entry for a clip that is left out because none of its captions exists in every language."""
    return BadRow(None, audio_id, MISSING_LANGUAGE, "no caption is there in every language")


def join_languages(
    captions: Mapping[str, Mapping[Key, Caption[Name]]],
) -> tuple[dict[Name, dict[str, list[str]]], dict[Name, list[BadRow]]]:
    """Keep the captions that every language has. `captions` is that of `assemble`.

    Returns:
        The parallel captions `{clip: {language: [text, ...]}}` of every clip, in the order of the first language, with
        empty lists where no caption is left; and the captions that were left out, by clip.

    Raises:
        ValueError: if a language has no caption in common with the first.
    """
    first, *others = captions
    for language in others:
        if not captions[first].keys() & captions[language].keys():
            raise ValueError(
                f"No caption in {language} is parallel to one in {first}: are these files of the same split?"
            )
    joined: dict[Name, dict[str, list[str]]] = {}
    lost: dict[Name, list[BadRow]] = {}
    for key in dict.fromkeys(key for of_language in captions.values() for key in of_language):
        found = {language: of_language[key] for language, of_language in captions.items() if key in of_language}
        clip = next(iter(found.values())).clip
        texts = joined.setdefault(clip, {language: [] for language in captions})
        problem = _problem(found, [language for language in captions if language not in found])
        if problem is None:
            for language, caption in found.items():
                texts[language].append(clean_caption(caption.text))
        else:
            lost.setdefault(clip, []).append(BadRow(f"caption {_name(key)}", None, *problem))
    return joined, lost


def _problem(found: Mapping[str, Caption[Any]], missing: list[str]) -> tuple[str, str] | None:
    """Kind and reason why a caption cannot be used in every language; None if it can."""
    if missing:
        return MISSING_LANGUAGE, f"it is missing in {', '.join(missing)}"
    if len({caption.clip for caption in found.values()}) > 1:
        clips = ", ".join(f"{_name(caption.clip)} in {language}" for language, caption in found.items())
        return OTHER_CLIP, f"it is of {clips}"
    if empty := [language for language, caption in found.items() if not clean_caption(caption.text)]:
        return EMPTY_CAPTION, f"it is empty in {', '.join(empty)}"
    return None


def _name(key: Hashable) -> str:
    return " ".join(map(str, key)) if isinstance(key, tuple) else str(key)
