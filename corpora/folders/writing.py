"""A corpus to a folder that `load_rows` reads, and the report of what is in it and what is not."""

import io
import json
import os
import re
import shutil
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from modeling_atri.files import write_json_lines, written_whole

from ..readers.clips import OVERLAP, Clip, Corpus
from ..rows.bad_rows import (
    MISSING_RECORDING,
    SHORT_RECORDING,
    UNREADABLE_RECORDING,
    BadRow,
    BadRowError,
    count_kinds,
    read_bad_rows,
    write_bad_rows,
)
from ..rows.checks import MIN_SECONDS, recording_length
from ..rows.load import METADATA_FILE


REPORT_FILE = "report.json"
LEFT_OUT_FILE = "left_out.jsonl"  # clips
LOST_CAPTIONS_FILE = "lost_captions.jsonl"
OVERLAP_FILE = "overlap.jsonl"  # the rows that `overlap` dropped, whole
SOUND_FOLDER = "sounds"  # of copies
TOLERANCE_SECONDS = 1.0  # between what a corpus says of a clip and how long its file is

_UNSAFE = re.compile(r'[\x00-\x1f<>:"/\\|?*]+')  # what some file system does not allow in a name


def write_corpus(
    corpus: Corpus, folder: str | Path, *, copy_audio: bool = False, progress: bool = False
) -> dict[str, Any]:
    """Writes `metadata.jsonl`, lists of what is left out, and `report.json`; of each recording the header is read.

    Clips that the folder's `overlap.jsonl` lists, because they are in a test set too, stay out.

    Args:
        corpus: that a reader made. Sounds that are no files are written to `sounds/`.
        folder: new, empty, or written by this function before. Recordings below it are named relative to it, others
            by their absolute path.
        copy_audio: also copy those that are files to `sounds/`, so that the folder can be moved.
        progress: show a bar.

    Returns:
        `dict`, the report: `corpus`, `clips`, `hours`, `captions` by language, `captions_per_clip`, `left_out` and
        `lost_captions` by kind, `of_other_length` (clips whose file is not as long as the corpus says), `made_from`.

    Raises:
        ValueError: no clip is left, the folder holds something else, or its `overlap.jsonl` lists a clip that the
            corpus does not have: under another name it might get back in.
    """
    folder = Path(os.path.abspath(folder))
    check_output(folder)
    absent = [row.audio_id for row in corpus.left_out]
    kept_out = read_kept_out(folder, [*(clip.audio_id for clip in corpus.clips), *absent])
    folder.mkdir(parents=True, exist_ok=True)
    rows, seconds, of_other_length = [], [], 0
    left_out = [*corpus.left_out, *(row for name, row in kept_out.items() if name not in absent)]
    for clip in tqdm(corpus.clips, desc="clips read", disable=not progress):
        if clip.audio_id in kept_out:
            continue
        content = clip.sound if isinstance(clip.sound, Path) else clip.sound()
        try:
            length = _length(content)
        except BadRowError as error:
            left_out.append(BadRow(None, clip.audio_id, error.kind, str(error)))
            continue
        seconds.append(length)
        of_other_length += clip.seconds is not None and abs(clip.seconds - length) > TOLERANCE_SECONDS
        rows.append(_row(clip, _place(clip, content, folder, copy_audio), folder, length))
    if not rows:
        first = next(iter(left_out), None)
        reason = f" The first of {len(left_out)} that are left out is {first.name}: {first.reason}." if first else ""
        raise ValueError(f"No clip of {corpus.name} can be used.{reason}")
    write_json_lines(folder / METADATA_FILE, rows)
    write_bad_rows(folder / LEFT_OUT_FILE, left_out)
    write_bad_rows(folder / LOST_CAPTIONS_FILE, corpus.lost_captions)
    report = {
        "corpus": corpus.name,
        **summary(rows, seconds),
        "left_out": count_kinds(left_out),
        "lost_captions": count_kinds(corpus.lost_captions),
        "of_other_length": of_other_length,
        "made_from": corpus.made_from,
    }
    with written_whole(folder / REPORT_FILE) as file:
        file.write(f"{json.dumps(report, ensure_ascii=False, indent=2)}\n".encode())
    return report


def summary(rows: Sequence[dict[str, Any]], seconds: Sequence[float]) -> dict[str, Any]:
    """What is in a set of rows: clips, hours, captions of each language, and how many clips have how many captions."""
    captions: Counter[str] = Counter()
    per_clip: Counter[int] = Counter()
    for row in rows:
        captions.update({language: len(texts) for language, texts in row["captions"].items()})
        per_clip[len(next(iter(row["captions"].values())))] += 1
    return {
        "clips": len(rows),
        "hours": round(sum(seconds) / 3600, 4),
        "captions": dict(captions),
        "captions_per_clip": {str(count): per_clip[count] for count in sorted(per_clip)},
    }


