"""The benchmarks are scripts: their folder is on the path when one of them runs."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from modeling_atri.languages_atri import ATRI_LANGUAGES
from tests.helpers.tiny import CAPTIONS


@pytest.fixture(autouse=True)
def benchmarks_folder(monkeypatch: pytest.MonkeyPatch, repository_root: Path) -> Path:
    """Let tests import the modules of the benchmarks as the scripts do."""
    folder = repository_root / "benchmarks"
    monkeypatch.syspath_prepend(folder)
    return folder


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """One batch of scenes for training, 4 for evaluation: half a second of noise, and a caption in each language."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 32), ("dev", 4)):
        folder = tmp_path / "scenes" / part
        folder.mkdir(parents=True)
        lines = []
        for number in range(count):
            soundfile.write(folder / f"{number}.wav", rng.normal(scale=0.1, size=8000), 16000)
            captions = {language: [f"{CAPTIONS[language]} {number}"] for language in ATRI_LANGUAGES}
            lines.append(json.dumps({"file_name": f"{number}.wav", "captions": captions, "triple": str(number)}))
        (folder / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path / "scenes"
