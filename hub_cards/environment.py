"""The environment that results were made in."""

import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

import torch

from .results import Environment


_PACKAGES = [
    "modeling_atri",
    "torch",
    "transformers",
    "accelerate",
    "datasets",
    "tokenizers",
    "numpy",
    "soxr",
    "soundfile",
]


def describe_environment(device: torch.device | str | None = None) -> Environment:
    """Describe versions, device and time of this process.

    Args:
        device (*optional*): Device that the model is on. Default: CPU.
    """
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
