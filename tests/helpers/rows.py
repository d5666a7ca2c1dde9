"""Small data sets as rows on disk."""

import io
import json
from pathlib import Path

import numpy as np
import soundfile


def make_row(name: str, **changes) -> dict:
    captions = {"eng_Latn": [f"{name} one", f"{name} two"], "fra_Latn": [f"{name} un", f"{name} deux"]}
    return {"file_name": f"{name}.wav", "captions": captions, "scene": f"scene of {name}", "sources": [1]} | changes


def sound(num_samples: int = 2_400, rate: int = 16_000) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.zeros(num_samples, dtype=np.float32), rate, format="WAV")
    return file.getvalue()


def write_folder(folder: Path, rows: list) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for row in rows:
        if isinstance(row, dict) and not str(row.get("file_name")).startswith("missing"):
            path = folder / str(row.get("file_name"))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(sound())
    return folder
