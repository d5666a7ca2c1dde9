"""Several prepared folders as one, to train on."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from modeling_atri.files import written_whole

from ..rows import METADATA_FILE
from .overlap import read_clips
from .writing import REPORT_FILE, check_output, summary


def join_folders(folders: Sequence[str | Path], output: str | Path) -> dict[str, Any]:
    """Writes the rows of folders, in their order, into another; recordings stay where they are.

    Args:
        folders: that `write_corpus` wrote.
        output: new, empty, or written by this function before.

    Returns:
        `dict`, the report, as of `write_corpus`; what the folders left out is in theirs.

    Raises:
        ValueError: languages differ, or an `audio_id` is in two folders.
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
        rows[clip.audio_id] = clip.row | {"file_name": os.path.abspath(clip.sound), "audio_id": clip.audio_id}
    output.mkdir(parents=True, exist_ok=True)
    with written_whole(output / METADATA_FILE) as file:
        file.writelines(f"{json.dumps(row, ensure_ascii=False)}\n".encode() for row in rows.values())
    report = {
        "corpus": " and ".join(Path(folder).as_posix() for folder in folders),
        **summary(list(rows.values()), [row.get("seconds", 0.0) for row in rows.values()]),
        "left_out": {},
        "lost_captions": {},
        "of_other_length": 0,
        "made_from": {"folders": [str(folder) for folder in folders]},
    }
    with written_whole(output / REPORT_FILE) as file:
        file.write(f"{json.dumps(report, ensure_ascii=False, indent=2)}\n".encode())
    return report
