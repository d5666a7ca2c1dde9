"""Write a corpus to a folder that `load_rows` reads, with a report of what is in it and what is left out."""

import os
import re
import shutil
import zlib
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from modeling_atri.files import write_json, write_json_lines, written_whole

from ..clips.clip import Clip, Corpus
from ..rows.bad_rows import BadRow, BadRowError, count_kinds, write_bad_rows
from ..rows.recordings import usable_length
from ..sources.metadata import METADATA_FILE
from .prepared import LEFT_OUT_FILE, LOST_CAPTIONS_FILE, REPORT_FILE, check_output, read_kept_out, summary


SOUND_FOLDER = "sounds"  # of copies
TOLERANCE_SECONDS = 1.0  # between the length that a corpus gives and that of the file

_UNSAFE = re.compile(r'[\x00-\x1f<>:"/\\|?*]+')  # characters that some file system does not allow in names
_SUFFIXES = {b"RIFF": ".wav", b"fLaC": ".flac", b"OggS": ".ogg", b"FORM": ".aiff"}  # by the first bytes of a file


def write_corpus(
    corpus: Corpus, folder: str | Path, *, copy_audio: bool = False, progress: bool = False
) -> dict[str, Any]:
    """Write `metadata.jsonl`, lists of what is left out, and `report.json`. Only headers of recordings are read.

    Clips that the folder's `overlap.jsonl` lists, because they are in a test set too, stay out.

    Args:
        corpus: The corpus that a reader made. Recordings that are not files are written to `sounds/`.
        folder: A folder that is new, is empty, or was written by this function. `metadata.jsonl` names recordings
            below it by relative paths, and others by absolute paths.
        copy_audio: Copy recordings that are files to `sounds/` too, so that the folder can be moved.
        progress: Show a progress bar.

    Returns:
        `dict`: The report: `corpus`, `clips`, `hours`, `captions` by language, `captions_per_clip`, `left_out` and
        `lost_captions` by kind, `of_other_length` (number of clips whose file is over 1 s longer or shorter than the
        corpus says), `made_from`.

    Raises:
        ValueError: if no clip is left, the folder holds something else, or its `overlap.jsonl` lists a clip that the
            corpus does not have, which might get back in under another name.
    """
    folder = Path(os.path.abspath(folder))
    check_output(folder)
    absent = [row.audio_id for row in corpus.left_out]
    kept_out = read_kept_out(folder, [*(clip.audio_id for clip in corpus.clips), *absent])
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    lengths: list[float] = []
    of_other_length = 0
    left_out = [*corpus.left_out, *(row for name, row in kept_out.items() if name not in absent)]
    for clip in tqdm(corpus.clips, desc="clips read", disable=not progress):
        if clip.audio_id in kept_out:
            continue
        content = clip.sound if isinstance(clip.sound, Path) else clip.sound()
        try:
            seconds = usable_length(content)
        except BadRowError as error:
            left_out.append(BadRow(None, clip.audio_id, error.kind, str(error)))
            continue
        lengths.append(seconds)
        of_other_length += clip.seconds is not None and abs(clip.seconds - seconds) > TOLERANCE_SECONDS
        rows.append(_row(clip, _place(clip, content, folder, copy_audio), folder, seconds))
    if not rows:
        first = next(iter(left_out), None)
        reason = f" The first of {len(left_out)} that are left out is {first.name}: {first.reason}." if first else ""
        raise ValueError(f"No clip of {corpus.name} can be used.{reason}")
    write_json_lines(folder / METADATA_FILE, rows)
    write_bad_rows(folder / LEFT_OUT_FILE, left_out)
    write_bad_rows(folder / LOST_CAPTIONS_FILE, corpus.lost_captions)
    report = {
        "corpus": corpus.name,
        **summary(rows, lengths),
        "left_out": count_kinds(left_out),
        "lost_captions": count_kinds(corpus.lost_captions),
        "of_other_length": of_other_length,
        "made_from": corpus.made_from,
    }
    write_json(folder / REPORT_FILE, report)
    return report


def _place(clip: Clip, sound: Path | bytes, folder: Path, copy_audio: bool) -> Path:
    """Copy the recording to `sounds/` if it must be there, and return its path."""
    if isinstance(sound, Path) and not copy_audio:
        return sound
    name = _UNSAFE.sub("_", clip.audio_id)
    if name != clip.audio_id:  # another id may become the same name
        name += f"_{zlib.crc32(clip.audio_id.encode()):08x}"
    # The first bytes of MP3 files vary.
    suffix = _SUFFIXES.get(sound[:4], ".mp3") if isinstance(sound, bytes) else sound.suffix
    path = folder / SOUND_FOLDER / f"{name}{suffix}"
    path.parent.mkdir(exist_ok=True)
    with written_whole(path) as file:
        if isinstance(sound, bytes):
            file.write(sound)
        else:
            with open(sound, "rb") as source:
                shutil.copyfileobj(source, file)
    return path


def _row(clip: Clip, path: Path, folder: Path, seconds: float) -> dict[str, Any]:
    is_below = path.is_relative_to(folder)
    return {
        "file_name": path.relative_to(folder).as_posix() if is_below else str(path),
        "audio_id": clip.audio_id,
        "captions": clip.captions,
        "source_ids": list(clip.source_ids),
        "seconds": round(seconds, 3),
    }
