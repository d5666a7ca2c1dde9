"""Small stand-ins for public corpora, in their formats."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import soundfile

from modeling_atri.corpora.clips.clip import Clip, Corpus
from modeling_atri.corpora.folders.prepared import PreparedClip, read_clips
from modeling_atri.corpora.folders.writing import write_corpus


def write_sound(path: Path, seed: int = 0, seconds: float = 0.5, rate: int = 16_000) -> Path:
    """Noise whose level rises and falls; another for each seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.int16(noise(seed, seconds, rate).clip(-1, 1) * 32767)  # rounded here, or each format does it its way
    soundfile.write(path, samples, rate)
    return path


def noise(seed: int, seconds: float, rate: int = 16_000) -> np.ndarray:
    rng = np.random.default_rng(seed)
    num_samples = round(seconds * rate)
    level = np.interp(np.arange(num_samples), np.linspace(0, num_samples, 20), rng.uniform(0.02, 0.2, size=20))
    return rng.normal(size=num_samples) * level


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
    return path


def write_audiocaps(path: Path, rows: Iterable[tuple]) -> Path:
    """`(audiocap_id, youtube_id, start_time, caption)`, as `test.csv`."""
    return write_csv(path, ("audiocap_id", "youtube_id", "start_time", "caption"), rows)


def write_clotho(path: Path, captions: Mapping[str, Sequence[str]]) -> Path:
    """Five captions by file name, as `clotho_captions_evaluation.csv`."""
    columns = ("file_name", *(f"caption_{number}" for number in range(1, 6)))
    return write_csv(path, columns, [(name, *texts) for name, texts in captions.items()])


def write_items(path: Path, items: Sequence[dict], num_captions: int = 1) -> Path:
    """As the JSON files of WavCaps and ml-clap."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"num_captions_per_audio": num_captions, "data": list(items)}
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return path


def youtube_id(number: int) -> str:
    """Eleven characters; some begin or end with what file names make difficult."""
    return f"{'-_Y'[number % 3]}b{number:08d}{'_-Z'[number % 3]}"


def prepare_folder(folder: Path, sounds: Mapping[str, Path], **source_ids: list[str]) -> list[PreparedClip]:
    """A prepared folder of these files by name."""
    clips = [
        Clip(name, path, {"eng_Latn": [f"{name} {path.stem}"]}, tuple(source_ids.get(name, ())))
        for name, path in sounds.items()
    ]
    write_corpus(Corpus(folder.name, clips, [], [], {}), folder)
    return read_clips(folder)
