"""The device of the tests of this folder: a GPU, or for a trial of the tests another that `ATRI_TEST_DEVICE` names."""

import os
from typing import Any

import pytest
import torch


@pytest.fixture
def device() -> torch.device:
    name = os.environ.get("ATRI_TEST_DEVICE", "cuda")
    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a GPU, and torch finds no CUDA device; ATRI_TEST_DEVICE=cpu tries these tests on the CPU")
    return torch.device(name)


@pytest.fixture
def on_device(device: torch.device) -> dict[str, Any]:
    """Arguments of a training on the device."""
    return {"use_cpu": device.type == "cpu"}
