"""The JSON layout of ml-clap (https://github.com/zyyan4/ml-clap), which has its AudioCaps and Clotho in it.

`{"data": [{"wav", "audio", "id", "duration", "caption_1", ..., "source_lang_1", ...}, ...]}`: `source_lang_i` is the
language of `caption_i`; where it is absent, English. `wav` is a path below a data folder, `audio` one of somebody's
machine.
"""

import re
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

from modeling_atri.languages_atri import resolve_language

from ..rows.bad_rows import MISSING_LANGUAGE, MISSING_RECORDING, UNEQUAL_CAPTIONS, BadRow
from .assembling import assemble
from .caption_files import Caption, read_items, seconds_of
from .clips import Corpus
from .sound_folder import RecordingError, SoundFolder, plain_name
from .source_ids import ids_of_clotho_file, ids_of_youtube_clip


DEFAULT_LANGUAGE = "eng_Latn"
_CAPTION = re.compile(r"caption_(\d+)")


def read_mlclap_json(files: Sequence[str | Path], audio: str | Path, languages: Sequence[str] | None = None) -> Corpus:
    """Reads captions and finds their recordings by `wav`, else by `audio`.

    Args:
        files: one or several. A clip's captions may be in several languages, in one file or in several; the c-th in
            each language is taken to say the same. Clips that have not as many in every language are left out.
        audio: the folder of recordings, with all below it.
        languages (*optional*): FLORES-200 codes of those to keep. By default all that any clip has.

    Raises:
        ValueError: a file that cannot be read, a language that is unknown or nowhere, a clip that has captions in one
            language in two files.
    """
    items, texts = _read_clips(files)
    present = list(dict.fromkeys(language for of_clip in texts.values() for language in of_clip))
    if missing := [language for language in languages or () if language not in present]:
        raise ValueError(f"No caption is in {', '.join(missing)}; there are {', '.join(present)}.")
    languages = list(languages or present)
    captions: dict[str, dict[tuple[str, int], Caption]] = {language: {} for language in languages}
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


def _read_clips(files: Sequence[str | Path]) -> tuple[dict[str, dict], dict[str, dict[str, list[str]]]]:
    """The first object of each clip, and its captions by language."""
    items: dict[str, dict] = {}
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
    """What a clip is called: its path below the data folder, without suffix."""
    for field in ("wav", "audio", "id"):
        if isinstance(item.get(field), str) and item[field]:
            return PurePath(plain_name(item[field])).with_suffix("").as_posix()
    raise ValueError(f"{place}: one of `wav`, `audio` and `id` must name the clip, but it is {item!r:.200}.")


def _captions(item: dict[str, Any], place: str) -> dict[str, list[str]]:
    texts: dict[str, list[str]] = {}
    numbers = sorted(int(match[1]) for match in map(_CAPTION.fullmatch, item) if match)
    for number in numbers:
        text, language = item[f"caption_{number}"], item.get(f"source_lang_{number}") or DEFAULT_LANGUAGE
        if text is None:  # the others stay parallel if it is counted, as an empty one
            text = ""
        if not isinstance(text, str):
            raise ValueError(f"{place}: `caption_{number}` must be a string or null, but is {text!r}.")
        try:
            texts.setdefault(resolve_language(language), []).append(text)
        except ValueError as error:
            raise ValueError(f"{place}, `source_lang_{number}`: {error}") from error
    return texts


def _find(sounds: SoundFolder, item: dict[str, Any]) -> Path:
    """By `wav`, `audio` or `id`, the first of which there is a file: each names the same clip."""
    names = [item[field] for field in ("wav", "audio", "id") if isinstance(item.get(field), str) and item[field]]
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
