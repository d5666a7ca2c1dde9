"""The same three clips in every form in which data sets are passed on."""

import io
import json
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import datasets
import numpy as np
import soundfile

from modeling_atri.files import write_json_lines


NAMES = ("dog", "rain", "bell")


def sound(name: str, suffix: str = ".flac") -> bytes:
    """A quarter of a second of a clip's noise."""
    file = io.BytesIO()
    noise = np.random.default_rng(len(name)).uniform(-0.5, 0.5, 4_000)
    soundfile.write(file, noise, 16_000, format=suffix.removeprefix(".").upper())
    return file.getvalue()


def captions(name: str) -> dict[str, list[str]]:
    return {"eng_Latn": [f"a {name}"], "fra_Latn": [f"un {name}"]}


def columns(names=NAMES, embedded: bool = True) -> dict[str, list]:
    audio = [{"path": f"{name}.flac", "bytes": sound(name) if embedded else None} for name in names]
    return {"audio": audio, "audio_id": list(names), "captions": [captions(name) for name in names]}


def dataset(names=NAMES, typed: bool = True) -> datasets.Dataset:
    rows = datasets.Dataset.from_dict(columns(names))
    return rows.cast_column("audio", datasets.Audio(decode=False)) if typed else rows


def write_sounds(folder: Path, names=NAMES) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / f"{name}.flac").write_bytes(sound(name))


def file_rows(names=NAMES, below: str = "") -> list[dict]:
    return [{"file_name": f"{below}{name}.flac", "captions": captions(name)} for name in names]


def write_audio_folder(folder: Path, names=NAMES, suffix: str = ".jsonl") -> Path:
    """Sounds beside a `metadata` file."""
    write_sounds(folder, names)
    rows = file_rows(names)
    if suffix == ".jsonl":
        write_json_lines(folder / "metadata.jsonl", rows)
    elif suffix == ".parquet":
        datasets.Dataset.from_list(rows).to_parquet(folder / "metadata.parquet")
    else:
        lines = ["file_name,caption", *(f"{name}.flac,a {name}" for name in names)]
        (folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    return folder


def web_dataset_files(names=NAMES, suffix: str = ".flac") -> dict[str, bytes]:
    """The members of a shard: a sound and a JSON file for each clip."""
    files = {}
    for name in names:
        files[f"{name}{suffix}"] = sound(name, suffix)
        files[f"{name}.json"] = json.dumps({"captions": captions(name)}).encode()
    return files


def set_files(names=NAMES) -> dict[str, bytes]:
    """The members of an archive of an AudioFolder."""
    lines = "".join(json.dumps(row) + "\n" for row in file_rows(names, "clips/"))
    return {"metadata.jsonl": lines.encode()} | {f"clips/{name}.flac": sound(name) for name in names}


def write_tar(path: Path, files: Mapping[str, bytes], mode: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def write_zip(path: Path, files: Mapping[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path
