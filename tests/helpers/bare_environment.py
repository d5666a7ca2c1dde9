"""Processes that have a few packages and nothing else of what is installed here."""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path


def link_packages(folder: Path, packages: Sequence[str]) -> Path:
    """Fills a folder with what `pip install PACKAGES` would bring, as links to what is installed here."""
    found, wanted = set(), list(packages)
    while wanted:
        name = re.match(r"[\w.-]+", wanted.pop())[0].lower().replace("_", "-")
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # a requirement of other systems
        if name not in found:
            found.add(name)
            wanted += [requirement for requirement in distribution.requires or () if "extra ==" not in requirement]
            for top in {path.parts[0] for path in distribution.files} - {"..", "__pycache__"}:
                if not (folder / top).exists():
                    (folder / top).symlink_to(distribution.locate_file(top))
    return folder


def run_bare(script: Path, site_packages: Path, work: Path) -> None:
    """Runs `script SITE_PACKAGES WORK` in `work`, which also takes all caches; fails with its last words.

    `-I -S` leaves the standard library alone: the script puts SITE_PACKAGES on its path itself.
    """
    environment = {
        "PATH": os.environ["PATH"],
        "HF_HOME": str(work / "home"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    result = subprocess.run(
        [sys.executable, "-I", "-S", str(script), str(site_packages), str(work)],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        env=environment,
        cwd=work,
    )
    assert result.returncode == 0, result.stderr[-4000:]
