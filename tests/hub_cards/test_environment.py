import json
import platform
import stat
from importlib.metadata import version

import pytest
import torch

from modeling_atri.hub_cards.environment import describe_environment, make_results, save_json


def test_environment_says_versions_and_device():
    environment = describe_environment()
    assert environment["python"] == platform.python_version()
    assert environment["versions"]["torch"] == torch.__version__
    for package in ("modeling_atri", "transformers", "accelerate", "datasets", "numpy", "soxr", "soundfile"):
        assert environment["versions"][package] == version(package)
    assert environment["device"]["type"] == "cpu"
    assert environment["device"]["name"]
    assert environment["device"]["threads"] == torch.get_num_threads()
    assert environment["date"].endswith("+00:00")


def test_facts_that_are_not_known_are_left_out():
    assert make_results({"mrv": 1.0}, data=None, model={"a": None}, environment={}) == {
        "metrics": {"mrv": 1.0},
        "model": {"a": None},
        "environment": {},
    }


def test_save_json(tmp_path):
    path = save_json({"caption": "狗在雨中", "value": 0.5}, tmp_path / "new" / "folder" / "results.json")
    text = path.read_text(encoding="utf-8")
    assert json.loads(text) == {"caption": "狗在雨中", "value": 0.5}
    assert "狗" in text
    assert text.endswith("}\n")
    (tmp_path / "plain").touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_save_json_is_whole_or_not_at_all(tmp_path):
    path = save_json({"value": 1}, tmp_path / "results.json")
    with pytest.raises(TypeError):
        save_json({"value": object()}, path)
    assert json.loads(path.read_text()) == {"value": 1}
    save_json({"value": 2}, path)
    assert json.loads(path.read_text()) == {"value": 2}
    assert [entry.name for entry in tmp_path.iterdir()] == ["results.json"], "no temporary file is left"
