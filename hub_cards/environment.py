"""Results that say how they were made."""

import json
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from modeling_atri.files import written_whole

from .results import RESULTS_NAME as RESULTS_NAME


_PACKAGES = (
    "modeling_atri",
    "torch",
    "transformers",
    "accelerate",
    "datasets",
    "tokenizers",
    "numpy",
    "soxr",
    "soundfile",
)


def describe_environment(device: torch.device | str | None = None) -> dict[str, Any]:
    """Versions and device of this process."""
    device = torch.device(device or "cpu")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "python": platform.python_version(),
        "versions": {package: found for package in _PACKAGES if (found := _version(package))},
        "device": {"type": device.type, "name": name, "threads": torch.get_num_threads()},
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # run from a checkout that is not installed
        return None


def make_results(metrics: dict[str, float], **facts: Any) -> dict[str, Any]:
    """Figures with the facts behind them.

    Args:
        metrics: as `retrieval_table` returns them, without a prefix.
        facts: what is known of how they were made: `data`, `model`, `training`, `environment`, ...; what is None is
            left out.
    """
    return {"metrics": metrics, **{name: value for name, value in facts.items() if value is not None}}


def save_json(content: dict[str, Any], path: str | os.PathLike) -> Path:
    """Write JSON whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as file:
        file.write(f"{json.dumps(content, indent=2, ensure_ascii=False)}\n".encode())
    return path
