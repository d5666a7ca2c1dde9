"""What every test shares: no network, few threads, fixed seeds, recordings and reference numbers where they exist."""

import os
import tempfile
from pathlib import Path


# Hugging Face's libraries read these once, when imported. A home of the session's own, gone at its end, keeps the
# caches and the token of whoever runs the tests out of them.
_HOME = tempfile.TemporaryDirectory(prefix="atri_tests_")
for _name in [name for name in os.environ if name.startswith("HF_")]:
    del os.environ[_name]
os.environ["HF_HOME"] = _HOME.name
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_EVALUATE_OFFLINE"] = "1"
os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
# Tiny tensors gain nothing from more threads, which wait for one another where the machine has other work.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("MPLBACKEND", "Agg")

import gc
import random

import numpy as np
import pytest
import torch


REPOSITORY_ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def fixed_seeds() -> None:
    """Every test starts from the same state of the global generators, alone or in a whole run."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="module", autouse=True)
def short_collections() -> None:
    """Leaves what is imported by now out of garbage collections: each would walk over all of it for a second.

    transformers' Trainer calls for one before every training.
    """
    gc.collect()
    gc.freeze()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not even import a file whose tests are all heavy if heavy tests are not wanted."""
    if collection_path.suffix != ".py" or "not heavy" not in config.getoption("markexpr"):
        return None
    return "\npytestmark = pytest.mark.heavy\n" in collection_path.read_text("utf-8") or None


@pytest.fixture(scope="session")
def repository_root() -> Path:
    return REPOSITORY_ROOT


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of reference numbers and recordings: `ATRI_SHARED`, by default `shared` beside the checkout."""
    folder = Path(os.environ.get("ATRI_SHARED") or REPOSITORY_ROOT.parent / "shared").expanduser().resolve()
    if not folder.is_dir():
        pytest.skip(
            f"needs the reference numbers and recordings: there is no folder {folder} (set ATRI_SHARED to where it is)"
        )
    return folder
