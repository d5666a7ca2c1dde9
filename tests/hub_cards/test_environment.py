import platform
from importlib.metadata import version

import torch

from modeling_atri.hub_cards.environment import describe_environment


def test_environment_says_versions_and_device():
    environment = describe_environment()
    assert environment["python"] == platform.python_version()
    for package in ("modeling_atri", "torch", "transformers", "accelerate", "datasets", "numpy", "soxr", "soundfile"):
        assert environment["versions"][package] == version(package)
    assert environment["device"]["type"] == "cpu"
    assert environment["device"]["name"]
    assert environment["device"]["threads"] == torch.get_num_threads()
    assert environment["date"].endswith("+00:00")