def read_kept_out(folder: Path, known: Iterable[str | None]) -> dict[str, BadRow]:
    """The clips that must not get into a folder again, by `audio_id`: those of its `overlap.jsonl`.

    Args:
        folder: to be written again.
        known: names of all clips that may be written, or are left out for another reason.

    Raises:
        ValueError: one of them is not known.
    """
    path = folder / OVERLAP_FILE
    if not path.exists():
        return {}
    names = dict.fromkeys(map(row_id, read_prepared_rows(path)))
    if unknown := list(names.keys() - set(known)):
        raise ValueError(
            f"{path} lists {len(names)} clips that were taken out since they are in test data; {len(unknown)} of "
            f"them, such as {min(unknown)!r}, are none of these clips. Under other names they would be back in "
            "training: write to another folder, or delete the file, and run `atri prepare check` afterwards."
        )
    before = {row.audio_id: row for row in read_left_out(folder) if row.kind == OVERLAP}
    return {name: before.get(name, BadRow(None, name, OVERLAP, f"{OVERLAP_FILE} lists it")) for name in names}


def read_left_out(folder: Path) -> list[BadRow]:
    """What a folder's `left_out.jsonl` lists, if there is one.

    Raises:
        ValueError: a line of it is something else.
    """
    path = folder / LEFT_OUT_FILE
    try:
        return read_bad_rows(path)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def read_prepared_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a `metadata.jsonl` or `overlap.jsonl`.

    Raises:
        ValueError: a line is no row.
    """
    rows = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if line.strip():
            try:
                row = json.loads(line)
                row["file_name"]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{path}, line {number}: this is no row with a `file_name` ({error!r}).") from error
            rows.append(row)
    return rows


def row_id(row: Mapping[str, Any]) -> str:
    """What a row's clip is called."""
    return str(row.get("audio_id", row["file_name"]))


def check_output(folder: Path) -> None:
    """Raise a ValueError unless the folder is new, empty, or one that `write_corpus` wrote."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file. Name a folder to write to.")
    if not (folder / REPORT_FILE).exists() and (folder / METADATA_FILE).exists():
        raise ValueError(f"{folder} holds a {METADATA_FILE} that was not made here. Name another folder.")


def _length(sound: Path | bytes) -> float:
    """Seconds of a recording.

    Raises:
        BadRowError: it cannot be used.
    """
    try:
        length = recording_length(str(sound)) if isinstance(sound, Path) else recording_length(None, io.BytesIO(sound))
    except (ValueError, OSError) as error:
        kind = MISSING_RECORDING if isinstance(error, FileNotFoundError) else UNREADABLE_RECORDING
        raise BadRowError(str(error), kind) from error
    if length < MIN_SECONDS:
        raise BadRowError(f"it lasts {length:.3f} s, the model needs {MIN_SECONDS} s", SHORT_RECORDING)
    return length


def _place(clip: Clip, sound: Path | bytes, folder: Path, copy_audio: bool) -> Path:
    """Where the recording is, after it was put there."""
    if isinstance(sound, Path) and not copy_audio:
        return sound
    name = _UNSAFE.sub("_", clip.audio_id)
    if name != clip.audio_id:  # another may become the same
        name += f"_{zlib.crc32(clip.audio_id.encode()):08x}"
    path = folder / SOUND_FOLDER / f"{name}{sound.suffix if isinstance(sound, Path) else _suffix(sound)}"
    path.parent.mkdir(exist_ok=True)
    with written_whole(path) as file:
        if isinstance(sound, bytes):
            file.write(sound)
        else:
            with open(sound, "rb") as source:
                shutil.copyfileobj(source, file)
    return path


def _suffix(content: bytes) -> str:
    """By the first bytes; a file that is none of these is found out when it is read."""
    kinds = {b"RIFF": ".wav", b"fLaC": ".flac", b"OggS": ".ogg", b"FORM": ".aiff"}
    return kinds.get(content[:4], ".mp3")


def _row(clip: Clip, path: Path, folder: Path, seconds: float) -> dict[str, Any]:
    is_below = path.is_relative_to(folder)
    return {
        "file_name": path.relative_to(folder).as_posix() if is_below else str(path),
        "audio_id": clip.audio_id,
        "captions": clip.captions,
        "source_ids": list(clip.source_ids),
        "seconds": round(seconds, 3),
    }
