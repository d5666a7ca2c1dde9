"""Several prepared folders as one, to train on."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from modeling_atri.files import write_json_lines, written_whole

from ..rows.bad_rows import count_kinds, write_bad_rows
from ..rows.load import METADATA_FILE
from .overlap import read_clips
from .writing import LEFT_OUT_FILE, OVERLAP_FILE, REPORT_FILE, check_output, read_kept_out, read_left_out, summary


def join_folders(folders: Sequence[str | Path], output: str | Path) -> dict[str, Any]:
    """Writes the rows of folders, in their order, into another; recordings stay where they are.

    Clips that the other's `overlap.jsonl` lists, because they are in a test set too, stay out.

    Args:
        folders: that `write_corpus` wrote.
        output: new, empty, or written by this function before.

    Returns:
        `dict`, the report, as of `write_corpus`; what the folders left out is in theirs.

    Raises:
        ValueError: languages differ, an `audio_id` is in two folders, no clip is left, or how long one lasts is
            neither in its row nor to be read.
    """
    output = Path(os.path.abspath(output))
    check_output(output)
    rows: dict[str, dict[str, Any]] = {}
    languages: list[str] | None = None
    for clip in (clip for folder in folders for clip in read_clips(folder)):
        own = sorted(clip.row["captions"])
        languages = own if languages is None else languages
        if own != languages:
            raise ValueError(
                f"{clip.folder}: {clip.audio_id} has captions in {', '.join(own)}, those before in "
                f"{', '.join(languages)}. Join folders of the same languages."
            )
        if clip.audio_id in rows:
            raise ValueError(f"{clip.folder}: the `audio_id` {clip.audio_id!r} is in a folder before it too.")
        of_clip = {"audio_id": clip.audio_id, "seconds": round(clip.seconds, 3)}
        rows[clip.audio_id] = clip.row | {"file_name": os.path.abspath(clip.sound)} | of_clip
    absent = [row.audio_id for folder in folders for row in read_left_out(Path(folder))]
    kept_out = read_kept_out(output, [*rows, *absent])
    left_out = [kept_out[name] for name in kept_out if rows.pop(name, None) is not None]
    if not rows:
        raise ValueError(f"No clip is left: {output / OVERLAP_FILE} lists all of them.")
    output.mkdir(parents=True, exist_ok=True)
    write_json_lines(output / METADATA_FILE, rows.values())
    write_bad_rows(output / LEFT_OUT_FILE, left_out)
    report = {
        "corpus": " and ".join(Path(folder).as_posix() for folder in folders),
        **summary(list(rows.values()), [row["seconds"] for row in rows.values()]),
        "left_out": count_kinds(left_out),
        "lost_captions": {},
        "of_other_length": 0,
        "made_from": {"folders": [str(folder) for folder in folders]},
    }
    with written_whole(output / REPORT_FILE) as file:
        file.write(f"{json.dumps(report, ensure_ascii=False, indent=2)}\n".encode())
    return report
