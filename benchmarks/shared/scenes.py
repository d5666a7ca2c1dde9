"""The folder of ESC-10 scenes that `--data` names; `README.md` describes it."""

import argparse
import json
from pathlib import Path
from typing import Any

from modeling_atri.files import write_json_lines


HELD_OUT_FOLD = "3"  # of train; --tune validates on scenes whose clips are all of this fold


def check_scenes(parser: argparse.ArgumentParser, data: Path | None) -> None:
    """End the command with a message if `data` is no folder of scenes."""
    if data is None or not (data / "train" / "metadata.jsonl").is_file():
        parser.error(f"--data must name a folder with train/metadata.jsonl and dev/metadata.jsonl; got {data}")


def read_scenes(metadata: Path) -> list[dict[str, Any]]:
    """Read the lines of a metadata file."""
    return [json.loads(line) for line in metadata.read_text(encoding="utf-8").splitlines()]


def hold_out_fold(train: Path, folder: Path) -> tuple[Path, Path]:
    """Split the training scenes by the fold of their clips, and write two files of rows to `folder`.

    Scenes without a clip of the held-out fold are for training. Scenes whose clips are all of that fold are for
    validation, one for each triple, so that exactly one scene fits a caption.

    Returns:
        The files `train.jsonl` and `validation.jsonl`, which name the sound files by absolute paths.
    """
    parts: dict[str, list[dict[str, Any]]] = {"train": [], "validation": []}
    seen = set()
    for row in read_scenes(train / "metadata.jsonl"):
        row["file_name"] = str((train / row["file_name"]).resolve())
        folds = {source["clip"][0] for source in row["sources"]}
        if HELD_OUT_FOLD not in folds:
            parts["train"].append(row)
        elif folds == {HELD_OUT_FOLD} and str(row["triple"]) not in seen:
            seen.add(str(row["triple"]))
            parts["validation"].append(row)
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in parts.items():
        write_json_lines(folder / f"{name}.jsonl", rows)
    return folder / "train.jsonl", folder / "validation.jsonl"
