"""Join several prepared folders to one."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from modeling_atri.files import write_json, write_json_lines

from ..rows.bad_rows import count_kinds, read_bad_rows, write_bad_rows
from ..sources.metadata import METADATA_FILE
from .prepared import LEFT_OUT_FILE, OVERLAP_FILE, REPORT_FILE, check_output, read_clips, read_kept_out, summary


def join_folders(folders: Sequence[str | Path], output: str | Path) -> dict[str, Any]:
    """Write the rows of several folders, in their order, into another one. Recordings stay where they are.

    Clips that the `overlap.jsonl` of `output` lists, because they are in a test set too, stay out.

    Args:
        folders: Folders that `write_corpus` wrote.
        output: A folder that is new, is empty, or was written by this function.

    Returns:
        `dict`: The report, as `write_corpus` returns it. Clips that the folders left out are in their own reports.

    Raises:
        ValueError: if languages differ, two folders have the same `audio_id`, no clip is left, or the length of a clip
            is neither in its row nor in the header of its recording.
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
    absent = [row.audio_id for folder in folders for row in read_bad_rows(Path(folder) / LEFT_OUT_FILE)]
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
    write_json(output / REPORT_FILE, report)
    return report
