"""The benchmarks are scripts: their folder is on the path when one of them runs."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def benchmarks_folder(monkeypatch: pytest.MonkeyPatch, repository_root: Path) -> Path:
    """Let tests import the modules of the benchmarks as the scripts do."""
    folder = repository_root / "benchmarks"
    monkeypatch.syspath_prepend(folder)
    return folder
