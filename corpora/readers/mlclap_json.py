"""The JSON layout of ml-clap (https://github.com/zyyan4/ml-clap), in which it distributes AudioCaps and Clotho.

`{"data": [{"wav", "audio", "id", "duration", "caption_1", ..., "source_lang_1", ...}, ...]}`: `source_lang_i` is the
language of `caption_i`, by default English. `wav` is a path below a data folder, `audio` a path on the machine where
the file was made.
"""

import re
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

from modeling_atri.languages_atri import resolve_language

from ..clips.assembling import assemble
from ..clips.caption_files import Caption, read_items, seconds_of
from ..clips.clip import Corpus
from ..clips.sound_folder import RecordingError, SoundFolder, plain_name
from ..clips.source_ids import ids_of_clotho_file, ids_of_youtube_clip
from ..rows.bad_rows import MISSING_LANGUAGE, MISSING_RECORDING, UNEQUAL_CAPTIONS, BadRow


DEFAULT_LANGUAGE = "eng_Latn"
_CAPTION = re.compile(r"caption_(\d+)")


def read_mlclap_json(files: Sequence[str | Path], audio: str | Path, languages: Sequence[str] | None = None) -> Corpus:
    """Read captions and find their recordings by `wav`, else by `audio`.

    Args:
        files: One or several files. A clip's captions may be in several languages, in one file or in several. The c-th
            captions of a clip in all languages are parallel. Clips with another number of captions in some language
            are left out.
        audio: The folder of recordings, searched recursively.
        languages (*optional*): FLORES-200 codes of the languages to keep. By default all that any clip has.

    Raises:
        ValueError: if a file cannot be read, a language is unknown or has no captions, or two files have captions of
            a clip in the same language.
    """
    items, texts = _read_clips(files)
    present = list(dict.fromkeys(language for of_clip in texts.values() for language in of_clip))
    if missing := [language for language in languages or () if language not in present]:
        raise ValueError(f"No caption is in {', '.join(missing)}; there are {', '.join(present)}.")
    languages = list(languages or present)
    captions: dict[str, dict[tuple[str, int], Caption[str]]] = {language: {} for language in languages}
    unequal = []
    for name, of_clip in texts.items():
        counts = {language: len(of_clip.get(language, ())) for language in languages}
        if len(set(counts.values())) > 1:
            found = ", ".join(f"{language} {count}" for language, count in counts.items())
            kind = UNEQUAL_CAPTIONS if all(counts.values()) else MISSING_LANGUAGE
            unequal.append(BadRow(None, name, kind, f"its captions cannot be parallel: {found}"))
            continue
        for language in languages:
            for number, text in enumerate(of_clip.get(language, ()), start=1):
                captions[language][name, number] = Caption(name, text)
    if not any(captions.values()):
        raise ValueError(f"No clip has as many captions in each of {', '.join(languages)}: name fewer `languages`.")
    sounds = SoundFolder(audio)
    corpus = assemble(
        "ml-clap's JSON",
        captions,
        find=lambda name: _find(sounds, items[name]),
        describe=lambda name: {"source_ids": _source_ids(items[name]), "seconds": seconds_of(items[name])},
        made_from={"captions": [str(path) for path in files], "audio": str(audio)},
    )
    return corpus._replace(left_out=unequal + corpus.left_out)


def _read_clips(files: Sequence[str | Path]) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, list[str]]]]:
    """Read the first object of each clip, and its captions by language."""
    items: dict[str, dict[str, Any]] = {}
    texts: dict[str, dict[str, list[str]]] = {}
    for path in files:
        for index, item in enumerate(read_items(path)):
            place = f"{path}, item {index}"
            name = _name(item, place)
            items.setdefault(name, item)
            for language, found in _captions(item, place).items():
                if language in texts.setdefault(name, {}):
                    raise ValueError(f"{place}: the clip {name!r} has captions in {language} already.")
                texts[name][language] = found
    return items, texts


def _name(item: dict[str, Any], place: str) -> str:
    """Name of a clip: its path below the data folder, without suffix."""
    names = _names(item)
    if not names:
        raise ValueError(f"{place}: one of `wav`, `audio` and `id` must name the clip, but it is {item!r:.200}.")
    return PurePath(plain_name(names[0])).with_suffix("").as_posix()


def _names(item: dict[str, Any]) -> list[str]:
    return [item[field] for field in ("wav", "audio", "id") if isinstance(item.get(field), str) and item[field]]


def _captions(item: dict[str, Any], place: str) -> dict[str, list[str]]:
    texts: dict[str, list[str]] = {}
    numbers = sorted(int(match[1]) for match in map(_CAPTION.fullmatch, item) if match)
    for number in numbers:
        text, language = item[f"caption_{number}"], item.get(f"source_lang_{number}") or DEFAULT_LANGUAGE
        if text is None:  # counted as an empty caption, so that the others stay parallel
            text = ""
        if not isinstance(text, str):
            raise ValueError(f"{place}: `caption_{number}` must be a string or null, but is {text!r}.")
        try:
            texts.setdefault(resolve_language(language), []).append(text)
        except ValueError as error:
            raise ValueError(f"{place}, `source_lang_{number}`: {error}") from error
    return texts


def _find(sounds: SoundFolder, item: dict[str, Any]) -> Path:
    """Find the file that `wav`, `audio` or `id` names, in this order."""
    names = _names(item)
    for name in names:
        try:
            return sounds.find(name)
        except RecordingError as error:
            if error.kind != MISSING_RECORDING:
                raise
    raise RecordingError(MISSING_RECORDING, f"there is no file of it ({names[0]}) below {sounds.folder}")


def _source_ids(item: dict[str, Any]) -> tuple[str, ...]:
    path = PurePath(str(item.get("wav") or item.get("audio") or item.get("id")))
    if "clotho" in path.parts[0].lower():
        return ids_of_clotho_file(plain_name(path.name))
    return ids_of_youtube_clip(path.name)
