"""Setup of all tests: no network, one thread, fixed seeds, and the shared recordings and reference numbers."""

import os
import tempfile
from pathlib import Path


# Hugging Face's libraries read these variables when they are imported. In a temporary home, the tests see neither
# the caches nor the token of the user.
_HOME = tempfile.TemporaryDirectory(prefix="atri_tests_")
for _name in [name for name in os.environ if name.startswith("HF_")]:
    del os.environ[_name]
os.environ["HF_HOME"] = _HOME.name
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("MPLCONFIGDIR", str(Path.home() / ".cache" / "matplotlib"))  # its list of fonts takes seconds
os.environ["XDG_CACHE_HOME"] = _HOME.name
os.environ["HF_EVALUATE_OFFLINE"] = "1"
os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
# More threads do not make tiny tensors faster, and they wait for one another on a busy machine.
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
    """Start every test from the same state of the global random generators."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="module", autouse=True)
def short_collections() -> None:
    """Exclude imported modules from garbage collection.

    The Trainer of transformers collects garbage before every training, which takes a second with all modules.
    """
    gc.collect()
    gc.freeze()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Skip files that are marked heavy as a whole, without importing them, if heavy tests are deselected."""
    if collection_path.suffix != ".py" or "not heavy" not in config.getoption("markexpr"):
        return None
    return "\npytestmark = pytest.mark.heavy\n" in collection_path.read_text("utf-8") or None


# Files that take longest, most of it in one fixture.
_LONGEST = ("tests/trainer/step/test_distributed.py", "tests/modeling_atri/onnx/test_export.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest files first, and then those with heavy tests.

    Several processes take whole files in this order. If a long file came last, one process would end minutes after
    the others.
    """
    heavy = {item.path for item in items if item.get_closest_marker("heavy")}
    items.sort(key=lambda item: (not item.path.as_posix().endswith(_LONGEST), item.path not in heavy))


@pytest.fixture(scope="session")
def repository_root() -> Path:
    return REPOSITORY_ROOT


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Return the folder of reference numbers and recordings: `ATRI_SHARED`, or `shared` next to the checkout."""
    folder = Path(os.environ.get("ATRI_SHARED") or REPOSITORY_ROOT.parent / "shared").expanduser().resolve()
    if not folder.is_dir():
        pytest.skip(
            f"There is no folder of reference numbers and recordings at {folder}. Set ATRI_SHARED to its path."
        )
    return folder
