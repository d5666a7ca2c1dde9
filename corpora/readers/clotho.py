"""Clotho v2 (https://zenodo.org/records/4783391): CSV files with five captions for each recording of Freesound.

`clotho_captions_{development,validation,evaluation}.csv` has the columns `file_name,caption_1,...,caption_5`. A file
of the same layout in another language is parallel by file name and number. `clotho_metadata_*.csv` says which
recording of Freesound a clip was cut from (`sound_id`).
"""

from collections.abc import Mapping
from pathlib import Path

from ..clips.assembling import assemble
from ..clips.caption_files import Caption, made_from, read_csv
from ..clips.clip import DUPLICATE_LINE, Corpus
from ..clips.sound_folder import SoundFolder, plain_name
from ..clips.source_ids import ids_of_clotho_file
from ..rows.bad_rows import BadRow


CAPTION_COLUMNS = tuple(f"caption_{number}" for number in range(1, 6))


def read_clotho(captions: Mapping[str, str | Path], audio: str | Path, metadata: str | Path | None = None) -> Corpus:
    """Read captions and find their recordings by `file_name`.

    Args:
        captions: The CSV file of each language, by FLORES-200 code.
        audio: The folder of recordings, searched recursively.
        metadata (*optional*): `clotho_metadata_*.csv`. Without it, most clips can be compared with other corpora from
            Freesound only by their sound, not by their id.

    Raises:
        ValueError: if a file cannot be read, or has no caption in common with the first.
    """
    repeated: list[BadRow] = []
    by_language = {language: _read_captions(path, repeated) for language, path in captions.items()}
    sounds = SoundFolder(audio)
    sound_ids = {} if metadata is None else _read_sound_ids(metadata)
    corpus = assemble(
        "Clotho",
        by_language,
        find=sounds.find,
        describe=lambda name: {"source_ids": ids_of_clotho_file(name, sound_ids.get(plain_name(name)))},
        made_from=made_from(captions, audio) | ({} if metadata is None else {"metadata": str(metadata)}),
    )
    return corpus._replace(lost_captions=repeated + corpus.lost_captions)


def _read_captions(path: str | Path, repeated: list[BadRow]) -> dict[tuple[str, str], Caption[str]]:
    """Read captions by file name and column, and add those of repeated lines to `repeated`."""
    captions: dict[tuple[str, str], Caption[str]] = {}
    for place, row in read_csv(path, ("file_name", *CAPTION_COLUMNS)):
        name = plain_name(row["file_name"])
        found = {(name, column): Caption(name, row[column].strip()) for column in CAPTION_COLUMNS}
        if (name, CAPTION_COLUMNS[0]) not in captions:
            captions |= found
        elif all(captions[key] == caption for key, caption in found.items()):
            reason = f"the `file_name` {name!r} is there before, with the same captions"
            repeated += [BadRow(f"{path}, {place}, {column}", name, DUPLICATE_LINE, reason) for _, column in found]
        else:
            raise ValueError(f"{path}, {place}: the `file_name` {name!r} is there twice, with other captions.")
    return captions


def _read_sound_ids(path: str | Path) -> dict[str, str]:
    """Read the numbers on Freesound by file name. Some recordings have `Not found` instead."""
    # The published file is not in UTF-8. Latin-1 decodes every byte.
    rows = [row for _, row in read_csv(path, ("file_name", "sound_id"), fallback_encoding="latin-1")]
    return {plain_name(row["file_name"]): row["sound_id"] for row in rows if row["sound_id"].strip().isdigit()}
